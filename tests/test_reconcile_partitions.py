"""A reconciliation whose days are divided: however they are, and whoever does them, the same comes of it."""

import asyncio
import gzip
import math
import multiprocessing
import pickle
import random
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from archive_rig import ACCOUNTS, cdr, recording, until
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from in_process import Silent, files, made

from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.commands.reconciling import (
    Elsewhere,
    ReconcileRequest,
    ReconcileResult,
    ReconcileShare,
    reconcile_elsewhere,
    run_reconcile,
)
from archiver.engine.base import Watcher
from archiver.engine.here import Here
from archiver.errors import ClaimLost, ExitCode, PbxKeptFailing
from archiver.ledger.values import Run
from archiver.pipeline.run import Ended, Failure
from archiver.proof.reconciliation.classes import Class
from archiver.proof.reconciliation.found import PartitionReport
from archiver.proof.reconciliation.job import AccountDays, Job
from archiver.settings import Settings
from archiver.simulator import Corpus, Delay, Fault, FaultScript, SimulatedRecording, Simulator, SimulatorThread, Status
from archiver.window import Window

DAYS = 5
BEGIN = datetime(2024, 5, 6, tzinfo=UTC)
ASKED = ReconcileRequest(BEGIN, BEGIN + timedelta(days=DAYS))
UNDATED = {"start": None, "pvt_created": None}
UNDATED_LEG = {"timestamp": None, "datetime": "never"}


def on_day(ordinal: int) -> SimulatedRecording:
    """One recording after another, of either account, over all the days and at all hours."""
    row = recording(ordinal, account=ordinal % 2)
    return replace(row, start_unix_s=int(BEGIN.timestamp()) + ordinal * (DAYS * 86_400 // 40))


def corpus() -> Corpus:
    """Recordings that are listed, withheld, gone and without a date; CDRs that name them all, and some of them twice."""
    rows = [on_day(n) for n in range(40)]
    legs = [cdr(row) for row in rows]
    for n in range(0, 40, 7):
        rows[n] = replace(rows[n], listed_at=math.inf, available_at=0)
    for n in range(3, 40, 11):
        rows[n] = replace(rows[n], listed_at=math.inf, available_at=math.inf)
    for n in range(5, 40, 6):
        rows[n] = replace(rows[n], overrides=UNDATED)
        legs[n] = replace(legs[n], overrides=UNDATED_LEG)
    # An undated leg that no recording is of, and two for what nothing else knows.
    legs.append(replace(legs[11], cdr_id="of none", media_recording_id=None))
    legs += [replace(legs[n], cdr_id=f"again {n}", media_recording_id="202405-unknown", overrides={}) for n in (2, 4)]
    return Corpus(rows, legs, accounts=ACCOUNTS)


def settings(base_url: str, root: Path) -> Settings:
    found = made(base_url, root)
    # So much that each row is shown by the windows of several days.
    return found.model_copy(update={"listing": found.listing.model_copy(update={"overlap_hours": 30})})


@dataclass
class Divided:
    """Has partitions of its own cutting done in any order, by what they are as bytes; `lost` are done for nothing first."""

    seed: int = 0
    lost: int = 0
    at_once: int = 2
    done: list[PartitionReport] = field(default_factory=list)

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        chance = random.Random(self.seed)
        cut = list(recut(share.job, list(partitions), chance))
        chance.shuffle(cut)
        for partition in chance.sample(cut, min(self.lost, len(cut))):
            await self._report(share, partition, stop, watcher)
        while cut and not stop.is_set():
            together, cut = cut[: self.at_once], cut[self.at_once :]
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._report(share, each, stop, watcher)) for each in together]
            for task in tasks:
                self.done.append(task.result())
                yield task.result()

    async def _report(
        self, share: ReconcileShare, partition: AccountDays, stop: asyncio.Event, watcher: Watcher
    ) -> PartitionReport:
        share, partition = pickle.loads(pickle.dumps((share, partition)))
        report = await reconcile_elsewhere(share, partition, Here((), stop, watcher))
        again: PartitionReport = pickle.loads(pickle.dumps(report))
        assert again == report
        return again


def recut(job: Job, partitions: list[AccountDays], chance: random.Random) -> Iterator[AccountDays]:
    """The same days, cut otherwise."""
    assert list(job.partitions(7)) == partitions
    waiting = list(job.partitions(1))
    while waiting:
        together = [waiting.pop(0)]
        while waiting and waiting[0].account_id == together[0].account_id and chance.random() < 0.5:
            together.append(waiting.pop(0))
        period = Window(together[0].period.start_at, together[-1].period.end_at)
        yield AccountDays(together[0].account_id, period)


