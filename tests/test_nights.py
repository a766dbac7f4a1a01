"""Three weeks of nights, with all that goes wrong at night: all ends archived or explained, each medium fetched once.

By default a few seeds; `make campaign` plays many. A failing seed is printed; ARCHIVER_SEED repeats it.
"""

import asyncio
import errno
import os
import random
import signal
import socket
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from in_process import Silent, leftovers
from nights import (
    ACCOUNTS,
    DAY_S,
    HOUR_S,
    LISTED_LATE_S,
    MEDIA_LATE_S,
    NEVER,
    Clock,
    Event,
    Ids,
    Stopping,
    World,
    call,
    check_report,
    ids,
    local_day,
    stored,
)

from archiver.commands.archiving import RunResult
from archiver.recording import Status
from archiver.simulator import (
    Corpus,
    Cut,
    Drop,
    ExpireToken,
    Fault,
    FaultScript,
    SimulatedRecording,
    Simulator,
    Switches,
)
from archiver.simulator import Status as Answer

NIGHTS = 21
BEGIN = datetime(2024, 5, 20, tzinfo=UTC)
"""The weeks hold a month's end."""
ZONES = ("UTC", "Europe/Madrid", "America/Los_Angeles", "Pacific/Auckland", "Pacific/Kiritimati")
OUT_OF_ORDER = (
    "down", "dropping", "refused", "broken", "storm", "cut", "token", "interrupted", "cancelled", "killed", "full",
    "skipped", "torn page",
)  # fmt: skip
"""A night for each; the others are good ones, the last three among them."""
DISTURBED = frozenset({"interrupted", "cancelled", "killed", "full", "down", "dropping", "storm"})
"""Runs that are broken off: bodies that were on their way then come again."""
UNLISTED = frozenset({"down", "dropping", "refused", "skipped"})


@dataclass
class Course:
    """What a seed decides."""

    chance: random.Random
    archive_zone: str
    server_zone: str
    switches: Switches
    kinds: list[str]

    @classmethod
    def of(cls, seed: int) -> "Course":
        chance = random.Random(seed)
        switches = Switches(
            time_field=chance.choice(["pvt_created", "start"]),
            cursor=chance.choice(["inclusive", "exclusive", "exact"]),
            order=chance.choice(["ascending", "descending"]),
            end_bound=chance.choice(["inclusive", "exclusive"]),
            digest=chance.choice(["empty", "md5"]),
            token_lifetime_s=chance.choice([30.0, 3600.0]),
        )
        kinds = [*OUT_OF_ORDER, *["good"] * (NIGHTS - 3 - len(OUT_OF_ORDER))]
        chance.shuffle(kinds)
        return cls(chance, chance.choice(ZONES), chance.choice(ZONES), switches, [*kinds, "good", "good", "good"])


