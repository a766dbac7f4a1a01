"""What a nightly run lists: pure decisions from the ledger's calendar and the clock."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from archiver.ledger.values import Piece, WindowState
from archiver.pipeline.planning import merged, nightly_periods
from archiver.window import Window

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
    settled = {n for n, (complete, scanned) in enumerate(calendar) if complete and scanned >= n + 1 + lookback_days}
    assert seconds(found) == set(range(30)) - settled
    assert all(before.end_at < after.start_at for before, after in pairwise(found))
