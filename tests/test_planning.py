"""What a nightly run lists: pure decisions from the ledger's calendar and the clock."""

import asyncio
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import Piece, WindowState
from archiver.pipeline.planning import beyond, merged, nightly_periods
from archiver.window import Window, listing_windows

DAY = timedelta(days=1)
EPOCH = datetime(2024, 5, 1, tzinfo=UTC)
NOW = EPOCH + 30 * DAY
LOOKBACK = 3 * DAY


def day(start: int, end: int) -> Window:
    return Window(EPOCH + start * DAY, EPOCH + end * DAY)


def piece(start: int, end: int, *, state: WindowState = WindowState.COMPLETE, scanned: int | None = 30) -> Piece:
    return Piece(day(start, end), state, None if scanned is None else EPOCH + scanned * DAY)


windows = st.lists(
    st.tuples(st.integers(0, 28), st.integers(1, 6)).map(lambda pair: day(pair[0], min(pair[0] + pair[1], 30)))
)


def seconds(found: list[Window]) -> set[int]:
    """The days of windows that are cut at midnight."""
    return {n for n in range(40) for window in found if EPOCH + n * DAY in window}


@given(windows)
def test_merged_windows_cover_the_same_time_disjoint_and_in_order(given_windows: list[Window]) -> None:
    found = list(merged(given_windows))
    assert seconds(found) == seconds(given_windows)
    assert all(before.end_at < after.start_at for before, after in pairwise(found))
    assert list(merged(found)) == found


def test_nothing_is_listed_without_a_beginning() -> None:
    assert nightly_periods([], begin=None, lookback=LOOKBACK, now=NOW) == []


def test_the_first_night_starts_at_the_beginning() -> None:
    assert nightly_periods([], begin=EPOCH, lookback=LOOKBACK, now=NOW) == [day(0, 30)]


def test_a_night_lists_from_its_coverage_less_the_look_back() -> None:
    pieces = [piece(n, n + 1, scanned=29) for n in range(29)]
    assert nightly_periods(pieces, begin=EPOCH, lookback=LOOKBACK, now=NOW) == [day(26, 30)]


def test_what_an_earlier_night_left_incomplete_is_listed_again() -> None:
    pieces = [piece(0, 3), piece(3, 4, state=WindowState.INCOMPLETE), piece(4, 20)]
    assert nightly_periods(pieces, begin=EPOCH, lookback=LOOKBACK, now=NOW) == [day(3, 4), day(20, 30)]


def test_what_was_never_scanned_is_listed() -> None:
    assert nightly_periods([piece(0, 5, scanned=None)], begin=None, lookback=LOOKBACK, now=NOW) == [day(0, 30)]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 33)), min_size=1, max_size=25), st.integers(0, 5))
def test_every_day_is_listed_now_or_was_listed_whole_late_enough(
    calendar: list[tuple[bool, int]], lookback_days: int
) -> None:
    pieces = [
        piece(n, n + 1, state=WindowState.COMPLETE if complete else WindowState.INCOMPLETE, scanned=scanned)
        for n, (complete, scanned) in enumerate(calendar)
    ]
    found = nightly_periods(pieces, begin=None, lookback=lookback_days * DAY, now=NOW)
    settled = {
        n for n, (complete, scanned) in enumerate(calendar) if complete and n + 1 + lookback_days <= scanned <= 30
    }
    assert seconds(found) == set(range(30)) - settled
    assert all(before.end_at < after.start_at for before, after in pairwise(found))


# Holes and edges of the calendar


def test_a_hole_that_a_backfill_left_behind_the_coverage_is_listed() -> None:
    """Nights failed from the 10th on, and a person ran the 15th to the 20th by hand."""
    pieces = [piece(0, 10), piece(15, 20)]
    assert nightly_periods(pieces, begin=None, lookback=LOOKBACK, now=NOW) == [day(10, 15), day(20, 30)]