async def reconciled(wanted: Settings, elsewhere: Elsewhere | None = None) -> ReconcileResult:
    return await run_reconcile(wanted, ASKED, stop=asyncio.Event(), watcher=Silent(), elsewhere=elsewhere)


def comparable(result: ReconcileResult) -> dict[str, Any]:
    """A report without what depends on the clock, on chance, or on how often somebody looked or signed in."""
    found: dict[str, Any] = msgspec.to_builtins(result.report)
    for name in ("run_id", "duration_s", "pages", "requests", "retries", "logins"):
        del found[name]
    return found


def cdr_lines(root: Path) -> dict[str, list[bytes]]:
    found = sorted(root.rglob("cdrs*.jsonl.gz"))
    return {path.relative_to(root).as_posix(): gzip.decompress(path.read_bytes()).splitlines() for path in found}


def stray(root: Path) -> None:
    """An orphan on the third day."""
    folder = root / ACCOUNTS[1] / "2024/05/08"
    folder.mkdir(parents=True)
    (folder / "stray.mp3").write_bytes(b"stray")


async def test_however_the_days_are_divided_the_same_comes_of_it(tmp_path: Path) -> None:
    async with Simulator(corpus()) as pbx:
        whole = settings(pbx.base_url, tmp_path / "whole")
        stray(tmp_path / "whole")
        first = await reconciled(whole)
        again = await reconciled(whole)
        assert first.report.classes[Class.ORPHAN].count == 1
        assert sum(day.cdrs for day in first.report.days) == len(pbx.corpus.cdrs)
        for seed in range(2):
            root = tmp_path / str(seed)
            stray(root)
            engine = Divided(seed)
            apart = await reconciled(settings(pbx.base_url, root), engine)
            assert len(engine.done) > 2
            assert comparable(apart) == comparable(first)
            assert (files(root), cdr_lines(root)) == (files(tmp_path / "whole"), cdr_lines(tmp_path / "whole"))
            second = await reconciled(settings(pbx.base_url, root), Divided(seed + 10))
            assert comparable(second) == comparable(again)


@examples(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32), at_once=st.integers(1, 4), lost=st.integers(0, 2))
def test_a_settled_archive_is_told_the_same_by_any_division_even_when_parts_are_done_twice(
    settled: Callable[[], tuple[Settings, dict[str, Any]]], seed: int, at_once: int, lost: int
) -> None:
    wanted, told = settled()
    found = asyncio.run(reconciled(wanted, Divided(seed, lost, at_once)))
    assert comparable(found) == told


@pytest.fixture(name="settled", scope="module")
def settled_archive(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[], tuple[Settings, dict[str, Any]]]]:
    root = tmp_path_factory.mktemp("settled") / "a"
    with SimulatorThread(Simulator(corpus())) as pbx:
        wanted = settings(pbx.base_url, root)
        stray(root)
        asyncio.run(reconciled(wanted))
        told = comparable(asyncio.run(reconciled(wanted)))
        yield lambda: (wanted, told)


@pytest.mark.parametrize("days_each", [None, 1, 2, 3, 7])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Madrid", "Pacific/Apia"])
def test_partitions_are_all_days_of_all_accounts_once(days_each: int | None, zone: str) -> None:
    job = a_job(zone)
    cut = list(job.partitions(days_each))
    whole = [(part.account_id, day) for part in job.partitions() for day in job.days_of(part)]
    assert [(part.account_id, day) for part in cut for day in job.days_of(part)] == whole
    assert len(whole) == job.days_count
    by_day = {(account_id, day.window.end_at): day for account_id, day in whole}
    for part in cut:
        assert job.day_before(part) == by_day.get((part.account_id, part.period.start_at))


def a_job(zone: str = "UTC") -> Job:
    """A job over a change of the clocks, and over the day that Samoa left out."""
    wanted = Settings.model_validate({"archive": {"timezone": zone}})
    period = Window(datetime(2011, 10, 28, 5, tzinfo=UTC), datetime(2012, 1, 2, 11, tzinfo=UTC))
    run = a_run()
    hours = timedelta(hours=6)
    return Job(run, ACCOUNTS, period, wanted.archive.zone, 4 * hours, hours, period.end_at, 1000, 0)


def a_run() -> Run:
    return Run(1, "a run", BEGIN, None, None)


class InProcesses:
    """Has each partition done by a process that knows nothing but what it is sent.

    With `dies_when` the first one is killed when that comes true, then `mended`, and another does it again.
    """

    def __init__(
        self,
        pool: ProcessPoolExecutor,
        dies_when: Callable[[], bool] | None = None,
        mended: Callable[[], None] = lambda: None,
    ) -> None:
        self._pool = pool
        self._dies_when = dies_when
        self._mended = mended

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        del stop, watcher
        for partition in partitions:
            if self._dies_when is not None:
                await asyncio.to_thread(self._killed, share, partition, self._dies_when)
                self._dies_when = None
                self._mended()
            yield await asyncio.get_running_loop().run_in_executor(self._pool, done_there, share, partition)

    def _killed(self, share: ReconcileShare, partition: AccountDays, when: Callable[[], bool]) -> None:
        process = multiprocessing.get_context("spawn").Process(target=done_there, args=(share, partition))
        process.start()
        until(when)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        process.close()


