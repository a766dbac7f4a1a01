"""Schedules without Dask: an adversary gives a parcel to others while its worker stands still, and wakes it later.

Each worker is a thread with a loop of its own, as in a Dask worker, and runs the real `work_parcel`. It is stopped where
it meets the world: at its seat (which stops its whole loop), or in the kernel while it gives a file its name.
"""

import asyncio
import os
import queue
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from archive_rig import BEGIN_UNIX_S, key, media
from postgres_server import postgres

from archiver.assembly import access, partitions
from archiver.commands.distributing import work_parcel
from archiver.commands.working import Share
from archiver.destination import open_destination
from archiver.engine.cluster.cutting import Cutter
from archiver.engine.cluster.errand import Parcel
from archiver.engine.counting import CountingSeat
from archiver.engine.loop import run_in_loop
from archiver.errors import ArchiverError, ClaimLost
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import WindowProgress, WindowState
from archiver.ledger.values_claims import ClaimState
from archiver.pbx.memory import PbxMemory
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended
from archiver.pipeline.tally import Tally
from archiver.recording import Recording
from archiver.settings import Settings
from archiver.simulator import Corpus, SimulatedRecording, Simulator, SimulatorThread
from archiver.window import Window

PERIOD = Window(datetime(2024, 5, 6, 9, tzinfo=UTC), datetime(2024, 5, 6, 15, tzinfo=UTC))
BEFORE = Window(datetime(2024, 5, 5, tzinfo=UTC), datetime(2024, 5, 6, tzinfo=UTC))
NOW = datetime(2024, 5, 9, tzinfo=UTC)
PATIENCE_S = 60.0
POINTS = ("claim", "take", "bytes", "settled", "link", "linked")


class Gate:
    """Where an attempt stands still: at the `nth` time that it passes a point. Open, nobody stands before it."""

    def __init__(self, point: str, nth: int, paused: Callable[[], None]) -> None:
        self._point, self._left = point, nth
        self._paused = paused
        self._open = threading.Event()
        self._turn = threading.Lock()
        self.loop: asyncio.AbstractEventLoop | None = None

    def passes(self, point: str) -> None:
        """An attempt passes a point, in whatever thread of its own."""
        with self._turn:
            self._left -= point == self._point
            stops = point == self._point and self._left == 0
        if not stops:
            return
        if point in {"link", "linked"} and self.loop is not None:
            # A stopped process stands still in all its threads.
            self.loop.call_soon_threadsafe(self._stand)
        self._paused()
        self._stand()

    def open(self) -> None:
        self._open.set()

    def _stand(self) -> None:
        assert self._open.wait(PATIENCE_S), "nobody has woken it"


class StoppingSeat(CountingSeat):
    """A seat at which its worker stands still."""

    def __init__(self, gate: Gate, worker: str, parcel: Parcel, memory: PbxMemory) -> None:
        self._gate, self._worker = gate, worker
        self._partitions = iter(parcel.partitions)
        super().__init__(1.0, part_at_once=None, memory=memory, name=worker)

    @property
    def name(self) -> str:
        # The claim's holder is asked for right before it is claimed.
        self._gate.passes("claim")
        return self._worker

    @name.setter
    def name(self, name: str) -> None:
        pass

    async def take(self) -> Partition | None:
        self._gate.passes("take")
        return None if self.stop.is_set() else next(self._partitions, None)

    def bytes_came(self, size_bytes: int) -> None:
        super().bytes_came(size_bytes)
        self._gate.passes("bytes")

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        super().settled(account_id, recording_id, status, reason)
        self._gate.passes("settled")


class Kernel:
    """Links files for the attempt whose descriptors they go through, which may have to stand still before or after."""

    def __init__(self) -> None:
        self.here = threading.local()
        self._owners: dict[int, Gate] = {}
        self._open, self._link = os.open, os.link

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = self._open(path, flags, mode, dir_fd=dir_fd)
        gate = getattr(self.here, "gate", None) if dir_fd is None else self._owners.get(dir_fd)
        if gate is None:
            self._owners.pop(fd, None)
        else:
            self._owners[fd] = gate
        return fd

    def link(self, source: Any, name: Any, *, dst_dir_fd: int | None = None, **more: Any) -> None:
        gate = None if dst_dir_fd is None or str(name).startswith("probe-") else self._owners.get(dst_dir_fd)
        if gate is not None:
            gate.passes("link")
        self._link(source, name, dst_dir_fd=dst_dir_fd, **more)
        if gate is not None:
            gate.passes("linked")


