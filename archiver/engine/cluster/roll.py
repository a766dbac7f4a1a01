"""The roll of a scheduler's workers: who is there, and who is fit to be given work."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from archiver.engine.cluster.scheduler import Hands, Scheduler
from archiver.engine.cluster.speaking import Unanswered, shown
from archiver.errors import ClusterError, ClusterUnreachable, NotShared

Examine = Callable[[Scheduler, str], Awaitable[str]]
"""Says what is wrong with a worker that the scheduler knows by this address, empty when nothing is."""
_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class _Unfit:
    """A worker that is looked at again later: what is wrong may pass, such as a database that is away."""

    again_at_s: float
    pause_s: float


class Roll:
    """Each worker is examined before it is fit. What is wrong with one keeps neither the others nor the run.

    `notify` is awaited when somebody has become fit, `tell` called once for each that is not.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        examine: Examine,
        *,
        notify: Callable[[], Awaitable[None]],
        tell: Callable[[str], None],
    ) -> None:
        self._scheduler = scheduler
        self._examine = examine
        self._notify = notify
        self._tell = tell
        self._there: dict[str, Hands] = {}
        self._fit: set[str] = set()
        self._unfit: dict[str, _Unfit] = {}
        self._looked_at: set[str] = set()
        self._notes: dict[str, str] = {}

    @property
    def hands(self) -> int:
        """How many errands the fit ones have in hand at a time; the paused ones as well, which were busy before."""
        return sum(self._there[address].threads for address in self._fit)

    @property
    def fit(self) -> frozenset[str]:
        """The fit ones, the paused among them."""
        return frozenset(self._fit)

    @property
    def ready(self) -> frozenset[str]:
        """Those that can be given something."""
        return frozenset(address for address in self._fit if not self._there[address].is_paused)

    @property
    def notes(self) -> list[str]:
        """What is to be said of those that were not fit."""
        return list(self._notes.values())

    async def begin(self, address: str) -> None:
        """Examine all that the scheduler of this address has; here each one must be fit.

        Raises:
            ClusterUnreachable: there is none, or one that can't be asked.
            NotShared: one doesn't see what it must.
            ClusterError.
        """
        self._there = dict(await self._scheduler.workers())
        if not self._there:
            raise ClusterUnreachable(f"the scheduler {address} has no worker: start one with `dask worker`")
        async with asyncio.TaskGroup() as group:
            looks = {worker: group.create_task(self._wrong_with(worker)) for worker in self._there}
        for worker, look in looks.items():
            wrong = look.result()
            if isinstance(wrong, ClusterError):
                raise wrong
            if isinstance(wrong, Unanswered):
                raise ClusterUnreachable(f"worker {worker}: {wrong}")
            if wrong:
                raise NotShared(f"worker {worker}: {wrong}")
            self._fit.add(worker)

    async def look(self, group: asyncio.TaskGroup) -> None:
        """Find out who is there; `group` examines those that came, and again those that were not fit.

        Raises:
            ClusterUnreachable: the scheduler can't be asked.
        """
        self._there = dict(await self._scheduler.workers())
        self._fit &= self._there.keys()
        self._unfit = {worker: unfit for worker, unfit in self._unfit.items() if worker in self._there}
        now_s = asyncio.get_running_loop().time()
        for worker in self._there.keys() - self._fit - self._looked_at:
            unfit = self._unfit.get(worker)
            if unfit is None or unfit.again_at_s <= now_s:
                self._looked_at.add(worker)
                group.create_task(self._look_at(worker))

    async def _look_at(self, worker: str) -> None:
        try:
            wrong = str(await self._wrong_with(worker))
        finally:
            self._looked_at.discard(worker)
        if worker not in self._there:
            return
        if wrong:
            former = self._unfit.get(worker)
            pause_s = _FIRST_PAUSE_S if former is None else min(2 * former.pause_s, _LONGEST_PAUSE_S)
            self._unfit[worker] = _Unfit(asyncio.get_running_loop().time() + pause_s, pause_s)
            if worker not in self._notes:
                self._notes[worker] = f"Worker {worker} got nothing to do: {wrong}."
                self._tell(self._notes[worker])
            return
        if self._unfit.pop(worker, None) is not None:
            self._notes[worker] = self._notes[worker].replace(
                " got nothing to do: ", " got nothing to do at first: ", 1
            )
        self._fit.add(worker)
        await self._notify()

    async def _wrong_with(self, worker: str) -> str | Unanswered | ClusterError:
        """What keeps a worker from being of use, empty when nothing does; the error when it could not be found out."""
        try:
            return await self._examine(self._scheduler, worker)
        except (Unanswered, ClusterError) as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever comes from a worker of others must not end the run
            return f"it failed with {shown(error)}"
