"""What `doctor` finds out about a cluster: whether the scheduler answers, with whom, and whether they see the archive."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection

from archiver.check import Check, failed
from archiver.commands.sharing import Mark, marked, wrong_with_place
from archiver.destination import Destination, open_destination
from archiver.engine.cluster.scheduler import Scheduler
from archiver.engine.cluster.speaking import Unanswered
from archiver.errors import ArchiverError, ClusterError, ClusterUnreachable, NotShared, WorkersDiffer
from archiver.ledger import ledger_doctor
from archiver.settings import Settings


def cluster_checks(settings: Settings, *, store_works: bool) -> tuple[Check, ...]:
    """Look at the settings' scheduler and give its workers nothing to do but to look. Raises nothing."""

    async def look() -> tuple[Check, ...]:
        return tuple([check async for check in _looks(settings, store_works)])

    return asyncio.run(look())


def first_that_fails(settings: Settings, mark: Mark) -> str:
    """On a worker: what keeps it from working on the archive; a ledger that is not there yet does not."""
    wrong = wrong_with_place(settings, mark)
    ledger = () if wrong else ledger_doctor.examine(settings.ledger_url())
    return wrong or next((check.found for check in ledger if check.state == "failed"), "")


async def _looks(settings: Settings, store_works: bool) -> AsyncIterator[Check]:
    address = settings.cluster.scheduler
    try:
        scheduler = await Scheduler.connect(address, side=f"doctor-{secrets.token_hex(8)}", on_news=lambda _: None)
    except WorkersDiffer as error:
        yield Check("reachable", "ok", "the scheduler answers")
        yield failed("versions", error)
        return
    except ArchiverError as error:
        yield failed("reachable", error)
        return
    name = "reachable"
    try:
        workers = await scheduler.workers()
        yield Check("reachable", "ok", "the scheduler answers")
        yield Check("versions", "ok", "it and its workers run what runs here")
        name = "workers"
        yield _workers(settings, [each.threads for each in workers.values()])
        if workers:
            name = "shared"
            yield await _shared(settings, scheduler, sorted(workers)) if store_works else _UNKNOWN
        name = "worker_ttl"
        notes = await scheduler.notes()
        yield Check(
            "worker_ttl", "weak" if notes else "ok", " ".join(notes) or "a silent worker's work is given away soon"
        )
    except ArchiverError as error:
        yield failed(name, error)
    finally:
        await scheduler.close()


_UNKNOWN = Check("shared", "weak", "not looked at: the store can't be used from here, see above")


def _workers(settings: Settings, threads: Collection[int]) -> Check:
    if not threads:
        return Check(
            "workers",
            "failed",
            "the scheduler has no worker",
            "start one with `dask worker`",
            ClusterUnreachable.exit_code,
        )
    count, hands, most = len(threads), sum(threads), settings.transfer.concurrency
    said = f"{count} worker{'s'[: count > 1]} with {hands} thread{'s'[: hands > 1]}"
    if hands > most:
        return Check("workers", "weak", f"{said}, of which {most} get work", f"transfer.concurrency = {hands}")
    return Check("workers", "ok", said)


async def _shared(settings: Settings, scheduler: Scheduler, workers: Collection[str]) -> Check:
    destination = open_destination(settings, durable=False, make=False)
    try:
        async with marked(destination, run_id="", writes=True) as mark:
            async with asyncio.TaskGroup() as group:
                asked = [(each, group.create_task(_wrong_with(settings, scheduler, mark, each))) for each in workers]
            wrong = [f"worker {worker}: {why}" for worker, task in asked if (why := task.result())]
            if wrong:
                more = f" (and {len(wrong) - 1} more)" if wrong[1:] else ""
                return failed("shared", NotShared(wrong[0] + more))
            return Check("shared", "ok", _seen(destination, mark))
    finally:
        destination.close()


def _seen(destination: Destination, mark: Mark) -> str:
    if destination.remote and not mark.trail:
        return "each worker reaches a bucket of this name and the ledger; the first run tells whether it is the same bucket"
    return "each worker sees the archive and reaches the ledger"


async def _wrong_with(settings: Settings, scheduler: Scheduler, mark: Mark, worker: str) -> str:
    try:
        return str(await scheduler.ask(first_that_fails, settings, mark, worker=worker))
    except (Unanswered, ClusterError) as error:
        return str(error)
