"""A verification whose reading is divided: whoever reads, and in whatever portions, the same is found."""

import asyncio
import inspect
import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, Rig, key, recordings, rig
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from archiver.commands.inspection import ReadShare, VerifyRequest, read_elsewhere, run_verify
from archiver.errors import ArchiverError, StoreError, StoreUnavailable
from archiver.ledger.values import ObjectRow
from archiver.pipeline.threads import Threads
from archiver.proof.verification.inventory import Expected
from archiver.proof.verification.readers import PARTITION, TOGETHER, Bounds, Cutter, Reader, portions, read_partition
from archiver.proof.verification.reading import GONE_AFTER, Looked
from archiver.proof.verification.verify import Level, VerifyReport
from archiver.settings import Settings
from archiver.stores.disk import RealDisk
from archiver.stores.local import LocalStore

RECORDINGS = 24


def all_kinds(kind: type[ArchiverError] = ArchiverError) -> Iterator[type[ArchiverError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from all_kinds(below)


def made(kind: type[ArchiverError]) -> ArchiverError:
    """An error with a value in each of its fields."""
    values: dict[str, Any] = {
        "http_status": 418,
        "retry_after_s": 1.5,
        "kind": "a word",
        "until_at": datetime(2030, 1, 2, tzinfo=UTC),
        "legal_hold": True,
    }
    asked = inspect.signature(kind.__init__).parameters
    return kind("A sentence.", **{name: value for name, value in values.items() if name in asked})


@pytest.mark.parametrize("kind", list(all_kinds()))
def test_every_error_comes_through_to_another_process_with_all_its_fields(kind: type[ArchiverError]) -> None:
    error = made(kind)
    error.add_note("a note")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.args, vars(again)) == (kind, "A sentence.", error.args, vars(error))


def expected(number: int, account: int, size_bytes: int) -> Expected:
    row = ObjectRow(number, 1, f"{account}/{number:06}", size_bytes, b"", None, 0, str(account), "r", 0, 1)
    return Expected(row.key, is_media=True, row=row)


@given(
    sizes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=60),
    bounds=st.builds(Bounds, st.integers(1, 9), st.integers(1, 300), of_one_account=st.booleans()),
    batch=st.integers(1, 20),
)
def test_portions_are_all_objects_in_their_order_within_their_bounds(
    sizes: list[tuple[int, int]], bounds: Bounds, batch: int
) -> None:
    items = [expected(n, account, size) for n, (account, size) in enumerate(sorted(sizes))]
    cutter, cut = Cutter(bounds), []
    for start in range(0, len(items), batch):
        cut += list(cutter.cut(items[start : start + batch]))
    cut += list(cutter.rest())
    assert [item for portion in cut for item in portion] == items
    assert cut == list(portions(items, bounds))
    for portion in cut:
        assert 0 < len(portion) <= bounds.objects
        assert sum(item.row.size_bytes for item in portion[:-1]) < bounds.size_bytes
        assert not bounds.of_one_account or len({item.row.account_id for item in portion}) == 1


@dataclass(frozen=True)
class Divided:
    """Reads as another machine would: what goes there and comes back is bytes."""

    settings: Settings
    bounds: Bounds
    at_once: int
    short: int = 0

    async def read(self, portion: Sequence[Expected]) -> Sequence[Looked]:
        share, there = pickle.loads(pickle.dumps((ReadShare.of(self.settings), portion)))
        looked = await read_elsewhere(share, there, stop=asyncio.Event())
        found: list[Looked] = pickle.loads(pickle.dumps(looked))
        return found[self.short :]


class InProcesses:
    """Reads in processes that know nothing but what they are sent."""

    bounds = replace(PARTITION, objects=10)
    at_once = 2

    def __init__(self, settings: Settings, pool: ProcessPoolExecutor) -> None:
        self._share = ReadShare.of(settings)
        self._pool = pool

    async def read(self, portion: Sequence[Expected]) -> Sequence[Looked]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, read_there, self._share, portion)


