"""The limiter: bounds, slots that are conserved, and the best number of requests against PBXs of several kinds."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_clock import virtually

from archiver.errors import ArchiverError, BodyCut, MediaNotThere, PbxFailing, PbxUnreachable, StoreFull, TooSlow
from archiver.pipeline.limiter import Limiter

BUSY = PbxFailing("busy", http_status=503)


@dataclass
class Served:
    """What a simulated PBX did in a run."""

    limiter: Limiter
    good: int = 0
    refused: int = 0
    most_at_once: int = 0


def served(
    bound: int,
    seconds: float,
    *,
    latency_s: Callable[[int, random.Random], float],
    room: int = 10_000,
    noise: float = 0.0,
) -> Served:
    """Workers in a closed loop; the PBX answers after `latency_s(in flight)`, and refuses what it has no room for."""

    async def main(clock: Callable[[], float]) -> Served:
        found = Served(Limiter(bound, clock))
        chance = random.Random(1)
        end_s = clock() + seconds
        in_flight = 0

        async def request() -> None:
            nonlocal in_flight
            async with found.limiter.slot() as slot:
                in_flight += 1
                found.most_at_once = max(found.most_at_once, in_flight)
                try:
                    if in_flight > room or chance.random() < noise:
                        await asyncio.sleep(0.001)
                        raise BUSY
                    waited_s = latency_s(in_flight, chance)
                    await asyncio.sleep(waited_s)
                    slot.answered(waited_s)
                finally:
                    in_flight -= 1

        async def work() -> None:
            while clock() < end_s:
                try:
                    await request()
                    found.good += 1
                except PbxFailing:
                    found.refused += 1
                    await asyncio.sleep(0.5 + chance.random())

        await asyncio.gather(*(work() for _ in range(bound)))
        assert found.limiter.held == 0
        return found

    return virtually(main)


@pytest.mark.parametrize("bound", [1, 8, 32, 256])
@pytest.mark.parametrize("think_s", [0.05, 1.0, 6.0])
def test_a_healthy_pbx_gets_all_that_is_allowed(bound: int, think_s: float) -> None:
    found = served(bound, 20 * think_s, latency_s=lambda _, chance: think_s)
    assert found.good >= 0.99 * bound * 20
    assert found.limiter.limit == bound


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_latencies_that_vary_by_themselves_change_nothing(spread: float) -> None:
    found = served(32, 60, latency_s=lambda _, chance: 0.2 + chance.random() * spread)
    assert found.limiter.limit == 32


def test_a_client_that_is_busy_itself_changes_nothing() -> None:
    # What one loop can do is 1,500 a second; with many in flight that is what each of them sees.
    found = served(256, 60, latency_s=lambda in_flight, _: 0.002 + in_flight / 1500)
    assert found.limiter.limit == 256


@pytest.mark.parametrize("room", [4, 10])
def test_a_pbx_with_little_room_is_not_asked_for_more(room: int) -> None:
    found = served(64, 120, latency_s=lambda _, chance: 0.1 + 0.02 * chance.random(), room=room)
    assert found.limiter.limit <= 2 * room
    assert found.good >= 0.75 * room * 120 / 0.11
    assert found.refused < 0.06 * found.good


def test_a_pbx_that_slows_down_under_load_is_asked_less_at_once() -> None:
    calm = served(64, 120, latency_s=lambda in_flight, _: 0.05 if in_flight <= 16 else 0.05 + 0.1 * (in_flight - 16))
    assert calm.limiter.limit < 32


def test_rare_failures_that_have_another_cause_cost_little() -> None:
    found = served(32, 120, latency_s=lambda _, chance: 0.05, noise=0.005)
    assert found.limiter.limit >= 30


def test_it_recovers() -> None:
    async def main(clock: Callable[[], float]) -> None:
        limiter = Limiter(32, clock)
        for _ in range(40):
            await fail(limiter, BUSY)
            await asyncio.sleep(0.01)
        assert limiter.limit == 1
        seen = set()
        for _ in range(100):
            held = [limiter.slot() for _ in range(limiter.limit)]
            for slot in held:
                await slot.__aenter__()
            await asyncio.sleep(0.6)
            for slot in held:
                slot.answered(0.6)
                await slot.__aexit__(None, None, None)
            seen.add(limiter.limit)
        assert seen == set(range(2, 33)) or seen == set(range(1, 33))

    virtually(main)


async def fail(limiter: Limiter, error: Exception) -> None:
    try:
        async with limiter.slot():
            raise error
    except ArchiverError:
        pass


@pytest.mark.parametrize(
    ("error", "counts"),
    [
        (BUSY, True),
        (PbxFailing("too many", http_status=429), True),
        (PbxUnreachable("gone"), True),
        (TooSlow("slow"), True),
        (BodyCut("cut"), False),
        (MediaNotThere("not there"), False),
        (StoreFull("full"), False),
    ],
)
def test_only_what_tells_of_too_much_lowers_the_limit(error: Exception, *, counts: bool) -> None:
    async def main(clock: Callable[[], float]) -> None:
        limiter = Limiter(10, clock)
        for _ in range(3):
            await fail(limiter, error)
        assert limiter.limit == (7 if counts else 10)

    virtually(main)


def test_a_burst_lowers_the_limit_once() -> None:
    async def main(clock: Callable[[], float]) -> None:
        limiter = Limiter(100, clock)
        slots = [limiter.slot() for _ in range(100)]
        for slot in slots:
            await slot.__aenter__()
        await asyncio.sleep(0.1)
        for slot in slots:
            await slot.__aexit__(PbxFailing, BUSY, None)
        assert limiter.limit == 70
        # And what they answered late says nothing either.
        await asyncio.sleep(1.0)
        for slot in slots:
            slot.answered(30.0)
        assert limiter.limit == 70

    virtually(main)


def test_who_shares_the_pbx_is_told_of_what_one_finds_and_lowers_once_for_the_same_trouble() -> None:
    async def main(clock: Callable[[], float]) -> None:
        others: list[Limiter] = []
        told: list[str] = []

        def tell(name: str) -> None:
            told.append(name)
            for other in others:
                other.lower()

        first = Limiter(100, clock, on_lowered=lambda: tell("first"))
        second = Limiter(50, clock, on_lowered=lambda: tell("second"))
        others.append(second)
        for _ in range(3):
            await fail(first, BUSY)
        assert (first.limit, second.limit, told) == (70, 35, ["first"])
        second.lower()
        assert second.limit == 35, "it has just lowered its limit"
        await asyncio.sleep(2.0)
        second.lower()
        assert (second.limit, told) == (24, ["first"]), "what it was told of it does not tell on"

    virtually(main)


def test_each_new_limit_is_told_the_first_included() -> None:
    async def main(clock: Callable[[], float]) -> None:
        told: list[int] = []
        limiter = Limiter(100, clock, on_limit=told.append)
        for _ in range(3):
            await fail(limiter, BUSY)
        assert told == [100, 70]

    virtually(main)


def test_slots_are_given_in_order() -> None:
    async def main(clock: Callable[[], float]) -> None:
        limiter = Limiter(1, clock)
        order: list[int] = []

        async def hold(n: int) -> None:
            async with limiter.slot():
                order.append(n)
                await asyncio.sleep(1.0)

        await asyncio.gather(*(hold(n) for n in range(10)))
        assert order == list(range(10))

    virtually(main)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "end", "fail", "cancel", "slow"]), st.integers(0, 20), st.sampled_from([0.0, 0.3])
        ),
        max_size=60,
    ),
)
def test_the_limit_stays_in_its_bounds_and_slots_are_conserved(bound: int, steps: list[tuple[str, int, float]]) -> None:
    async def main(clock: Callable[[], float]) -> None:
        limiter = Limiter(bound, clock)
        holding: list[asyncio.Future[str]] = []
        tasks: list[asyncio.Task[None]] = []

        async def hold() -> None:
            mine: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            async with limiter.slot() as slot:
                holding.append(mine)
                try:
                    how = await mine
                finally:
                    holding.remove(mine)
                if how == "fail":
                    raise BUSY
                slot.answered(9.0 if how == "slow" else 0.01)

        for step, which, wait_s in steps:
            if step == "begin":
                tasks.append(asyncio.ensure_future(hold()))
            elif step == "cancel" and tasks:
                # Also one that is being given its slot in this very turn of the loop.
                tasks[which % len(tasks)].cancel()
            elif holding and not (ending := holding[which % len(holding)]).done():
                ending.set_result(step)
            if wait_s:
                await asyncio.sleep(wait_s)
                assert limiter.held == len(holding)
            assert 1 <= limiter.limit <= bound
            assert 0 <= limiter.held <= bound
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter.held == 0
        for _ in range(limiter.limit):
            await asyncio.wait_for(limiter.acquire(), 1.0)

    virtually(main)


async def test_slots_that_others_still_hold_are_not_given_until_they_let_go() -> None:
    limiter = Limiter(4)
    limiter.set_bound(4, ceiling=0)
    waiting = [asyncio.create_task(limiter.acquire()) for _ in range(6)]
    await asyncio.sleep(0)
    assert limiter.held == 0
    limiter.set_bound(4, ceiling=1)
    assert limiter.held == 1
    limiter.set_bound(4, ceiling=9)
    assert limiter.held == 4
    limiter.set_bound(2, ceiling=2)
    limiter.release()
    limiter.release()
    assert limiter.held == 2
    limiter.release()
    assert limiter.held == 2
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
