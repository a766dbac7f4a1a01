"""A seat's share of the limits: whatever is said of it, and whenever, session, limiter and throttle go by the last word."""

import asyncio
import pickle
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from archive_rig import ACCOUNTS, recordings
from in_process import made
from test_cluster_parts import DAY, access

from archiver.commands import reconciling
from archiver.commands.working import begin
from archiver.destination import open_destination
from archiver.engine.cluster.errand import Answer, Errand, FarNews
from archiver.engine.cluster.shares import Portion
from archiver.engine.cluster.worker import FarSeat, WorkerSide
from archiver.engine.counting import CountingSeat
from archiver.pbx.memory import PbxMemory
from archiver.pbx.session import PbxSession
from archiver.pipeline.limiter import Limiter
from archiver.pipeline.producer import Partition
from archiver.pipeline.tally import Tally
from archiver.pipeline.throttle import Throttle
from archiver.simulator import Corpus, Simulator


class Sitting(CountingSeat):
    """A seat of a test, in this process; its share becomes another one while the tools for it are made."""

    def __init__(self, part: float, later: float) -> None:
        super().__init__(part, part_at_once=None)
        self._later = later

    async def take(self) -> Partition | None:
        return None

    def heed(self, lower: Any, held: Any) -> None:
        super().heed(lower, held)
        self.set_part(self._later)


async def test_a_share_that_changes_while_a_reconciliation_opens_its_session_is_the_one_that_holds(
    tmp_path: Path,
) -> None:
    settings = made("http://127.0.0.1:1", tmp_path / "archive", requests_per_s=100.0, concurrency=8)
    share = SimpleNamespace(settings=settings, reach=access(settings.pbx.base_url, requests_per_s=100.0))
    share.job = SimpleNamespace(run=SimpleNamespace(run_id="run"))
    destination = open_destination(settings, durable=False)
    async with AsyncExitStack() as stack:
        stack.callback(destination.close)
        kit = await reconciling._kit(cast("Any", share), Sitting(1.0, 0.25), destination, cast("Any", None), stack)
        assert kit.bench.limiter.limit == 2
        assert cast("Any", kit.bench.pbx)._bucket._rate_per_s == 25.0


async def test_a_seat_that_hears_nothing_for_too_long_asks_for_nothing_until_it_hears_again() -> None:
    async with Simulator(Corpus(recordings(4), accounts=ACCOUNTS)) as pbx:
        reach = access(pbx.base_url)
        seat = Sitting(1.0, 1.0)
        seat.good_for_s = 0.3
        async with PbxSession(reach, memory=PbxMemory()) as session:
            bench = SimpleNamespace(limiter=Limiter(4), throttle=Throttle(lambda: None))
            begin(seat, Tally(), session, cast("Any", bench), 0.0, 4)
            asking = asyncio.create_task(ask_for_ever(session))
            await asyncio.sleep(0.6)
            asked = pbx.stats.requests
            assert asked > 0
            await asyncio.sleep(0.2)
            assert pbx.stats.requests == asked
            seat.set_part(0.5)
            await asyncio.sleep(0.2)
            assert pbx.stats.requests > asked
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)


async def ask_for_ever(session: PbxSession) -> None:
    while True:
        await session.recordings_page(ACCOUNTS[0], DAY, page_size=50, cursor=None)


class Host:
    """What a side needs of a Dask worker."""

    address = "tcp://one:1"

    def __init__(self) -> None:
        self.events: list[FarNews] = []

    def log_event(self, _: str, event: bytes) -> None:
        self.events.append(pickle.loads(event))


async def stay(_: None, __: None, seat: CountingSeat) -> float:
    """Work that holds three slots until it is told to stop; what it may hold in the end."""
    seat.heed(lambda: None, lambda: 3)
    await seat.stop.wait()
    return seat.most_at_once


def errand(portion: Portion) -> Errand:
    return Errand("run", stay, None, None, portion)


async def settled(side: WorkerSide, task: "asyncio.Task[Answer]") -> Answer:
    side.stop()
    return await task


async def test_a_seat_tells_at_once_how_it_keeps_to_a_new_portion_and_heeds_no_older_one() -> None:
    side, host = WorkerSide("run"), Host()
    side.setup(cast("Any", host))
    task = asyncio.create_task(side.answer("key", errand(Portion(4, 1.0, {"key": 8}))))
    await asyncio.sleep(0.01)
    begun_s = time.monotonic()
    side.set_portion(Portion(6, 0.5, {"key": 4}))
    side.set_portion(Portion(5, 1.0, {"key": 8}))
    await asyncio.sleep(0.01)
    assert [(told.key, told.number, told.held) for told in host.events] == [("key", 6, 3)]
    assert time.monotonic() - begun_s < 0.5
    assert (await settled(side, task)).result == 4


@pytest.mark.parametrize(("said", "holds"), [({"key": 1}, 1), ({}, 8)])
async def test_an_errand_that_is_run_again_has_what_was_said_of_it_last(said: dict[str, int], holds: int) -> None:
    side = WorkerSide("run")
    side.setup(cast("Any", Host()))
    side.set_portion(Portion(9, 0.25, said))
    task = asyncio.create_task(side.answer("key", errand(Portion(4, 1.0, {"key": 8}))))
    await asyncio.sleep(0.01)
    assert side._seats["key"].part == 0.25
    assert (await settled(side, task)).result == holds


def test_what_a_share_is_good_for_ends_before_its_work_is_given_away_and_long_after_it_is_said_again() -> None:
    # worker-ttl, as the documentation has it, and twice Dask's wait for an answer.
    assert 2 * 4 * 0.5 <= FarSeat.good_for_s < 20
