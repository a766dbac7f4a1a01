"""Who leads a crew, with a scheduler that the test plays and a clock that leaps: who gets work, and how work ends."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from fake_scheduler import ADDRESS, ONE, PAUSED, FakeScheduler, all_fit, answered, crew_of, never
from virtual_clock import virtually

from archiver.engine.cluster.crew import Crew, Failed
from archiver.engine.cluster.errand import Answer
from archiver.engine.cluster.scheduler import Scheduler
from archiver.engine.cluster.speaking import Lost, Unanswered
from archiver.errors import (
    ArchiverError,
    ClaimLost,
    ClusterError,
    ClusterUnreachable,
    LedgerError,
    NotShared,
    StoreDenied,
    StoreUnavailable,
)


async def work(*_: object) -> None:
    """What a worker would do; here nobody does."""


async def one(crew: Crew) -> Answer | None:
    """One parcel, in its place."""
    async with crew.place() as may_begin:
        return await crew.do(work, None, None) if may_begin else None


@pytest.mark.parametrize("error", [ClusterUnreachable("lost"), StoreDenied("no"), LedgerError("gone"), ValueError("x")])
def test_an_error_of_the_block_leaves_a_crew_as_it_is(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    fake = FakeScheduler({"one": ONE})

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake):
            raise error

    with pytest.raises(type(error)) as caught:
        virtually(main)
    assert caught.value is error
    assert fake.closed


@pytest.mark.parametrize(
    "error", [ModuleNotFoundError("x"), OSError(116, "Stale"), ClusterUnreachable("x"), Unanswered("x")]
)
def test_one_newcomer_that_cannot_be_examined_neither_ends_a_run_nor_keeps_others_from_work(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    fake = FakeScheduler({"good": ONE})

    async def examine(_: Scheduler, worker: str) -> str:
        if worker == "bad":
            raise error
        return ""

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake, examine) as crew:
            fake.there |= {"bad": ONE, "other": ONE}
            await asyncio.sleep(1)
            assert crew.hands == 2
            await asyncio.sleep(100)
            async with crew.place() as may_begin:
                assert may_begin
            (note,) = crew.notes
            assert note.startswith("Worker bad got nothing to do: ")
            assert str(error) in note

    virtually(main)


def test_a_newcomer_that_is_slow_to_be_examined_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeScheduler({"good": ONE})

    async def examine(_: Scheduler, worker: str) -> str:
        await asyncio.sleep(25 if worker == "slow" else 0)
        return ""

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake, examine) as crew:
            fake.there["slow"] = ONE
            await asyncio.sleep(2)
            fake.there["quick"] = ONE
            await asyncio.sleep(1)
            assert crew.hands == 2
            await asyncio.sleep(25)
            assert crew.hands == 3

    virtually(main)


def test_a_worker_that_was_not_fit_is_looked_at_again_ever_more_seldom_and_then_gets_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeScheduler({"good": ONE})
    looks: list[float] = []
    wrong = "the ledger can't be reached"

    async def main(clock: Callable[[], float]) -> None:
        async def examine(_: Scheduler, worker: str) -> str:
            if worker == "good":
                return ""
            looks.append(clock())
            return wrong if len(looks) < 6 else ""

        async with crew_of(monkeypatch, fake, examine) as crew:
            fake.there["late"] = ONE
            await asyncio.sleep(150)
            assert crew.hands == 1
            assert crew.notes == [f"Worker late got nothing to do: {wrong}."]
            await asyncio.sleep(80)
            assert crew.hands == 2
            assert crew.notes == [f"Worker late got nothing to do at first: {wrong}."]

    virtually(main)
    pauses = [later - earlier for earlier, later in pairwise(looks)]
    assert [round(pause, -1) for pause in pauses] == [10, 20, 40, 60, 60]


@pytest.mark.parametrize(
    ("error", "raised"),
    [(None, NotShared), (Unanswered("it is silent"), ClusterUnreachable), (ClusterError("x"), ClusterError)],
)
def test_at_the_start_everybody_must_be_fit_and_who_is_not_is_named(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, raised: type[ArchiverError]
) -> None:
    async def examine(_: Scheduler, worker: str) -> str:
        if error is not None and worker == "bad":
            raise error
        return "it is blind" if worker == "bad" else ""

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({"good": ONE, "bad": ONE}), examine):
            pass

    with pytest.raises(raised) as caught:
        virtually(main)
    assert type(caught.value) is raised
    assert raised is ClusterError or "worker bad: it is" in str(caught.value)


def test_a_scheduler_that_is_silent_for_too_long_ends_the_work_with_what_is_wrong_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeScheduler({"one": ONE})

    async def main(clock: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake) as crew:
            doing = asyncio.create_task(one(crew))
            await asyncio.sleep(5)
            fake.lost = ClusterUnreachable("the scheduler does not answer")
            silent_s = clock()
            with pytest.raises(ClusterUnreachable, match="does not answer"):
                await doing
            assert 50 < clock() - silent_s < 70
            with pytest.raises(ClusterUnreachable, match="does not answer"):
                await one(crew)

    virtually(main)


def test_a_worker_that_is_paused_finishes_what_it_has_and_gets_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    finish = asyncio.Event()

    async def play(key: str, _: frozenset[str]) -> Answer:
        if key == "run-1":
            await finish.wait()
        return answered(1)

    fake = FakeScheduler({"one": ONE}, play)

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake) as crew:
            first = asyncio.create_task(one(crew))
            await asyncio.sleep(1)
            fake.there["one"] = PAUSED
            await asyncio.sleep(1)
            second = asyncio.create_task(one(crew))
            await asyncio.sleep(200)
            assert [first.done(), second.done()] == [False, False]
            # Another one that joins does not take it away.
            fake.there["two"] = ONE
            await asyncio.sleep(2)
            assert await second is not None
            assert not first.done()
            finish.set()
            assert await first is not None
        assert fake.given == [("run-1", frozenset({"one"})), ("run-2", frozenset({"two"}))]

    virtually(main)


def test_with_workers_that_are_paused_and_have_nothing_a_run_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = FakeScheduler({"one": ONE})

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake) as crew:
            fake.there["one"] = PAUSED
            await asyncio.sleep(1)
            with pytest.raises(ClusterUnreachable, match="no fit worker"):
                await one(crew)

    virtually(main)


def test_a_parcel_whose_workers_have_left_waits_for_one_that_is_fit_and_is_never_anybodys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(_: str, __: frozenset[str]) -> Answer:
        return answered(1)

    fake = FakeScheduler({"one": ONE}, play)

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, fake) as crew, crew.place():
            fake.there = {}
            await asyncio.sleep(1)
            doing = asyncio.create_task(crew.do(work, None, None))
            await asyncio.sleep(5)
            assert fake.given == []
            fake.there = {"two": ONE}
            assert await doing is not None
            assert fake.given == [("run-1", frozenset({"two"}))]

    virtually(main)


def test_what_can_be_tried_again_is_done_again_after_ever_longer_pauses_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[float] = []

    async def main(clock: Callable[[], float]) -> None:
        async def play(_: str, __: frozenset[str]) -> Answer:
            begun.append(clock())
            return answered(3, error=StoreUnavailable("the mount is stale"))

        async with crew_of(monkeypatch, FakeScheduler({"one": ONE}, play)) as crew:
            with pytest.raises(Lost, match="the mount is stale"):
                await one(crew)
            # What it had archived stays counted, once.
            assert crew.counts.tally.archived == 3

    virtually(main)
    assert [round(later - earlier) for earlier, later in pairwise(begun)] == [2, 4, 8, 16]


def test_a_parcel_that_works_the_second_time_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(key: str, _: frozenset[str]) -> Answer:
        return answered(3) if key == "run-2" else answered(2, error=StoreUnavailable("the mount is stale"))

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({"one": ONE}, play)) as crew:
            assert await one(crew) is not None
            assert crew.counts.tally.archived == 3

    virtually(main)


def test_a_fatal_error_of_a_parcel_is_the_runs_and_what_it_had_archived_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def play(_: str, __: frozenset[str]) -> Answer:
        return answered(3, error=StoreDenied("no"))

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({"one": ONE}, play)) as crew:
            with pytest.raises(Failed):
                await one(crew)
            assert crew.counts.tally.archived == 3

    virtually(main)


def test_what_a_parcel_had_archived_before_its_scheduler_was_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second attempt did not come as far as finding what the first had done."""

    async def play(key: str, _: frozenset[str]) -> Answer:
        if key == "run-1":
            return answered(3, error=ClaimLost("away for too long"))
        raise ClusterUnreachable("lost")

    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({"one": ONE}, play)) as crew:
            with pytest.raises(ClusterUnreachable, match="lost"):
                await one(crew)
            assert (crew.counts.tally.archived, crew.counts.tally.listed) == (3, 3)

    virtually(main)


def test_what_does_not_end_within_its_grace_after_a_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = asyncio.Event()

    async def main(clock: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({"one": ONE}, never), all_fit, stop=stop) as crew:
            doing = asyncio.create_task(one(crew))
            await asyncio.sleep(1)
            stop.set()
            begun_s = clock()
            assert await doing is None
            assert clock() - begun_s < 5
            assert await one(crew) is None

    virtually(main)


def test_a_scheduler_without_a_worker_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(_: Callable[[], float]) -> None:
        async with crew_of(monkeypatch, FakeScheduler({})):
            pass

    with pytest.raises(ClusterUnreachable, match=f"{ADDRESS} has no worker"):
        virtually(main)
