"""Nights under simulated time: a PBX whose calls go on by a clock that the runs share, faults by night, an oracle.

Run as a program it is one nightly run in a process of its own, to be killed: `nights.py SETTINGS_JSON UNIX_SECONDS`.
"""

import asyncio
import json
import math
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

from archive_rig import cdr, conserved, media
from in_process import Silent

from archiver.assembly import RunRequest
from archiver.commands.archiving import RunResult, run_archive
from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import History
from archiver.proof.verification.verify import VerifyReport
from archiver.recording import Status
from archiver.reports.run_report import exit_code
from archiver.reports.status import AccountStatus, status_report
from archiver.settings import Settings
from archiver.simulator import Corpus, Mp3Media, SimulatedRecording, Simulator

ACCOUNTS = ("a" * 32, "b" * 32, "c" * 32)
HOUR_S = 3600
DAY_S = 24 * HOUR_S
LISTED_LATE_S = 2 * DAY_S
"""No row comes later than this; less than the look back."""
MEDIA_LATE_S = int(3.5 * HOUR_S)
NEVER = math.inf


class Clock:
    """Simulated Unix time. Each look of the PBX moves it on a little, so that calls end and rows come during a run."""

    def __init__(self, at: float, *, tick_s: float = 0.0) -> None:
        self.at = at
        self.tick_s = tick_s

    def unix(self) -> float:
        """For the PBX."""
        self.at += self.tick_s
        return self.at

    def now(self) -> datetime:
        """For the runs."""
        return datetime.fromtimestamp(self.at, UTC)

    def leap(self, at: float) -> None:
        """To a later moment; time stands nowhere still and goes nowhere back."""
        self.at = max(self.at, at)


def call(
    account_id: str,
    ordinal: int,
    start_unix_s: int,
    *,
    seconds: int = 2,
    audio_ms: int | None = None,
    version: int = 1,
    **more: Any,
) -> SimulatedRecording:
    """A recording of a call; `audio_ms` gives long calls a short audio, and each version has other bytes."""
    account = ACCOUNTS.index(account_id)
    recording_id = f"{datetime.fromtimestamp(start_unix_s, UTC):%Y%m}-{account:04x}{ordinal:028x}"
    audio = Mp3Media(f"{account_id}/{recording_id}/{version}", seconds * 1000 if audio_ms is None else audio_ms)
    return SimulatedRecording(
        account_id=account_id,
        recording_id=recording_id,
        start_unix_s=start_unix_s,
        duration_ms=seconds * 1000,
        media=audio,
        **more,
    )


Ids = tuple[str, str]


def ids(row: SimulatedRecording) -> Ids:
    return row.account_id, row.recording_id


@dataclass(frozen=True)
class Event:
    """At a moment the source changes: another recording under the same id, or none."""

    at: float
    ids: Ids
    after: SimulatedRecording | None


Sections = dict[str, dict[str, Any]]


def merged(*several: Sections) -> Sections:
    """Sections of settings, later ones over earlier ones."""
    found: Sections = {}
    for sections in several:
        for name, values in sections.items():
            found[name] = found.get(name, {}) | values
    return found


IMPATIENT: Sections = {
    "pbx": {
        "username": "archiver",
        "domain": "example",
        "password": "simulator",
        "max_retries": 2,
        "retry_wait_s": 0,
        "page_size": 5,
    },
    "transfer": {"requests_per_s": 0, "concurrency": 4, "grace_s": 0},
    "archive": {"durable": False},
}
"""Settings without patience, whose pages are small."""


@dataclass
class Known:
    """What the ledger says after a night; `versions` counts the objects of what is archived."""

    statuses: dict[Ids, Status]
    versions: Counter[Ids]
    accounts: dict[str, AccountStatus]

    def archived(self) -> dict[Ids, int]:
        """How many versions of each archived recording there are."""
        return {name: self.versions[name] for name, found in self.statuses.items() if found is Status.ARCHIVED}

    def covered(self, account_id: str) -> float:
        """Up to when an account is covered, in Unix seconds; minus infinity for not at all."""
        told = self.accounts[account_id].covered_through if account_id in self.accounts else None
        return -math.inf if told is None else datetime.fromisoformat(told).timestamp()


