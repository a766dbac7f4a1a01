"""What a repair asks of the ledger beyond `base`, with the same promises; in a module of its own since few need it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from archiver.ledger.base import Ledger
from archiver.ledger.values import ArchivedEntry, Attempt, Run, Settlement
from archiver.recording import Fixity, Recording


@dataclass(frozen=True, slots=True)
class Repairable:
    """An archived object as far as a repair needs it.

    `recording` is as it was listed last, without metadata; `attempts` counts the tries of all runs so far; `run_id` is
    the run that archived it, empty when nobody knows.
    """

    recording: Recording
    attempts: int
    run_id: str


class RepairLedger(Ledger, Protocol):
    """A ledger whose rows can be put right. Every method may raise LedgerError."""

    async def repairable(self, entry: ArchivedEntry) -> Repairable | None:
        """What a repair needs to know of an object; None when its entry is gone."""
        ...

    async def replace_damaged(
        self, run: Run, entry: ArchivedEntry, settlement: Settlement, *, recording: Recording, at: datetime
    ) -> None:
        """Remember the current object as damaged since `at`, and what ARCHIVED it anew as the version after it; durable.

        Raises LedgerError, and changes nothing, when the entry is not at that version any more.
        """
        ...

    async def correct_entry(
        self, run: Run, entry: ArchivedEntry, *, fixity: Fixity | None = None, sidecar_sha256: bytes | None = None
    ) -> None:
        """Put an object's row right where it is, and flag its recording as `repaired`; durable."""
        ...

    async def note_tries(self, run: Run, entry: ArchivedEntry, tries: Sequence[Attempt]) -> None:
        """Keep failed tries at an object that stays as it is."""
        ...
