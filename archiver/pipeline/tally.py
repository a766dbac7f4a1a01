"""A run's counts. Conserved by construction: each id is listed once and has one outcome; what has none yet is pending."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from archiver.ledger.values import Settlement, Task
from archiver.ledger.values_claims import Recovered
from archiver.pipeline.audio_length import LENGTH_FLAGS
from archiver.recording import Status

CHANGED = "changed_at_source: archived"
MOST_PROBLEMS = 200
"""So many problems a report shows; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One recording that is not archived, or a window that is not complete (then `recording_id` is empty).

    One that is archived and worth a look is a note, with status `archived`.
    """

    account_id: str
    recording_id: str
    status: str
    reason: str
    attempts: int


@dataclass(slots=True)
class Tally:
    """Live counts of a run; `pending` is what was claimed and has no outcome yet."""

    claimed: int = 0
    archived: int = 0
    already_archived: int = 0
    left_pending: int = 0
    missing: int = 0
    newly_missing: int = 0
    quarantined: int = 0
    bytes_archived: int = 0
    changed: int = 0
    flagged: int = 0
    windows_complete: int = 0
    windows_incomplete: int = 0
    problems: list[Problem] = field(default_factory=list)
    notes: list[Problem] = field(default_factory=list)
    problems_total: int = 0
    settled: int = 0

    @property
    def listed(self) -> int:
        """How many ids this run has seen, each once."""
        return self.claimed + self.already_archived + self.missing - self.newly_missing

    @property
    def pending(self) -> int:
        """Claimed, and neither archived, missing nor quarantined."""
        return self.claimed - self.archived - self.newly_missing - self.quarantined

    def page(self, claimed: int, settled: Mapping[Status, int]) -> None:
        """Count a page's rows: those to work on, and those that need no work."""
        self.claimed += claimed
        self.already_archived += settled.get(Status.ARCHIVED, 0)
        self.missing += settled.get(Status.MISSING, 0)

    def recovered(self, found: Recovered) -> None:
        """Count what attempts of this run, whose own counts are lost, have brought to an end."""
        missing = len(found.missing_ids)
        self.claimed += found.archived + missing
        self.settled += found.archived + missing
        self.archived += found.archived
        self.bytes_archived += found.bytes_archived
        self.missing += missing
        self.newly_missing += missing

    def outcome(self, task: Task, settlement: Settlement) -> None:
        """Count what became of a task."""
        self.settled += 1
        match settlement.status:
            case Status.ARCHIVED:
                self.archived += 1
                self.bytes_archived += settlement.fixity.size_bytes if settlement.fixity else 0
                self._note(task, settlement)
                return
            case Status.MISSING:
                self.missing += 1
                self.newly_missing += 1
            case Status.QUARANTINED:
                self.quarantined += 1
            case _:
                self.left_pending += 1
        recording = task.recording
        self.problem(
            Problem(
                recording.account_id,
                recording.recording_id,
                settlement.status.value,
                f"{settlement.reason}: {settlement.detail}",
                settlement.attempts,
            )
        )

    def problem(self, problem: Problem) -> None:
        """Keep a problem while there is room, count it always."""
        self.problems_total += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def _note(self, task: Task, settlement: Settlement) -> None:
        """Keep what is worth a look of an archived recording; nearly none has anything."""
        said = [flag for flag in settlement.flags if flag in LENGTH_FLAGS] if settlement.flags else []
        self.flagged += bool(said)
        if task.version > 1:
            said.append(f"{CHANGED} as version {task.version} beside the former")
        if not said:
            return
        self.problems_total += 1
        if len(self.notes) < MOST_PROBLEMS:
            recording = task.recording
            reason = ", ".join(said) + (f": {settlement.detail}" if settlement.detail else "")
            self.notes.append(
                Problem(recording.account_id, recording.recording_id, "archived", reason, settlement.attempts)
            )

    @property
    def shown(self) -> list[Problem]:
        """The problems that a report shows; notes only where they leave room."""
        return [*self.problems, *self.notes][:MOST_PROBLEMS]

    def become_sum(self, parts: "Sequence[Tally]") -> None:
        """Take the sum of the parts, whose ids are disjoint."""
        for each in fields(self):
            if each.name not in {"problems", "notes"}:
                setattr(self, each.name, sum(getattr(part, each.name) for part in parts))
        self.problems = [problem for part in parts for problem in part.problems][:MOST_PROBLEMS]
        self.notes = [note for part in parts for note in part.notes][:MOST_PROBLEMS]

    @property
    def something_left(self) -> bool:
        """Whether anything that was asked for is not done."""
        return bool(self.pending or self.newly_missing or self.quarantined or self.windows_incomplete)
