"""The processes of a run hear of one another: what one finds out about the PBX, all heed."""

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from in_process import Silent

from archiver.engine.base import Seat
from archiver.engine.pool import Pool
from archiver.pbx.base import Traffic
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Tally
from archiver.window import ListingWindow, Window

PROCESSES = 3
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Rehearsal:
    """What the processes of this test share: a folder for their notes."""

    folder: Path


async def note_what_is_heard(share: Rehearsal, seat: Seat) -> Ended:
    """Each has one partition; once all have theirs, the first finds the PBX overloaded and the others must hear it."""
    partition = await seat.take()
    assert partition is not None
    mine = share.folder / f"{partition.account_id}-{os.getpid()}"
    seat.begin(Tally(), Traffic(), lambda _: None)
    seat.heed(mine.with_suffix(".heard").touch, lambda: 0)
    mine.with_suffix(".ready").touch()
    await _until(share.folder, ".ready", PROCESSES)
    if partition.account_id == "0":
        seat.lowered()
    await _until(share.folder, ".heard", PROCESSES - 1)
    return Ended(None, seat.stop.is_set())


async def _until(folder: Path, suffix: str, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while len(list(folder.glob(f"*{suffix}"))) < count:  # noqa: ASYNC110, ASYNC240 - other processes make them
            await asyncio.sleep(0.01)


def test_when_one_process_lowers_what_it_asks_for_all_others_hear_of_it_and_itself_does_not(tmp_path: Path) -> None:
    at = datetime(2026, 5, 6, tzinfo=UTC)
    window = Window(at, at + timedelta(days=1))
    partitions = [Partition(str(n), ListingWindow(window, window), window) for n in range(PROCESSES)]

    async def main() -> Ended:
        async with pool:
            return await pool.run(Rehearsal(tmp_path), partitions, stop=asyncio.Event(), watcher=Silent())

    pool = Pool(PROCESSES, note_what_is_heard)
    ended = asyncio.run(main())
    assert (ended.error, ended.stopped) == (None, False)
    assert {path.name.partition("-")[0] for path in tmp_path.glob("*.heard")} == {"1", "2"}
