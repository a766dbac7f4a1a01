"""Which recordings a legal hold covers."""

from archiver.ledger.values_retention import Hold
from archiver.proof.retention.subjects import Subject, matches_any


def covers(hold: Hold, subject: Subject) -> bool | None:
    """Whether an active hold covers a recording; None when that can't be told, which counts as covered."""
    if not hold.is_active or (hold.account_id and hold.account_id != subject.account_id):
        return False
    if hold.recording_ids and subject.recording_id not in hold.recording_ids:
        return False
    said: set[bool | None] = {True}
    if hold.since_at is not None or hold.until_at is not None:
        said.add(_in_period(hold, subject))
    if hold.users:
        said.add(matches_any(hold.users, subject.facts.users))
    return False if False in said else None if None in said else True


def _in_period(hold: Hold, subject: Subject) -> bool | None:
    if subject.dated_at is None:
        return None
    begun = hold.since_at is None or hold.since_at <= subject.dated_at
    return begun and (hold.until_at is None or subject.dated_at < hold.until_at)
