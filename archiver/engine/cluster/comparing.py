"""Compares what runs on a scheduler's workers with what runs here, all workers side by side."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

from archiver.engine.cluster.speaking import Unanswered
from archiver.engine.cluster.versions import OTHER_SOURCE, check_versions, difference, fingerprint
from archiver.errors import ClusterUnreachable, WorkersDiffer


class Asked(Protocol):
    """Whom to ask (`scheduler.Scheduler`)."""

    here: Mapping[str, Any]

    async def workers(self) -> Mapping[str, Any]:
        """Who is there."""
        ...

    async def versions(self, worker: str = "") -> Any:
        """Versions of a worker, or of the scheduler."""
        ...

    async def ask(self, question: Callable[..., Any], *arguments: Any, worker: str) -> Any:
        """A worker's answer."""
        ...


async def check_same(asked: Asked) -> None:
    """Compare everybody that is there.

    Raises:
        WorkersDiffer.
        ClusterUnreachable: the scheduler does not answer, or a worker, which is named.
    """
    scheduler = await asked.versions()
    workers = await _of_all(await asked.workers(), asked.versions)
    check_versions({"client": asked.here, "scheduler": scheduler, "workers": workers})
    ours = await asyncio.to_thread(fingerprint)
    sources = await _of_all(workers, lambda worker: asked.ask(fingerprint, worker=worker))
    for worker, theirs in sources.items():
        if theirs != ours:
            raise WorkersDiffer(f"worker {worker} {OTHER_SOURCE}")


async def difference_of(asked: Asked, worker: str) -> str:
    """In what a worker that came later differs from what runs here, in words; empty when it does not.

    Raises:
        Unanswered, ClusterUnreachable.
    """
    told = difference(asked.here, await asked.versions(worker))
    # Its own function can be asked for only where there is one.
    if not told and await asked.ask(fingerprint, worker=worker) != await asyncio.to_thread(fingerprint):
        told = f"it {OTHER_SOURCE}"
    return told


async def _of_all(workers: Iterable[str], look: Callable[[str], Awaitable[Any]]) -> dict[str, Any]:
    async def one(worker: str) -> Any:
        try:
            return await look(worker)
        except (Unanswered, ClusterUnreachable) as error:
            return error

    async with asyncio.TaskGroup() as group:
        looks = {worker: group.create_task(one(worker)) for worker in workers}
    found = {worker: look.result() for worker, look in looks.items()}
    for worker, answer in found.items():
        if isinstance(answer, ClusterUnreachable):
            raise answer
        if isinstance(answer, Unanswered):
            raise ClusterUnreachable(f"worker {worker}: {answer}")
    return found