@dataclass
class World:
    """An archive, a PBX and their clock; what the source ever had, and what it served."""

    root: Path
    clock: Clock
    corpus: Corpus
    pbx: Simulator
    begin: datetime
    events: list[Event] = field(default_factory=list)
    truth: dict[Ids, list[SimulatedRecording]] = field(default_factory=dict)
    accounts: tuple[str, ...] = ACCOUNTS[:2]
    more: Sections = field(default_factory=dict)
    served: Counter[Ids] = field(default_factory=Counter)
    known: Known = field(default_factory=lambda: Known({}, Counter(), {}))
    in_vain: Counter[Ids] = field(default_factory=Counter)
    checked: set[Path] = field(default_factory=set)
    files: dict[Ids, dict[int, Path]] = field(default_factory=dict)

    def sections(self) -> Sections:
        """The settings of tonight, as they stand in a file."""
        told: Sections = {
            "pbx": {"base_url": self.pbx.base_url, "account_ids": list(self.accounts)},
            "listing": {"begin": self.begin.isoformat()},
            "store": {"local": {"root": str(self.root)}},
        }
        return merged(IMPATIENT, told, self.more)

    def settings(self, **more: dict[str, Any]) -> Settings:
        """The same, checked; `more` goes over them."""
        return Settings.model_validate(merged(self.sections(), more))

    def add(self, row: SimulatedRecording, *, with_cdr: bool = False) -> None:
        """A call that the source has, or will have."""
        self.corpus.add(row)
        self.truth[ids(row)] = [row]
        if with_cdr:
            self.corpus.add_cdr(cdr(row))

    def until(self, at: float) -> None:
        """Time goes on, and what was to happen at the source happens."""
        self.clock.leap(at)
        for event in sorted((each for each in self.events if each.at <= self.clock.at), key=lambda each: each.at):
            self.events.remove(event)
            if event.after is None:
                self.corpus.remove(*event.ids)
            else:
                self.corpus.replace(event.after)
                self.truth[event.ids].append(event.after)

    async def night(
        self,
        settings: Settings | None = None,
        *,
        request: RunRequest | None = None,
        watcher: Silent | None = None,
        stop: asyncio.Event | None = None,
        signal: int | None = None,
        now: Callable[[], datetime] | None = None,
    ) -> tuple[RunResult, int]:
        """One run, in this process, with a clock of its own if need be; and its exit code."""
        work = run_archive(
            settings or self.settings(),
            request or RunRequest(),
            stop=stop or asyncio.Event(),
            watcher=watcher or Silent(),
            now=now or self.clock.now,
        )
        result = await work
        return result, exit_code(result.tally, result.pages, result.ended, signal=signal)

    async def killed_night(self, media_more: int) -> int:
        """One run in a process of its own, killed when it has asked for so many media more; its exit code."""
        goal = self.pbx.stats.media + media_more
        command = [sys.executable, __file__, json.dumps(self.sections()), str(self.clock.at)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
        child = await asyncio.create_subprocess_exec(*command, env=environment)
        ended = asyncio.ensure_future(child.wait())
        while not ended.done() and self.pbx.stats.media < goal:
            await asyncio.wait([ended], timeout=0.001)
        with suppress(ProcessLookupError):
            child.kill()
        return await ended

    async def look(self) -> Known:
        """What is known now; the ledger must be closed by whoever ran."""
        statuses: dict[Ids, Status] = {}
        versions: Counter[Ids] = Counter()
        if not (self.root / ".archiver" / "ledger.sqlite3").exists():
            return Known({}, versions, {})  # the first run was killed very early
        ledger = await open_ledger(self.settings().ledger_url(), create=False)
        try:
            for account_id in {account_id for account_id, _ in self.truth}:
                names = [name for account, name in self.truth if account == account_id]
                found = await ledger.statuses(account_id, names)
                statuses |= {(account_id, name): status for name, status in found.items()}
            async for rows in ledger.object_rows():
                versions.update((row.account_id, row.recording_id) for row in rows)
            status = await status_report(ledger, self.accounts, now=self.clock.now())
        finally:
            await ledger.close()
        return Known(statuses, versions, {each.account_id: each for each in status.accounts})

    async def histories(self) -> dict[Ids, History]:
        """All that is known of each recording."""
        ledger = await open_ledger(self.settings().ledger_url(), create=False)
        try:
            found = [each for _, name in self.truth for each in await ledger.histories(name)]
        finally:
            await ledger.close()
        return {(each.account_id, each.recording_id): each for each in found}

    async def check(self, *, disturbed: bool) -> None:
        """What must hold after any night; `disturbed` when runs were broken off, whose last bodies may come again."""
        before, self.known = self.known, await self.look()
        self._check_coverage()
        whole = self.pbx.stats.media_whole - self.served
        self.served = Counter(self.pbx.stats.media_whole)
        had = before.archived()
        now_archived = self.known.archived()
        for name, times in whole.items():
            held, now = self.files.get(name), self.corpus.find(*name)
            is_new = not held or now is None or held[max(held)].read_bytes() != media(now)
            assert is_new, f"{name} lay in the store already, {before.statuses.get(name)}"
            assert times == 1, f"{name} was fetched {times} times in one night: {(await self.histories())[name]}"
            assert name not in had or now_archived.get(name, 0) > had[name] or disturbed, f"{name} was fetched in vain"
            if now_archived.get(name, 0) <= had.get(name, 0):
                assert disturbed, f"{name} was fetched whole and not archived: {self.known.statuses.get(name)}"
                self.in_vain[name] += 1
        self.files = stored(self.root)
        check_files(self, now_archived)

    def _check_coverage(self) -> None:
        """Whatever calls the source showed since they ended, up to where coverage stands, the ledger knows."""
        for name, rows in self.truth.items():
            always = rows[0].listed_at is None and self.corpus.find(*name) is not None
            saved_at = max(row.created_unix_s for row in rows)
            if always and self.begin.timestamp() <= saved_at < self.known.covered(name[0]):
                assert name in self.known.statuses, f"{rows[0]} lies in covered time and is unknown"

    async def verify(self) -> VerifyReport:
        """In full."""
        return await run_verify(self.settings(), VerifyRequest(), stop=asyncio.Event(), now=self.clock.now)


def stored(root: Path) -> dict[Ids, dict[int, Path]]:
    """The media files under the root, by recording and version."""
    found: dict[Ids, dict[int, Path]] = {}
    for path in root.rglob("*.mp3"):
        if ".archiver" not in path.parts:
            name, _, version = path.stem.partition(".v")
            found.setdefault((path.relative_to(root).parts[0], name), {})[int(version or 1)] = path
    return found


def check_files(world: World, archived: dict[Ids, int]) -> None:
    """Every file is one of its recording's media, whole; every archived recording has as many as it has versions."""
    files = world.files
    for name, versions in files.items():
        for path in set(versions.values()) - world.checked:
            assert path.read_bytes() in [media(row) for row in world.truth[name]], path
        world.checked.update(versions.values())
    for name, count in archived.items():
        assert set(files[name]) == set(range(1, count + 1)), name


def check_report(result: RunResult) -> None:
    """Counts add up."""
    told = {name: getattr(result.report, name) for name in result.report.__struct_fields__}
    assert conserved(told), told


def local_day(row: SimulatedRecording, zone: tzinfo) -> str:
    """The folder of a recording's day in the archive's zone."""
    return f"{datetime.fromtimestamp(row.start_unix_s, zone):%Y/%m/%d}"


class Stopping(Silent):
    """Does something once so many recordings have their outcome."""

    def __init__(self, after: int, act: Callable[[], object]) -> None:
        self._left = after
        self._act = act

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        self._left -= 1
        if self._left == 0:
            self._act()


async def _one_night(settings: Settings, at: float) -> None:
    await run_archive(
        settings, RunRequest(), stop=asyncio.Event(), watcher=Silent(), now=lambda: datetime.fromtimestamp(at, UTC)
    )


if __name__ == "__main__":
    asyncio.run(_one_night(Settings.model_validate(json.loads(sys.argv[1])), float(sys.argv[2])))
