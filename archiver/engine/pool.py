"""A run in several processes: they pull partitions from this one, which adds up what they tell."""

import asyncio
import multiprocessing
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from archiver.engine.base import Watcher
from archiver.engine.child import Work, main
from archiver.engine.wire import Begin, Crashed, Done, Given, Lower, News, Part, Stop, Wanted, Wire
from archiver.pbx.base import Traffic
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Problem, Tally

_LEAVING_S = 5.0
"""How long a process whose work is over may take to end."""


@dataclass(eq=False, slots=True)
class _Child:
    """A process as its parent knows it; its counts are those of its last news."""

    process: BaseProcess
    end: socket.socket
    wire: Wire | None = None
    tally: Tally = field(default_factory=Tally)
    traffic: Traffic = field(default_factory=Traffic)
    bytes_came: int = 0
    lowered: int = 0
    given: int = 0


class Pool:
    """Processes that wait for their share; an async context manager, on leaving which none is left.

    They are started at once. Best before there is any thread or event loop: they are forked then, and need no imports of
    their own (on Linux; elsewhere, and later, they start from nothing). `tally` and `traffic` are sums over all of them,
    up to a fifth of a second old while the run goes on.
    """

    def __init__(self, processes: int, work: Work) -> None:
        self._count = processes
        self._children: list[_Child] = []
        for number in range(1, processes + 1):
            self._children.append(_started(work, number, [child.end for child in self._children]))
        self._active: set[_Child] = set()
        self._halt = asyncio.Event()
        self._ends: list[Ended] = []
        self._died = Tally()
        self.tally = Tally()
        self.traffic = Traffic()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children:
            # Whoever still works sees the end of its wire, and ends.
            if child.wire is not None:
                child.wire.close()
            child.end.close()
        for child in self._children:
            await asyncio.to_thread(child.process.join, _LEAVING_S)
            if child.process.is_alive():
                child.process.kill()
                await asyncio.to_thread(child.process.join)
            child.process.close()

    async def run(self, share: Any, partitions: Iterable[Partition], *, stop: asyncio.Event, watcher: Watcher) -> Ended:
        """Have all processes do the same share, on different partitions.

        A process that dies leaves what it had for the next run; the others go on. The first fatal error stops all.

        Raises:
            RuntimeError: a bug in a process, with its traceback.
        """
        source = iter(partitions)
        self._active = set(self._children)
        watcher.begin(self.tally, self.traffic)
        async with asyncio.TaskGroup() as group:
            stopping = group.create_task(self._pass_on(stop))
            attending = [
                group.create_task(self._attend(child, Begin(share, 1 / self._count), source, watcher, stop))
                for child in self._children
            ]
            await asyncio.wait(attending)
            stopping.cancel()
        error = next((ended.error for ended in self._ends if ended.error is not None), None)
        return Ended(error, stop.is_set())

    async def _attend(
        self, child: _Child, begin: Begin, source: Iterator[Partition], watcher: Watcher, stop: asyncio.Event
    ) -> None:
        """Serve one process until it is done or dead."""
        try:
            child.wire = await Wire.over(child.end)
            await child.wire.send(begin)
            if stop.is_set():
                await child.wire.send(Stop())
            while (ended := await self._hear(child, child.wire, source, watcher)) is None:
                pass
            self._ends.append(ended)
            if ended.error is not None:
                self._halt.set()
        except (EOFError, ConnectionError):
            await self._mourn(child)
        finally:
            self._active.discard(child)
        await self._share_out()

    async def _hear(self, child: _Child, wire: Wire, source: Iterator[Partition], watcher: Watcher) -> Ended | None:
        match await wire.receive():
            case Wanted():
                partition = None if self._halt.is_set() else next(source, None)
                child.given += partition is not None
                await wire.send(Given(partition))
            case News() as news:
                self._take_in(child, news, watcher)
                if news.lowered > child.lowered:
                    child.lowered = news.lowered
                    await self._tell_all(Lower(), but=child)
            case Done(ended):
                return ended
            case Crashed(traceback):
                raise RuntimeError(f"in a process of the run:\n{traceback}")
        return None

    def _take_in(self, child: _Child, news: News, watcher: Watcher) -> None:
        watcher.bytes_came(news.bytes_came - child.bytes_came)
        child.tally, child.traffic, child.bytes_came = news.tally, news.traffic, news.bytes_came
        self._add_up()
        for each in news.unsettled:
            watcher.settled(each.account_id, each.recording_id, each.status, each.reason)
        watcher.moved()

    async def _mourn(self, child: _Child) -> None:
        """Count what a dead process leaves undone; in the ledger its windows are incomplete already."""
        await asyncio.to_thread(child.process.join, _LEAVING_S)
        finished = child.tally.windows_complete + child.tally.windows_incomplete
        self._died.windows_incomplete += max(1, child.given - finished)
        why = f"a process of this run {_how_it_ended(child.process.exitcode)}; the next run does what it left"
        self._died.problem(Problem("", "", "incomplete", f"process_died: {why}", 0))
        self._add_up()

    def _add_up(self) -> None:
        self.tally.become_sum([*(child.tally for child in self._children), self._died])
        self.traffic.become_sum([child.traffic for child in self._children])

    async def _pass_on(self, stop: asyncio.Event) -> None:
        """Tell everybody to stop, when we are told to or something fatal happened."""
        async with asyncio.TaskGroup() as group:
            waiting = [group.create_task(event.wait()) for event in (stop, self._halt)]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for each in waiting:
                each.cancel()
        await self._tell_all(Stop())

    async def _share_out(self) -> None:
        """What one process needs no more of the limits, the others may use."""
        if self._active:
            await self._tell_all(Part(1 / len(self._active)))

    async def _tell_all(self, message: object, *, but: _Child | None = None) -> None:
        for child in tuple(self._active):
            if child.wire is not None and child is not but:
                try:
                    await child.wire.send(message)
                except ConnectionError:
                    # It is dead or done, which whoever attends to it will hear.
                    continue


def _started(work: Work, number: int, earlier: Sequence[socket.socket]) -> _Child:
    alone = sys.platform == "linux" and threading.active_count() == 1 and not _in_a_loop()
    context = multiprocessing.get_context("fork") if alone else multiprocessing.get_context("spawn")
    ours, theirs = socket.socketpair()
    with theirs:
        # Whoever is forked has our ends too, and would keep the wires open after our end.
        inherited = (*earlier, ours) if alone else ()
        process = context.Process(target=main, args=(theirs, work, inherited), name=f"archiver-{number}", daemon=True)
        process.start()
    return _Child(process, ours)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _how_it_ended(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"was killed ({signal.Signals(-exitcode).name})"
    return f"ended with exit code {exitcode}"