def test_a_trial_of_the_last_days_does_not_pass_over_what_is_wanted_since_the_beginning() -> None:
    assert nightly_periods([piece(28, 30)], begin=EPOCH, lookback=0 * DAY, now=NOW) == [day(0, 28)]


def test_a_beginning_that_is_moved_back_is_made_up() -> None:
    assert nightly_periods([piece(10, 30)], begin=EPOCH, lookback=0 * DAY, now=NOW) == [day(0, 10)]


def test_the_time_between_an_old_backfill_and_the_beginning_is_not_wanted() -> None:
    pieces = [piece(0, 2), piece(3, 4, state=WindowState.INCOMPLETE)]
    assert nightly_periods(pieces, begin=day(20, 21).start_at, lookback=LOOKBACK, now=NOW) == [day(3, 4), day(20, 30)]


def test_before_the_beginning_nothing_is_listed() -> None:
    assert nightly_periods([], begin=NOW, lookback=LOOKBACK, now=NOW) == []
    assert nightly_periods([], begin=NOW + DAY, lookback=LOOKBACK, now=NOW) == []


@pytest.mark.parametrize("lookback_days", [0, 3])
def test_what_a_clock_that_was_ahead_called_complete_is_listed_again_up_to_now(lookback_days: int) -> None:
    """A night believed it was four years later; the clock is right again, and behind the calendar."""
    pieces = [piece(0, 20), piece(20, 1500, scanned=1500)]
    found = nightly_periods(pieces, begin=EPOCH, lookback=lookback_days * DAY, now=NOW)
    assert found == [day(20, 30)]
    assert beyond(pieces, NOW) == day(30, 1500)


def test_a_calendar_that_ends_now_holds_nothing_beyond() -> None:
    pieces = [piece(0, 30), piece(30, 40, state=WindowState.INCOMPLETE)]
    assert beyond(pieces, NOW) is None
    assert beyond([], NOW) is None


def test_without_a_look_back_what_was_listed_whole_once_is_settled() -> None:
    pieces = [piece(n, n + 1, scanned=n + 1) for n in range(30)]
    assert nightly_periods(pieces, begin=EPOCH, lookback=0 * DAY, now=NOW) == []


# Any sequence of nights, with the ledger's own calendar

HOUR = timedelta(hours=1)
COMPLETE, INCOMPLETE = WindowState.COMPLETE, WindowState.INCOMPLETE


@dataclass(frozen=True)
class Night:
    """So many hours after the one before; `fails` names the windows that can't be listed, by their place modulo 7.

    A `broken_off` night ends after so many windows; `since_h` makes it a backfill from so many hours before.
    """

    hours_later: int
    fails: frozenset[int]
    broken_off: int | None
    since_h: int | None
    window_hours: int
    lookback_days: int


nights = st.lists(
    st.builds(
        Night,
        hours_later=st.integers(0, 80),
        fails=st.one_of(st.just(frozenset[int]()), st.frozensets(st.integers(0, 6), max_size=7)),
        broken_off=st.one_of(st.none(), st.none(), st.integers(0, 4)),
        since_h=st.one_of(st.none(), st.none(), st.integers(1, 100)),
        window_hours=st.sampled_from([5, 24, 24, 24, 72]),
        lookback_days=st.sampled_from([0, 1, 3, 3, 3]),
    ),
    min_size=1,
    max_size=7,
)


