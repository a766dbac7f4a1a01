"""The course of runs over days and event loops: the retry ladder by the clock, both loops, every await cancelled."""

import asyncio
import json
import math
import os
import threading
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvloop
from archive_rig import ACCOUNTS, media, recording, recordings, until
from in_process import NIGHTLY, PERIOD, archived, descriptors, files, leftovers, made, source

from archiver.assembly import RunRequest
from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.ledger.values import LADDER
from archiver.reports.run_report import exit_code
from archiver.simulator import Corpus, Cut, Drop, Fault, FaultScript, Simulator, SimulatorThread

FIRST_NIGHT = datetime(2024, 5, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RETRY_MISSING = RunRequest(since=PERIOD.since, until=PERIOD.until, retry_missing=True)


async def test_a_recording_whose_media_never_come_is_tried_up_the_ladder_and_is_then_missing(tmp_path: Path) -> None:
    never, good = recording(1, available_at=math.inf), recording(2)
    async with Simulator(Corpus([never, good], accounts=ACCOUNTS)) as pbx:
        settings = made(pbx.base_url, tmp_path / "archive")
        at = FIRST_NIGHT

        async def night() -> tuple[int, int, int, int]:
            result = await archived(settings, NIGHTLY, now=lambda: at)
            code = exit_code(result.tally, result.pages, result.ended, signal=None)
            asked = pbx.stats.media_gets[never.account_id, never.recording_id]
            return asked, result.report.pending, result.report.missing, code

        asked, *left = await night()
        before = asked
        assert left == [1, 0, 3]
        for rung, pause in enumerate(LADDER, 1):
            is_last = rung == len(LADDER)
            at += pause - MINUTE
            early = (await night())[0]
            at += 2 * MINUTE
            asked, *left = await night()
            assert asked > early, f"rung {rung} was not tried when it was due"
            assert left == ([0, 1, 3] if is_last else [1, 0, 3]), f"rung {rung}"
        # A night that lists the call again may try early; that is no rung of the ladder.
        assert asked >= before + len(LADDER)
        at += timedelta(days=1)
        later, *left = await night()
        assert (later, left[-1]) == (asked, 0), "what is missing and reported is neither asked for nor reported again"
        assert files(tmp_path / "archive") == source([good])
        # Media that come after all are fetched on demand.
        pbx.corpus.replace(recording(1))
        retried = await archived(settings, RETRY_MISSING, now=lambda: at)
        assert (retried.report.archived, retried.report.already_archived) == (1, 1)
        assert files(tmp_path / "archive") == source([recording(1), good])


@pytest.mark.parametrize("fails_first", [False, True])
async def test_what_a_killed_run_stored_and_the_source_then_changed_has_a_new_version_beside_it(
    tmp_path: Path, fails_first: bool
) -> None:
    root, row = tmp_path / "archive", recording(1)
    changed = recording(1, duration_ms=3000)
    async with Simulator(Corpus([recording(1, available_at=math.inf)], accounts=ACCOUNTS)) as pbx:
        settings = made(pbx.base_url, root)
        await archived(settings)
        # A kill between the store and the ledger, or a power cut that cost the ledger its end.
        memory = [root / ".archiver" / name for name in ("ledger.sqlite3", "last-run.json")]
        before = [path.read_bytes() for path in memory]
        pbx.corpus.replace(row)
        await archived(settings)
        assert files(root) == source([row])
        for path, data in zip(memory, before, strict=True):
            path.write_bytes(data)
        pbx.corpus.replace(changed)
        if fails_first:
            pbx.faults.add(Fault(on="media", action=Drop(), times=2))
            assert (await archived(settings)).report.pending == 1
        report = (await archived(settings)).report
        assert (report.archived, report.quarantined, report.pending) == (1, 0, 0)
    first, second = sorted(files(root))
    assert second.endswith(".v2.mp3")
    assert files(root) == {first: media(row), second: media(changed)}
    found = await run_verify(settings, VerifyRequest(), stop=asyncio.Event())
    assert (found.findings, found.objects) == ([], 2)


def test_plain_asyncio_and_uvloop_make_the_same_archive(tmp_path: Path) -> None:
    rows = recordings(12)
    made_by: dict[str, dict[str, bytes]] = {}
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": asyncio.new_event_loop,
        "uvloop": uvloop.new_event_loop,
    }
    for name, loop in loops.items():
        cuts = [Fault(on="media", action=Cut(fraction=0.5, how="rst"), times=3)]
        with SimulatorThread(Simulator(Corpus(rows, accounts=ACCOUNTS), faults=FaultScript(cuts))) as pbx:
            root = tmp_path / name
            with asyncio.Runner(loop_factory=loop) as runner:
                report = runner.run(archived(made(pbx.base_url, root, max_retries=4), now=lambda: FIRST_NIGHT)).report
            assert (report.archived, report.outcome) == (12, "complete")
            assert pbx.simulator.faults.unhit() == []
        made_by[name] = {
            path.relative_to(root).as_posix(): without_run(path)
            for path in root.rglob("*")
            if path.is_file() and ".archiver" not in path.parts
        }
    assert made_by["asyncio"] == made_by["uvloop"]
    assert source(rows).items() <= made_by["uvloop"].items()


