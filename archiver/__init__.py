"""Archives call recordings from a FonoUC (Kazoo) PBX and proves that none is missing, partial or altered."""

__version__ = "0.1.0"
