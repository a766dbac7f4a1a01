"""How the words of all reports are laid out."""

import textwrap

SHOWN = 20
"""So many single things are named; --json has more."""


def wrapped(start: str, text: str) -> list[str]:
    """A text in a column of its own; paths and addresses stay whole, so that they can be copied."""
    return textwrap.wrap(
        printable(text),
        width=80,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def size(size_bytes: float) -> str:
    """Bytes for people: 3.8 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(size_bytes) < 1000 or unit == "TB":  # noqa: PLR2004 - the decimal step
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


def duration(hours: float) -> str:
    """Hours for people: minutes when there is less than one."""
    minutes = round(hours * 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"at least {minutes} minute{'s'[: minutes > 1]}"
    return f"at least {hours:,.1f} hours"


def one_line(text: str) -> str:
    """A text of strangers on one line, in ASCII: whatever a terminal would obey is escaped."""
    return text.encode("unicode_escape").decode("ascii")


def printable(text: str) -> str:
    """A text for a person, who may paste a path from it; only what a terminal would obey is escaped."""
    return "".join(letter if letter.isprintable() else one_line(letter) for letter in text)