@dataclass(eq=False)
class Attempt:
    """One attempt at a parcel; `ended` is its result or error."""

    parcel: Parcel
    worker: str
    gate: Gate
    current: bool = True
    paused: bool = False
    seat: StoppingSeat | None = None
    task: "asyncio.Task[Ended] | None" = None
    ended: Ended | ArchiverError | None = None
    was_cancelled: bool = False
    over: bool = False
    """Whoever leads has heard of its end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as the system knows it: written once, none of it ever changes."""

    inode: int
    modified_ns: int


class Schedule:
    """A seed's run: its corpus, workers, and the adversary."""

    def __init__(self, folder: Path, schema: str, seed: int, kernel: Kernel, met: Counter[str]) -> None:
        self.chance = random.Random(seed)
        self.kernel, self.met, self.schema = kernel, met, schema
        self.accounts = tuple(
            sha256(f"{seed} {n}".encode()).hexdigest()[:32] for n in range(self.chance.choice([1, 2]))
        )
        self.root = folder / f"archive-{seed}"
        self.root.mkdir(mode=0o700)
        self.rows = [self._row(n) for n in range(self.chance.randrange(8, 30))]
        self.old_rows = [self._row(n, day=-1) for n in range(self.chance.randrange(5))]
        self.workers = [f"worker-{n}" for n in range(self.chance.randrange(2, 9))]
        self.memories = {worker: PbxMemory() for worker in self.workers}
        self.attempts: list[Attempt] = []
        self.events: queue.Queue[tuple[str, Attempt]] = queue.Queue()
        self.seen: dict[str, Seen] = {}
        self.done: dict[Parcel, Tally] = {}
        self.tries: Counter[Parcel] = Counter()

    def _row(self, ordinal: int, day: int = 0) -> SimulatedRecording:
        start_s = BEGIN_UNIX_S + 86400 * day + self.chance.randrange(6 * 3600 - 10)
        return SimulatedRecording(
            account_id=self.chance.choice(self.accounts),
            recording_id=f"202405-{day & 0xFFFF:04x}{ordinal:028x}",
            start_unix_s=start_s,
            duration_ms=1000,
        )

    def settings(self, base_url: str) -> Settings:
        return Settings.model_validate(
            {
                "pbx": {
                    "base_url": base_url,
                    "username": "archiver",
                    "domain": "example",
                    "password": "simulator",
                    "account_ids": list(self.accounts),
                    "max_retries": 0,
                    "page_size": self.chance.choice([3, 1000]),
                },
                "listing": {
                    "window_hours": self.chance.choice([1, 2]),
                    "overlap_hours": 1,
                    "concurrency": self.chance.choice([1, 3]),
                },
                "transfer": {"requests_per_s": 0, "concurrency": self.chance.choice([1, 4])},
                "archive": {"durable": False},
                "ledger": {"url": postgres().url(self.schema)},
                "store": {"local": {"root": str(self.root)}},
            }
        )

    async def play(self) -> None:
        """The whole schedule, with what must hold after it."""
        simulator = Simulator(Corpus([*self.rows, *self.old_rows], accounts=self.accounts))
        with SimulatorThread(simulator) as pbx:
            settings = self.settings(pbx.base_url)
            destination = open_destination(settings, durable=False)
            destination.prepare()
            ledger = await open_ledger(settings.ledger_url())
            try:
                share = await self._share(settings, ledger)
                wanted = {account_id: [PERIOD] for account_id in self.accounts}
                cutter = Cutter(partitions(settings, wanted, NOW), self.accounts, lambda: len(self.workers))
                with ThreadPoolExecutor(len(self.workers), "worker") as threads:
                    self.threads = threads
                    try:
                        await self._work_off(share, cutter.listing)
                        await self._work_off(share, cutter.due)
                        await self._wake_the_rest(ledger, share)
                    finally:
                        for attempt in self.attempts:
                            attempt.gate.open()
                await self._check(ledger, share, pbx.stats.media_gets)
            finally:
                await ledger.close()
                destination.close()

    async def _share(self, settings: Settings, ledger: SqlLedger) -> Share:
        """The run; what is due comes from one before."""
        before = await ledger.begin_run(f"before {self.accounts[0]}", started_at=NOW, holding=self.accounts)
        for row in self.old_rows:
            start_at = datetime.fromtimestamp(row.start_unix_s, UTC)
            listed = Recording(
                account_id=row.account_id,
                recording_id=row.recording_id,
                start_at=start_at,
                saved_at=start_at + timedelta(seconds=1),
                duration_ms=row.duration_ms,
                length_bytes=row.source.length_bytes,
                digest_md5=None,
                extension="mp3",
                metadata=b"{}",
                doubt="",
            )
            await ledger.record_page(before, row.account_id, BEFORE, [listed], WindowProgress(1, 1, ""), at=NOW)
        run = await ledger.begin_run(f"run {self.accounts[0]}", started_at=NOW, holding=self.accounts)
        for account_id in self.accounts:
            await ledger.ask_for(account_id, [PERIOD])
        return Share(settings, access(settings), run, self.accounts, retry_missing=False)

    def _begin(self, share: Share, parcel: Parcel, worker: str, *, fated: bool) -> Attempt:
        point, nth = ("", 0)
        if fated and self.chance.random() < 0.5:
            point, nth = self.chance.choice(POINTS), self.chance.choice([1, 1, 1, 2, 2, 3, 5])
        attempt = Attempt(parcel, worker, Gate(point, nth, lambda: self.events.put((f"paused at {point}", attempt))))
        self.attempts.append(attempt)
        self.tries[parcel] += 1

        async def work() -> Ended:
            attempt.gate.loop = asyncio.get_running_loop()
            attempt.task = asyncio.create_task(work_parcel(share, parcel, seat))
            return await attempt.task

        def run() -> None:
            self.kernel.here.gate = attempt.gate
            try:
                attempt.ended = run_in_loop(work())
            except ArchiverError as error:
                attempt.ended = error
            except asyncio.CancelledError:
                attempt.was_cancelled = True
            finally:
                self.kernel.here.gate = None
                self.events.put(("ended", attempt))

        # An event belongs to the loop that waits for it, whoever made it.
        seat = attempt.seat = StoppingSeat(attempt.gate, worker, parcel, self.memories[worker])
        self.threads.submit(run)
        return attempt

    async def _work_off(self, share: Share, cut: Callable[[], Parcel | None]) -> None:
        waiting: list[Parcel] = []
        more = True
        while True:
            idle = self._idle()
            while idle and (waiting or more):
                parcel = waiting.pop(self.chance.randrange(len(waiting))) if waiting else cut()
                if parcel is None:
                    more = False
                    continue
                worker = idle.pop(self.chance.randrange(len(idle)))
                self._begin(share, parcel, worker, fated=self.tries[parcel] < 4)
            if self.done and idle and self.chance.random() < 0.2:
                self._repeat(share, self.chance.choice(idle))
            if not any(each.current for each in self._under_way()):
                paused = [each for each in self._under_way() if each.paused]
                if waiting and paused:
                    self._wake(self.chance.choice(paused))
                elif not waiting and not more:
                    return
            if self._under_way():
                await self._hear(waiting)
            self._meddle()

    def _repeat(self, share: Share, worker: str) -> None:
        """What Dask does with a task whose result was lost."""
        self.met["repeated"] += 1
        self._begin(share, self.chance.choice(list(self.done)), worker, fated=False)

    async def _hear(self, waiting: list[Parcel]) -> None:
        """The next thing that happens to an attempt."""
        what, attempt = await asyncio.to_thread(self.events.get, timeout=PATIENCE_S)
        self._look_at_files()
        if what != "ended":
            attempt.paused = True
            self.met[what] += 1
            if attempt.current and attempt.parcel not in self.done:
                # The lease is over: it is somebody else's.
                waiting.append(attempt.parcel)
            attempt.current = False
            return
        attempt.over = True
        ended, parcel, seat = attempt.ended, attempt.parcel, attempt.seat
        was_current, attempt.current = attempt.current, False
        assert seat is not None
        assert attempt.was_cancelled or ended is not None, "it broke off with an error that is none of ours"
        if isinstance(ended, Ended) and ended.error is None and not ended.stopped:
            if was_current or parcel in self.done:
                first = self.done.setdefault(parcel, seat.tally)
                assert first == seat.tally, "done again, a parcel counts what it counted"
            return
        failure = (
            ended.error.code if isinstance(ended, Ended) and ended.error is not None else getattr(ended, "code", "")
        )
        assert failure in {"", ClaimLost.code}, (ended, parcel.name)
        self.met[failure or "left"] += 1
        if was_current and parcel not in self.done:
            waiting.append(parcel)

    def _meddle(self) -> None:
        """Wake one, or ask one to leave."""
        paused = [each for each in self._under_way() if each.paused]
        if paused and (self.chance.random() < 0.35 or len(paused) == len(self.workers)):
            self._wake(self.chance.choice(paused))
        going = [each for each in self._under_way() if each.current and each.gate.loop is not None]
        if going and self.chance.random() < 0.1:
            self._stop(self.chance.choice(going))

    def _stop(self, attempt: Attempt) -> None:
        if attempt.gate.loop is not None and attempt.seat is not None:
            with suppress(RuntimeError):
                attempt.gate.loop.call_soon_threadsafe(attempt.seat.stop.set)

    def _wake(self, attempt: Attempt) -> None:
        """It goes on as if nothing had been, or all that it hears is that its task is cancelled."""
        attempt.paused = False
        if self.chance.random() < 0.3 and attempt.gate.loop is not None and attempt.task is not None:
            self.met["cancelled"] += 1
            attempt.gate.loop.call_soon_threadsafe(attempt.task.cancel)
        attempt.gate.open()

    def _under_way(self) -> list[Attempt]:
        return [each for each in self.attempts if not each.over]

    def _idle(self) -> list[str]:
        busy = {each.worker for each in self._under_way()}
        return [worker for worker in self.workers if worker not in busy]

    async def _wake_the_rest(self, ledger: SqlLedger, share: Share) -> None:
        """All is done: whoever still wakes changes nothing, in the ledger or in the archive."""
        while not all(each.paused for each in self._under_way()):
            await self._hear([])
        before, files = self._ledger_rows(), self._look_at_files()
        for attempt in self.chance.sample(late := self._under_way(), len(late)):
            self.met["woken when all was done"] += 1
            self._wake(attempt)
            while not attempt.over:
                await self._hear([])
        assert self._ledger_rows() == before
        assert self._look_at_files() == files

    def _ledger_rows(self) -> dict[str, list[tuple[object, ...]]]:
        """Everything that the ledger holds of the schedule's accounts."""
        names = ", ".join(f"'{account_id}'" for account_id in self.accounts)
        ours = f"account_no IN (SELECT account_no FROM accounts WHERE account_id IN ({names}))"
        of_entry = f"entry_id IN (SELECT entry_id FROM entries WHERE {ours})"
        wheres = {"entries": ours, "tallies": ours, "calendar": ours, "partition_claims": ours, "attempts": of_entry}
        return {
            table: postgres().ask(self.schema, f"SELECT * FROM {table} WHERE {where} ORDER BY 1, 2")
            for table, where in wheres.items()
        }

    def _look_at_files(self) -> dict[str, Seen]:
        """No file that was ever seen is another one by now, or gone."""
        found: dict[str, Seen] = {}
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root).as_posix()
            if not name.startswith(".archiver") and path.is_file():
                it = path.stat()
                found[name] = Seen(it.st_ino, it.st_mtime_ns)
        changed = [name for name, was in self.seen.items() if found.get(name) != was]
        assert not changed, f"overwritten or gone: {changed}"
        self.seen = found
        return found

    async def _check(self, ledger: SqlLedger, share: Share, asked: Counter[tuple[str, str]]) -> None:
        rows = [*self.rows, *self.old_rows]
        source = {key(row): media(row) for row in rows}
        found = {name: (self.root / name).read_bytes() for name in self.seen if name.endswith(".mp3")}
        assert found == source
        assert set(self.seen) == {*source, *(name.removesuffix(".mp3") + ".json" for name in source)}
        assert [path for path in (self.root / ".archiver" / "tmp").rglob("*") if path.is_file()] == []
        total = Tally()
        total.become_sum(list(self.done.values()))
        if total.archived != len(rows):
            sys.stderr.write("\n".join(self._told()) + "\n")
        assert total.problems == []
        assert total.listed == total.archived + total.already_archived + total.pending, total
        assert (total.archived, total.already_archived, total.pending) == (len(rows), 0, 0), total
        assert (total.bytes_archived, total.windows_incomplete) == (sum(map(len, source.values())), 0)
        self._check_ledger(await ledger.claims(share.run), len(rows), total.bytes_archived)
        for account_id in self.accounts:
            pieces = [each for each in await ledger.calendar(account_id) if each.window.start_at >= PERIOD.start_at]
            assert {each.state for each in pieces} == {WindowState.COMPLETE}
            assert (pieces[0].window.start_at, pieces[-1].window.end_at) == (PERIOD.start_at, PERIOD.end_at)
        for row in rows:
            may = sum(times for parcel, times in self.tries.items() if self._covers(parcel, row))
            lost = may - sum(self._covers(parcel, row) for parcel in self.done)
            assert 1 <= asked[row.account_id, row.recording_id] <= 1 + lost, row

    def _check_ledger(self, claims: Any, count: int, size_bytes: int) -> None:
        done = [(row.account_id, row.partition) for row in claims if row.state is ClaimState.DONE]
        assert sorted(done) == sorted((parcel.account_id, parcel.name) for parcel in self.done)
        assert not [row for row in claims if row.state is ClaimState.HELD]
        held = self._ledger_rows()
        numbers = {row.claim_no for row in claims if row.state is ClaimState.DONE}
        names = ", ".join(f"'{account_id}'" for account_id in self.accounts)
        ours = f"JOIN accounts USING (account_no) WHERE account_id IN ({names})"
        by_entry = f"SELECT status, claim_no, size_bytes FROM entries {ours}"
        entries = postgres().ask(self.schema, by_entry)
        assert {row[0] for row in entries} == {"archived"}
        assert {row[1] for row in entries} <= numbers, "an attempt that was lost has the last word"
        tallied = "SELECT status, sum(recordings), sum(bytes) FROM tallies " + ours
        tallies = postgres().ask(self.schema, tallied + " AND (recordings <> 0 OR bytes <> 0) GROUP BY 1")
        assert [(status, int(str(n)), int(str(size))) for status, n, size in tallies] == [
            ("archived", count, size_bytes)
        ]
        assert len(entries) == count == len(held["entries"])

    def _told(self) -> list[str]:
        """What is needed to find out whose count is wrong."""
        names = ", ".join(f"'{account_id}'" for account_id in self.accounts)
        ours = f"JOIN accounts USING (account_no) WHERE account_id IN ({names}) ORDER BY 1"
        claims = f"SELECT claim_no, partition, holder, state, begun_ms, ended_ms, report FROM partition_claims {ours}"
        entries = f"SELECT recording_id, claim_no, status, archived_run_no, archived_ms, flags FROM entries {ours}"
        rows = [*postgres().ask(self.schema, claims), *postgres().ask(self.schema, entries)]
        return [*map(str, rows), *(f"{parcel.name}: {tally}" for parcel, tally in self.done.items())]

    def _covers(self, parcel: Parcel, row: SimulatedRecording) -> bool:
        if parcel.account_id != row.account_id:
            return False
        at = datetime.fromtimestamp(row.start_unix_s, UTC)
        widest = timedelta(hours=2)
        windows = [each.window.query for each in parcel.partitions]
        return parcel.due or any(each.start_at - widest <= at < each.end_at + widest for each in windows)


async def play(folder: Path, schema: str, seed: int, monkeypatch: pytest.MonkeyPatch, met: Counter[str]) -> None:
    """Play a seed's schedule and look at what it ends with."""
    kernel = Kernel()
    with monkeypatch.context() as system:
        system.setattr(os, "open", kernel.open)
        system.setattr(os, "link", kernel.link)
        await Schedule(folder, schema, seed, kernel, met).play()
