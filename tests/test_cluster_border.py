"""The border with Dask, whose client the test plays: what comes over it becomes ours, and nobody waits for ever."""

import asyncio
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker
from fake_scheduler import answered
from structlog.testing import capture_logs
from virtual_clock import virtually

from archiver.engine.cluster.comparing import check_same, difference_of
from archiver.engine.cluster.errand import Answer, Errand
from archiver.engine.cluster.scheduler import Scheduler
from archiver.engine.cluster.shares import Portion
from archiver.engine.cluster.speaking import Lost, Unanswered
from archiver.engine.cluster.versions import fingerprint
from archiver.engine.cluster.worker import packed
from archiver.errors import ClusterUnreachable, WorkersDiffer

ADDRESS = "tcp://nobody:1"
WORKER = "tcp://worker:2"
SECRET = "hush hush"


async def work(*_: object) -> None:
    """What an errand does."""


def errand(share: Any = None) -> Errand:
    return Errand("run", work, share, None, Portion(0, 1.0, {}))


async def for_ever(*_: object, **__: object) -> NoReturn:
    """A scheduler, or a worker, that is frozen."""
    await asyncio.Event().wait()
    raise AssertionError


@dataclass
class Future:
    """Dask's: `error` is what the task failed of, `raised` what awaiting it raises, `answer` what it brings."""

    answer: Any = None
    error: BaseException | None = None
    raised: BaseException | None = None
    is_released: bool = False

    async def exception(self) -> BaseException | None:
        return self.error

    def __await__(self) -> Iterator[Any]:
        if self.raised is not None:
            raise self.raised
        return iter(())

    def release(self) -> None:
        self.is_released = True


@dataclass
class Client:
    """Dask's: `run`, `identity` and `versions` are how it answers."""

    future: Future = field(default_factory=Future)
    status: str = "running"
    run: Callable[..., Any] = for_ever
    identity: Callable[..., Any] = for_ever
    versions: Callable[..., Any] = for_ever

    @property
    def scheduler(self) -> "Client":
        return self

    def submit(self, *_: object, **__: object) -> Future:
        return self.future


def scheduler(client: Client) -> Scheduler:
    return Scheduler(client, ADDRESS, "run")


class Unreadable(Exception):
    """As of a package that is not installed here."""


FOREIGN = (
    MemoryError("on a worker"),
    RuntimeError("can't start new thread"),
    KeyError("archiver-run"),
    ModuleNotFoundError("No module named 'x'"),
    Unreadable(),
)


@pytest.mark.parametrize(
    "future",
    [
        *(Future(error=error) for error in FOREIGN),
        *(Future(raised=error) for error in FOREIGN),
        Future(error=OSError(24, "Too many open files")),
    ],
)
async def test_whatever_a_worker_fails_of_costs_one_parcel_and_is_named_and_logged(future: Future) -> None:
    error = future.error or future.raised
    with capture_logs() as logs, pytest.raises(Lost, match=type(error).__name__):
        await scheduler(Client(future)).answer(errand(), "run-1", [WORKER])
    assert future.is_released
    (line,) = logs
    assert line["part"] == "run-1"
    assert str(error) in line["error"]


async def test_an_answer_that_is_none_of_ours_costs_one_parcel() -> None:
    future = Future(answer="what is this")
    with pytest.raises(Lost):
        await scheduler(Client(future)).answer(errand(), "run-1", [WORKER])


async def test_a_parcel_that_kills_its_workers_is_lost() -> None:
    future = Future(error=KilledWorker("run-1", None, 3))  # type: ignore[arg-type]
    with pytest.raises(Lost, match="4 workers died"):
        await scheduler(Client(future)).answer(errand(), "run-1", [WORKER])


async def test_an_answer_that_is_cancelled_means_that_the_scheduler_was_lost() -> None:
    with pytest.raises(ClusterUnreachable, match="was lost"):
        await scheduler(Client(Future(raised=CancelledError()))).answer(errand(), "run-1", [WORKER])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("ConnectionPool is closed"),
        AttributeError("'NoneType' object has no attribute 'identity'"),
        AttributeError("'NoneType' object has no attribute 'broadcast'"),
    ],
)
async def test_a_client_that_has_given_its_scheduler_up_says_so_and_its_bugs_stay_bugs(error: Exception) -> None:
    async def broken(*_: object, **__: object) -> NoReturn:
        raise error

    client = Client(run=broken, identity=broken, status="closed")
    for ask in (scheduler(client).workers, lambda: scheduler(client).tell("stop")):
        client.status = "closed"
        with pytest.raises(ClusterUnreachable, match="was lost"):
            await ask()
        client.status = "running"
        with pytest.raises(type(error)):
            await ask()


