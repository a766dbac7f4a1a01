"""A scheduler that a test plays: who is there, what workers answer, and what becomes of errands."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import pytest
from in_process import Silent

from archiver.engine.cluster.crew import Crew, Terms
from archiver.engine.cluster.errand import Answer, Errand
from archiver.engine.cluster.scheduler import Hands, Scheduler
from archiver.engine.wire import News
from archiver.errors import ArchiverError
from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Tally

ADDRESS = "tcp://nobody:1"
ONE, PAUSED = Hands(1), Hands(1, is_paused=True)
Play = Callable[[str, frozenset[str]], Awaitable[Answer]]


def answered(archived: int = 0, *, error: ArchiverError | None = None, stopped: bool = False) -> Answer:
    """An answer with so many archived."""
    tally = Tally(claimed=archived, archived=archived, settled=archived)
    return Answer("done", error, stopped, News(tally, Traffic(), 0, 0, ()))


async def never(_: str, __: frozenset[str]) -> Answer:
    """What a worker that is busy answers."""
    await asyncio.Event().wait()
    raise AssertionError


class FakeScheduler:
    """Stands for `scheduler.Scheduler`; `there` are the workers, `lost` is what asking it raises."""

    side = "run"

    def __init__(self, there: Mapping[str, Hands], play: Play = never) -> None:
        self.there = dict(there)
        self.play = play
        self.lost: ArchiverError | None = None
        self.given: list[tuple[str, frozenset[str]]] = []
        self.closed = False

    async def notes(self) -> list[str]:
        return []

    async def workers(self) -> Mapping[str, Hands]:
        if self.lost is not None:
            raise self.lost
        return dict(self.there)

    async def answer(self, _: Errand, key: str, workers: Collection[str]) -> Answer:
        self.given.append((key, frozenset(workers)))
        return await self.play(key, frozenset(workers))

    async def tell(self, *_: Any) -> None:
        if self.lost is not None:
            raise self.lost

    async def close(self) -> None:
        self.closed = True


async def all_fit(_: Scheduler, __: str) -> str:
    """Finds nothing wrong."""
    return ""


def crew_of(
    monkeypatch: pytest.MonkeyPatch,
    fake: FakeScheduler,
    examine: Callable[[Scheduler, str], Awaitable[str]] = all_fit,
    *,
    most: int = 4,
    stop: asyncio.Event | None = None,
) -> Crew:
    """A crew of this scheduler's workers."""

    async def connect(_: str, **__: object) -> FakeScheduler:
        return fake

    monkeypatch.setattr(Scheduler, "connect", connect)
    return Crew(ADDRESS, "run", Terms(most, 1.0, examine), watcher=Silent(), stop=stop or asyncio.Event())
