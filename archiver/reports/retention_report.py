"""What `retention apply`, `erase` and `extend`, and the commands about holds say."""

import msgspec

from archiver.errors import ExitCode
from archiver.ledger.values import Outcome
from archiver.ledger.values_retention import Hold
from archiver.proof.retention.applying import Left
from archiver.proof.retention.plan import MOST_SHOWN, PlannedRecording, stamp


class LeftRecording(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that has its tombstone and is not removed whole yet; `locked_until` where the store's lock says when."""

    account_id: str
    recording_id: str
    key: str
    reason: str
    locked_until: str | None


class ApplyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `retention apply` did.

    `recordings` were looked at; `expired` of them, of `bytes`, are gone. `finished` were expired by an earlier command that
    was stopped. `kept`, `held` and `locked` were not removed: their time is not over, a hold covers them, the store's lock
    still holds. `locked_first` names the first of those, `left` what could not be finished. `changed` were
    not what they had been when they were to go; the next time decides anew. `cdr_files` are days of archived CDRs
    that were removed.
    """

    run_id: str
    outcome: Outcome
    at: str
    recordings: int
    expired: int
    bytes: int
    finished: int
    kept: int
    held: int
    locked: int
    changed: int
    cdr_files: int
    locked_first: list[PlannedRecording]
    left: list[LeftRecording]
    left_total: int
    duration_s: float
    notes: list[str]
    error: str | None = None
    not_recorded: str | None = None


class EraseReport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an erasure request: `erased`, `already_gone`, or why not.

    `held_by_rule`, `held_by_hold`, `locked` and `unknown_date` are refusals, with the rule and its date, the holds, the
    lock's date. `left` says that something of it could not be removed yet.
    """

    account_id: str
    recording_id: str
    result: str
    rule: str
    until: str | None
    holds: list[str]
    locked_until: str | None
    tombstone: str
    run_id: str
    left: str | None = None
    not_recorded: str | None = None

    @property
    def exit_code(self) -> ExitCode:
        """That of a command which ends like this."""
        if self.not_recorded:
            return ExitCode.DESTINATION
        done = self.result in {"erased", "already_gone"} and self.left is None
        return ExitCode.DONE if done else ExitCode.LEFT


class ExtendReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `retention extend` did: how many objects were looked at, and how many got a longer lock."""

    recordings: int
    objects: int
    extended: int
    complete: bool
    not_recorded: str | None = None


class ShownHold(msgspec.Struct, frozen=True, kw_only=True):
    """A hold; empty and null conditions cover everything."""

    name: str
    active: bool
    reason: str
    reference: str
    placed_by: str
    placed_at: str
    account_id: str
    since: str | None
    until: str | None
    recording_ids: list[str]
    users: list[str]
    released_by: str
    released_at: str | None
    release_reason: str


class HoldReport(msgspec.Struct, frozen=True, kw_only=True):
    """Holds, in the order in which they were placed."""

    holds: list[ShownHold]
    not_recorded: str | None = None


def shown_hold(hold: Hold) -> ShownHold:
    """A hold with its times as texts."""
    return ShownHold(
        name=hold.name,
        active=hold.is_active,
        reason=hold.reason,
        reference=hold.reference,
        placed_by=hold.placed_by,
        placed_at=stamp(hold.placed_at),
        account_id=hold.account_id,
        since=None if hold.since_at is None else stamp(hold.since_at),
        until=None if hold.until_at is None else stamp(hold.until_at),
        recording_ids=list(hold.recording_ids),
        users=list(hold.users),
        released_by=hold.released_by,
        released_at=None if hold.released_at is None else stamp(hold.released_at),
        release_reason=hold.release_reason,
    )


def left_recording(left: Left) -> LeftRecording:
    """What could not be finished."""
    return LeftRecording(
        account_id=left.expiry.account_id,
        recording_id=left.expiry.recording_id,
        key=left.expiry.key,
        reason=left.why,
        locked_until=None if left.until_at is None else stamp(left.until_at),
    )


def first_left(found: list[Left]) -> list[LeftRecording]:
    """As many of them as a report names."""
    return [left_recording(each) for each in found[:MOST_SHOWN]]
