"""The pace against token buckets of many shapes, on a virtual clock: what it delivers, and how little is refused."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, assert_holds_all, recording, rig
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import virtually

from archiver.pbx.pace import Pace, Ticket
from archiver.simulator import Switches
from archiver.simulator.switches import BucketRule


@dataclass
class Bucket:
    """What the PBX limits requests by; `noise` is the share of 429s that have nothing to do with it."""

    capacity: float
    refill_per_s: float
    clock: Callable[[], float]
    noise: float = 0.0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    level: float = field(init=False)
    at_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.level, self.at_s = self.capacity, self.clock()

    def take(self) -> bool:
        now = self.clock()
        self.level = min(self.capacity, self.level + (now - self.at_s) * self.refill_per_s)
        self.at_s = now
        if self.level < 1 or self.chance.random() < self.noise:
            return False
        self.level -= 1
        return True

    def wait_s(self) -> float:
        return max(1, math.ceil((1 - self.level) / self.refill_per_s))


@dataclass
class Client:
    """Workers that ask through a pace, and what they were answered."""

    bucket: Bucket
    clock: Callable[[], float]
    workers: int
    latency_s: float
    retry_after: bool
    passed_at_s: list[float] = field(default_factory=list)
    refused_at_s: list[float] = field(default_factory=list)
    most_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.pace = Pace(self.clock)
        self.begun_at_s = self.clock()

    async def run(self, seconds: float) -> None:
        await asyncio.gather(*(self._work(random.Random(n), self.clock() + seconds) for n in range(self.workers)))

    async def _work(self, chance: random.Random, end_s: float) -> None:
        in_a_row = 0
        while self.clock() < end_s:
            ticket = await self.pace.turn()
            half_s = self.latency_s * (1 + 0.3 * chance.random()) / 2
            await asyncio.sleep(half_s)
            passed = self.bucket.take()
            await asyncio.sleep(half_s)
            if passed:
                in_a_row = 0
                self.passed_at_s.append(self.clock())
                continue
            in_a_row += 1
            self.most_in_a_row = max(self.most_in_a_row, in_a_row)
            self.refused_at_s.append(self.clock())
            wait_s = self.bucket.wait_s() if self.retry_after else 0.0
            self.pace.refused(ticket, retry_after_s=wait_s)
            # As the retry policy pauses.
            await asyncio.sleep(wait_s or min(30.0, 0.5 * 2 ** (in_a_row - 1)) + 0.5 * chance.random())

    def per_s(self, since_s: float, until_s: float) -> float:
        begun = self.begun_at_s
        return sum(since_s <= at - begun < until_s for at in self.passed_at_s) / (until_s - since_s)

    def refused_share(self, since_s: float = 0.0) -> float:
        refused, passed = (
            sum(at - self.begun_at_s >= since_s for at in answers) for answers in (self.refused_at_s, self.passed_at_s)
        )
        return refused / (refused + passed)


def simulated(
    capacity: float,
    refill_per_s: float,
    *,
    workers: int = 8,
    latency_s: float = 0.02,
    retry_after: bool = False,
    seconds: float = 300.0,
    noise: float = 0.0,
    changed_to_per_s: float | None = None,
) -> Client:
    """So many seconds of a run; the refill changes in its middle."""

    async def main(clock: Callable[[], float]) -> Client:
        bucket = Bucket(capacity, refill_per_s, clock, noise)
        client = Client(bucket, clock, workers, latency_s, retry_after)
        running = asyncio.ensure_future(client.run(seconds))
        if changed_to_per_s is not None:
            await asyncio.sleep(seconds / 2)
            bucket.refill_per_s = changed_to_per_s
        await running
        return client

    return virtually(main)


@pytest.mark.parametrize("retry_after", [False, True])
@pytest.mark.parametrize("workers", [8, 32])
@pytest.mark.parametrize("latency_s", [0.005, 0.02, 0.2])
def test_a_bucket_of_a_hundred_is_used_up_and_hardly_ever_found_empty(
    workers: int, latency_s: float, *, retry_after: bool
) -> None:
    client = simulated(100, 10, workers=workers, latency_s=latency_s, retry_after=retry_after)
    assert client.per_s(0, 300) >= 0.98 * 10
    assert client.per_s(60, 300) >= 0.98 * 10
    # The first burst, in which whatever is in flight is refused, is the greater part.
    assert client.refused_share() < (0.02 if latency_s < 0.1 else 0.025)
    assert client.refused_share(since_s=60) < 0.005
    assert client.most_in_a_row <= 3


@pytest.mark.parametrize(
    ("capacity", "refill_per_s", "workers", "latency_s", "least"),
    [
        (1, 10, 8, 0.02, 0.7),
        (1, 50, 8, 0.02, 0.8),
        (5, 10, 8, 0.02, 0.98),
        (10, 2, 8, 0.02, 0.98),
        (200, 1, 8, 0.02, 0.98),
        (20, 200, 32, 0.02, 0.98),
        (200, 200, 32, 0.02, 0.98),
        (50, 50, 32, 0.3, 0.98),
    ],
)
def test_buckets_of_other_shapes(
    capacity: float, refill_per_s: float, workers: int, latency_s: float, least: float
) -> None:
    client = simulated(capacity, refill_per_s, workers=workers, latency_s=latency_s)
    assert client.per_s(60, 300) >= least * refill_per_s
    assert client.refused_share(since_s=60) < 0.01


def test_a_slow_pbx_with_many_in_flight() -> None:
    client = simulated(100, 10, workers=32, latency_s=1.0)
    assert client.per_s(60, 300) >= 0.95 * 10
    assert client.refused_share(since_s=60) < 0.03


@pytest.mark.parametrize("refill_per_s", [3.0, 30.0])
def test_a_refill_that_changes_is_followed(refill_per_s: float) -> None:
    client = simulated(100, 10, changed_to_per_s=refill_per_s, seconds=480)
    assert client.per_s(400, 480) == pytest.approx(refill_per_s, rel=0.05)
    assert client.refused_share() < 0.02


def test_now_and_then_a_429_without_a_bucket_slows_little() -> None:
    client = simulated(1e9, 1e9, noise=0.001, seconds=120)
    at_will_per_s = 8 / (0.02 * 1.15)
    assert client.per_s(0, 120) > 0.9 * at_will_per_s


def test_without_a_429_nothing_is_paced() -> None:
    client = simulated(1e9, 1e9, seconds=20)
    assert client.pace.per_s is None
    assert client.per_s(0, 20) == pytest.approx(8 / (0.02 * 1.15), rel=0.02)


def test_a_pace_far_above_what_is_asked_is_dropped() -> None:
    async def main(clock: Callable[[], float]) -> None:
        pace = Pace(clock)
        for _ in range(100):
            await pace.turn()
            await asyncio.sleep(0.01)
        pace.refused(await pace.turn())
        assert pace.per_s is not None
        for _ in range(100):
            await pace.turn()
            await asyncio.sleep(1.0)
        assert pace.per_s is None

    virtually(main)


def test_a_burst_is_one_refusal_and_tells_of_an_empty_bucket() -> None:
    async def main(clock: Callable[[], float]) -> None:
        pace = Pace(clock)
        await asyncio.sleep(1.0)
        tickets = [await pace.turn() for _ in range(100)]
        pace.refused(tickets[90])
        alone = pace.per_s
        for ticket in tickets[91:]:
            pace.refused(ticket)
        assert alone is not None
        assert pace.per_s == pytest.approx(alone / 16)

    virtually(main)


def test_nobody_has_a_turn_while_the_pbx_asks_to_wait_and_the_order_is_kept() -> None:
    async def main(clock: Callable[[], float]) -> None:
        pace = Pace(clock)
        pace.refused(await pace.turn(), retry_after_s=7.0)
        told_at_s = clock()
        order: list[int] = []

        async def ask(n: int) -> None:
            await pace.turn()
            assert clock() - told_at_s >= 7.0
            order.append(n)

        asking = [asyncio.ensure_future(ask(n)) for n in range(6)]
        await asyncio.sleep(1.0)
        asking[0].cancel()
        asking[3].cancel()
        await asyncio.wait(asking)
        assert order == [1, 2, 4, 5]

    virtually(main)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("tro"), st.floats(0, 20)), max_size=80))
def test_whatever_is_refused_the_rate_stays_a_rate(steps: list[tuple[str, float]]) -> None:
    async def main(clock: Callable[[], float]) -> None:
        pace = Pace(clock)
        tickets: list[Ticket] = []
        for step, wait_s in steps:
            if step == "t":
                tickets.append(await asyncio.wait_for(pace.turn(), 10_000))
            elif tickets:
                before = pace.per_s
                pace.refused(tickets.pop(0 if step == "o" else -1), retry_after_s=wait_s)
                assert pace.per_s is not None
                assert before is None or pace.per_s <= before
            await asyncio.sleep(wait_s / 10)
            assert pace.per_s is None or 0.01 < pace.per_s < 1e6

    virtually(main)


@pytest.mark.parametrize("retry_after", [False, True])
def test_a_run_against_a_bucket_archives_everything(tmp_path: Path, *, retry_after: bool) -> None:
    rows = [recording(n, duration_ms=200) for n in range(400)]
    switches = Switches(bucket=BucketRule(40, 40, retry_after=retry_after))
    with rig(tmp_path, rows, switches=switches) as it:
        it.configure(pbx={"retry_wait_s": 0.1, "account_ids": [ACCOUNTS[0]]}, archive={"durable": False})
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, len(rows)), said
        assert_holds_all(it, rows)
        assert 0 < it.pbx.stats.bucket_refusals < 0.1 * len(rows)