def read_there(share: ReadShare, portion: Sequence[Expected]) -> list[Looked]:
    """In another process."""

    async def read() -> list[Looked]:
        return await read_elsewhere(share, portion, stop=asyncio.Event())

    return asyncio.run(read())


@pytest.fixture(name="damaged", scope="module")
def damaged_archive(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of an archive in which a bit of everything is wrong."""
    rows = recordings(RECORDINGS)
    with rig(tmp_path_factory.mktemp("archive") / "work", rows) as it:
        assert it.run().code == 0
        paths = [it.root / key(row) for row in rows]
        paths[1].write_bytes(paths[1].read_bytes()[:-1] + b"\xff")
        paths[4].write_bytes(b"cut")
        paths[7].unlink()
        paths[8].rename(paths[8].with_name("elsewhere.mp3"))
        swapped = paths[12].read_bytes()
        paths[12].write_bytes(paths[14].read_bytes())
        paths[14].write_bytes(swapped)
        paths[19].with_suffix(".json").write_bytes(b"{}")
        paths[22].with_name("stray").write_bytes(b"stray")
        return settings_of(it)


def settings_of(it: Rig) -> Settings:
    return Settings.model_validate(
        {
            "pbx": {"password": "hush hush", "account_ids": list(ACCOUNTS)},
            "store": {"local": {"root": str(it.root)}},
        }
    )


async def verified(settings: Settings, reader: Reader | None = None) -> VerifyReport:
    return await run_verify(settings, VerifyRequest(Level.FULL), stop=asyncio.Event(), reader=reader)


@examples(max_examples=10, deadline=None)
@given(
    bounds=st.builds(Bounds, st.integers(1, 50), st.integers(1, 100_000), of_one_account=st.booleans()),
    at_once=st.integers(1, 5),
)
def test_however_reading_is_divided_the_same_is_found(damaged: Settings, bounds: Bounds, at_once: int) -> None:
    whole = asyncio.run(verified(damaged))
    assert len(whole.findings) == 8
    assert (whole.complete, whole.objects) == (True, RECORDINGS)
    assert asyncio.run(verified(damaged, Divided(damaged, bounds, at_once))) == whole


async def test_other_processes_that_read_find_the_same(damaged: Settings) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert await verified(damaged, InProcesses(damaged, pool)) == await verified(damaged)


async def test_what_was_not_read_without_anybody_asking_for_a_stop_is_never_taken_for_whole(damaged: Settings) -> None:
    with pytest.raises(StoreUnavailable, match="were not read"):
        await verified(damaged, Divided(damaged, TOGETHER, 1, short=1))


def test_who_reads_is_told_no_password(damaged: Settings) -> None:
    assert b"hush" in pickle.dumps(damaged)
    assert b"hush" not in pickle.dumps(ReadShare.of(damaged))


class Broken(RealDisk):
    """A disk that gives nothing any more."""

    def pread(self, fd: int, size_bytes: int, offset_bytes: int) -> bytes:
        raise OSError(5, "Input/output error")


async def test_a_partition_ends_when_the_store_is_gone_and_its_errors_tell_the_leader(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "archive", durable=False, disk=Broken(), reserve_bytes=0)
    store.prepare()
    items = [expected(n, 0, 1) for n in range(400)]
    (tmp_path / "archive" / "0").mkdir()
    for item in items:
        (tmp_path / "archive" / item.key).write_bytes(b"x")
    async with Threads(2, "read") as threads:
        looked = await read_partition(store, threads, items, lambda: False)
    store.close()
    assert len(looked) == GONE_AFTER
    found: list[Looked] = pickle.loads(pickle.dumps(looked))
    assert all(isinstance(each.error, StoreError) and each.wrong is not None for each in found)


async def test_a_partition_that_is_stopped_gives_what_it_has(damaged: Settings) -> None:
    stop = asyncio.Event()
    stop.set()
    assert await read_elsewhere(ReadShare.of(damaged), [expected(0, 0, 1)], stop=stop) == []
