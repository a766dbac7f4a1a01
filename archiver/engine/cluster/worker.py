"""The worker's side: it lives in a Dask worker as a plugin, knows the errands under way there, and can stop them.

A plain function runs an errand's coroutine in the worker's thread, in a loop of its own, so that nothing it does can keep
the worker from answering the scheduler.
"""

import asyncio
import pickle
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from archiver.engine.cluster.errand import Answer, Errand, FarNews, Parcel
from archiver.engine.cluster.shares import Portion
from archiver.engine.counting import CountingSeat
from archiver.engine.loop import run_in_loop
from archiver.errors import ArchiverError
from archiver.pbx.memory import PbxMemory
from archiver.pipeline.producer import Partition

_NEWS_EVERY_S = 0.5
_GOOD_FOR_S = 10.0
"""Shares are said again every two seconds. Less than it takes until a silent worker's errand is given to another one."""
_GOES_ON = frozenset({"executing", "long-running", "memory", "error"})


class FarSeat(CountingSeat):
    """A seat (`base.Seat`) on another machine; its share of the concurrency is that of the other limits.

    What others say to it comes from another thread.
    """

    good_for_s = _GOOD_FOR_S

    def __init__(self, key: str, errand: Errand, memory: PbxMemory, name: str) -> None:
        super().__init__(errand.portion.part, part_at_once=None, memory=memory, name=name)
        self.key = key
        self._number = -1
        self._loop = asyncio.get_running_loop()
        self._partitions = iter(errand.parcel.partitions if isinstance(errand.parcel, Parcel) else ())

    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""
        return None if self.stop.is_set() else next(self._partitions, None)

    def set_portion(self, portion: Portion) -> None:
        """The run's limits are shared out anew; where this seat is not named it fetches as many at a time as before."""
        self._number = portion.number
        self.most_at_once = portion.slots.get(self.key, self.most_at_once)
        self.set_part(portion.part)

    def far_news(self) -> FarNews:
        """The counts, and how it keeps to its share."""
        return FarNews(self.key, self.news(), self._number, self.held())

    def hear(self, what: Callable[..., None], *arguments: object) -> None:
        """Do something in the seat's own loop; one that has ended hears nothing."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)


class WorkerSide(WorkerPlugin):
    """One run's side on a worker; whoever was told of the same PBX before remembers its token.

    When the worker closes, or the scheduler takes an errand back (its client is gone), the errand is told to stop.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._seats: dict[str, FarSeat] = {}
        self._worker: Worker | None = None
        self._memory: PbxMemory | None = None
        self._portion = Portion(-1, 1.0, {})

    def setup(self, worker: Worker) -> None:
        """The worker has it from now on."""
        self._worker = worker
        self._memory = PbxMemory()

    def teardown(self, worker: Worker) -> None:  # noqa: ARG002 - the plugin's promise
        """The worker closes, or the run is over."""
        self.stop()

    def transition(self, key: object, start: str, finish: str, **_: object) -> None:  # noqa: ARG002 - likewise
        """A task's state has changed."""
        seat = self._seats.get(str(key))
        if seat is not None and finish not in _GOES_ON:
            seat.hear(seat.stop.set)

    def stop(self) -> None:
        """Tell every errand to stop."""
        for seat in tuple(self._seats.values()):
            seat.hear(seat.stop.set)

    def set_portion(self, portion: Portion) -> None:
        """The run's limits are shared out anew; what was overtaken on its way says nothing any more."""
        if portion.number <= self._portion.number:
            return
        self._portion = portion
        for seat in tuple(self._seats.values()):
            seat.hear(self._heed, seat, portion)

    def lower(self, but: str) -> None:
        """The errand of this key has found that the PBX has too much to do; the others shall heed it."""
        for key, seat in tuple(self._seats.items()):
            if key != but:
                seat.hear(seat.lower)

    async def answer(self, key: str, errand: Errand) -> Answer:
        """Run an errand to its end, telling how it goes on."""
        name = self._worker.address if self._worker is not None else ""
        seat = FarSeat(key, errand, self._memory or PbxMemory(), name)
        self._seats[key] = seat
        # What was said meanwhile counts, whatever the errand was told when it set out.
        older, newer = sorted((errand.portion, self._portion), key=lambda portion: portion.number)
        self._portion = newer.over(older)
        seat.set_portion(self._portion)
        try:
            async with asyncio.TaskGroup() as group:
                telling = group.create_task(self._tell_now_and_then(seat))
                result, error = await _outcome(errand, seat)
                telling.cancel()
        finally:
            if self._seats.get(key) is seat:
                del self._seats[key]
        return Answer(result, error, seat.stop.is_set(), seat.news())

    def _heed(self, seat: FarSeat, portion: Portion) -> None:
        """Have a seat keep to its share, and tell so at once: somebody may wait for what it needs no more."""
        seat.set_portion(portion)
        self._tell(seat)

    async def _tell_now_and_then(self, seat: FarSeat) -> None:
        while True:
            await asyncio.sleep(_NEWS_EVERY_S)
            self._tell(seat)

    def _tell(self, seat: FarSeat) -> None:
        if self._worker is not None:
            self._worker.log_event(self.name, pickle.dumps(seat.far_news()))


async def _outcome(errand: Errand, seat: FarSeat) -> tuple[Any, ArchiverError | None]:
    try:
        return await errand.work(errand.share, errand.parcel, seat), None
    except ArchiverError as error:
        return None, error


class _Packed:
    """Pickled, it is a call: whoever reads it runs the errand, and gets the answer."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand

    def __reduce__(self) -> tuple[Any, ...]:
        # Compressed, lest a log of Dask's show a piece of the settings.
        return _run_packed, (zlib.compress(pickle.dumps(self._errand)),)


def packed(errand: Errand) -> bytes:
    """An errand as bytes, of which `pickle.loads` makes the answer. The scheduler needs to know nothing else of us."""
    return pickle.dumps(_Packed(errand))


def _run_packed(data: bytes) -> Answer:
    return run_errand(pickle.loads(zlib.decompress(data)))  # noqa: S301 - see `errand`


def run_errand(errand: Errand) -> Answer:
    """Run it in the thread of the task that the scheduler knows."""
    worker = get_worker()
    side = worker.plugins[errand.side]
    if not isinstance(side, WorkerSide):
        raise TypeError(f"{errand.side} is no side of this program")
    return run_in_loop(side.answer(str(worker.get_current_task()), errand))


async def answer_beside(question: Callable[..., Any], *arguments: Any) -> Any:
    """A question's answer from a thread that no errand occupies: one of another run may take longer than anybody waits."""
    return await asyncio.to_thread(question, *arguments)


def tell_side(side: str, message: str, *arguments: Any, dask_worker: Worker) -> None:
    """Have a worker's side do something; a worker that has none has nothing to do."""
    found = dask_worker.plugins.get(side)
    if isinstance(found, WorkerSide):
        getattr(found, message)(*arguments)
