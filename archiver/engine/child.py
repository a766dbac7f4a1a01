"""One process of a pool: it does its share with the same coroutine that a run in a single process uses."""

import asyncio
import os
import signal
import socket
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from archiver.engine.base import Seat
from archiver.engine.counting import NEWS_EVERY_S, CountingSeat
from archiver.engine.loop import run_tuned
from archiver.engine.wire import Begin, Crashed, Done, Given, Lower, Part, Stop, Wanted, Wire
from archiver.errors import ArchiverError
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended, Failure

Work = Callable[[Any, Seat], Awaitable[Ended]]
"""Does a share, from its first listing until the last outcome is durable; a function of a module, so that a new process
finds it."""


def main(end: socket.socket, work: Work, inherited: Sequence[socket.socket]) -> None:
    """A process's whole life. It ends when its share is done, or at once when the run's own process is gone.

    `inherited` are ends of wires that are not for this process.
    """
    for other in inherited:
        other.close()
    # A terminal and systemd signal all processes of a run; the one that leads says in order what is to be done.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(ConnectionError, EOFError):
        run_tuned(_life(end, work))


async def _life(end: socket.socket, work: Work) -> None:
    wire = await Wire.over(end)
    begin: Begin = await wire.receive()
    # Until now it is how Python ends a process that was never needed.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    seat = RemoteSeat(wire, begin.part)
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(seat.listen()), group.create_task(seat.tell_now_and_then())]
        last = await _outcome(work, begin.share, seat)
        for other in others:
            other.cancel()
    await seat.tell()
    await wire.send(last)
    wire.close()


async def _outcome(work: Work, share: Any, seat: Seat) -> Done | Crashed:
    try:
        return Done(await work(share, seat))
    except ArchiverError as error:
        return Done(Ended(Failure.of(error), seat.stop.is_set()))
    except Exception:  # noqa: BLE001 - a bug: the run's own process logs it and ends with 1
        return Crashed(traceback.format_exc())


class RemoteSeat(CountingSeat):
    """A seat (`base.Seat`) whose run is led by another process; each process fetches as many at a time as one alone."""

    def __init__(self, wire: Wire, part: float) -> None:
        super().__init__(part, part_at_once=1.0)
        self._wire = wire
        self._taking = asyncio.Lock()
        self._given: asyncio.Future[Partition | None] | None = None

    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""
        async with self._taking:
            self._given = asyncio.get_running_loop().create_future()
            await self._wire.send(Wanted())
            return await self._given

    async def tell(self) -> None:
        """Send the counts."""
        await self._wire.send(self.news())

    async def tell_now_and_then(self) -> None:
        """Send the counts a few times a second; whoever listens hears when nobody is there any more."""
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(NEWS_EVERY_S)
                await self.tell()

    async def listen(self) -> None:
        """Take what the run's own process says; its end is ours, at once: nobody holds the archive's lock any more."""
        while True:
            try:
                message = await self._wire.receive()
            except (EOFError, ConnectionError):
                os._exit(1)
            match message:
                case Given(partition):
                    if self._given is not None and not self._given.done():
                        self._given.set_result(partition)
                case Part(part):
                    self.set_part(part)
                case Lower():
                    self.lower()
                case Stop():
                    self.stop.set()
