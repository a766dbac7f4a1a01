"""Verification and reconciliation with a cluster: what they give away is done there, the rest is led from here."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import suppress

from archiver.commands.crew import check_cluster, crew_for
from archiver.commands.inspection import ReadShare, VerifyRequest, read_elsewhere, run_verify
from archiver.commands.reconciling import (
    ReconcileRequest,
    ReconcileResult,
    ReconcileShare,
    reconcile_elsewhere,
    run_reconcile,
)
from archiver.destination import open_destination
from archiver.engine.base import Watcher
from archiver.engine.cluster.crew import Crew, Failed
from archiver.engine.cluster.speaking import Lost
from archiver.engine.counting import CountingSeat
from archiver.errors import ArchiverError, ClusterError
from archiver.evidence import bring_trail
from archiver.proof.reconciliation.found import PartitionReport
from archiver.proof.reconciliation.job import AccountDays
from archiver.proof.verification.inventory import Expected
from archiver.proof.verification.readers import PARTITION
from archiver.proof.verification.reading import Looked
from archiver.proof.verification.verify import Level, VerifyReport
from archiver.settings import Settings

_MOST_READ = 1000
"""Portions at a time; there are seldom so many hands, and reading asks nothing of the PBX."""


async def verify_anywhere(
    settings: Settings, request: VerifyRequest, *, stop: asyncio.Event, watcher: Watcher
) -> VerifyReport:
    """`archiver verify`, whose *full* level is read by the settings' cluster, if they name one.

    Raises:
        ArchiverError: the comparison itself is not possible.
    """
    if not check_cluster(settings) or request.level is not Level.FULL:
        return await run_verify(settings, request, stop=stop)
    destination = open_destination(settings, durable=False, make=False)
    try:
        if destination.remote:
            await bring_trail(settings, destination)
        async with crew_for(
            settings, destination, run_id="", most=_MOST_READ, writes=False, watcher=watcher, stop=stop
        ) as crew:
            return await run_verify(settings, request, stop=stop, reader=_FarReader(crew, ReadShare.of(settings)))
    finally:
        destination.close()


class _FarReader:
    """Reads portions on a crew's workers (`readers.Reader`)."""

    bounds = PARTITION

    def __init__(self, crew: Crew, share: ReadShare) -> None:
        # One more for each hand is on its way while it reads the one before.
        self.at_once = 2 * crew.hands
        self._crew = crew
        self._share = share

    async def read(self, portion: Sequence[Expected]) -> Sequence[Looked]:
        """Read each object once to its end; none after a stop.

        Raises:
            ArchiverError: it can't be done.
        """
        try:
            async with self._crew.place() as may_begin:
                answer = await self._crew.do(_read, self._share, tuple(portion)) if may_begin else None
        except (Failed, Lost) as error:
            raise _as_ours(error) from None
        if answer is None:
            return ()
        looked: Sequence[Looked] = answer.result
        return looked


async def _read(share: ReadShare, portion: Sequence[Expected], seat: CountingSeat) -> list[Looked]:
    return await read_elsewhere(share, portion, stop=seat.stop)


async def reconcile_anywhere(
    settings: Settings, request: ReconcileRequest, *, stop: asyncio.Event, watcher: Watcher
) -> ReconcileResult:
    """`archiver reconcile`, by the settings' cluster, if they name one.

    Raises:
        ArchiverError: when it could not begin; once it has, fatal errors are in the result.
    """
    elsewhere = _FarDays() if check_cluster(settings) else None
    return await run_reconcile(settings, request, stop=stop, watcher=watcher, elsewhere=elsewhere)


class _FarDays:
    """Has days reconciled by a crew's workers (`reconciling.Elsewhere`)."""

    async def each(
        self,
        share: ReconcileShare,
        partitions: Iterable[AccountDays],
        *,
        stop: asyncio.Event,
        watcher: Watcher,
    ) -> AsyncGenerator[PartitionReport, None]:
        """The reports as they come; see the promise."""
        settings, run_id = share.settings, share.job.run.run_id
        most = settings.transfer.concurrency
        source = iter(partitions)
        reports: asyncio.Queue[PartitionReport | ArchiverError | None] = asyncio.Queue()
        destination = open_destination(settings, durable=False, make=False)
        try:
            async with (
                crew_for(
                    settings, destination, run_id=run_id, most=most, writes=True, watcher=watcher, stop=stop
                ) as crew,
                asyncio.TaskGroup() as group,
            ):
                watcher.begin(crew.counts.tally, crew.counts.traffic)
                hands = [group.create_task(_hand(crew, share, source, reports)) for _ in range(most)]
                try:
                    for _ in hands:
                        while (report := await reports.get()) is not None:
                            if isinstance(report, ArchiverError):
                                raise report
                            yield report
                finally:
                    for hand in hands:
                        hand.cancel()
        finally:
            destination.close()


async def _hand(
    crew: Crew,
    share: ReconcileShare,
    source: Iterator[AccountDays],
    reports: "asyncio.Queue[PartitionReport | ArchiverError | None]",
) -> None:
    """One after another, as long as there are any; None at the end."""
    try:
        while True:
            async with crew.place() as may_begin:
                partition = next(source, None) if may_begin else None
                if partition is None:
                    break
                # The days of one that was lost are in no report, which is told in the end; what is left goes on.
                with suppress(Lost):
                    answer = await crew.do(reconcile_elsewhere, share, partition)
                    if answer is not None:
                        reports.put_nowait(answer.result)
    except Failed as error:
        reports.put_nowait(_as_ours(error))
    except ClusterError as error:
        reports.put_nowait(error)
    reports.put_nowait(None)


def _as_ours(error: Failed | Lost) -> ArchiverError:
    if isinstance(error, Failed) and error.error is not None:
        return error.error
    return ClusterError(f"a part of the work could not be done: {error}")
