"""The crew that the settings name: the workers of a running scheduler, each of which sees the archive."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from archiver.commands.sharing import Mark, marked, wrong_with_worker
from archiver.destination import Destination
from archiver.engine.base import Watcher
from archiver.engine.cluster.comparing import difference_of
from archiver.engine.cluster.crew import Crew, Terms
from archiver.engine.cluster.scheduler import Scheduler, check_extra
from archiver.errors import NotShared, SettingsError
from archiver.settings import Settings

_LEAVING_S = 15.0
"""Beyond what workers may take to finish a recording: their way home."""


def check_cluster(settings: Settings) -> bool:
    """Whether a cluster is to be used.

    Raises:
        SettingsError: with other settings that don't go with it.
    """
    if not settings.cluster.scheduler:
        return False
    if not settings.ledger_url().startswith("postgresql"):
        raise SettingsError(
            "cluster.scheduler needs a ledger that all machines reach: ledger.url = 'postgresql://…' "
            "(`archiver ledger copy` moves the one you have)"
        )
    if settings.transfer.processes > 1:
        raise SettingsError(
            "transfer.processes is for one machine and goes with cluster.scheduler only as 1: start more workers instead"
        )
    check_extra()
    return True


@asynccontextmanager
async def crew_for(
    settings: Settings,
    destination: Destination,
    *,
    run_id: str,
    most: int,
    writes: bool,
    watcher: Watcher,
    stop: asyncio.Event,
) -> AsyncIterator[Crew]:
    """The workers of the settings' scheduler, each of which sees the archive, and may write if the work `writes`.

    Raises:
        NotShared: the bucket has no audit trail yet, by which workers would know it.
        SettingsError, ClusterError, StoreError.
    """
    async with AsyncExitStack() as stack:
        mark = await stack.enter_async_context(marked(destination, run_id=run_id, writes=writes))
        if mark.trail is not None and not mark.trail:
            raise NotShared(
                "the bucket holds nothing of the audit trail yet, by which workers know it from another one: "
                "an `archiver run` brings it there"
            )
        terms = Terms(
            most=most,
            grace_s=settings.transfer.grace_s + _LEAVING_S,
            examine=partial(_examined, settings, mark),
        )
        side = f"archiver-{run_id or secrets.token_hex(8)}"
        crew = Crew(settings.cluster.scheduler, side, terms, watcher=watcher, stop=stop)
        yield await stack.enter_async_context(crew)


async def _examined(settings: Settings, mark: Mark, scheduler: Scheduler, worker: str) -> str:
    # Whoever comes later was not there when versions were compared.
    return await difference_of(scheduler, worker) or str(
        await scheduler.ask(wrong_with_worker, settings, mark, worker=worker)
    )
