"""What the page for people is told: each read walks over all entries once, in the database, and gives back few rows."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, case, cast, func, literal_column, select

from archiver.ledger.columns import from_seconds_or_none, original
from archiver.ledger.tables import accounts, entries, listed_metadata
from archiver.ledger.values_reporting import DayVolume, FlagCount, Noteworthy, ReasonCount, Reasons
from archiver.recording import Status

_DAY_S = 86_400
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LAST_DAY = date.max.toordinal() - 1
_LAST_S = (_LAST_DAY - _EPOCH_DAY) * _DAY_S
_FIRST_YEAR = 1990
"""Calls before that are dated with the offset of that year; there are none."""
_NOT_ARCHIVED = (Status.PENDING, Status.QUARANTINED, Status.MISSING)
# The sum keeps the planner from walking in the order of an index, which reads the table criss-cross.
_ACCOUNT = entries.c.account_no + 0
_DATED = func.coalesce(entries.c.start_at, entries.c.saved_at, entries.c.archived_ms // 1000, entries.c.listed_at)


def read_volumes(connection: Connection, zone: tzinfo, *, now: datetime) -> Sequence[DayVolume]:
    """See the ledger's promise; `now` bounds the changes of the zone's offset that are looked for."""
    # Divisions differ in how they round below zero, so what lies there is left to the last case.
    local_day = (_DATED + _offset_s(zone, now=now)) // _DAY_S
    day = case((_DATED.between(_DAY_S, _LAST_S), local_day), else_=-1).label("day")
    size = cast(func.sum(func.coalesce(entries.c.size_bytes, entries.c.length_bytes, 0)), BigInteger)
    chosen = (
        select(_ACCOUNT.label("whose"), day, entries.c.status, func.count(), size)
        .group_by(literal_column("whose"), literal_column("day"), entries.c.status)
        .order_by(literal_column("whose"), literal_column("day"), entries.c.status)
    )
    names = _account_ids(connection)
    return [
        DayVolume(
            account_id=names[account_no],
            day=None if number < 0 else date.fromordinal(_EPOCH_DAY + number),
            status=Status(status),
            recordings=count,
            bytes=max(0, bytes_count),
        )
        for account_no, number, status, count, bytes_count in connection.execute(chosen)
    ]


def read_reasons(connection: Connection) -> Reasons:
    """See the ledger's promise."""
    is_archived = entries.c.status == Status.ARCHIVED.value
    why = case((is_archived, entries.c.flags), else_=entries.c.reason).label("why")
    chosen = (
        select(_ACCOUNT.label("whose"), entries.c.status, why, func.count())
        .where(entries.c.status != Status.EXPIRED.value, ~is_archived | (entries.c.flags != ""))
        .group_by(literal_column("whose"), entries.c.status, literal_column("why"))
        .order_by(literal_column("whose"), entries.c.status, literal_column("why"))
    )
    names = _account_ids(connection)
    reasons: list[ReasonCount] = []
    flags: Counter[tuple[str, str]] = Counter()
    for account_no, status, text, count in connection.execute(chosen):
        if status == Status.ARCHIVED.value:
            for flag in set(original(text).split()):
                flags[names[account_no], flag] += count
        else:
            reasons.append(ReasonCount(names[account_no], Status(status), original(text), count))
    return Reasons(reasons, [FlagCount(*whose, count) for whose, count in sorted(flags.items())])


def read_noteworthy(connection: Connection, limit: int) -> Sequence[Noteworthy]:
    """See the ledger's promise."""
    found = [each for status in _NOT_ARCHIVED for each in _noteworthy(connection, entries.c.status == status, limit)]
    flagged = (entries.c.status == Status.ARCHIVED.value) & (entries.c.flags != "")
    return [*found, *_noteworthy(connection, flagged, limit)]


def _noteworthy(connection: Connection, which: ColumnElement[bool], limit: int) -> Sequence[Noteworthy]:
    chosen = (
        select(entries, accounts.c.account_id, _DATED.label("dated_at"), listed_metadata.c.metadata.label("listed"))
        .join(accounts, accounts.c.account_no == entries.c.account_no)
        .outerjoin(listed_metadata, listed_metadata.c.entry_id == entries.c.entry_id)
        .where(which)
        .order_by(literal_column("dated_at").desc(), entries.c.entry_id)
        .limit(limit)
    )
    return [
        Noteworthy(
            account_id=original(row.account_id),
            recording_id=original(row.recording_id),
            status=Status(row.status),
            dated_at=from_seconds_or_none(row.dated_at) if _DAY_S <= row.dated_at <= _LAST_S else None,
            attempts=row.attempts,
            reason=original(row.reason),
            detail=original(row.detail),
            flags=original(row.flags).split(),
            next_attempt_at=from_seconds_or_none(row.next_attempt_at),
            key=original(row.key) if row.status == Status.ARCHIVED.value else "",
            metadata=row.listed or b"",
        )
        for row in connection.execute(chosen)
    ]


def _account_ids(connection: Connection) -> dict[int, str]:
    chosen = select(accounts.c.account_no, accounts.c.account_id)
    return {account_no: original(account_id) for account_no, account_id in connection.execute(chosen)}


def _offset_s(zone: tzinfo, *, now: datetime) -> ColumnElement[int]:
    """What to add to a Unix time for the zone's wall clock; the latest changes first, since most calls are after them."""
    changes = _changes(zone, now=now)
    if len(changes) == 1:
        return literal_column(str(changes[0][1]))
    after: list[tuple[ColumnElement[bool], ColumnElement[Any]]] = [
        (literal_column(str(since)) <= _DATED, literal_column(str(offset))) for since, offset in changes[:0:-1]
    ]
    return case(*after, else_=literal_column(str(changes[0][1])))


def _changes(zone: tzinfo, *, now: datetime) -> list[tuple[int, int]]:
    """From when on (Unix seconds) the zone had which offset, in order; the first is that before all changes."""

    def offset_at(second: int) -> int:
        found = datetime.fromtimestamp(second, UTC).astimezone(zone).utcoffset()
        return 0 if found is None else int(found.total_seconds())

    second, end = int(datetime(_FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp()), int((now + timedelta(days=400)).timestamp())
    found = [(second, offset_at(second))]
    while second < end:
        following = second + _DAY_S
        if (offset := offset_at(following)) != found[-1][1]:
            found.append((_turn(offset_at, second, following), offset))
        second = following
    return found


def _turn(offset_at: Callable[[int], int], low: int, high: int) -> int:
    """The second at which the offset turns, between two that differ."""
    before = offset_at(low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if offset_at(middle) == before else (low, middle)
    return high
