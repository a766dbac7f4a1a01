"""Metrics around a command: a port while it works, a file when it is over, however it ended.

What they say is taken anew from ledger and audit trail each time, so that no command wipes out what another one found.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from archiver import __version__
from archiver.assembly import known_ledger, utc_now
from archiver.commands.fixity_records import read_fixity_records
from archiver.commands.metrics_port import MetricsPort
from archiver.engine.base import Watcher
from archiver.errors import ArchiverError
from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Tally
from archiver.reports.fixity import Fixity, FixityHistory
from archiver.reports.metrics import Figures, LastTraffic, archive_families, last_traffic, text_of
from archiver.reports.metrics_live import Live, live_families
from archiver.reports.metrics_shapes import Family
from archiver.reports.status import status_report
from archiver.settings import Settings
from archiver.whole_files import write_whole

T = TypeVar("T")
_FOR_EVERYBODY = 0o644
"""node_exporter runs as a user of its own; there is nothing in it but figures and account ids."""


class LiveWatcher:
    """A run's watcher that keeps its counts for the port, and hands everything on to another, if there is one."""

    def __init__(self, command: str, started_at: datetime, inner: Watcher | None) -> None:
        self.live = Live(command, started_at, Tally(), Traffic())
        self._inner = inner

    def begin(self, tally: Tally, traffic: Traffic) -> None:
        """The run begins; both stay live."""
        self.live.tally, self.live.traffic = tally, traffic
        if self._inner is not None:
            self._inner.begin(tally, traffic)

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        self.live.bytes_came += size_bytes
        if self._inner is not None:
            self._inner.bytes_came(size_bytes)

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        if self._inner is not None:
            self._inner.settled(account_id, recording_id, status, reason)

    def moved(self) -> None:
        """The tally has changed."""
        if self._inner is not None:
            self._inner.moved()


async def measured(
    settings: Settings,
    command: str,
    work: Callable[[Watcher], Awaitable[T]],
    *,
    warn: Callable[[str], None],
    watcher: Watcher | None = None,
    listen: bool = True,
    now: Callable[[], datetime] = utc_now,
) -> T:
    """Do a command's work with the metrics that the settings ask for around it, and give back what it gave.

    With `listen` the port is open meanwhile. What keeps metrics from being told is a warning and nothing more; errors are
    those of the work alone, after which the file is written all the same.
    """
    monitoring = settings.monitoring
    seen = LiveWatcher(command, now(), watcher)
    async with AsyncExitStack() as stack:
        if monitoring.metrics_file is not None:
            stack.push_async_callback(_write, settings, monitoring.metrics_file, warn)
        if listen and monitoring.listening is not None:
            await _open_port(settings, monitoring.listening, seen.live, stack, warn)
        return await work(seen)


async def read_figures(settings: Settings) -> Figures:
    """What the ledger and the audit trail know just now; what can't be read is left out, which the figures tell."""
    is_there, status, traffic = False, None, LastTraffic()
    try:
        async with AsyncExitStack() as stack:
            ledger = await known_ledger(settings, stack)
            status = await status_report(ledger, settings.pbx.account_ids, now=utc_now())
            last = await ledger.last_run() if ledger is not None else None
            traffic = last_traffic(last.report) if last is not None else traffic
            is_there = ledger is not None
    except ArchiverError:
        status = None
    return Figures(
        version=__version__,
        account_ids=frozenset(settings.pbx.account_ids),
        ledger_is_there=is_there,
        status=status,
        last_traffic=traffic,
        fixity=await asyncio.to_thread(_read_fixity, settings.store.local.root),
    )


async def _write(settings: Settings, path: Path, warn: Callable[[str], None]) -> None:
    text = text_of(await read_figures(settings))
    try:
        await asyncio.to_thread(write_whole, path, text, mode=_FOR_EVERYBODY)
    except OSError as error:
        warn(f"monitoring.metrics_file {str(path)!a} can't be written: {error.strerror or error}")


async def _open_port(
    settings: Settings, address: tuple[str, int], live: Live, stack: AsyncExitStack, warn: Callable[[str], None]
) -> None:
    def collect() -> Sequence[Family]:
        # In a thread of the port's own, with a connection to the ledger of its own: the command's loop need not answer.
        return [*archive_families(asyncio.run(read_figures(settings))), *live_families(live)]

    host, port = address
    try:
        opened = await asyncio.to_thread(MetricsPort, host, port, collect)
    except OSError as error:
        warn(
            f"monitoring.metrics_listen {settings.monitoring.metrics_listen}: {error.strerror or error}; no metrics there"
        )
        return
    stack.push_async_callback(asyncio.to_thread, opened.close)


def _read_fixity(root: Path) -> Fixity | None:
    """What the audit trail says; None when it can't be read."""
    history = FixityHistory()
    try:
        read_fixity_records(root, history.see)
    except ArchiverError:
        return None
    return history.fixity()
