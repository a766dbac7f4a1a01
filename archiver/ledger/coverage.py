"""An account's calendar in the ledger: disjoint pieces, each with what the last look at it came to."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from archiver.ledger.backend import lock_accounts, portions
from archiver.ledger.columns import from_seconds, from_seconds_or_none, original, plain, seconds
from archiver.ledger.entries import account_number
from archiver.ledger.pieces import Span, not_held, remainders
from archiver.ledger.tables import calendar
from archiver.ledger.values import Piece, WindowProgress, WindowState
from archiver.window import Window

NOT_LISTED = "not listed yet"
"""Why a piece that was asked for and never listed is incomplete."""


def span_of(window: Window) -> Span:
    """The window in Unix seconds."""
    return Span(seconds(window.start_at), seconds(window.end_at))


def ask_for(connection: Connection, account_id: str, spans: Sequence[Span]) -> None:
    """Add what the calendar does not hold yet as incomplete pieces."""
    account_no = account_number(connection, plain(account_id))
    lock_accounts(connection, [account_no])
    for wanted in spans:
        held = [Span(row["start_at"], row["end_at"]) for row in _overlapping(connection, account_no, wanted)]
        fresh = [
            {
                "account_no": account_no,
                "start_at": part.start,
                "end_at": part.end,
                "state": WindowState.INCOMPLETE.value,
                "reason": NOT_LISTED,
            }
            for part in not_held(wanted, held)
        ]
        if fresh:
            connection.execute(insert(calendar), fresh)


def finish_window(
    connection: Connection, account_id: str, span: Span, *, state: WindowState, scanned_at: int, reason: str
) -> None:
    """Put the piece in place of whatever lies there; what reaches over its edges stays as it was."""
    account_no = account_number(connection, plain(account_id))
    lock_accounts(connection, [account_no])
    rows = _overlapping(connection, account_no, span)
    progress = {"pages": 0, "rows": 0, "cursor": "", "run_no": None}
    left: list[dict[str, Any]] = []
    for row in rows:
        held = Span(row["start_at"], row["end_at"])
        if held == span:
            progress = {name: row[name] for name in progress}
        for rest in remainders(held, span):
            # Its progress was that of the whole piece and says nothing of the rest.
            kept = {name: row[name] for name in ("account_no", "state", "scanned_at", "reason")}
            left.append(kept | {"start_at": rest.start, "end_at": rest.end})
    for portion in portions([row["piece_no"] for row in rows]):
        connection.execute(delete(calendar).where(calendar.c.piece_no.in_(portion)))
    if left:
        connection.execute(insert(calendar), left)
    piece = {"account_no": account_no, "start_at": span.start, "end_at": span.end}
    looked = {"state": state.value, "scanned_at": scanned_at, "reason": plain(reason)}
    connection.execute(insert(calendar), [piece | looked | progress])


def note_progress(
    connection: Connection, account_no: int, span: Span, progress: WindowProgress, *, run_no: int
) -> None:
    """Note how far the listing of the piece with exactly these bounds has come, if there is one."""
    connection.execute(
        update(calendar)
        .where(calendar.c.account_no == account_no, calendar.c.start_at == span.start, calendar.c.end_at == span.end)
        .values(pages=progress.pages, rows=progress.rows, cursor=plain(progress.cursor), run_no=run_no)
    )


def read_pieces(connection: Connection, account_no: int, *, state: WindowState | None = None) -> list[Piece]:
    """The account's pieces in order, or only those of one state."""
    chosen = select(
        calendar.c.start_at, calendar.c.end_at, calendar.c.state, calendar.c.scanned_at, calendar.c.reason
    ).where(calendar.c.account_no == account_no)
    if state is not None:
        chosen = chosen.where(calendar.c.state == state.value)
    return [
        Piece(
            window=Window(from_seconds(start), from_seconds(end)),
            state=WindowState(found),
            scanned_at=from_seconds_or_none(scanned_at),
            reason=original(reason),
        )
        for start, end, found, scanned_at, reason in connection.execute(chosen.order_by(calendar.c.start_at))
    ]


def latest_complete(connection: Connection, account_no: int, *, before: int | None) -> int | None:
    """The latest end of a complete piece, or only among those that start before an instant; in Unix seconds."""
    chosen = select(func.max(calendar.c.end_at)).where(
        calendar.c.account_no == account_no, calendar.c.state == WindowState.COMPLETE.value
    )
    if before is not None:
        chosen = chosen.where(calendar.c.start_at < before)
    return connection.execute(chosen).scalar()


def _overlapping(connection: Connection, account_no: int, span: Span) -> Sequence[RowMapping]:
    """The pieces that share time with `span`, in order."""
    # Pieces are disjoint, so the only one that starts before the span and reaches in is the last that starts before it.
    reaching = (
        select(func.max(calendar.c.start_at))
        .where(calendar.c.account_no == account_no, calendar.c.start_at <= span.start)
        .scalar_subquery()
    )
    chosen = (
        select(calendar)
        .where(
            calendar.c.account_no == account_no,
            calendar.c.start_at >= func.coalesce(reaching, span.start),
            calendar.c.start_at < span.end,
            calendar.c.end_at > span.start,
        )
        .order_by(calendar.c.start_at)
    )
    return connection.execute(chosen).mappings().all()
