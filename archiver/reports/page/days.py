"""An account's calendar by days: pure, from pieces of any length to one state for each day of a zone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum
from itertools import groupby

from archiver.ledger.values import Piece, WindowState


class DayState(StrEnum):
    """How far a day is listed. OUTSIDE is before anything was asked for."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    NOT_YET = "not yet"
    OUTSIDE = "outside"


@dataclass(frozen=True, slots=True)
class Days:
    """Consecutive days from `first` on; `edges` are their beginnings in Unix seconds, and the end of the last."""

    first: date
    edges: Sequence[int]

    def __len__(self) -> int:
        return len(self.edges) - 1

    def day(self, ordinal: int) -> date:
        """One of them, counted from 0."""
        return self.first + timedelta(days=ordinal)


def days_between(first: date, until: date, zone: tzinfo) -> Days:
    """The days from `first` to before `until`, as the zone's clocks have them; none when there is none."""
    length = max(0, (until - first).days)
    # A day that a zone left out or began late would have an edge out of order.
    edges: list[int] = []
    for ordinal in range(length + 1):
        day = first + timedelta(days=ordinal)
        edge = int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
        edges.append(max(edge, edges[-1] if edges else edge))
    return Days(first, edges)


def states(pieces: Sequence[Piece], days: Days, *, now: datetime) -> list[DayState]:
    """The state of each day. A piece that was asked for and never listed is as if it were not there yet.

    A day is complete when all of it is, as far as it was asked for at all; today can't be before it is over.
    """
    if not pieces:
        return [DayState.OUTSIDE] * len(days)
    spans = [
        (int(piece.window.start_at.timestamp()), int(piece.window.end_at.timestamp()), _state(piece))
        for piece in pieces
    ]
    first_s, now_s = spans[0][0], int(now.timestamp())
    found: list[DayState] = []
    at = 0
    for start, end in zip(days.edges, days.edges[1:], strict=False):
        if end <= first_s:
            found.append(DayState.OUTSIDE)
            continue
        while at < len(spans) and spans[at][1] <= start:
            at += 1
        found.append(_state_of(spans, at, max(start, first_s), min(end, max(now_s, start + 1))))
    return found


@dataclass(frozen=True, slots=True)
class Gap:
    """Days in a row that are not complete, both ends included."""

    first: date
    last: date
    state: DayState
    reason: str


def gaps(found: Sequence[DayState], days: Days, pieces: Sequence[Piece]) -> Iterator[Gap]:
    """The stretches that are incomplete or not listed yet, in order, each with the first reason given in it."""
    ordinal = 0
    for state, group in groupby(found):
        length = len(list(group))
        if state in {DayState.INCOMPLETE, DayState.NOT_YET}:
            start, end = days.edges[ordinal], days.edges[ordinal + length]
            reasons = (
                piece.reason
                for piece in pieces
                if _state(piece) is state
                and piece.reason
                and piece.window.start_at.timestamp() < end
                and piece.window.end_at.timestamp() > start
            )
            yield Gap(days.day(ordinal), days.day(ordinal + length - 1), state, next(reasons, ""))
        ordinal += length


def _state(piece: Piece) -> DayState:
    if piece.state is WindowState.COMPLETE:
        return DayState.COMPLETE
    return DayState.NOT_YET if piece.scanned_at is None else DayState.INCOMPLETE


def _state_of(spans: Sequence[tuple[int, int, DayState]], at: int, start: int, end: int) -> DayState:
    complete_s = 0
    for place in range(at, len(spans)):
        since, until, state = spans[place]
        if since >= end:
            break
        if state is DayState.INCOMPLETE:
            return DayState.INCOMPLETE
        if state is DayState.COMPLETE:
            complete_s += min(until, end) - max(since, start)
    return DayState.COMPLETE if complete_s >= end - start else DayState.NOT_YET
