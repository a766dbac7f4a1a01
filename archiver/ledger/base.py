"""The ledger's promise and the values that cross its border; `tests/contracts/` holds each ledger to it.

The only memory of the archiver. All methods are coroutines; one writer thread behind them does the writes in batches. A
ledger that can't answer raises LedgerError: unknown is not absent. A crash loses at most work that will be done again,
never a fact.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from datetime import date, datetime, tzinfo
from typing import Protocol

from archiver.ledger.values import (
    AccountSummary,
    ArchivedEntry,
    History,
    ObjectRow,
    Outcome,
    PageResult,
    Piece,
    Run,
    Settlement,
    Task,
    WindowProgress,
    WindowState,
)
from archiver.ledger.values_claims import Recovered
from archiver.ledger.values_exporting import KnownRecording, Sought
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.ledger.values_reconciling import CdrFile, Standing
from archiver.ledger.values_reporting import DayVolume, Noteworthy, Reasons
from archiver.ledger.values_retention import TombstoneRow
from archiver.ledger.values_sealing import Sealed, TrailMark, TrailMarkName, Unsealed
from archiver.recording import Recording, Status
from archiver.window import Window


class Ledger(Protocol):
    """The promise; see the module's docstring for what holds throughout. Every method may raise LedgerError."""

    async def begin_run(self, run_id: str, *, started_at: datetime, holding: Collection[str] = ()) -> Run:
        """Note that a run began and give it its number, greater than any before; it has the accounts from then on.

        Raises:
            ArchiveInUse: as `hold_accounts`; no run began.
        """
        ...

    async def hold_accounts(self, run: Run, account_ids: Collection[str]) -> None:
        """Have these accounts for this run alone until the ledger is closed or its process ends.

        Where several machines share a ledger, it keeps runs apart; in a file it only notes the run, since the archive's
        lock does that.

        Raises:
            ArchiveInUse: another run has one of them; none is had then.
        """
        ...

    async def end_run(self, run: Run, *, outcome: Outcome, ended_at: datetime, report: bytes) -> None:
        """Note how a run ended, with its JSON report."""
        ...

    async def ask_for(self, account_id: str, windows: Sequence[Window]) -> None:
        """Note that these windows are wanted: parts that the calendar does not hold yet become incomplete pieces."""
        ...

    async def record_page(
        self,
        run: Run,
        account_id: str,
        window: Window,
        rows: Sequence[Recording],
        progress: WindowProgress,
        *,
        at: datetime,
        retry_missing: bool = False,
    ) -> PageResult:
        """Write a page's rows and its window's progress in one transaction, and claim for this run what needs work.

        New rows become pending and due at once. Pending and quarantined rows are claimed whether due or not; missing
        ones when the source changed their metadata, or with `retry_missing`. An archived row whose positive length or
        digest differs from what is archived gets a new version to archive; its former object stays known. Expired rows
        are left alone. A row without change costs no more than the claim.
        """
        ...

    async def classify_page(self, account_id: str, rows: Sequence[Recording]) -> Mapping[Status, int]:
        """What `record_page` would find, without writing anything; unknown rows count as pending."""
        ...

    async def finish_window(
        self, account_id: str, window: Window, *, state: WindowState, scanned_at: datetime, reason: str = ""
    ) -> None:
        """Note how a window's listing ended: it replaces whatever the calendar held for that time."""
        ...

    async def calendar(self, account_id: str) -> Sequence[Piece]:
        """The account's calendar in order: disjoint pieces, neighbours of the same kind not merged."""
        ...

    async def claim_due(self, run: Run, account_id: str, *, at: datetime, limit: int) -> Sequence[Task]:
        """Claim up to `limit` recordings whose next attempt is due and which this run has not claimed yet."""
        ...

    async def settle(self, run: Run, settlement: Settlement) -> None:
        """Hand over an outcome. Returns when it is accepted for the next batch; `flush` waits until it is durable."""
        ...

    async def flush(self) -> None:
        """Wait until everything handed over is committed and synced."""
        ...

    async def recover(self, run: Run, account_id: str) -> Recovered:
        """Take over what lost attempts of this run have settled of the account and nobody took over yet (`base_claims`)."""
        ...

    async def statuses(self, account_id: str, recording_ids: Sequence[str]) -> Mapping[str, Status]:
        """The status of each id that is known."""
        ...

    async def summaries(self, account_ids: Sequence[str] = ()) -> Sequence[AccountSummary]:
        """What `status` shows, for all accounts or the named ones; under a second at ten million entries."""
        ...

    async def volumes(self, zone: tzinfo, *, now: datetime) -> Sequence[DayVolume]:
        """Recordings and bytes by account, day in the zone, and status, counted anew: seconds at a million entries."""
        ...

    async def reasons(self) -> Reasons:
        """Why recordings are not archived, by account, status and reason, and the flags of those that are; likewise."""
        ...

    async def noteworthy(self, limit: int) -> Sequence[Noteworthy]:
        """Recordings to look at, the latest calls first: up to `limit` of each status but archived, and of flagged ones."""
        ...

    async def last_run(self) -> Run | None:
        """The latest run, finished or not."""
        ...

    def ended_runs(self, outcomes: Collection[Outcome]) -> AsyncGenerator[Run, None]:
        """The runs that ended in one of these ways, the latest first; read in batches, as far as they are asked for."""
        ...

    async def find_run(self, run_id: str) -> Run | None:
        """The run of this id, None when the ledger has never heard of it."""
        ...

    async def enter(self, stored: Sequence[StoredRecording]) -> Sequence[Entering]:
        """Enter archived objects as their sidecars describe them, in one transaction; what became of each, in their order.

        They may come in any order and again: the newest version becomes the current one, those before it former ones.
        A recording that was waiting is archived then. What the ledger knows is never changed by another object's word.
        """
        ...

    def objects(self) -> AsyncIterator["ArchivedEntry"]:
        """All archived objects in the order of their keys, former versions included, as they are at the first of them.

        Read in batches so that memory stays flat. What retention has expired is left out with all its versions, and so
        is what was found damaged and replaced.
        """
        ...

    def object_rows(self) -> AsyncIterator[Sequence["ObjectRow"]]:
        """As `objects`, in batches of plain rows, for whoever reads millions of them."""
        ...

    async def damaged_keys(self) -> frozenset[str]:
        """The media's keys of all objects that were found damaged and replaced; nobody expects them any more."""
        ...

    def tombstone_rows(self) -> AsyncGenerator[Sequence["TombstoneRow"], None]:
        """What must lie in the store in the place of expired recordings, in the order of the keys, in batches."""
        ...

    async def unfinished_keys(self) -> frozenset[str]:
        """The keys of everything that an expiry which is not finished may have left, tombstones included."""
        ...

    async def histories(self, recording_id: str) -> Sequence["History"]:
        """Everything known of a recording, once for each account that has one of this id."""
        ...

    def known_recordings(self, sought: Sought) -> AsyncGenerator[Sequence[KnownRecording], None]:
        """What is known of the recordings sought, of every status, in batches so that memory stays flat; each comes once.

        Each batch is as the ledger was when it was read. Recordings that come meanwhile may be among them.
        """
        ...

    async def standings(self, account_id: str, recording_ids: Sequence[str]) -> Sequence[Standing]:
        """How these recordings stand, those that are known, in any order."""
        ...

    async def standings_of(self, account_id: str, window: Window) -> Sequence[Standing]:
        """How all recordings stand whose call is dated in a window, in any order."""
        ...

    async def record_cdr_file(self, file: CdrFile) -> None:
        """Note a part of a day's CDRs, which lies in the store already.

        One that is known just so stays as it is, also as to when it was archived; another under its number is refused.
        """
        ...

    async def cdr_files(self, account_id: str | None = None, day: date | None = None) -> Sequence[CdrFile]:
        """The archived CDRs, of an account and a day or of all, in the order of their keys."""
        ...

    async def unsealed(self, limit: int) -> Sequence[Unsealed]:
        """Up to `limit` archived objects that no manifest names yet, those archived first first; not what is expired."""
        ...

    async def seal(self, sealed: Sequence[Sealed]) -> None:
        """Note which parts of manifests name these objects, in one transaction."""
        ...

    async def trail_mark(self, name: TrailMarkName) -> TrailMark | None:
        """How far the audit trail has come; None when nobody noted it."""
        ...

    async def raise_trail_mark(self, name: TrailMarkName, mark: TrailMark) -> None:
        """Note it, unless a later record is noted already."""
        ...

    async def close(self) -> None:
        """Flush, checkpoint, and give the file back."""
        ...
