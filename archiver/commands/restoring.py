"""`archiver rebuild`: a ledger from the archive alone; and a run's look whether its ledger is as new as the archive."""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from datetime import datetime

import msgspec

from archiver.assembly import utc_now
from archiver.commands.holding import restore_holds
from archiver.destination import Destination, open_destination
from archiver.errors import LedgerDamaged, LedgerError, StoreError
from archiver.evidence import Evidence
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.places import LedgerPlace, place_of, words_for
from archiver.ledger.values import Outcome, Run
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence.audit_drafts import rebuilt
from archiver.proof.restoration.rebuild import Rebuilt, rebuild
from archiver.reports.rebuild_report import RebuildReport, rebuild_report
from archiver.settings import Settings
from archiver.stores.disk import spoken
from archiver.stores.last_run import LastRun, note_last_run, noted_last_run
from archiver.stores.lock import ArchiveLock

_LOCAL_THREADS = 2
"""Small reads fight for the interpreter: more threads are slower."""


class RebuildRequest(msgspec.Struct, frozen=True):
    """What `archiver rebuild` was asked for: with `full` the recordings are read too, to the last byte."""

    full: bool = False


async def run_rebuild(
    settings: Settings, request: RebuildRequest, *, stop: asyncio.Event, now: Callable[[], datetime] = utc_now
) -> RebuildReport:
    """`archiver rebuild`: a sound ledger is brought up to date; any other is set aside, and a new one put in its place.

    The new one is built beside the old, which stays until that is done: stopped or killed before, nothing has changed.

    Raises:
        ArchiverError: also when it was written by a newer program, or what lies there is some other database.
    """
    async with AsyncExitStack() as stack:
        started_at = now().replace(microsecond=0)
        destination = open_destination(settings, durable=settings.archive.durable, make=False)
        stack.callback(destination.close)
        run_id = rebuild_id(started_at)
        stack.callback(ArchiveLock(destination.folder, run_id=run_id, started_at=started_at).close)
        await seen_through(destination.folder.prepare)
        work = _Work(settings, destination, request.full, run_id, started_at, now, stop)
        begun_s = asyncio.get_running_loop().time()
        reason = ""
        place = place_of(settings.ledger_url())
        if await _is_there(settings, place):
            try:
                found = await work.update(settings.ledger_url(), check=True)
                await work.witness(found, replaced=False)
                return work.report(found, begun_s)
            except LedgerDamaged as error:
                reason = str(error)
        await seen_through(place.clear_new)
        try:
            found = await work.update(await seen_through(place.make_new), create=True)
            aside = ""
            if found.complete:
                aside = await seen_through(lambda: place.put_in_place(new=True, at=started_at))
        finally:
            await seen_through(place.clear_new)
        if found.complete:
            await work.note()
            await work.witness(found, replaced=True)
        return work.report(found, begun_s, replaced=found.complete, aside=aside, reason=reason or "there was none")


class _Work:
    """One rebuild, into whichever ledger."""

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        full: bool,
        run_id: str,
        started_at: datetime,
        now: Callable[[], datetime],
        stop: asyncio.Event,
    ) -> None:
        self._settings = settings
        self._destination = destination
        self._full = full
        self._run_id = run_id
        self._started_at = started_at
        self._now = now
        self._stop = stop

    async def update(self, url: str, *, create: bool = False, check: bool = False) -> Rebuilt:
        """Open a ledger, enter what it lacks, and note there that it was done; into one that was there in the file, too.

        Raises:
            ArchiverError: LedgerDamaged among them; with `check` the whole of it is looked at first.
        """
        ledger = await open_ledger(url, create=create)
        try:
            if check:
                await ledger.check()
            found = await self.into(ledger)
        except BaseException:
            with suppress(LedgerError):
                await ledger.close()
            raise
        await ledger.close()
        if found.complete and not create:
            await self.note()
        return found

    async def into(self, ledger: SqlLedger) -> Rebuilt:
        """Enter what a ledger lacks; when that was completed it is the ledger's latest run.

        Raises:
            LedgerError, StoreError.
        """
        count = self._settings.transfer.concurrency if self._destination.remote else _LOCAL_THREADS
        async with Threads(count, "rebuild") as threads:
            found = await rebuild(
                ledger,
                self._destination.store,
                threads,
                full=self._full,
                stop=self._stop,
                remote=self._destination.remote,
            )
            if found.complete:
                await restore_holds(self._destination, ledger, threads)
        if found.complete:
            the_run = await ledger.begin_run(self._run_id, started_at=self._started_at)
            outcome = Outcome.INCOMPLETE if found.problems else Outcome.COMPLETE
            counts = {"entered": found.entered, "known": found.known, "problems_total": len(found.problems)}
            await ledger.end_run(the_run, outcome=outcome, ended_at=self._now(), report=msgspec.json.encode(counts))
        return found

    async def witness(self, found: Rebuilt, *, replaced: bool) -> None:
        """Tell the audit trail; its copies and the manifests are the next run's, so that a bucket is only read here.

        Raises:
            LedgerError, StoreError.
        """
        ledger = await open_ledger(self._settings.ledger_url(), create=False)
        try:
            async with Threads(1, "evidence") as threads:
                evidence = Evidence(
                    self._settings, self._destination, ledger, threads, run_id=self._run_id, now=self._now
                )
                told = rebuilt(
                    replaced=replaced,
                    complete=found.complete,
                    entered=found.entered,
                    known=found.known,
                    problems=len(found.problems),
                )
                await evidence.recorder.add([told])
        finally:
            await ledger.close()

    async def note(self) -> None:
        """The archive's own word for it, once the ledger is in its place."""
        last = LastRun(self._run_id, ended=True)
        await seen_through(lambda: note_last_run(self._destination.folder, last))

    def report(
        self, found: Rebuilt, begun_s: float, *, replaced: bool = False, aside: str = "", reason: str = ""
    ) -> RebuildReport:
        """The report."""
        took_s = asyncio.get_running_loop().time() - begun_s
        return rebuild_report(
            found, run_id=self._run_id, replaced=replaced, aside=aside, reason=reason, took_s=took_s, full=self._full
        )


