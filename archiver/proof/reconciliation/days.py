"""A period as the days that people know: from midnight to midnight in the archive's time zone. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from archiver.keys import KeyTemplate
from archiver.window import Window

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Day:
    """A day, or the part of it that was asked for; `whole` when that is all of it."""

    day: date
    window: Window
    whole: bool


def days(period: Window, zone: tzinfo) -> Iterator[Day]:
    """The days of a period in order, the first and the last perhaps in part."""
    start = period.start_at
    while start < period.end_at:
        day = start.astimezone(zone).date()
        begins, ends = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
        window = Window(start, min(ends, period.end_at))
        yield Day(day, window, whole=window == Window(begins, ends))
        start = ends


def folder_of(keys: KeyTemplate, account_id: str, window: Window) -> str:
    """What the keys of all calls of a window within one day begin with: whole folders, ending in a slash, or nothing."""
    first, last = (
        keys.key(account_id=account_id, recording_id="x", dated_at=at, extension="x")
        for at in (window.start_at, window.end_at - _SECOND)
    )
    shared = next((n for n, letters in enumerate(zip(first, last, strict=False)) if len(set(letters)) > 1), len(first))
    folders, slash, _ = first[:shared].rpartition("/")
    return folders + slash


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)
