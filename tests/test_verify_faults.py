"""What stands in the way of a verification: bad sectors, a store that goes away, a person who stops it."""

import asyncio
import errno
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from archive_rig import key, recordings, rig, until
from ledgers import DAY, NOON, SQLITE, archived, list_page
from ledgers import recording as listed_recording

from archiver.errors import StoreError
from archiver.pipeline.threads import Threads
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level, Scope, VerifyReport, verify
from archiver.recording import Fixity
from archiver.stores.base import NewObject
from archiver.stores.disk import RealDisk
from archiver.stores.local import LocalStore
from archiver.stores.spool import SpooledMedia


class BadSectors(RealDisk):
    """A disk that does not give the bytes of some files."""

    def __init__(self, *bad: str) -> None:
        self._bad = bad

    def pread(self, fd: int, size_bytes: int, offset_bytes: int) -> bytes:
        if Path(f"/proc/self/fd/{fd}").readlink().name in self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().pread(fd, size_bytes, offset_bytes)


async def verified(folder: Path, count: int, *bad: str, stop: asyncio.Event | None = None) -> VerifyReport:
    """The report over so many archived recordings, without sidecars, on a disk that does not give some of them."""
    store = LocalStore(folder / "archive", durable=False, disk=BadSectors(*bad), reserve_bytes=0)
    store.prepare()
    ledger = await SQLITE.open(folder)
    try:
        run = await ledger.begin_run("run", started_at=NOON)
        await ledger.ask_for("0123456789abcdef0123456789abcdef", [DAY])
        for task in await list_page(ledger, run, *(listed_recording(f"202605-{n:04d}") for n in range(count))):
            media = SpooledMedia.of(task.recording.recording_id.encode())
            settlement = archived(task)
            store.put([NewObject(settlement.key or "", media, "audio/mpeg")])
            await ledger.settle(run, replace(settlement, fixity=Fixity(media.fixity.size_bytes, media.fixity.sha256)))
        await ledger.flush()
        async with Threads(2, "verify") as threads:
            scope = Scope(Level.FULL, sidecars=False)
            return (await verify(ledger, store, threads, scope, stop=stop or asyncio.Event())).report
    finally:
        await ledger.close()
        store.close()


def names(numbers: Iterator[int] | range) -> list[str]:
    return [f"202605-{n:04d}.v1.mp3" for n in numbers]


async def test_a_recording_whose_bytes_the_disk_does_not_give_is_a_finding_and_the_others_are_still_read(
    tmp_path: Path,
) -> None:
    report = await verified(tmp_path, 30, *names(range(0, 30, 3)))
    assert {(each.kind, each.key) for each in report.findings} == {(Kind.UNREADABLE, n) for n in names(range(0, 30, 3))}
    assert (report.objects, report.complete) == (30, True)


async def test_a_store_that_gives_nothing_any_more_ends_the_verification_with_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="input/output error"):
        await verified(tmp_path, 60, *names(range(60)))


async def test_a_verification_that_was_stopped_says_so(tmp_path: Path) -> None:
    stop = asyncio.Event()
    stop.set()
    report = await verified(tmp_path, 3, stop=stop)
    assert (report.complete, report.objects, report.findings) == (False, 0, [])


def test_ctrl_c_ends_a_verification_at_the_next_recording_with_a_report_and_130(tmp_path: Path) -> None:
    rows = recordings(60)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        for row in rows:
            os.truncate(it.root / key(row), 100 << 20)
        started = it.start("verify", "--json", "--sample", "100")
        descriptors = Path(f"/proc/{started.process.pid}/fd")
        until(lambda: any(_target(each).endswith(".mp3") for each in descriptors.iterdir()))
        started.signal(signal.SIGINT)
        said = started.wait()
        assert (said.code, said.json["complete"]) == (130, False)
        assert said.json["objects"] < len(rows)
        assert not (it.root / ".archiver" / "verify-sample.json").exists()


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:
        return ""
