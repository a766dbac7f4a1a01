"""Legal holds in the ledger."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from archiver.ledger.columns import (
    from_milliseconds,
    from_seconds_or_none,
    milliseconds,
    original,
    plain,
    seconds_or_none,
)
from archiver.ledger.tables import holds
from archiver.ledger.values_retention import Hold, KnownHold


def read_holds(connection: Connection) -> Sequence[KnownHold]:
    """See the ledger's promise."""
    rows = connection.execute(select(holds).order_by(holds.c.hold_no)).mappings()
    return [KnownHold(row["hold_no"], _hold(row)) for row in rows]


def newest_active(connection: Connection) -> int:
    """The greatest number of an active hold, 0 when there is none."""
    chosen = select(func.max(holds.c.hold_no)).where(holds.c.released_ms.is_(None))
    return int(connection.execute(chosen).scalar() or 0)


def add_hold(connection: Connection, hold: Hold) -> bool:
    """See the ledger's promise."""
    folded = plain(hold.name.lower())
    if connection.execute(select(holds.c.hold_no).where(holds.c.folded_name == folded)).first() is not None:
        return False
    connection.execute(insert(holds).values(folded_name=folded, **_columns(hold)))
    return True


def release_hold(connection: Connection, name: str, *, by: str, at_ms: int, reason: str) -> Hold | None:
    """See the ledger's promise."""
    which = (holds.c.folded_name == plain(name.lower()), holds.c.released_ms.is_(None))
    changed = update(holds).where(*which)
    found = changed.values(released_by=plain(by), released_ms=at_ms, release_reason=plain(reason))
    if not connection.execute(found).rowcount:
        return None
    return _hold(connection.execute(select(holds).where(which[0])).mappings().one())


def _columns(hold: Hold) -> dict[str, Any]:
    return {
        "name": plain(hold.name),
        "reason": plain(hold.reason),
        "reference": plain(hold.reference),
        "placed_by": plain(hold.placed_by),
        "placed_ms": milliseconds(hold.placed_at),
        "account_id": plain(hold.account_id),
        "since_s": seconds_or_none(hold.since_at),
        "until_s": seconds_or_none(hold.until_at),
        "recording_ids": json.dumps(hold.recording_ids),
        "users": json.dumps(hold.users),
        "released_by": plain(hold.released_by),
        "released_ms": None if hold.released_at is None else milliseconds(hold.released_at),
        "release_reason": plain(hold.release_reason),
    }


def _hold(row: RowMapping) -> Hold:
    return Hold(
        name=original(row["name"]),
        reason=original(row["reason"]),
        reference=original(row["reference"]),
        placed_by=original(row["placed_by"]),
        placed_at=from_milliseconds(row["placed_ms"]),
        account_id=original(row["account_id"]),
        since_at=from_seconds_or_none(row["since_s"]),
        until_at=from_seconds_or_none(row["until_s"]),
        recording_ids=tuple(json.loads(row["recording_ids"])),
        users=tuple(json.loads(row["users"])),
        released_by=original(row["released_by"]),
        released_at=None if row["released_ms"] is None else from_milliseconds(row["released_ms"]),
        release_reason=original(row["release_reason"]),
    )
