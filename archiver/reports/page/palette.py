"""The page's colours, light and dark, and which of them stand on which; a test holds each pair to its contrast.

Blue, vermilion and purple are told apart by colour-blind eyes; nothing is said by colour alone.
"""

from collections.abc import Mapping

Palette = Mapping[str, str]

LIGHT: Palette = {
    "ground": "#f4f6f8",
    "card": "#ffffff",
    "text": "#1a2027",
    "muted": "#545f6b",
    "line": "#d9dfe5",
    "link": "#0b5a9c",
    "archived": "#1f6fb2",
    "waiting": "#c8560a",
    "missing": "#8a4f9e",
    "expired": "#76828e",
    "blank": "#818c97",
    "fine-ground": "#e3f2ea",
    "fine": "#0f5132",
    "look-ground": "#fff1d6",
    "look": "#6b4200",
    "act-ground": "#fde7e3",
    "act": "#8c1d0f",
}
DARK: Palette = {
    "ground": "#0e1216",
    "card": "#171d23",
    "text": "#e4e9ee",
    "muted": "#a0abb6",
    "line": "#2d3640",
    "link": "#7db8ee",
    "archived": "#4d9de0",
    "waiting": "#f08a3c",
    "missing": "#c58fd6",
    "expired": "#8b97a3",
    "blank": "#76818c",
    "fine-ground": "#112a1f",
    "fine": "#a3e0bf",
    "look-ground": "#33270d",
    "look": "#f3d08a",
    "act-ground": "#3c1713",
    "act": "#ffb9ae",
}
READ: tuple[tuple[str, str], ...] = (
    ("text", "ground"),
    ("text", "card"),
    ("muted", "ground"),
    ("muted", "card"),
    ("link", "ground"),
    ("link", "card"),
    ("fine", "fine-ground"),
    ("look", "look-ground"),
    ("act", "act-ground"),
    ("fine", "card"),
    ("look", "card"),
    ("act", "card"),
)
"""Text and what it stands on: at least 4.5 to 1."""
SEEN: tuple[tuple[str, str], ...] = tuple(
    (mark, "card") for mark in ("archived", "waiting", "missing", "expired", "blank")
)
"""Marks of charts and what they stand on: at least 3 to 1."""


def declarations(palette: Palette) -> str:
    """The colours as custom properties of CSS."""
    return "".join(f"--{name}:{colour};" for name, colour in palette.items())


def contrast(one: str, other: str) -> float:
    """How far two colours are apart, as WCAG 2 counts it: from 1 to 21."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]  # noqa: PLR2004 - sRGB's own
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
