"""Evidence of what commands do: the audit trail and the manifests, put together for the settings' destination."""

import os
import pwd
import socket
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import date, datetime, timedelta

import msgspec

from archiver.assembly import known_ledger, utc_now
from archiver.destination import Destination, open_destination
from archiver.errors import ArchiverError, LedgerError, StoreError
from archiver.ledger.base import Ledger
from archiver.ledger.ledger import open_ledger
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Draft, Record
from archiver.proof.evidence.audit_check import TrailReport
from archiver.proof.evidence.audit_drafts import verification
from archiver.proof.evidence.manifest_check import KnownParts, check_manifests
from archiver.proof.evidence.manifests import Sealer
from archiver.proof.evidence.recorder import Recorder, check_trail, read_trail
from archiver.proof.verification.findings import Finding
from archiver.proof.verification.verify import SHARES, Level, Scope, VerifyReport
from archiver.settings import Settings
from archiver.stores.trail_file import TrailFile


class ShownRecords(msgspec.Struct, frozen=True, kw_only=True):
    """The last records of the audit trail, oldest first."""

    records: list[Record]


def who() -> str:
    """The operating system's user and this host, as the audit trail names them."""
    number = os.geteuid()
    with suppress(KeyError):
        return f"{pwd.getpwuid(number).pw_name}@{socket.gethostname()}"
    return f"{number}@{socket.gethostname()}"


class Evidence:
    """A command's hands on the evidence of an open destination; one thread does its blocking work."""

    def __init__(
        self,
        settings: Settings,
        destination: Destination,
        ledger: Ledger,
        threads: Threads,
        *,
        run_id: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._settings = settings
        self._store = destination.store
        self._file = TrailFile(destination.folder)
        self._copies = destination.store if destination.remote else None
        self._ledger = ledger
        self._threads = threads
        self._run_id = run_id
        self.recorder = Recorder(self._file, ledger, threads, who=who(), now=now, run_id=run_id, copies=self._copies)

    async def seal(self) -> int:
        """Bring everything that no manifest names yet into one; how many objects it was. The archive's lock must be held.

        Raises:
            StoreError, LedgerError: the next run does what is left.
        """
        sealer = Sealer(
            self._ledger, self._store, self._threads, self.recorder, self._settings.archive.zone, self._run_id
        )
        return await sealer.seal()

    async def seal_after(self, ended: Ended) -> Ended:
        """Likewise after a run, however it ended; what stood in the way is its error, unless it has one."""
        try:
            await self.seal()
        except StoreError as error:
            # A run that was stopped may have given the store up.
            return ended if ended.stopped else replace(ended, error=ended.error or Failure.of(error))
        except LedgerError as error:
            return replace(ended, error=ended.error or Failure.of(error))
        return ended

    async def witness(self, drafts: Sequence[Draft]) -> ArchiverError | None:
        """Add to the trail and its copies; gives back what kept it from being written."""
        try:
            await self.recorder.add(drafts)
            await self.copy()
        except ArchiverError as error:
            return error
        return None

    async def copy(self) -> None:
        """Put what the trail has gained into a remote store; what can't be put now is put by the next command.

        Raises:
            LedgerError.
        """
        with suppress(StoreError):
            await self.recorder.copy()

    async def findings(self, scope: Scope, *, stopped: Callable[[], bool]) -> list[Finding]:
        """What is wrong with the trail, and with the manifests in the scope; *full* reads the trail's copies, too.

        Raises:
            StoreError, LedgerError: it can't be told.
        """
        known = KnownParts()
        copies = self._copies if scope.level is Level.FULL else None
        trail = await check_trail(self._file, self._ledger, self._threads, copies=copies, each=known.see)

        def found() -> list[Finding]:
            return list(
                check_manifests(
                    self._store, known, scope.level, wanted=lambda key: self._in_scope(key, scope), stopped=stopped
                )
            )

        return [*trail.findings, *await self._threads.run(found)]

    def _in_scope(self, key: str, scope: Scope) -> bool:
        if scope.share < SHARES and not scope.sampled(key):
            return False
        if scope.period is None:
            return True
        zone = self._settings.archive.zone
        with suppress(ValueError):
            day = date.fromisoformat(key.rpartition("/")[2].partition(".")[0])
            begin = datetime.combine(day, datetime.min.time(), zone)
            return begin < scope.period.end_at and begin + timedelta(days=1) > scope.period.start_at
        return True

    async def note(self, report: VerifyReport, scope: Scope) -> VerifyReport:
        """Write a verification into the trail; what keeps it from being written is in the report that comes back."""
        error = await self.witness(list(verification(report, scope)))
        return msgspec.structs.replace(report, not_recorded=str(error)) if error else report

    async def records_of(self, keys: set[str]) -> list[Record]:
        """The trail's records about these keys, and all verifications, oldest first.

        Raises:
            StoreError.
        """
        found: list[Record] = []

        def see(record: Record) -> None:
            if record.subject in keys or record.what == "verified":
                found.append(record)

        await read_trail(self._file, self._threads, see)
        return found


async def bring_trail(settings: Settings, destination: Destination) -> None:
    """Put what the audit trail has gained into a remote store, before anybody is to know the archive by it.

    Raises:
        LedgerError.
    """
    async with AsyncExitStack() as stack:
        ledger = await open_ledger(settings.ledger_url(), create=False)
        stack.push_async_callback(ledger.close)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        await Evidence(settings, destination, ledger, threads).copy()


async def run_audit_check(settings: Settings) -> TrailReport:
    """`archiver audit check`: whether the trail is whole, and what its copies in the bucket say; changes nothing.

    Raises:
        ArchiverError: it can't be told.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        ledger = await known_ledger(settings, stack)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        copies = destination.store if destination.remote else None
        return await check_trail(TrailFile(destination.folder), ledger, threads, copies=copies)


async def run_audit_show(settings: Settings, last: int) -> ShownRecords:
    """`archiver audit show`: the last records of the trail.

    Raises:
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination = open_destination(settings, durable=False, make=False)
        stack.callback(destination.close)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        found: deque[Record] = deque(maxlen=last)
        await read_trail(TrailFile(destination.folder), threads, found.append)
        return ShownRecords(records=list(found))
