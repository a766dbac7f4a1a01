"""How values lie in columns: times as whole numbers, text that any database takes, integers that fit 64 bits."""

import re
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_MILLISECOND = timedelta(milliseconds=1)
_LARGEST = 2**63 - 1
# SQLite's binding refuses lone surrogates, PostgreSQL refuses NUL; the backslash is what marks the escapes.
_AWKWARD = re.compile(r"[\\\x00\ud800-\udfff]")
_ESCAPED = re.compile(r"\\(?:\\|u([0-9a-f]{4}))")


def seconds(at: datetime) -> int:
    """Whole Unix seconds of an aware time, cut down."""
    return (at - _EPOCH) // _SECOND


def milliseconds(at: datetime) -> int:
    """Whole Unix milliseconds of an aware time, cut down."""
    return (at - _EPOCH) // _MILLISECOND


def from_seconds(number: int) -> datetime:
    """The aware UTC time of Unix seconds."""
    return _EPOCH + number * _SECOND


def from_milliseconds(number: int) -> datetime:
    """The aware UTC time of Unix milliseconds."""
    return _EPOCH + number * _MILLISECOND


def seconds_or_none(at: datetime | None) -> int | None:
    """As `seconds`; nothing stays nothing."""
    return None if at is None else seconds(at)


def from_seconds_or_none(number: int | None) -> datetime | None:
    """As `from_seconds`; nothing stays nothing."""
    return None if number is None else from_seconds(number)


def plain(text: str) -> str:
    """Text that any database takes; different texts stay different, and `original` gives each back."""
    if not text:
        return text
    return _AWKWARD.sub(_escape, text)


def original(text: str) -> str:
    """The text that `plain` was given."""
    return _ESCAPED.sub(_unescape, text) if "\\" in text else text


def fitting(number: int | None) -> int | None:
    """The number when 64 bits hold it, else None: no source value may stop a page."""
    return number if number is not None and -_LARGEST <= number <= _LARGEST else None


def _escape(found: re.Match[str]) -> str:
    letter = found[0]
    return "\\\\" if letter == "\\" else f"\\u{ord(letter):04x}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16)) if found[1] else "\\"
