"""Manifests: every archived object stands in its day's manifest exactly once, whatever is killed when."""

import asyncio
import hashlib
import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

from ledgers import ACCOUNT, DAY, NOON, PROGRESS, recording
from test_audit import begun_and_killed

from archiver.errors import StoreUnavailable
from archiver.keys import MANIFESTS_PREFIX, sidecar_key
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import Settlement
from archiver.ledger.values_sealing import Sealed
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.manifest_check import KnownParts, check_manifests
from archiver.proof.evidence.manifests import Sealer
from archiver.proof.evidence.recorder import Recorder, check_trail
from archiver.proof.verification.verify import Level
from archiver.recording import Fixity, Status
from archiver.stores.base import NewObject, StoredObject
from archiver.stores.local import LocalStore
from archiver.stores.spool import SpooledMedia
from archiver.stores.trail_file import TrailFile

MADRID = ZoneInfo("Europe/Madrid")
_BODY_BYTES = len("202605-000001 1")


class Archive:
    """An archive without a PBX: a ledger, a store, and what seals them."""

    def __init__(self, root: Path, store: LocalStore, ledger: SqlLedger, threads: Threads) -> None:
        self.root = root / "archive"
        self.store = store
        self.ledger = ledger
        self.threads = threads
        self.file = TrailFile(store.folder)

    def sealer(self, store: LocalStore | None = None, *, batch: int = 7) -> Sealer:
        recorder = Recorder(self.file, self.ledger, self.threads, who="me@here", now=lambda: NOON)
        return Sealer(self.ledger, store or self.store, self.threads, recorder, MADRID, "run", batch=batch)

    async def archive(self, *numbers: int, at: datetime = NOON, files: bool = True) -> None:
        """Archive recordings, each with a sidecar."""
        run = await self.ledger.begin_run("run", started_at=NOON)
        rows = [
            recording(f"202605-{number:06d}", start_at=at + timedelta(seconds=number), length_bytes=_BODY_BYTES)
            for number in numbers
        ]
        page = await self.ledger.record_page(run, ACCOUNT, DAY, rows, PROGRESS, at=NOON)
        for task in page.tasks:
            body = f"{task.recording.recording_id} {task.version}".encode()
            day = task.recording.dated_at.astimezone(MADRID)
            key = f"{ACCOUNT}/{day:%Y/%m/%d}/{task.recording.recording_id}.v{task.version}.mp3"
            if files:
                media, beside = SpooledMedia.of(body), SpooledMedia.of(body + b"{}")
                self.store.put([NewObject(key, media, "a"), NewObject(sidecar_key(key), beside, "b")])
            settlement = Settlement(
                task.entry_id,
                Status.ARCHIVED,
                attempts=1,
                key=key,
                fixity=Fixity(len(body), hashlib.sha256(body).digest()),
                sidecar_sha256=hashlib.sha256(body + b"{}").digest(),
                archived_at=NOON,
            )
            await self.ledger.settle(run, settlement)
        await self.ledger.flush()

    def named(self) -> Counter[str]:
        """How often each object stands in a manifest."""
        found: Counter[str] = Counter()
        for head in self.store.list(MANIFESTS_PREFIX):
            found.update(line.split(b"  ")[1].decode() for line in b"".join(self.store.open(head.key)).splitlines())
        return found

    def parts(self) -> list[str]:
        return [head.key.rpartition("/")[2] for head in self.store.list(MANIFESTS_PREFIX)]

    async def assert_sealed(self) -> None:
        """Everything once, the parts are what the trail says, and `sha256sum` agrees."""
        assert self.named() == Counter(head.key for head in self.store.list())
        assert list(await self.ledger.unsealed(10)) == []
        known = KnownParts()
        trail = await check_trail(self.file, self.ledger, self.threads, copies=None, each=known.see)
        assert trail.whole, trail.findings
        assert set(known.parts) == {head.key for head in self.store.list(MANIFESTS_PREFIX)}
        damage = check_manifests(self.store, known, Level.FULL, wanted=lambda _: True, stopped=lambda: False)
        assert list(damage) == []
        for head in self.store.list(MANIFESTS_PREFIX):
            said = sha256sum(self.root, head.key)
            assert said.returncode == 0, said


def sha256sum(root: Path, key: str) -> "subprocess.CompletedProcess[str]":
    command = ["sha256sum", "-c", "--quiet", "--strict", key]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[Archive]:
    store = LocalStore(root / "archive", durable=True, reserve_bytes=0)
    store.prepare()
    ledger = await open_ledger(f"sqlite:///{root}/archive/.archiver/ledger.sqlite3")
    try:
        async with Threads(1, "evidence") as threads:
            yield Archive(root, store, ledger, threads)
    finally:
        await ledger.close()
        store.close()


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Archive]:
    async with opened(tmp_path) as archive:
        yield archive


