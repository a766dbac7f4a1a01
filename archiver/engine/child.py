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
from archiver.engine.loop import run_tuned
from archiver.engine.wire import Begin, Crashed, Done, Given, Lower, News, Part, Stop, Unsettled, Wanted, Wire
from archiver.errors import ArchiverError
from archiver.pbx.base import Traffic
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended, Failure
from archiver.pipeline.tally import Tally

_NEWS_EVERY_S = 0.2

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


class RemoteSeat:
    """A seat (`base.Seat`) whose run is led by another process."""

    def __init__(self, wire: Wire, part: float) -> None:
        self.stop = asyncio.Event()
        self.part = part
        self._wire = wire
        self._tally = Tally()
        self._traffic = Traffic()
        self._bytes_came = 0
        self._lowered = 0
        self._lower: Callable[[], None] = lambda: None
        self._unsettled: list[Unsettled] = []
        self._on_part: Callable[[float], None] = lambda _: None
        self._taking = asyncio.Lock()
        self._given: asyncio.Future[Partition | None] | None = None

    async def take(self) -> Partition | None:
        """The next partition to list, None when there are no more."""
        async with self._taking:
            self._given = asyncio.get_running_loop().create_future()
            await self._wire.send(Wanted())
            return await self._given

    def begin(self, tally: Tally, traffic: Traffic, on_part: Callable[[float], None]) -> None:
        """The work begins; both stay live, and `on_part` is called with each new `part`."""
        self._tally, self._traffic, self._on_part = tally, traffic, on_part

    def heed(self, lower: Callable[[], None]) -> None:
        """`lower` is called when another process has found that the PBX has too much to do."""
        self._lower = lower

    def lowered(self) -> None:
        """This one has found so; the others hear of it with the next news."""
        self._lowered += 1

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        self._bytes_came += size_bytes

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome; what was archived is in the counts."""
        if reason:
            self._unsettled.append(Unsettled(account_id, recording_id, status, reason))

    async def tell(self) -> None:
        """Send the counts."""
        unsettled, self._unsettled = tuple(self._unsettled), []
        await self._wire.send(News(self._tally, self._traffic, self._bytes_came, self._lowered, unsettled))

    async def tell_now_and_then(self) -> None:
        """Send the counts a few times a second; whoever listens hears when nobody is there any more."""
        with suppress(ConnectionError):
            while True:
                await asyncio.sleep(_NEWS_EVERY_S)
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
                    self.part = part
                    self._on_part(part)
                case Lower():
                    self._lower()
                case Stop():
                    self.stop.set()