def test_a_scheduler_that_is_frozen_is_not_waited_for_without_end() -> None:
    async def main(clock: Callable[[], float]) -> float:
        begun_s = clock()
        for ask in (
            scheduler(Client()).workers,
            scheduler(Client()).versions,
            lambda: scheduler(Client()).ask(len, "", worker=WORKER),
        ):
            with pytest.raises(ClusterUnreachable, match=f"the scheduler {ADDRESS} does not answer"):
                await ask()
        return clock() - begun_s

    assert virtually(main) < 100


async def one_worker(*_: object, **__: object) -> dict[str, Any]:
    return {"workers": {WORKER: {"nthreads": 1}, "tcp://leaves:3": {"nthreads": 1, "status": "closing"}}}


async def nothing(*_: object, **__: object) -> dict[str, Any]:
    return {"packages": {}}


def test_a_worker_that_is_frozen_is_told_from_a_scheduler_that_is() -> None:
    async def main(_: Callable[[], float]) -> None:
        it = scheduler(Client(identity=one_worker, versions=nothing))
        assert list(await it.workers()) == [WORKER]
        with pytest.raises(Unanswered, match="did not answer within"):
            await it.ask(len, "", worker=WORKER)
        with pytest.raises(ClusterUnreachable, match=f"worker {WORKER}: it did not answer"):
            await check_same(it)

    virtually(main)


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), ModuleNotFoundError("archiver"), ValueError("x")])
async def test_what_one_worker_fails_of_is_told_of_it_and_not_of_the_scheduler(error: Exception) -> None:
    async def answers(*_: object, on_error: str, **__: object) -> Mapping[str, Any]:
        assert on_error == "return"
        return {WORKER: error}

    with pytest.raises(Unanswered, match=re.escape(type(error).__name__)):
        await scheduler(Client(run=answers)).ask(len, "", worker=WORKER)


def node(**others: str | None) -> dict[str, Any]:
    same = {
        "recording-archiver": "archiver 1",
        "python": "3.11.4.final.0",
        "distributed": "2026.8.0",
        "msgspec": "0.20",
    }
    return {"packages": same | others}


async def test_a_question_whose_connection_was_just_being_closed_is_asked_again() -> None:
    answers = [CommClosedError("Stream is closed"), "yes"]

    async def run(*_: object, **__: object) -> Mapping[str, Any]:
        return {WORKER: answers.pop(0)}

    assert await scheduler(Client(run=run)).ask(len, "", worker=WORKER) == "yes"
    answers += [CommClosedError("Stream is closed")] * 3
    with pytest.raises(Unanswered, match="CommClosedError"):
        await scheduler(Client(run=run)).ask(len, "", worker=WORKER)


@dataclass
class Fleet:
    """Workers and what they run (`comparing.Asked`)."""

    theirs: Mapping[str, Any]
    source: str = ""
    here: Mapping[str, Any] = field(default_factory=node)

    async def workers(self) -> Mapping[str, Any]:
        return {WORKER: None}

    async def versions(self, worker: str = "") -> Any:
        return self.theirs if worker else self.here

    async def ask(self, *_: object, worker: str) -> str:
        assert worker
        if "archiver" not in self.theirs["packages"].get("recording-archiver", "archiver"):
            raise Unanswered("it has nothing to ask")
        return self.source or fingerprint()


@pytest.mark.parametrize(
    ("fleet", "named"),
    [
        (Fleet(node()), ""),
        (Fleet(node(python="3.12.1.final.0")), "python 3.12"),
        (Fleet(node(msgspec="0.18")), "msgspec 0.18; here it is 0.20"),
        (Fleet(node(distributed=None)), "no distributed"),
        (Fleet(node(), source="x"), "runs another archiver"),
    ],
)
async def test_in_what_a_worker_differs_is_named_at_the_start_and_when_it_joins_later(fleet: Fleet, named: str) -> None:
    assert named in await difference_of(fleet, WORKER)
    assert bool(named) == bool(await difference_of(fleet, WORKER))
    if named:
        with pytest.raises(WorkersDiffer, match=WORKER) as caught:
            await check_same(fleet)
        assert named in str(caught.value)
    else:
        await check_same(fleet)


def test_an_errand_travels_as_bytes_that_show_nothing_of_it_and_are_its_answer_when_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[Errand] = []

    def run(it: Errand) -> Answer:
        given.append(it)
        return answered(1)

    monkeypatch.setattr("archiver.engine.cluster.worker.run_errand", run)
    data = packed(errand(share=(SECRET, tmp_path)))
    assert SECRET.encode() not in data
    assert isinstance(pickle.loads(data), Answer)
    (it,) = given
    assert it.share == (SECRET, tmp_path)