class Calls:
    """Makes up the calls of the weeks, the odd ones included."""

    def __init__(self, course: Course, world: World) -> None:
        self._chance = course.chance
        self._course = course
        self._world = world
        self._ordinal = 0
        self.kinds: dict[Ids, str] = {}

    def all_days(self) -> None:
        """Each account's calls, day by day, and those over the month's end."""
        for account_id in ACCOUNTS:
            for day in range(NIGHTS):
                for _ in range(self._chance.randint(4, 8)):
                    self._any(account_id, day)
            self._tied(account_id, self._chance.randrange(NIGHTS - 1))
            for zone in {"UTC", self._course.archive_zone, self._course.server_zone}:
                edge = int(datetime(2024, 6, 1, tzinfo=ZoneInfo(zone)).timestamp())
                for before_s, seconds in ((1, 2), (60, 300), (3 * HOUR_S, 5 * HOUR_S), (0, 30)):
                    self._add("edge", account_id, edge - before_s, seconds=seconds, audio_ms=1500)

    def _add(self, kind: str, account_id: str, start: int, **more: Any) -> SimulatedRecording:
        self._ordinal += 1
        with_cdr = more.pop("with_cdr", self._chance.random() < 0.5)
        row = call(account_id, self._ordinal, start, **more)
        self._world.add(row, with_cdr=with_cdr)
        self.kinds[ids(row)] = kind
        return row

    def _any(self, account_id: str, day: int) -> None:
        chance = self._chance
        start = int(BEGIN.timestamp()) + day * DAY_S + chance.randrange(DAY_S)
        seconds = chance.choice([1, 2, 3, 20, 1200])
        end = start + seconds
        more: dict[str, Any] = {"seconds": seconds, "audio_ms": min(seconds, 3) * 1000}
        kind = chance.choices(
            ["plain", "media late", "listed late", "never", "changed", "lost"], [60, 15, 10, 4, 6, 4]
        )[0]
        if kind == "media late":
            more["available_at"] = end + chance.randrange(1, MEDIA_LATE_S)
        elif kind == "listed late":
            more["listed_at"] = end + chance.randrange(HOUR_S, LISTED_LATE_S)
            more["available_at"] = chance.choice([float(end), None])
        elif kind in {"never", "lost"}:
            more["available_at"] = NEVER
        row = self._add(kind, account_id, start, **more)
        if kind == "changed":
            longer = seconds + chance.randint(1, 5)
            after = call(account_id, self._ordinal, start, seconds=longer, audio_ms=5000 + longer, version=2)
            self._world.events.append(Event(end + chance.randrange(HOUR_S, LISTED_LATE_S), ids(row), after))
        elif kind == "lost":
            self._world.events.append(Event(end + chance.randrange(DAY_S, 3 * DAY_S), ids(row), None))

    def _tied(self, account_id: str, day: int) -> None:
        """More calls in one second than a page holds."""
        start = int(BEGIN.timestamp()) + day * DAY_S + 15 * HOUR_S
        for _ in range(12):
            self._add("tied", account_id, start)


def closed_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


class Room:
    """What is left on a disk, in writes; `is_gone` once a write was refused."""

    def __init__(self, writes: int) -> None:
        self._left = writes
        self._write = os.write
        self.is_gone = False

    def write(self, fd: int, data: Any) -> int:
        """As the kernel does; sockets and the ledger have system calls of their own."""
        self._left -= 1
        if self._left < 0:
            self.is_gone = True
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(fd, data)


