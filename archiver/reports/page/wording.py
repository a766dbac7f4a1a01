"""Numbers, times and foreign texts as the page shows them."""

import re
from datetime import date, datetime, timedelta, tzinfo

_NUMBER = re.compile(r"(?<![\w.-])\+?\d{7,15}(?![\w-])(?! bytes)")
_LONGEST = 500
_STEP = 1000
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB", "EB")
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


def harmless(text: str) -> str:
    """A text in which everything that can't be seen is written out, and that does not go on for ever.

    Escaping for HTML is the template's; this is for controls, for what turns the direction of writing, and for halves of
    characters that no file could hold.
    """
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    if shown.isprintable():
        return shown
    return "".join(letter if letter.isprintable() else _written_out(letter) for letter in shown)


def numberless(text: str) -> str:
    """A text without what could be a phone number."""
    return _NUMBER.sub("[number]", text)


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(size_bytes: int) -> str:
    """A size with three digits that count, in units of a thousand."""
    value, unit = float(size_bytes), 0
    while value >= _STEP - 0.5 and unit < len(_UNITS) - 1:
        value, unit = value / _STEP, unit + 1
    if unit == 0:
        return f"{size_bytes:,} bytes"
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0  # noqa: PLR2004 - where a digit more would be four
    return f"{value:,.{decimals}f} {_UNITS[unit]}"


def on(day: date) -> str:
    """A day."""
    return f"{day.day} {day:%b} {day.year:04d}"


def at(when: datetime, zone: tzinfo) -> str:
    """A time, to the minute, in the zone."""
    local = when.astimezone(zone)
    return f"{on(local.date())}, {local:%H:%M}"


def iso(when: datetime) -> str:
    """A time for machines."""
    return when.isoformat(timespec="seconds")


def lasted(length: timedelta) -> str:
    """How long something took, in its two largest units."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < _MINUTE_S:
        return f"{seconds} s"
    if seconds < _HOUR_S:
        return f"{seconds // _MINUTE_S} min {seconds % _MINUTE_S} s"
    if seconds < _DAY_S:
        return f"{seconds // _HOUR_S} h {seconds % _HOUR_S // _MINUTE_S} min"
    return f"{seconds // _DAY_S} d {seconds % _DAY_S // _HOUR_S} h"


def words(stable: str) -> str:
    """A stable word as words: `not_there` is `not there`."""
    return stable.replace("_", " ")


def _written_out(letter: str) -> str:
    return letter.encode("unicode_escape", "surrogatepass").decode("ascii") if letter != " " else letter