def hours_of(windows: Iterable[Window]) -> set[int]:
    """The hours since the epoch of windows that are cut at whole hours."""
    return {
        hour for window in windows for hour in range((window.start_at - EPOCH) // HOUR, (window.end_at - EPOCH) // HOUR)
    }


class Model:
    """What should be known: each hour that was ever wanted, with when it was last listed and whether whole."""

    def __init__(self) -> None:
        self.listed: dict[int, tuple[bool, int]] = {}

    def open_at(self, now_h: int, lookback_h: int, ends: dict[int, int]) -> set[int]:
        """The hours that are not settled; a piece is by its end, which `ends` knows of each hour."""
        return {
            hour
            for hour in range(now_h)
            if hour not in self.listed
            or not self.listed[hour][0]
            or not ends[hour] + lookback_h <= self.listed[hour][1] <= now_h
        }


async def after(ledger: SqlLedger, account_id: str, model: Model, night: Night, now_h: int) -> None:
    """One night, as a run does it."""
    now = EPOCH + now_h * HOUR
    pieces = await ledger.calendar(account_id)
    ends = {hour: (each.window.end_at - EPOCH) // HOUR for each in pieces for hour in hours_of([each.window])}
    if night.since_h is None:
        lookback = night.lookback_days * DAY
        wanted = nightly_periods(pieces, begin=EPOCH, lookback=lookback, now=now)
        assert hours_of(wanted) == model.open_at(now_h, night.lookback_days * 24, ends)
        assert all(before.end_at < later.start_at for before, later in pairwise(wanted))
    else:
        wanted = [Window(max(EPOCH, now - night.since_h * HOUR), now)] if now > EPOCH else []
    await ledger.ask_for(account_id, wanted)
    for hour in hours_of(wanted):
        model.listed.setdefault(hour, (False, -1))
    cut = [
        each.covers
        for period in wanted
        for each in listing_windows(period, length=night.window_hours * HOUR, overlap=6 * HOUR, now=now)
    ]
    for place, window in enumerate(cut[: night.broken_off]):
        whole = place % 7 not in night.fails
        state = COMPLETE if whole else INCOMPLETE
        await ledger.finish_window(account_id, window, state=state, scanned_at=now, reason="" if whole else "broken")
        for hour in hours_of([window]):
            model.listed[hour] = whole, now_h


async def covered_hours(ledger: SqlLedger, account_id: str) -> int:
    """How many hours after the epoch `status` says are covered."""
    for summary in await ledger.summaries([account_id]):
        if summary.covered_through is not None:
            return (summary.covered_through - EPOCH) // HOUR
    return 0


async def play(ledger: SqlLedger, account_id: str, course: Sequence[Night]) -> None:
    """Any nights, then enough good ones; the calendar is compared with the model after each."""
    model, now_h, covered_before = Model(), 0, 0
    good = Night(24, frozenset(), None, None, 24, 3)
    for night in [*course, *[good] * 4]:
        now_h += night.hours_later
        known_before = {hour for hour, (whole, _) in model.listed.items() if whole}
        await after(ledger, account_id, model, night, now_h)
        pieces = await ledger.calendar(account_id)
        assert all(one.window.end_at <= other.window.start_at for one, other in pairwise(pieces))
        complete = hours_of(each.window for each in pieces if each.state is COMPLETE)
        assert complete == {hour for hour, (whole, _) in model.listed.items() if whole}
        assert hours_of(each.window for each in pieces) == set(model.listed)
        gapless = len(model.listed) == max(model.listed, default=-1) + 1
        if gapless:
            # The hours before the first that is not known whole; monotone, as long as none of them fails anew.
            prefix = next(hour for hour in itertools.count() if hour not in complete)
            assert await covered_hours(ledger, account_id) == prefix
            assert prefix >= covered_before or not known_before <= complete
            covered_before = prefix
    assert set(range(now_h)) == {hour for hour, (whole, _) in model.listed.items() if whole}
    assert covered_before == now_h


def test_whatever_nights_succeed_fail_or_are_left_out_the_calendar_says_what_was_listed_whole(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        ledger = runner.run(open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3"))
        accounts = itertools.count()

        @settings(max_examples=1000 if "ARCHIVER_CAMPAIGN" in os.environ else 15, deadline=None)
        @given(nights)
        def holds(course: list[Night]) -> None:
            runner.run(play(ledger, f"{next(accounts):032x}", course))

        try:
            holds()
        finally:
            runner.run(ledger.close())