def done_there(share: ReconcileShare, partition: AccountDays) -> PartitionReport:
    """In another process."""

    async def work() -> PartitionReport:
        return await reconcile_elsewhere(share, partition, Here((), asyncio.Event(), Silent()))

    return asyncio.run(work())


@contextmanager
def processes() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def test_what_a_killed_process_had_is_done_again_by_another_and_nothing_is_there_twice(tmp_path: Path) -> None:
    root, whole = tmp_path / "a", tmp_path / "whole"
    # The first day of the first account is done, the next is just being listed.
    faults = FaultScript([Fault(on="cdrs", account_id=ACCOUNTS[0], action=Delay(seconds=600), after=1, times=-1)])
    with SimulatorThread(Simulator(corpus(), faults=faults)) as pbx, processes() as pool:
        engine = InProcesses(pool, lambda: pbx.stats.cdr_pages >= 2, faults.clear)
        found = asyncio.run(reconciled(settings(pbx.base_url, root), engine))
        archived = {path.rpartition("/")[2].removesuffix(".mp3") for path in files(root)}
        assert {times for (_, name), times in pbx.stats.media_gets.items() if name in archived} == {1}
        told = asyncio.run(reconciled(settings(pbx.base_url, whole)))
        assert [day.classes for day in found.report.days] == [day.classes for day in told.report.days]
        assert [day.cdrs for day in found.report.days] == [day.cdrs for day in told.report.days]
        first, *others = [part.new for day in found.report.days for part in day.cdr_files]
        assert not first
        assert all(others)
        assert (files(root), cdr_lines(root)) == (files(whole), cdr_lines(whole))
        assert {finding.key for finding in verified(settings(pbx.base_url, root))} == set()


def test_what_a_killed_process_was_fetching_is_fetched_by_whoever_does_it_again(tmp_path: Path) -> None:
    root, whole = tmp_path / "a", tmp_path / "whole"
    faults = FaultScript([Fault(on="media", action=Delay(seconds=600), times=-1)])
    with SimulatorThread(Simulator(corpus(), faults=faults)) as pbx, processes() as pool:
        engine = InProcesses(pool, lambda: pbx.stats.media >= 1, faults.clear)
        wanted = settings(pbx.base_url, root)
        found = asyncio.run(reconciled(wanted, engine))
        told = asyncio.run(reconciled(settings(pbx.base_url, whole)))
        assert [day.classes for day in found.report.days] == [day.classes for day in told.report.days]
        assert (found.report.fetched, found.report.fetched_archived) == (
            told.report.fetched,
            told.report.fetched_archived,
        )
        assert (files(root), cdr_lines(root)) == (files(whole), cdr_lines(whole))
        assert {finding.key for finding in verified(wanted)} == set()


def verified(wanted: Settings) -> list[Any]:
    return list(asyncio.run(run_verify(wanted, VerifyRequest(), stop=asyncio.Event())).findings)


class Doubled(Divided):
    """Has each partition done by two at once, as when one that was paused wakes up: who claimed it first comes too late."""

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        for partition in partitions:
            both = await asyncio.gather(
                *(self._report(share, partition, stop, watcher) for _ in range(2)), return_exceptions=True
            )
            late = [each for each in both if isinstance(each, BaseException)]
            assert all(isinstance(each, ClaimLost) for each in late)
            self.came_too_late += len(late)
            yield next(each for each in both if isinstance(each, PartitionReport))

    came_too_late = 0


async def test_two_who_do_the_same_days_at_once_leave_what_one_would(tmp_path: Path) -> None:
    async with Simulator(corpus()) as pbx:
        one, two = settings(pbx.base_url, tmp_path / "one"), settings(pbx.base_url, tmp_path / "two")
        engine = Doubled()
        told = await reconciled(one)
        found = await reconciled(two, engine)
        assert engine.came_too_late > 0
        assert [day.classes for day in found.report.days] == [day.classes for day in told.report.days]
        assert (files(tmp_path / "two"), cdr_lines(tmp_path / "two")) == (
            files(tmp_path / "one"),
            cdr_lines(tmp_path / "one"),
        )


