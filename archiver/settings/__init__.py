"""The settings: everything that can be set, checked once, frozen from then on; the only reader of the environment."""

from archiver.settings.loading import Settings, load

__all__ = ["Settings", "load"]