def without_run(path: Path) -> bytes:
    """A file less what differs from run to run: the run's name and the simulator's port."""
    if path.suffix != ".json":
        return path.read_bytes()
    said = json.loads(path.read_bytes())
    del said["run_id"], said["source"]
    return json.dumps(said).encode()


class Stepped(Coroutine[Any, Any, Any]):
    """A coroutine that counts its steps, to have the run cancelled at a given one of all tasks' steps."""

    def __init__(self, inner: Coroutine[Any, Any, Any], step: Callable[[], None]) -> None:
        self._inner = inner
        self._step = step

    def send(self, value: Any) -> Any:
        self._step()
        return self._inner.send(value)

    def throw(self, *error: Any) -> Any:
        return self._inner.throw(*error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        raise AssertionError("only tasks step it")


async def cancelled_at(nth: int, work: Callable[[], Coroutine[Any, Any, Any]]) -> int:
    """Run `work` as a task and cancel it when its tasks together have made so many steps; returns the steps made."""
    steps = 0
    running: list[asyncio.Task[Any]] = []

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == nth:
            running[0].cancel()

    def stepping(loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        return asyncio.Task(Stepped(coroutine, step), loop=loop, **more)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(stepping)
    running.append(loop.create_task(work()))
    loop.set_task_factory(stepping)
    try:
        with suppress(asyncio.CancelledError):
            await running[0]
    finally:
        loop.set_task_factory(None)
    return steps


EVERY = 1 if "ARCHIVER_CAMPAIGN" in os.environ else 6
"""Which of the awaits are cancelled: each one, or each sixth."""


def test_a_run_cancelled_at_any_await_leaks_nothing_and_leaves_only_whole_recordings_row_62(tmp_path: Path) -> None:
    rows = recordings(4)
    with SimulatorThread(Simulator(Corpus(rows, accounts=ACCOUNTS))) as pbx:

        def one(root: Path, nth: int) -> int:
            with asyncio.Runner() as runner:
                return runner.run(cancelled_at(nth, lambda: archived(made(pbx.base_url, root, concurrency=2), PERIOD)))

        whole = one(tmp_path / "warm", 0)
        assert files(tmp_path / "warm") == source(rows)
        before, threads = descriptors(), threading.active_count()
        for nth in range(1, whole + 1, EVERY):
            root = tmp_path / f"{nth}"
            one(root, nth)
            assert files(root).items() <= source(rows).items(), nth
            assert leftovers(root) == [], nth
            # The simulator's ends of the connections live in this process, too, and close a moment later.
            until(lambda: descriptors() <= before and threading.active_count() <= threads, seconds=5)
            one(root, 0)
            assert files(root) == source(rows), nth
            assert leftovers(root) == [], nth
