"""What `rebuild` and `rebuild --adopt` report."""

import msgspec

from archiver.proof.restoration.rebuild import Rebuilt
from archiver.proof.restoration.stored import RebuildProblem


class RebuildReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the ledger, what lies in the store, and what does not fit together.

    `ledger` is `replaced` or `updated`, or `unchanged` when it was stopped before its end; `set_aside` is where the
    old one lies, `reason` why it was replaced. `calendar` says whether it still knows what was listed: `kept` or `lost`.
    `tombstones` stand for recordings that retention has removed.
    """

    run_id: str
    ledger: str
    reason: str
    set_aside: str
    calendar: str
    complete: bool
    full: bool
    objects: int
    sidecars: int
    bytes: int
    entered: int
    known: int
    tombstones: int
    duration_s: float
    problems: list[RebuildProblem]
    problems_total: int


def rebuild_report(
    found: Rebuilt, *, run_id: str, replaced: bool, aside: str, reason: str, took_s: float, full: bool
) -> RebuildReport:
    """The report of a rebuild."""
    updated = not reason
    return RebuildReport(
        run_id=run_id,
        ledger="replaced" if replaced else "updated" if updated else "unchanged",
        reason=reason,
        set_aside=aside,
        calendar="kept" if not replaced else "lost",
        complete=found.complete,
        full=full,
        objects=found.objects,
        sidecars=found.sidecars,
        bytes=found.bytes,
        entered=found.entered,
        known=found.known,
        tombstones=found.tombstones,
        duration_s=round(took_s, 3),
        problems=found.problems,
        problems_total=len(found.problems),
    )