class Weeks:
    """Plays the nights of a course, and looks after each."""

    def __init__(self, course: Course, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.course = course
        self.world = world
        self.monkeypatch = monkeypatch
        self.results: list[RunResult] = []

    async def play(self) -> None:
        chance = self.course.chance
        for day, kind in enumerate(self.course.kinds, 1):
            # Half past two, more or less, in UTC.
            self.world.until(BEGIN.timestamp() + day * DAY_S + 2.5 * HOUR_S + chance.randrange(-3600, 3600))
            if day == 7:
                self.world.accounts = ACCOUNTS
            self.world.more["listing"] = {
                "window_hours": chance.choice([24, 24, 24, 5, 60]),
                "overlap_hours": chance.choice([0, 6]),
            }
            sys.stderr.write(f"night {day}: {kind}\n")
            before = {account_id: self.world.known.covered(account_id) for account_id in self.world.accounts}
            await self.night(kind)
            self.world.pbx.faults.clear()
            if kind == "skipped":
                continue
            await self.world.check(disturbed=kind in DISTURBED)
            assert leftovers(self.world.root) == [] or kind == "killed"
            for account_id in self.world.accounts:
                covered = self.world.known.covered(account_id)
                assert kind not in UNLISTED or covered <= before[account_id] or before[account_id] == -NEVER, kind

    async def night(self, kind: str) -> None:
        """One night of a kind, and the exit code that it must have."""
        world, chance, faults = self.world, self.course.chance, self.world.pbx.faults
        allowed = {0, 3}
        result: RunResult | None = None
        match kind:
            case "skipped":
                return
            case "killed":
                assert await world.killed_night(chance.randrange(25)) in {-signal.SIGKILL, 0}
                return
            case "cancelled":
                await self._cancelled(chance.randrange(1, 12))
                return
            case "interrupted":
                stop = asyncio.Event()
                watcher = Stopping(chance.randrange(1, 12), stop.set)
                result, code = await world.night(watcher=watcher, stop=stop, signal=15)
                allowed |= {143}
            case "down":
                gone = world.settings(pbx={"base_url": f"http://127.0.0.1:{closed_port()}"})
                result, code = await world.night(gone)
                allowed = {8}
            case "full":
                room = Room(chance.randrange(15, 40))
                with self.monkeypatch.context() as kernel:
                    kernel.setattr(os, "write", room.write)
                    result, code = await world.night()
                allowed = {5} if room.is_gone else allowed
            case _:
                allowed = self._spoil(kind, faults)
                result, code = await world.night()
        assert code in allowed, (kind, code, result.report)
        check_report(result)
        self.results.append(result)
        if kind in {"broken", "torn page"} and not faults.unhit():
            await self._check_broken(result, ACCOUNTS[0] if kind == "broken" else ACCOUNTS[1])
        if kind == "good":
            assert result.report.windows_incomplete == 0 or any(
                "CDRs name" in problem.reason for problem in result.report.problems
            ), result.report.problems

    async def _check_broken(self, result: RunResult, account_id: str) -> None:
        """Coverage stands at or before the first window that could not be listed whole."""
        known = await self.world.look()
        left = known.accounts[account_id].windows_incomplete
        assert left, result.report
        assert result.report.windows_incomplete or result.ended.error is not None
        assert known.covered(account_id) <= datetime.fromisoformat(left[0]["since"]).timestamp()

    def _spoil(self, kind: str, faults: FaultScript) -> set[int]:
        """Script a night's faults; the exit codes that it may have then."""
        chance = self.course.chance
        match kind:
            case "dropping":
                faults.add(Fault(on="any", action=Drop(how="rst"), times=-1))
                return {8}
            case "refused":
                faults.add(Fault(on="login", action=Answer(code=401), times=-1))
                return {4}
            case "broken":
                page = chance.choice([1, 2])
                faults.add(Fault(on="recordings", account_id=ACCOUNTS[0], page=page, action=Answer(code=500), times=-1))
                return {3, 8}
            case "torn page":
                faults.add(Fault(on="recordings", account_id=ACCOUNTS[1], page=2, action=Cut(fraction=0.6), times=-1))
                return {3, 8}
            case "storm":
                for on in ("recordings", "media"):
                    for code, times in ((503, 6), (429, 1)):
                        faults.add(Fault(on=on, action=Answer(code=code), after=chance.randrange(8), times=times))
                return {0, 3, 8}
            case "cut":
                for how in ("fin", "rst"):
                    cut = Cut(fraction=chance.uniform(0.1, 0.9), how=how)
                    faults.add(Fault(on="media", action=cut, after=chance.randrange(4), times=4))
            case "token":
                for nth in range(4):
                    faults.add(Fault(on="media", action=ExpireToken(), after=5 * nth))
                    faults.add(Fault(on="recordings", action=ExpireToken(), after=7 * nth))
        return {0, 3}

    async def _cancelled(self, after: int) -> None:
        """The run's own task is cancelled in its midst."""
        running: list[asyncio.Task[Any]] = []

        def cancel() -> None:
            running[0].cancel()

        watcher: Silent = Stopping(after, cancel)
        running.append(asyncio.create_task(self.world.night(watcher=watcher)))
        with suppress(asyncio.CancelledError):
            await running[0]


async def three_weeks(folder: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a seed's weeks and look at what they end with."""
    sys.stderr.write(f"ARCHIVER_SEED={seed}\n")
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    course = Course.of(seed)
    clock = Clock(BEGIN.timestamp(), tick_s=0.5)
    corpus = Corpus(accounts=ACCOUNTS, time_zone=ZoneInfo(course.server_zone))
    async with Simulator(corpus, switches=course.switches, faults=FaultScript(), clock=clock.unix) as pbx:
        world = World(folder / "archive", clock, corpus, pbx, BEGIN)
        world.more["archive"] = {"timezone": course.archive_zone}
        calls = Calls(course, world)
        calls.all_days()
        weeks = Weeks(course, world, monkeypatch)
        await weeks.play()
        # What was listed last has a night more for its media.
        world.until(clock.at + DAY_S)
        last_at = clock.at
        result, _ = await world.night()
        check_report(result)
        await world.check(disturbed=False)
        await assert_all_is_archived_or_explained(world, calls, last_at)
        assert_each_medium_came_once(world)
        found = await world.verify()
        assert found.findings == []
        assert found.complete


async def assert_all_is_archived_or_explained(world: World, calls: Calls, last_at: float) -> None:
    zone = world.settings().archive.zone
    files = stored(world.root)
    histories = await world.histories()
    by_status: Counter[str] = Counter()
    for name, rows in world.truth.items():
        found, now = histories.get(name), world.corpus.find(*name)
        if found is None:
            assert now is None or not now.is_listed(last_at), f"{name} was never listed: {calls.kinds[name]}"
            continue
        by_status[f"{calls.kinds[name]}: {found.status.value}"] += 1
        if found.status is not Status.ARCHIVED:
            assert found.status in {Status.PENDING, Status.MISSING}
            assert found.reason == "not_there", found
            assert found.status is Status.MISSING or found.next_attempt_at is not None
            assert now is None or not now.is_available(last_at), (calls.kinds[name], found)
            assert found.status is Status.PENDING or calls.kinds[name] in {"never", "lost"}, (calls.kinds[name], found)
            continue
        versions = files[name]
        newest = versions[max(versions)]
        assert newest.stat().st_size == rows[-1].source.length_bytes, (calls.kinds[name], found)
        if found.metadata or rows[-1].listed_at is None:
            assert local_day(rows[0], zone) in newest.as_posix(), (calls.kinds[name], newest)
    for kind in ("plain", "media late", "listed late", "changed", "edge", "tied"):
        assert by_status[f"{kind}: archived"], by_status
    assert by_status["never: missing"], by_status
    for account_id in world.accounts:
        left = world.known.accounts[account_id].windows_incomplete
        # An empty window whose CDRs name a lost recording is doubted until that one is missing for good.
        assert all("CDRs name" in window["reason"] for window in left), left
        assert left or world.known.covered(account_id) >= last_at - 1, world.known.accounts[account_id]


def assert_each_medium_came_once(world: World) -> None:
    """As often as there are versions; a body that was on its way when a run was broken off may have come in vain."""
    versions = world.known.archived()
    for name, times in world.pbx.stats.media_whole.items():
        assert versions[name] <= times <= versions[name] + world.in_vain[name], name
    assert sum(world.in_vain.values()) <= 6 * len(DISTURBED)


SEEDS = (1,)
CAMPAIGN_SEEDS = 100


@pytest.mark.parametrize("seed", SEEDS)
async def test_three_weeks_of_nights_end_with_everything_archived_or_explained_each_medium_fetched_once(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    await three_weeks(tmp_path, int(os.environ.get("ARCHIVER_SEED", seed)), monkeypatch)


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="many minutes; runs behind `make campaign`")
async def test_many_weeks_of_nights_end_likewise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = int(os.environ.get("ARCHIVER_SEED", random.SystemRandom().randrange(2**31)))
    for seed in range(first, first + CAMPAIGN_SEEDS):
        await three_weeks(tmp_path / str(seed), seed, monkeypatch)
