"""What became of an export."""

from enum import StrEnum

import msgspec

from archiver.errors import ExitCode
from archiver.proof.verification.findings import Finding

MOST_NAMED = 200
"""So many of each kind are named in a report; the bag names all."""


class ExportOutcome(StrEnum):
    """How it ended: everything is in the bag; something is not, which the bag says; there is no bag."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    NOTHING = "nothing"
    INTERRUPTED = "interrupted"


class NotArchived(msgspec.Struct, frozen=True, kw_only=True):
    """A recording that was selected and is not archived, with its status and the reason of its last try."""

    account_id: str
    recording_id: str
    status: str
    reason: str


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was selected, and what of it is in the bag, whose place is empty when there is none.

    `recordings` were selected; `exported` of their objects (a recording that changed at the source has several) are in
    the bag, with `bytes` in all. `not_found` are ids asked for that no selected recording has. Of `undecided` recordings
    nobody can tell whether they were meant, since their metadata are not there. `findings` are damage: what they are about
    is not in the bag. At most 200 of each are named, the totals count all.
    """

    case: str
    reference: str
    by: str
    outcome: ExportOutcome
    bag: str = ""
    manifest_sha256: str = ""
    recordings: int = 0
    exported: int = 0
    bytes: int = 0
    cdrs: int = 0
    audit_records: int = 0
    not_archived: list[NotArchived] = []
    not_archived_total: int = 0
    not_found: list[str] = []
    not_found_total: int = 0
    undecided: int = 0
    findings: list[Finding] = []
    findings_total: int = 0
    notes: list[str] = []

    @property
    def exit_code(self) -> ExitCode:
        """Damage before what is left."""
        if self.findings_total:
            return ExitCode.DAMAGE
        return ExitCode.DONE if self.outcome is ExportOutcome.COMPLETE else ExitCode.LEFT
