"""Holds as files beside the ledger, with everything that they say: a ledger that is lost does not lose them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec

from archiver.ledger.values_retention import Hold

SCHEMA = 1


class HoldFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A hold as its file says it; times in UTC."""

    schema: int
    name: str
    reason: str
    reference: str
    placed_by: str
    placed_at: datetime
    account_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    recording_ids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    released_by: str = ""
    released_at: datetime | None = None
    release_reason: str = ""


def encode(hold: Hold) -> bytes:
    """The file's bytes."""
    said = HoldFile(
        schema=SCHEMA,
        name=hold.name,
        reason=hold.reason,
        reference=hold.reference,
        placed_by=hold.placed_by,
        placed_at=hold.placed_at,
        account_id=hold.account_id,
        since=hold.since_at,
        until=hold.until_at,
        recording_ids=hold.recording_ids,
        users=hold.users,
        released_by=hold.released_by,
        released_at=hold.released_at,
        release_reason=hold.release_reason,
    )
    return json.dumps(msgspec.to_builtins(said), indent=1).encode("ascii") + b"\n"


def decode(data: bytes) -> Hold | None:
    """The hold in a file; None when it is none of ours."""
    try:
        said = msgspec.convert(json.loads(data), HoldFile)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    times = (said.placed_at, said.since, said.until, said.released_at)
    if said.schema != SCHEMA or any(at is not None and at.tzinfo is None for at in times):
        return None
    return Hold(
        name=said.name,
        reason=said.reason,
        reference=said.reference,
        placed_by=said.placed_by,
        placed_at=said.placed_at,
        account_id=said.account_id,
        since_at=said.since,
        until_at=said.until,
        recording_ids=said.recording_ids,
        users=said.users,
        released_by=said.released_by,
        released_at=said.released_at,
        release_reason=said.release_reason,
    )


def unknown_holds(files: Mapping[str, bytes], known: Sequence[Hold]) -> list[Hold]:
    """The holds that files tell of and the ledger does not, by name; a file that can't be read holds everything.

    Somebody wrote it to keep something: what it was can't be told any more, so nothing goes until a person has looked.
    """
    names = {hold.name.lower() for hold in known}
    found: list[Hold] = []
    for name, data in sorted(files.items()):
        if name.lower() in names:
            continue
        hold = decode(data)
        if hold is None or hold.name.lower() != name.lower():
            hold = unreadable(name)
        found.append(hold)
        names.add(name.lower())
    return found


def unreadable(name: str) -> Hold:
    """What stands for a file of this name that can't be understood."""
    reason = f"the file .archiver/holds/{name}.json can't be read, so it holds everything"
    return Hold(name, reason, "", "the archiver", datetime.fromisoformat("1970-01-01T00:00:00+00:00"))