@dataclass
class Odd(Divided):
    """Leaves the last partition out, says that something fatal happened, or ends with an error."""

    leaves_out: bool = False
    fails: Failure | None = None
    raises: bool = False
    went_on: int = 0

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        first, *others = partitions
        report = await self._report(share, first, stop, watcher)
        yield replace(report, ended=Ended(self.fails, stopped=False)) if self.fails else report
        if self.raises:
            raise PbxKeptFailing("whoever leads them is gone")
        for partition in others[: -1 if self.leaves_out else None]:
            assert stop.is_set() == bool(self.fails)
            self.went_on += 1
            yield await self._report(share, partition, stop, watcher)


async def test_days_that_nobody_did_are_told_and_leave_something_to_do(tmp_path: Path) -> None:
    stray(tmp_path / "a")
    async with Simulator(corpus()) as pbx:
        result = await reconciled(settings(pbx.base_url, tmp_path / "a"), Odd(leaves_out=True))
    assert result.exit_code(signal=None) == ExitCode.LEFT
    assert f"{DAYS} of {2 * DAYS} days were left undone" in str(result.report.error)
    assert (result.report.outcome, len(result.report.days)) == ("failed", DAYS)
    # What nobody looked at may name anything.
    assert result.report.classes[Class.ORPHAN].count == 0


async def test_after_something_fatal_the_others_end_and_what_they_did_is_still_told(tmp_path: Path) -> None:
    fatal = Failure("pbx_kept_failing", ExitCode.PBX, "it is gone")
    async with Simulator(corpus()) as pbx:
        engine = Odd(fails=fatal)
        result = await reconciled(settings(pbx.base_url, tmp_path / "a"), engine)
    assert (result.exit_code(signal=None), result.report.error, engine.went_on) == (ExitCode.PBX, "it is gone", 1)
    # The second one was stopped before it had begun a day.
    assert len(result.report.days) == DAYS


@dataclass
class Interrupted(Divided):
    """Has somebody interrupt it after the first two days of an account."""

    interrupt: Callable[[], None] = lambda: None

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        first, second, *_ = recut_by(2, share.job, partitions)
        yield await self._report(share, first, stop, watcher)
        self.interrupt()
        await stop.wait()
        yield await self._report(share, second, stop, watcher)


async def test_a_stop_reaches_whoever_works_and_what_they_did_is_told(tmp_path: Path) -> None:
    stop = asyncio.Event()
    async with Simulator(corpus()) as pbx:
        wanted, engine = settings(pbx.base_url, tmp_path / "a"), Interrupted(interrupt=stop.set)
        result = await run_reconcile(wanted, ASKED, stop=stop, watcher=Silent(), elsewhere=engine)
    assert (result.report.outcome, result.exit_code(signal=2), len(result.report.days)) == ("interrupted", 130, 2)


def recut_by(days: int, job: Job, partitions: Iterable[AccountDays]) -> list[AccountDays]:
    assert list(job.partitions(7)) == list(partitions)
    return list(job.partitions(days))


async def test_when_whoever_leads_the_others_is_gone_what_was_told_so_far_is_in_the_report(tmp_path: Path) -> None:
    async with Simulator(corpus()) as pbx:
        result = await reconciled(settings(pbx.base_url, tmp_path / "a"), Odd(raises=True))
    assert (result.exit_code(signal=None), len(result.report.days)) == (ExitCode.PBX, DAYS)


async def test_where_the_day_before_cannot_be_listed_what_has_no_date_is_kept_and_the_doubt_is_told(
    tmp_path: Path,
) -> None:
    noon = int(BEGIN.timestamp()) + 86_400 + 43_200
    row = replace(recording(0), start_unix_s=noon, overrides=UNDATED)
    leg = replace(cdr(row), overrides=UNDATED_LEG)
    # The second day's own listing is the first of this kind.
    faults = FaultScript([Fault(on="cdrs", action=Status(code=503), after=1, times=1)])
    async with Simulator(Corpus([row], [leg], accounts=ACCOUNTS), faults=faults) as pbx:
        engine = LastDaysFirst()
        result = await reconciled(settings(pbx.base_url, tmp_path / "a"), engine)
    doubted = [day.day for day in result.report.days if any("has no date" in reason for reason in day.reasons)]
    assert doubted == ["2024-05-07"]
    assert sum(len(lines) for lines in cdr_lines(tmp_path / "a").values()) == 2
    assert not faults.unhit()


class LastDaysFirst(Divided):
    """Has the second day of the first account done before all else."""

    async def each(
        self, share: ReconcileShare, partitions: Iterable[AccountDays], *, stop: asyncio.Event, watcher: Watcher
    ) -> AsyncGenerator[PartitionReport, None]:
        del partitions
        first, second, *others = share.job.partitions(1)
        for partition in (second, first, *others):
            yield await self._report(share, partition, stop, watcher)
