"""Decides which periods a run lists. Pure: calendar and clock come in, windows go out."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from archiver.ledger.values import Piece, WindowState
from archiver.window import Window


def nightly_periods(
    pieces: Sequence[Piece], *, begin: datetime | None, lookback: timedelta, now: datetime
) -> list[Window]:
    """What a nightly run lists of an account: everything wanted and not settled, up to now.

    A piece is settled when it was listed whole no earlier than `lookback` after its end, since metadata and media come
    late. So a night lists from its coverage less the look back, and whatever earlier nights left incomplete. Without any
    piece it starts at `begin`; empty when there is neither.
    """
    open_windows = [
        piece.window
        for piece in pieces
        if piece.state is not WindowState.COMPLETE
        or piece.scanned_at is None
        or piece.scanned_at < piece.window.end_at + lookback
    ]
    frontier = max((piece.window.end_at for piece in pieces), default=begin)
    if frontier is not None and frontier < now:
        open_windows.append(Window(frontier, now))
    return list(merged(open_windows))


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
