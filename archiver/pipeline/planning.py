"""Decides which periods a run lists. Pure: calendar and clock come in, windows go out."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from archiver.ledger.values import Piece, WindowState
from archiver.window import Window

LISTED_AHEAD = "the clock was ahead when it was listed"
"""Why a piece after now is incomplete."""


def nightly_periods(
    pieces: Sequence[Piece], *, begin: datetime | None, lookback: timedelta, now: datetime
) -> list[Window]:
    """What a nightly run lists of an account: everything wanted and not settled, up to now.

    Wanted is all from `begin` (without one, from the first piece), and every piece before it. So a hole that backfills
    left between pieces is listed, and one before `begin` is not. Empty when there is neither a piece nor a `begin`.

    A piece is settled when it was listed whole no earlier than `lookback` after its end, since metadata and media come
    late. So a night lists from its coverage less the look back, and whatever earlier nights left incomplete. A piece that
    was listed later than now was listed by a clock that was wrong, and is not believed.
    """
    wanted = [piece.window for piece in pieces]
    since = begin or min((window.start_at for window in wanted), default=now)
    if since < now:
        wanted.append(Window(since, now))
    settled = [piece.window for piece in pieces if _is_settled(piece, lookback, now)]
    return list(_less(merged(_until(now, wanted)), settled))


def beyond(pieces: Sequence[Piece], now: datetime) -> Window | None:
    """The time after now that the calendar calls complete, which nobody can have listed: a clock was ahead."""
    ends = [piece.window.end_at for piece in pieces if piece.state is WindowState.COMPLETE]
    last = max(ends, default=now)
    return Window(now, last) if last > now else None


def merged(windows: Iterable[Window]) -> Iterator[Window]:
    """Disjoint windows, in order, that cover the same time."""
    current: Window | None = None
    for window in sorted(windows):
        if current is None:
            current = window
        elif window.start_at <= current.end_at:
            current = Window(current.start_at, max(current.end_at, window.end_at))
        else:
            yield current
            current = window
    if current is not None:
        yield current


def _is_settled(piece: Piece, lookback: timedelta, now: datetime) -> bool:
    return (
        piece.state is WindowState.COMPLETE
        and piece.scanned_at is not None
        and piece.window.end_at + lookback <= piece.scanned_at <= now
    )


def _until(now: datetime, windows: Iterable[Window]) -> Iterator[Window]:
    """The windows as far as they are over."""
    return (Window(each.start_at, min(each.end_at, now)) for each in windows if each.start_at < now)


def _less(windows: Iterable[Window], taken: Iterable[Window]) -> Iterator[Window]:
    """What is left of disjoint windows, in order, without what is taken; both are walked once."""
    cuts = iter(merged(taken))
    cut = next(cuts, None)
    for window in windows:
        start = window.start_at
        while cut is not None and cut.end_at <= start:
            cut = next(cuts, None)
        while cut is not None and cut.start_at < window.end_at:
            if cut.start_at > start:
                yield Window(start, cut.start_at)
            start = cut.end_at
            if start >= window.end_at:
                break
            cut = next(cuts, None)
        if start < window.end_at:
            yield Window(start, window.end_at)
