"""What the audit trail says of retention and holds: ids, keys, dates and digests; no patterns, which may be numbers."""

import hashlib
from datetime import datetime

from archiver.ledger.values_retention import Hold, TombstoneKind
from archiver.proof.evidence.audit import Details, Draft, Record, What, nameless, plain, stamp
from archiver.proof.retention.hold_files import encode
from archiver.proof.retention.tombstones import TombstoneFile

_MOST_IDS = 200
"""So many ids of a hold stand in the trail; the file has all of them."""


def gone(key: str, said: TombstoneFile, digest: str, *, by: str = "") -> Draft:
    """A recording is about to go; `key` is that of its tombstone."""
    erased = said.kind is TombstoneKind.ERASED
    details = Details(
        kind=said.kind.value,
        objects=len(said.keys),
        bytes=None if erased else said.size_bytes,
        sha256=digest,
        rule=said.rule or None,
        kept_until=None if said.kept_until is None else stamp(said.kept_until),
        reference=_text(said.reference),
        by=_text(by),
    )
    return Draft(What.ERASED if erased else What.EXPIRED, key, "removed", details)


def erasure_refused(key: str, *, result: str, rule: str, until_at: datetime | None, by: str, reference: str) -> Draft:
    """Somebody asked for an erasure that a rule, a hold or a lock forbids."""
    until = None if until_at is None else stamp(until_at)
    details = Details(rule=rule or None, kept_until=until, by=_text(by), reference=_text(reference))
    return Draft(What.ERASED, key, result, details)


def extended(objects: int) -> Draft:
    """Locks of the store were made longer."""
    return Draft(What.EXTENDED, "", "extended", Details(objects=objects))


def hold_added(hold: Hold) -> Draft:
    """A hold was placed."""
    return Draft(What.HOLD_ADDED, hold.name, "added", _of_hold(hold, hold.placed_by))


def hold_released(hold: Hold) -> Draft:
    """A hold was released; `sha256` is that of its file with the release in it."""
    return Draft(What.HOLD_RELEASED, hold.name, "released", _of_hold(hold, hold.released_by))


def held_by_record(record: Record) -> Hold:
    """The hold that a record tells of, as far as it does: without what stands in the file alone it covers more."""
    details = record.details
    ids = details.ids if details.ids_count is None else ()
    lost = [*(["ids"] if details.ids_count is not None else []), *(["patterns"] if details.patterns else [])]
    reason = "placed again from the audit trail" + (f", without its {' and '.join(lost)}" if lost else "")
    return Hold(
        name=record.subject,
        reason=reason,
        reference=details.reference or "",
        placed_by=details.by or record.who,
        placed_at=datetime.fromisoformat(record.at),
        account_id=details.accounts[0] if details.accounts else "",
        since_at=None if details.since is None else datetime.fromisoformat(details.since),
        until_at=None if details.until is None else datetime.fromisoformat(details.until),
        recording_ids=ids,
    )


def _of_hold(hold: Hold, by: str) -> Details:
    many = len(hold.recording_ids) > _MOST_IDS
    return Details(
        accounts=(hold.account_id,) if hold.account_id else (),
        since=None if hold.since_at is None else stamp(hold.since_at),
        until=None if hold.until_at is None else stamp(hold.until_at),
        ids=() if many else tuple(plain(each) for each in hold.recording_ids),
        ids_count=len(hold.recording_ids) if many else None,
        patterns=tuple(hashlib.sha256(each.encode("utf-8", "replace")).hexdigest() for each in hold.users),
        sha256=hashlib.sha256(encode(hold)).hexdigest(),
        by=_text(by),
        reference=_text(hold.reference),
    )


def _text(text: str) -> str | None:
    return nameless(plain(text)) or None
