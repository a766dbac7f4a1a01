"""Running a simulator where there is no event loop yet: for a command until a signal, or beside a test in a thread."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from archiver.simulator.faults import Fault
    from archiver.simulator.server import Simulator
    from archiver.simulator.stats import Stats

T = TypeVar("T")


def serve(simulator: Simulator, announce: Callable[[str], None]) -> str:
    """Run until SIGINT or SIGTERM; only in the main thread.

    Args:
        simulator: not yet entered.
        announce: told the base URL once the port is open.

    Returns:
        A summary in a few lines, with the faults that no request met.

    Raises:
        OSError: the port can't be opened.
    """

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        async with simulator:
            announce(simulator.base_url)
            await stop.wait()

    asyncio.run(run())
    return summary(simulator)


def summary(simulator: Simulator) -> str:
    """What came in and went out, and which scripted faults were never hit, in a few lines."""
    stats = simulator.stats
    lines = [
        f"{stats.requests} requests on {stats.connections_opened} connections, {stats.body_bytes} bytes of bodies sent",
        f"{stats.logins} logins, {stats.recordings_pages} pages of recordings, {stats.cdr_pages} of CDRs",
        f"{stats.media} requests for media",
        "answers: " + (", ".join(f"{count} x {status}" for status, count in sorted(stats.statuses.items())) or "none"),
    ]
    faults = simulator.faults.hits()
    if faults:
        unhit = simulator.faults.unhit()
        lines.append(f"{len(faults) - len(unhit)} of {len(faults)} scripted faults were hit")
        lines += [f"never hit: {fault}" for fault in unhit]
    return "\n".join(lines)


class SimulatorThread:
    """A simulator in a daemon thread with its own loop, while its `with` block runs."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="pbx-simulator", daemon=True)

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        return self.simulator.base_url

    @property
    def stats(self) -> Stats:
        """The counts, growing meanwhile."""
        return self.simulator.stats

    def call(self, action: Callable[[], T]) -> T:
        """Run something in the simulator's thread, between two requests, and wait for its result.

        This is how a corpus is changed in the middle of a run: `thread.call(lambda: corpus.add(recording))`.
        """

        async def run() -> T:
            return action()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def add_fault(self, fault: Fault) -> None:
        """Append a fault."""
        self.call(lambda: self.simulator.faults.add(fault))

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure is not None and error is None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as failure:  # noqa: BLE001 -- handed to the thread that owns us
            self._failure = failure
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self.simulator:
            self._ready.set()
            await self._stop.wait()
