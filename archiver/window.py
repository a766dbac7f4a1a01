"""Half-open UTC windows: parse, split, overlap, month edges. No clock inside: `now` is always an argument.

Sources: api-facts of the PBX (a listing may filter by the call's start or by the time it was saved; documents live in
one database per month of the start, in the server's local time; a range over 30 days is refused).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

_AGE = re.compile(r"([0-9]{1,6})([mhdw])\Z")
_AGE_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
# No zone on earth is further from UTC, so a month's edge in the server's local time lies within this of the UTC edge.
_ZONE_SPREAD = timedelta(hours=14)
# A call that runs longer than this over a month's end would be found only by the next night's look back.
_LONGEST_CALL = timedelta(hours=6)
MAX_QUERY = timedelta(days=30)
"""The widest range the PBX answers (api-facts)."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open UTC interval `[start_at, end_at)` with whole seconds; never empty.

    Raises:
        ValueError: when it is empty, reversed, or not aware.
    """

    start_at: datetime
    end_at: datetime

    def __post_init__(self) -> None:
        if self.start_at.tzinfo is None or self.end_at.tzinfo is None:
            raise ValueError("a window needs aware times")
        if self.start_at >= self.end_at:
            raise ValueError(f"a window must end after it starts: {self}")

    def __contains__(self, at: datetime) -> bool:
        return self.start_at <= at < self.end_at

    def __str__(self) -> str:
        return f"[{_short(self.start_at)}, {_short(self.end_at)})"

    @property
    def length(self) -> timedelta:
        """How long the window is."""
        return self.end_at - self.start_at

    def overlaps(self, other: "Window") -> bool:
        """Whether the two share at least one instant."""
        return self.start_at < other.end_at and other.start_at < self.end_at

    def halves(self) -> tuple["Window", "Window"]:
        """Two windows that cover this one exactly once, cut at a whole second.

        Raises:
            ValueError: when the window is a second long and can't be cut.
        """
        return Window(self.start_at, self.middle_at), Window(self.middle_at, self.end_at)

    @property
    def middle_at(self) -> datetime:
        """The whole second in the middle."""
        return self.start_at + timedelta(seconds=int(self.length.total_seconds()) // 2)

    def split(self, length: timedelta) -> Iterator["Window"]:
        """Windows of at most `length` that cover this one exactly once, cut on a grid that all runs share.

        The grid is counted from the Unix epoch, so that tonight's windows are cut where last night's were.
        """
        start = self.start_at
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        while start < self.end_at:
            cut = epoch + ((start - epoch) // length + 1) * length
            end = min(cut, self.end_at)
            yield Window(start, end)
            start = end


@dataclass(frozen=True, slots=True)
class ListingWindow:
    """A window to list: `covers` is what it accounts for, `query` the wider range that is asked of the PBX."""

    covers: Window
    query: Window


def listing_windows(period: Window, *, length: timedelta, overlap: timedelta, now: datetime) -> Iterator[ListingWindow]:
    """The windows that list `period` whole, whichever time field the PBX filters by.

    Each query reaches back by `overlap`; after a month's edge (in any zone the server may live in) it reaches back over
    the edge, since only a query that touches both months returns a call that runs over it; the last one reaches
    `overlap` past the end, for calls that start in the period and are saved later. Nothing reaches past `now`.
    """
    for covers in period.split(length):
        start = covers.start_at - overlap
        for edge in _month_edges(covers.start_at - _ZONE_SPREAD - _LONGEST_CALL, covers.end_at + _ZONE_SPREAD):
            if start > edge - _ZONE_SPREAD - _LONGEST_CALL and covers.start_at < edge + _ZONE_SPREAD + _LONGEST_CALL:
                start = edge - _ZONE_SPREAD - _LONGEST_CALL
        end = covers.end_at
        if end == period.end_at:
            end = max(end, min(end + overlap, now))
        yield ListingWindow(covers, Window(start, end))


def may_hide_calls(query: Window, cut_at: datetime) -> bool:
    """Whether a part of `query` that starts at `cut_at` may hide calls that `query` lists.

    It does when a month's edge, in any zone the server may live in, lies in between, less than a call's length before.
    """
    since = max(query.start_at, cut_at - _LONGEST_CALL)
    edges = _month_edges(since - _ZONE_SPREAD, cut_at + _ZONE_SPREAD)
    return query.start_at < cut_at and any(since < edge + _ZONE_SPREAD for edge in edges)


def _month_edges(since: datetime, until: datetime) -> Iterator[datetime]:
    """UTC instants at which a month begins, within `[since, until]`."""
    edge = since.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while edge <= until:
        if edge >= since:
            yield edge
        edge = (edge + timedelta(days=32)).replace(day=1)


def parse_time(text: str, *, now: datetime, timezone: tzinfo) -> datetime:
    """A time as the command line takes it: ISO date or date-time (`timezone` when it names none), or an age like `7d`.

    Returns an aware UTC datetime, cut to the second.

    Raises:
        ValueError: with a sentence that says what is allowed.
    """
    age = _AGE.match(text.strip())
    try:
        if age:
            return (now - int(age[1]) * _AGE_UNITS[age[2]]).astimezone(UTC).replace(microsecond=0)
        found = datetime.fromisoformat(text.strip())
        if found.tzinfo is None:
            found = found.replace(tzinfo=timezone)
        return found.astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text[:60]!a} is no time: use an ISO date (2026-05-06), a date-time (2026-05-06T17:00+02:00) "
            "or an age (36h, 7d, 2w)"
        ) from None


def parse_age(text: str) -> timedelta:
    """How long an age such as `26h`, `2d` or `1w` is.

    Raises:
        ValueError: with a sentence that says what is allowed; an age of nothing is none.
    """
    age = _AGE.match(text.strip())
    if age is None or not int(age[1]):
        raise ValueError(f"{text[:60]!a} is no age: use minutes, hours, days or weeks (90m, 26h, 2d, 1w)")
    return int(age[1]) * _AGE_UNITS[age[2]]


def _short(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