class Memory:
    """A run's ledger, as new as the archive; `notes` say what had to be done for that, `current` whether it was."""

    def __init__(self, ledger: SqlLedger, destination: Destination) -> None:
        self.ledger = ledger
        self.notes: list[str] = []
        self.current = True
        self._destination = destination

    async def begun(self, the_run: Run) -> None:
        """A run began, says the archive from now on: a ledger without it is older.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        if self.current:
            last = LastRun(the_run.run_id, ended=False)
            await seen_through(lambda: note_last_run(self._destination.folder, last))

    async def ended(self, the_run: Run) -> None:
        """It ended, if the ledger could take that. A disk without room for this word has the former one, which is true."""
        with suppress(StoreError, LedgerError):
            found = await self.ledger.find_run(the_run.run_id)
            if self.current and found is not None and found.ended_at is not None:
                last = LastRun(the_run.run_id, ended=True)
                await seen_through(lambda: note_last_run(self._destination.folder, last))


async def memory_for_run(
    settings: Settings,
    destination: Destination,
    stack: AsyncExitStack,
    *,
    stop: asyncio.Event,
    now: Callable[[], datetime] = utc_now,
) -> Memory:
    """Open the ledger for a run; one that is older than the archive, or gone, is brought up to date from the store first.

    The ledger is closed with the stack. Stopped meanwhile, it is as far as it came, and the next run goes on.

    Raises:
        ArchiverError.
    """
    place = place_of(settings.ledger_url())
    last = await seen_through(lambda: noted_last_run(destination.folder))
    gone = not await _is_there(settings, place)
    if gone:
        # Without its file the log of a former ledger belongs to nobody, and must not be taken for the new one's.
        await seen_through(lambda: place.put_in_place(new=False, at=now()))
    ledger = await open_ledger(settings.ledger_url())
    stack.push_async_callback(_close, ledger)
    memory = Memory(ledger, destination)
    if gone:
        used = last is not None or await seen_through(lambda: _holds_any(destination))
        behind = "There was no ledger" if used else ""
    else:
        behind = "The ledger was older than the archive" if await _is_older(ledger, last) else ""
    if not behind:
        return memory
    at = now().replace(microsecond=0)
    run_id = rebuild_id(at)
    # Killed meanwhile, the next run sees by this that its ledger lacks something.
    await seen_through(lambda: note_last_run(destination.folder, LastRun(run_id, ended=True)))
    found = await _Work(settings, destination, False, run_id, at, now, stop).into(ledger)
    memory.current = found.complete
    left = f"; {len(found.problems):,} things don't fit: `archiver rebuild` names them" if found.problems else ""
    memory.notes.append(
        f"{behind}: {found.entered:,} recordings were entered from the store{left}. What was listed since must be "
        "listed again."
    )
    return memory


def rebuild_id(at: datetime) -> str:
    """The id of a rebuild among the runs."""
    return f"{at:%Y%m%dT%H%M%SZ}-rebuild-{secrets.token_hex(4)}"


async def _is_there(settings: Settings, place: LedgerPlace) -> bool:
    with spoken(words_for(settings.ledger_url())):
        return await asyncio.to_thread(place.is_there)


async def _is_older(ledger: SqlLedger, last: LastRun | None) -> bool:
    """Whether the archive had a run that the ledger has not, or not to its end."""
    if last is None:
        return False
    found = await ledger.find_run(last.run_id)
    return found is None or (last.ended and found.ended_at is None)


def _holds_any(destination: Destination) -> bool:
    """Whether anything lies in the store; a store that doesn't say is taken for one that is used for the first time."""
    try:
        return next(iter(destination.store.list()), None) is not None
    except StoreError:
        return False


async def _close(ledger: SqlLedger) -> None:
    """Close it; that it was broken is in the report already."""
    with suppress(LedgerError):
        await ledger.close()
