"""One page of a listing, under every behaviour the PBX may have."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Final, Generic

from archiver.simulator.corpus import Index, Row
from archiver.simulator.rows import GREGORIAN_OFFSET_S, SimulatedCdr, SimulatedRecording

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from archiver.simulator.switches import Switches

_KNOWN_PARAMETERS: Final = frozenset(("startDate", "endDate", "pageSize", "startKey"))
_MILLISECONDS_FROM: Final = 100_000_000_000
_DAY_S: Final = 86_400
_LATEST_UNIX_S: Final = 253_402_214_400  # a day short of year 10000, whatever the time zone
_LONGEST_NUMBER: Final = 18


class Refused(Exception):
    """The PBX answers 400 to this query."""


@dataclass(frozen=True, slots=True)
class Query:
    """A listing's question: Unix seconds, `begin` inclusive, `end` as the switches say."""

    begin: float
    end: float
    page_size: int
    cursor_unix_s: int | None
    cursor_offset: int


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows in order, and the cursor of the next page, None at the end."""

    rows: list[Row]
    cursor: str | None


def read_query(parameters: Mapping[str, str], switches: Switches, now: float) -> Query:
    """The query parameters as the PBX understands them.

    Raises:
        Refused: a value is no number, a window is too long, or (by switch) a page too large or a parameter unknown.
    """
    if switches.wrong_parameters == "refuse" and not _KNOWN_PARAMETERS.issuperset(parameters):
        raise Refused("unknown parameter")
    longest_s = switches.max_range_days * _DAY_S
    end = _time(parameters["endDate"], switches) if "endDate" in parameters else now
    begin = _time(parameters["startDate"], switches) if "startDate" in parameters else end - longest_s
    if end < begin:
        raise Refused("endDate is before startDate")
    if end - begin > longest_s:
        if switches.over_range == "refuse":
            raise Refused("range too long")
        end = begin + longest_s
    page_size = _number(parameters.get("pageSize", str(switches.default_page_size)))
    if page_size < 1 or (page_size > switches.page_cap and switches.over_cap == "refuse"):
        raise Refused("pageSize")
    second, offset = _cursor(parameters.get("startKey", ""))
    return Query(begin, end, min(page_size, switches.page_cap), second, offset)


def page(index: Index[Row], query: Query, switches: Switches, *, now: float, time_zone: tzinfo) -> Page[Row]:
    """The page that answers a query at `now` (Unix seconds)."""
    descending = switches.order == "descending"
    low, high = _bounds(index.keys, query, switches)
    places = range(high - 1, low - 1, -1) if descending else range(low, high)
    months = (_month(query.begin, time_zone), _month(query.end, time_zone))

    def seen() -> Iterator[int]:
        for place in places:
            row = index.rows[place]
            if not row.is_listed(now):
                continue
            if switches.per_month_databases and not _in_months(row, months, time_zone):
                continue
            yield place

    taken = list(itertools.islice(seen(), query.cursor_offset, query.cursor_offset + query.page_size + 1))
    sent = taken[: query.page_size]
    cursor = None
    if len(taken) > query.page_size:
        following, last = index.keys[taken[-1]], index.keys[sent[-1]]
        cursor = str((last if switches.cursor == "exclusive" else following) + GREGORIAN_OFFSET_S)
        if switches.cursor == "exact":
            cursor += _hidden_offset([index.keys[place] for place in sent], following, query)
    return Page([index.rows[place] for place in sent], cursor)


def _bounds(keys: Sequence[int], query: Query, switches: Switches) -> tuple[int, int]:
    """The half-open slice of the index that window and cursor leave."""
    low = bisect_left(keys, query.begin)
    high = (bisect_right if switches.end_bound == "inclusive" else bisect_left)(keys, query.end)
    second = query.cursor_unix_s
    if second is None:
        return low, high
    exclusive = switches.cursor == "exclusive"
    if switches.order == "descending":
        return low, min(high, (bisect_left if exclusive else bisect_right)(keys, second))
    return max(low, (bisect_right if exclusive else bisect_left)(keys, second)), high


def _hidden_offset(sent: list[int], following: int, query: Query) -> str:
    """How many rows of the following second are already sent, in this page or an earlier one."""
    count = sent.count(following)
    if count == len(sent) and query.cursor_unix_s == following:
        count += query.cursor_offset
    return f".{count}" if count else ""


def _in_months(
    row: SimulatedRecording | SimulatedCdr, months: tuple[tuple[int, int], tuple[int, int]], time_zone: tzinfo
) -> bool:
    started = row.start_unix_s if isinstance(row, SimulatedRecording) else row.ended_unix_s - row.billing_s
    return months[0] <= _month(started, time_zone) <= months[1]


def _month(unix_s: float, time_zone: tzinfo) -> tuple[int, int]:
    moment = datetime.fromtimestamp(min(max(unix_s, 0), _LATEST_UNIX_S), time_zone)
    return moment.year, moment.month


def _time(text: str, switches: Switches) -> float:
    value = _number(text)
    if switches.time_unit == "ms" or (switches.time_unit == "either" and abs(value) >= _MILLISECONDS_FROM):
        return value / 1000
    return value


def _cursor(text: str) -> tuple[int | None, int]:
    if not text:
        return None, 0
    second, _, offset = text.partition(".")
    return _number(second) - GREGORIAN_OFFSET_S, _number(offset or "0")


def _number(text: str) -> int:
    if not text.isascii() or not text.removeprefix("-").isdigit() or len(text) > _LONGEST_NUMBER:
        raise Refused(f"not a number: {text[:20]!r}")
    return int(text)
