"""The bucket that holds the request rate: nothing is given away when it changes, is handed on, or many begin together."""

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import virtually

from archiver.pbx.bucket import Bucket
from archiver.pbx.memory import PbxMemory

STARTED_S = 1000.0


async def taken(bucket: Bucket, clock: Callable[[], float], times_s: list[float]) -> None:
    """Take as fast as it lets us, noting when."""
    while True:
        await bucket.take()
        times_s.append(clock() - STARTED_S)


def shared(
    rate_per_s: float, levels: Sequence[float], *, every_s: float, lasts_s: float = 10.0, burst_s: float = 0.1
) -> list[float]:
    """When requests were sent by those who share a rate, and hear of another share again and again."""

    async def main(clock: Callable[[], float]) -> list[float]:
        times_s: list[float] = []
        count = len(levels)
        buckets = [Bucket(rate_per_s / count, burst_s=burst_s, level=level, clock=clock) for level in levels]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(taken(bucket, clock, times_s)) for bucket in buckets]
            for n in range(1, math.ceil(lasts_s / every_s)):
                await asyncio.sleep(every_s)
                for bucket in buckets:
                    # As if one more came and went.
                    bucket.set_rate(rate_per_s / (count + n % 2))
            await asyncio.sleep(STARTED_S + lasts_s - clock())
            for task in tasks:
                task.cancel()
        return times_s

    return virtually(main)


def busiest(times_s: Sequence[float], span_s: float = 1.0) -> int:
    return max(sum(first <= each < first + span_s for each in times_s) for first in times_s)


@pytest.mark.parametrize("every_s", [0.3, 1.0, 3.0])
def test_shares_that_change_again_and_again_bring_no_request_besides(every_s: float) -> None:
    levels = [n / 20 for n in range(20)]
    times_s = shared(10.0, levels, every_s=every_s)
    assert 90 <= len(times_s) <= 100
    # Each may be one ahead, which is far from all of them at once.
    assert busiest(times_s) <= 13


def test_one_alone_gets_all_of_a_rate_that_stays() -> None:
    assert 99 <= len(shared(10.0, [0.0], every_s=10.0)) <= 100
    assert 990 <= len(shared(100.0, [0.0], every_s=10.0)) <= 1000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("rate"), st.floats(0.01, 500)),
            st.tuples(st.just("wait"), st.floats(0.0, 3.0)),
            st.tuples(st.just("next"), st.just(0.0)),
        ),
        max_size=40,
    ),
    st.floats(0, 1, exclude_max=True),
)
def test_no_more_is_ever_sent_than_the_rates_have_filled_and_was_there_at_first(
    steps: list[tuple[str, float]], level: float
) -> None:
    now_s, filled, rate_per_s = 50.0, level, 10.0
    memory = PbxMemory(left=[level])

    def opened() -> Bucket:
        return Bucket(rate_per_s, burst_s=0.1, level=memory.take_left(), clock=lambda: now_s)

    async def send(bucket: Bucket) -> int:
        sent = 0
        while bucket.level >= 1.0:
            await asyncio.wait_for(bucket.take(), 1)
            sent += 1
        return sent

    async def main() -> None:
        nonlocal now_s, filled, rate_per_s
        bucket, sent = opened(), 0
        for step, value in steps:
            if step == "rate":
                rate_per_s = value
                bucket.set_rate(value)
            elif step == "wait":
                now_s += value
                filled += value * rate_per_s
            else:
                # One session ends; some time, which belongs to others, and the next begins.
                memory.left.append(bucket.level)
                now_s += 5.0
                bucket = opened()
            sent += await send(bucket)
            assert sent <= filled + 1e-6
            assert bucket.level < 1.0

    asyncio.run(main())


def test_who_waits_for_a_small_rate_goes_on_at_once_when_it_becomes_a_large_one() -> None:
    async def main(clock: Callable[[], float]) -> float:
        bucket = Bucket(0.01, burst_s=0.1, level=0.0, clock=clock)
        waiting = asyncio.ensure_future(bucket.take())
        await asyncio.sleep(1.0)
        bucket.set_rate(10.0)
        await waiting
        return clock() - STARTED_S

    assert virtually(main) == pytest.approx(1.099, abs=0.01)


def test_a_rate_that_was_not_said_again_in_time_lets_nothing_pass_until_it_is() -> None:
    async def main(clock: Callable[[], float]) -> list[float]:
        times_s: list[float] = []
        bucket = Bucket(2.0, burst_s=0.1, level=0.0, clock=clock)
        bucket.set_rate(2.0, for_s=3.1)
        task = asyncio.ensure_future(taken(bucket, clock, times_s))
        await asyncio.sleep(60.0)
        assert len(times_s) == 6
        bucket.set_rate(2.0, for_s=1.1)
        await asyncio.sleep(10.0)
        task.cancel()
        return times_s

    # The pause has filled nothing: 0.2 was there when it began.
    assert virtually(main)[6:] == pytest.approx([60.4, 60.9], abs=0.01)


def test_no_limit_lets_everything_pass_and_a_limit_after_it_brings_no_burst() -> None:
    async def main(clock: Callable[[], float]) -> float:
        bucket = Bucket(0.0, burst_s=1.0, level=math.inf, clock=clock)
        for _ in range(1000):
            await bucket.take()
        assert clock() == pytest.approx(STARTED_S)
        bucket.set_rate(0.0, for_s=1.0)
        await asyncio.sleep(2.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5.0):
                await bucket.take()
        bucket.set_rate(10.0)
        begun_s = clock()
        for _ in range(11):
            await bucket.take()
        return clock() - begun_s

    assert virtually(main) >= 1.0 - 1e-6


def test_those_that_begin_together_are_spread_over_the_time_in_which_each_has_one_request() -> None:
    levels = [PbxMemory().take_left() for _ in range(200)]
    assert all(0 <= level < 1 for level in levels)
    assert 70 <= sum(level < 0.5 for level in levels) <= 130
    # 200 who share 10/s: one each, over 20 seconds, rather than 200 in the first.
    assert busiest(shared(10.0, levels, every_s=1.0, lasts_s=20.0)) <= 30


def test_a_memory_hands_each_level_on_once() -> None:
    memory = PbxMemory(left=[0.25])
    assert memory.take_left() == 0.25
    assert memory.take_left() != memory.take_left()
    assert PbxMemory.of_one_alone().take_left() == math.inf
