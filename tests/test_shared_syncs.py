"""Small recordings go to the disk together: short of waiting for each other, none waits alone."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, recordings
from in_process import PERIOD, Silent, files, made, source

from archiver.assembly import access, partitions
from archiver.commands.working import Share, work
from archiver.destination import Destination
from archiver.engine.here import Here
from archiver.ledger.ledger import open_ledger
from archiver.pipeline.threads import Threads
from archiver.simulator import Corpus, Simulator
from archiver.stores.disk import RealDisk
from archiver.stores.local import LocalStore
from archiver.window import Window


class CountingDisk(RealDisk):
    """Counts syncs."""

    def __init__(self) -> None:
        self.syncs = Counter[str]()

    def fsync(self, fd: int) -> None:
        self.syncs["fsync"] += 1
        super().fsync(fd)

    def sync_all(self, fd: int) -> None:
        self.syncs["sync_all"] += 1
        super().sync_all(fd)


async def test_a_durable_run_over_small_recordings_needs_far_fewer_syncs_than_recordings(tmp_path: Path) -> None:
    rows = recordings(300, duration_ms=1000)
    disk = CountingDisk()
    async with Simulator(Corpus(rows, accounts=ACCOUNTS)) as pbx:
        settings = made(pbx.base_url, tmp_path / "archive", concurrency=32)
        settings = settings.model_copy(update={"archive": settings.archive.model_copy(update={"durable": True})})
        store = LocalStore(tmp_path / "archive", durable=True, disk=disk, reserve_bytes=0)
        destination = Destination(store, store.folder, remote=False)
        destination.prepare()
        ledger = await open_ledger(settings.ledger_url())
        at = datetime.now(UTC)
        run = await ledger.begin_run("run", started_at=at)
        share = Share(settings, access(settings), run, ACCOUNTS, retry_missing=False)
        assert PERIOD.since is not None
        assert PERIOD.until is not None
        wanted = {account_id: [Window(PERIOD.since, PERIOD.until)] for account_id in ACCOUNTS}
        here = Here(partitions(settings, wanted, at), asyncio.Event(), Silent())
        ended = await work(share, here, destination, ledger)
        await ledger.close()
        destination.close()
    assert ended.error is None
    assert files(tmp_path / "archive") == source(rows)
    assert disk.syncs["sync_all"] > 0
    assert disk.syncs.total() < len(rows) / 2, disk.syncs


async def test_work_that_waits_for_a_thread_is_done_together_and_each_hears_its_own_result() -> None:
    groups: list[Sequence[int]] = []
    free = threading.Event()

    def halved(numbers: Sequence[int]) -> list[int | BaseException]:
        groups.append(numbers)
        return [number // 2 if number % 2 == 0 else ValueError(str(number)) for number in numbers]

    async with Threads(1, "test", together=8) as pool:
        busy = asyncio.ensure_future(pool.run(free.wait, 60))
        waiting = [asyncio.ensure_future(pool.run_together(halved, number)) for number in range(20)]
        await asyncio.sleep(0)
        free.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert await busy
    assert [list(group) for group in groups] == [list(range(8)), list(range(8, 16)), list(range(16, 20))]
    assert [one if isinstance(one, int) else str(one) for one in found] == [
        number // 2 if number % 2 == 0 else str(number) for number in range(20)
    ]


async def test_an_error_of_the_work_itself_reaches_everybody_who_waits() -> None:
    def broken(_: Sequence[int]) -> list[int | BaseException]:
        raise OSError("no more")

    async with Threads(1, "test", together=8) as pool:
        found = await asyncio.gather(*(pool.run_together(broken, n) for n in range(3)), return_exceptions=True)
    assert [str(each) for each in found] == ["no more"] * 3


async def test_whoever_is_cancelled_leaves_when_the_thread_is_out_and_the_others_go_on() -> None:
    free = threading.Event()
    done: list[int] = []

    def noted(numbers: Sequence[int]) -> list[int | BaseException]:
        free.wait(60)
        done.extend(numbers)
        return list(numbers)

    async with Threads(1, "test", together=8) as pool:
        first, second = (asyncio.ensure_future(pool.run_together(noted, n)) for n in (1, 2))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0.01)
        assert not first.done()
        free.set()
        assert await second == 2
        with pytest.raises(asyncio.CancelledError):
            await first
    assert sorted(done) == [1, 2]