async def test_a_day_is_sealed_once_and_what_comes_later_has_a_part_of_its_own(it: Archive) -> None:
    await it.archive(1, 2, 3)
    assert await it.sealer().seal() == 3
    assert it.parts() == ["2026-05-06.sha256"]
    first = it.named()
    assert await it.sealer().seal() == 0
    await it.archive(4)
    assert await it.sealer().seal() == 1
    assert it.parts() == ["2026-05-06.2.sha256", "2026-05-06.sha256"]
    assert len(it.named() - first) == 2
    await it.assert_sealed()


async def test_the_day_is_that_of_the_key_in_the_archives_timezone(it: Archive) -> None:
    await it.archive(1, at=datetime(2026, 5, 6, 21, 59, 58, tzinfo=UTC))
    await it.archive(2, at=datetime(2026, 5, 6, 22, 0, 0, tzinfo=UTC))
    await it.sealer().seal()
    assert it.parts() == ["2026-05-06.sha256", "2026-05-07.sha256"]
    await it.assert_sealed()


async def test_many_objects_go_in_batches(it: Archive) -> None:
    await it.archive(*range(20))
    assert await it.sealer(batch=7).seal() == 20
    assert len(it.parts()) == 3
    await it.assert_sealed()


async def test_a_changed_recording_keeps_its_manifest_and_the_new_version_gets_one(it: Archive) -> None:
    await it.archive(1)
    await it.sealer().seal()
    run = await it.ledger.begin_run("next", started_at=NOON)
    row = replace(recording("202605-000001", start_at=NOON + timedelta(seconds=1)), length_bytes=77)
    page = await it.ledger.record_page(run, ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    assert page.changed == 1
    assert await it.sealer().seal() == 0
    await it.archive(1)
    (known,) = await it.ledger.histories("202605-000001")
    assert [(each.version, each.manifest_part) for each in known.versions] == [(1, 1), (2, None)]
    assert await it.sealer().seal() == 1
    (known,) = await it.ledger.histories("202605-000001")
    assert [(each.version, each.manifest_part) for each in known.versions] == [(1, 1), (2, 2)]
    await it.assert_sealed()


async def test_a_former_version_that_no_manifest_names_yet_gets_into_one(it: Archive) -> None:
    await it.archive(1)
    run = await it.ledger.begin_run("next", started_at=NOON)
    row = replace(recording("202605-000001", start_at=NOON + timedelta(seconds=1)), length_bytes=77)
    await it.ledger.record_page(run, ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    assert await it.sealer().seal() == 1
    await it.assert_sealed()
    (known,) = await it.ledger.histories("202605-000001")
    assert [each.manifest_part for each in known.versions] == [1]


async def test_files_of_cdrs_stand_in_their_days_manifest(it: Archive) -> None:
    await it.archive(1)
    key, body = f"{ACCOUNT}/2026/05/06/cdrs.jsonl.gz", b"cdrs"
    it.store.put([NewObject(key, SpooledMedia.of(body), "a")])
    with sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3") as connection:
        connection.execute(
            "INSERT INTO cdr_files (account_no, day, part, key, size_bytes, sha256, archived_ms) "
            "VALUES (1, '2026-05-06', 1, ?, 4, ?, 1)",
            [key, hashlib.sha256(body).digest()],
        )
    connection.close()
    assert await it.sealer().seal() == 2
    assert it.parts() == ["2026-05-06.sha256"]
    await it.assert_sealed()


async def test_a_ledger_that_knows_of_no_manifests_finds_them_and_names_nothing_twice(it: Archive) -> None:
    await it.archive(1, 2, 3)
    await it.sealer().seal()
    await it.archive(4, 5)
    await it.sealer().seal()
    with sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3") as connection:
        connection.execute("UPDATE entries SET manifest_part = NULL")
    connection.close()
    await it.archive(6)
    assert await it.sealer(batch=100).seal() == 6
    assert len(it.parts()) == 3
    await it.assert_sealed()


async def test_a_manifest_that_is_gone_or_changed_is_found_at_its_level(it: Archive) -> None:
    await it.archive(1)
    await it.archive(2, at=NOON + timedelta(days=1))
    await it.archive(3, at=NOON + timedelta(days=2))
    await it.sealer().seal()
    one, two, three = sorted(path for path in (it.root / MANIFESTS_PREFIX).rglob("*.sha256"))
    one.unlink()
    two.write_bytes(two.read_bytes() + b"\n")
    three.write_bytes(three.read_bytes().replace(b"a", b"b"))
    known = KnownParts()
    await check_trail(it.file, it.ledger, it.threads, copies=None, each=known.see)
    for level, count in ((Level.PRESENCE, 1), (Level.SIZE, 2), (Level.FULL, 3)):
        found = list(check_manifests(it.store, known, level, wanted=lambda _: True, stopped=lambda: False))
        assert [each.key.rpartition("/")[2] for each in found] == [path.name for path in (one, two, three)][:count]


async def test_a_name_that_is_taken_by_other_bytes_is_left_alone(it: Archive) -> None:
    await it.archive(1)
    planted = f"{MANIFESTS_PREFIX}{ACCOUNT}/2026-05-06.sha256"
    it.store.put([NewObject(planted, SpooledMedia.of(b"mine\n"), "a")])
    await it.sealer().seal()
    assert b"".join(it.store.open(planted)) == b"mine\n"
    assert it.parts() == ["2026-05-06.2.sha256", "2026-05-06.sha256"]


async def test_what_is_left_unsealed_is_found_by_an_index_and_not_by_a_walk_over_the_entries(it: Archive) -> None:
    from sqlalchemy import create_engine, event

    from archiver.ledger.sealing import read_unsealed

    await it.archive(*range(30), files=False)
    engine = create_engine(f"sqlite:///{it.root}/.archiver/ledger.sqlite3")
    statements: list[tuple[str, object]] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append((args[2], args[3])))
    with engine.connect() as connection:
        read_unsealed(connection, 10)
        (first, values), *_ = statements
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {first}", values).all()  # type: ignore[arg-type]
    engine.dispose()
    assert any("entries_unsealed" in row[3] for row in plan), plan
    assert not any(row[3].startswith("SCAN entries") and "INDEX" not in row[3] for row in plan), plan


class Stop(Exception):
    """The process is gone."""


class DyingStore(LocalStore):
    """Dies before or after its nth put."""

    left = 0
    after = False

    def put(self, objects: Sequence[NewObject]) -> Sequence[StoredObject]:
        type(self).left -= 1
        if self.left == 0 and not self.after:
            raise Stop
        done = super().put(objects)
        if self.left == 0:
            raise Stop
        return done


class DyingLedger:
    """Dies before or after it notes what is sealed."""

    def __init__(self, ledger: SqlLedger, *, after: bool) -> None:
        self._ledger = ledger
        self._after = after

    def __getattr__(self, name: str) -> object:
        return getattr(self._ledger, name)

    async def seal(self, sealed: Sequence[Sealed]) -> None:
        if self._after:
            await self._ledger.seal(sealed)
        raise Stop


def deaths() -> Iterator[tuple[str, int, bool]]:
    for after in (False, True):
        yield from (("store", n, after) for n in (1, 2, 3))
        yield ("ledger", 0, after)


@pytest.mark.parametrize(("where", "nth", "after"), list(deaths()))
async def test_a_death_between_any_two_steps_leaves_nothing_out_and_nothing_twice(
    it: Archive, where: str, nth: int, after: bool
) -> None:
    await it.archive(1, 2)
    await it.sealer().seal()
    await it.archive(3, 4)
    for day in (1, 2):
        await it.archive(10 + day, 20 + day, at=NOON + timedelta(days=day))
    sealer = it.sealer(batch=100)
    if where == "store":
        DyingStore.left, DyingStore.after = nth, after
        dying = DyingStore(it.root, durable=False, reserve_bytes=0)
        with pytest.raises(Stop):
            await replace(sealer, store=dying).seal()
        dying.close()
    else:
        with pytest.raises(Stop):
            await replace(sealer, ledger=DyingLedger(it.ledger, after=after)).seal()  # type: ignore[arg-type]
    # Until the next run more comes in.
    await it.archive(5)
    await it.sealer(batch=100).seal()
    await it.assert_sealed()


class GoneStore(LocalStore):
    """Can't take anything."""

    def put(self, objects: Sequence[NewObject]) -> Sequence[StoredObject]:
        raise StoreUnavailable("gone")


async def test_a_store_that_is_gone_leaves_it_to_the_next_run(it: Archive) -> None:
    await it.archive(1)
    gone = GoneStore(it.root, durable=False, reserve_bytes=0)
    with pytest.raises(StoreUnavailable):
        await it.sealer(gone).seal()
    gone.close()
    await it.sealer().seal()
    await it.assert_sealed()


async def seal_for_ever(root: Path) -> None:
    """Archive and seal until somebody kills the process."""
    async with opened(root) as archive:
        first = len(list(archive.store.list()))
        for number in range(first, 1 << 20, 3):
            await archive.archive(number, number + 1, number + 2, at=NOON + timedelta(days=number % 2))
            await archive.sealer(batch=2).seal()
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


async def test_a_kill_at_any_moment_leaves_nothing_out_and_nothing_twice(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    for _ in range(4):
        begun_and_killed(Path(__file__), tmp_path, after_s=chance.uniform(0, 0.1))
    async with opened(tmp_path) as archive:
        # A recording whose outcome was not durable yet lies there without an entry; here it is settled.
        await archive.archive(*range(len(list(archive.store.list())) + 3), at=NOON)
        await archive.sealer().seal()
        named = archive.named()
        known = {each.key async for each in archive.ledger.objects()}
        assert set(named.values()) == {1}
        assert {key for key in named if key.endswith(".mp3")} == known
        trail = await check_trail(archive.file, archive.ledger, archive.threads, copies=None)
        assert trail.whole, trail.findings


if __name__ == "__main__":
    asyncio.run(seal_for_ever(Path(sys.argv[1])))
