"""The audit trail: whatever is done to it is found, nothing else is, and a kill at any moment leaves it whole."""

import asyncio
import fcntl
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.errors import StoreFull, StoreUnavailable
from archiver.ledger.ledger import open_ledger
from archiver.ledger.values_sealing import TrailMark
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import BEGINNING, Details, Draft, Record, What, add_records, digest_of, nameless
from archiver.proof.evidence.audit_check import Examination, TrailReport
from archiver.proof.evidence.recorder import Recorder, check_trail
from archiver.proof.verification.findings import Kind
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import RealDisk
from archiver.stores.trail_file import TrailFile

NOON = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


def draft(number: int) -> Draft:
    return Draft(What.FINDING, f"acc/2026/05/06/{number}.mp3", "size", Details(expected="9 bytes", found="8 bytes"))


@contextmanager
def trail(root: Path) -> Iterator[TrailFile]:
    folder = ArchiveFolder(root / "archive", durable=True, reserve_bytes=0)
    try:
        yield TrailFile(folder)
    finally:
        folder.close()


def path_of(root: Path) -> Path:
    return root / "archive" / ".archiver" / "audit.jsonl"


def added(file: TrailFile, *numbers: int, mark: TrailMark | None = None) -> TrailMark:
    return add_records(file, [draft(number) for number in numbers], who="me@here", at=NOON, mark=mark)


def lines(count: int, *, root: Path | None = None) -> list[bytes]:
    """Lines of a trail that nobody touched."""
    found: list[bytes] = []
    previous = BEGINNING
    for seq in range(1, count + 1):
        record = Record(
            seq=seq, at="2026-05-06T12:00:00Z", who="me@here", what="finding", subject=str(seq), previous=previous
        )
        found.append(msgspec.json.encode(record) + b"\n")
        previous = digest_of(found[-1])
    return found


def checked(data: bytes, mark: TrailMark | None) -> TrailReport:
    examination = Examination(mark)
    for _ in examination.walk(iter(data.splitlines(keepends=True)) if b"\r" not in data else iter(split(data))):
        pass
    return examination.report()


def split(data: bytes) -> list[bytes]:
    *whole, last = data.split(b"\n")
    return [line + b"\n" for line in whole] + ([last] if last else [])


def mark_of(untouched: list[bytes]) -> TrailMark:
    return TrailMark(len(untouched), digest_of(untouched[-1]))


def test_a_trail_that_nobody_touched_is_whole(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1)
        mark = added(file, 2, 3, mark=mark)
        found = checked(path_of(tmp_path).read_bytes(), mark)
        assert (found.records, found.whole, found.beyond_mark, found.torn_bytes) == (3, True, 0, 0)
        assert found.head == mark.sha256
        assert path_of(tmp_path).stat().st_mode & 0o077 == 0


def test_every_record_holds_what_sha256sum_says_of_the_line_before(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        added(file, 1, 2)
    said = subprocess.run(
        ["sh", "-c", f"head -n 1 {path_of(tmp_path)} | sha256sum"], check=True, capture_output=True, text=True
    ).stdout.split()[0]
    second = msgspec.json.decode(path_of(tmp_path).read_bytes().splitlines()[1], type=Record)
    assert second.previous == said


UNTOUCHED = lines(7)
SETTINGS = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SETTINGS
@given(st.data())
def test_any_single_byte_that_is_changed_taken_out_or_put_in_is_found(data: st.DataObject) -> None:
    whole = b"".join(UNTOUCHED)
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255))
    edit = data.draw(st.sampled_from(["change", "take", "put"]))
    edited = {
        "change": whole[:place] + bytes([byte]) + whole[place + 1 :],
        "take": whole[:place] + whole[place + 1 :],
        "put": whole[:place] + bytes([byte]) + whole[place:],
    }[edit]
    found = checked(edited, mark_of(UNTOUCHED))
    assert found.whole == (edited == whole), (edit, place, byte)


@SETTINGS
@given(st.data())
def test_any_line_that_is_taken_out_doubled_moved_or_forged_is_found(data: st.DataObject) -> None:
    count = len(UNTOUCHED)
    one, other = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    edit = data.draw(st.sampled_from(["take", "double", "move", "forge"]))
    edited = list(UNTOUCHED)
    if edit == "take":
        del edited[one]
    elif edit == "double":
        edited.insert(other, edited[one])
    elif edit == "move":
        edited.insert(other, edited.pop(one))
    else:
        # With every link after it mended: only the mark still knows.
        record = msgspec.json.decode(edited[one], type=Record)
        edited[one] = msgspec.json.encode(msgspec.structs.replace(record, subject="another")) + b"\n"
        for place in range(one + 1, count):
            record = msgspec.json.decode(edited[place], type=Record)
            record = msgspec.structs.replace(record, previous=digest_of(edited[place - 1]))
            edited[place] = msgspec.json.encode(record) + b"\n"
    found = checked(b"".join(edited), mark_of(UNTOUCHED))
    assert found.whole == (edited == UNTOUCHED), (edit, one, other)


@pytest.mark.parametrize("kept", range(len(UNTOUCHED)))
def test_an_end_that_was_cut_off_is_found_by_the_ledgers_mark(kept: int) -> None:
    found = checked(b"".join(UNTOUCHED[:kept]), mark_of(UNTOUCHED))
    assert [each.kind for each in found.findings] == [Kind.AUDIT_CUT]


def test_records_ahead_of_the_mark_are_what_a_dead_process_left_and_no_damage() -> None:
    found = checked(b"".join(UNTOUCHED), mark_of(UNTOUCHED[:5]))
    assert (found.whole, found.beyond_mark) == (True, 2)
    assert checked(b"".join(UNTOUCHED), None).whole


def test_an_addition_that_was_torn_anywhere_is_cut_off_and_told_by_the_next_one(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1, 2)
        before = path_of(tmp_path).read_bytes()
        added(file, 3, 4, mark=mark)
        after = path_of(tmp_path).read_bytes()
        for size in range(len(before), len(after)):
            path_of(tmp_path).write_bytes(after[:size])
            torn = 0 if after[:size].endswith(b"\n") else size - after.rfind(b"\n", 0, size) - 1
            found = checked(after[:size], mark)
            assert (found.whole, found.torn_bytes) == (True, torn)
            head = added(file, 5, mark=mark)
            healed = path_of(tmp_path).read_bytes()
            assert checked(healed, head).whole
            records = [msgspec.json.decode(line, type=Record) for line in healed.splitlines()]
            told = [record.details.dropped_bytes for record in records if record.what == What.RECOVERED]
            assert told == ([torn] if torn else [])
            assert records[-1].subject == draft(5).subject


def test_a_torn_end_that_takes_a_known_record_along_is_never_healed_away(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1, 2, 3)
        whole = path_of(tmp_path).read_bytes()
        # Without its newline alone, the last record is given it back, and nothing was lost.
        for size in range(len(whole) - 1):
            path_of(tmp_path).write_bytes(whole[:size])
            assert not checked(whole[:size], mark).whole
            head = added(file, 4, mark=mark)
            data = path_of(tmp_path).read_bytes()
            assert data.startswith(whole[:size])
            assert not checked(data, head).whole, size
            later = added(file, 5, mark=head)
            assert not checked(path_of(tmp_path).read_bytes(), later).whole


def test_a_last_record_that_was_edited_is_still_found_after_others_were_added(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1, 2)
        whole = path_of(tmp_path).read_bytes()
        path_of(tmp_path).write_bytes(whole.replace(b"06/2.mp3", b"06/3.mp3"))
        head = added(file, 4, mark=mark)
        later = added(file, 5, mark=head)
        found = checked(path_of(tmp_path).read_bytes(), later)
        assert [(each.kind, each.found[:8]) for each in found.findings] == [(Kind.AUDIT_EDITED, "line 2: ")]


def test_a_trail_that_is_gone_is_found_also_after_it_was_begun_anew(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1, 2)
        path_of(tmp_path).unlink()
        assert [each.kind for each in checked(b"", mark).findings] == [Kind.AUDIT_CUT]
        head = added(file, 3, mark=mark)
        assert head.seq == 3
        assert [each.kind for each in checked(path_of(tmp_path).read_bytes(), head).findings] == [Kind.AUDIT_CUT]


class Full(RealDisk):
    """Takes some bytes, and then none."""

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes

    def write(self, fd: int, data: bytes | memoryview) -> int:
        if self.room_bytes <= 0:
            raise OSError(28, "No space left on device")
        taken = super().write(fd, bytes(data)[: self.room_bytes])
        self.room_bytes -= taken
        return taken


def test_a_full_disk_leaves_the_trail_as_it_was(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        mark = added(file, 1)
    before = path_of(tmp_path).read_bytes()
    folder = ArchiveFolder(tmp_path / "archive", durable=True, reserve_bytes=0, disk=Full(100))
    with pytest.raises(StoreFull):
        added(TrailFile(folder), 2, mark=mark)
    folder.close()
    assert path_of(tmp_path).read_bytes() == before


def test_whoever_holds_the_trail_for_too_long_is_not_waited_for(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        added(file, 1)
        with path_of(tmp_path).open("rb") as holder:
            fcntl.flock(holder, fcntl.LOCK_EX)
            folder = ArchiveFolder(tmp_path / "archive", durable=True, reserve_bytes=0)
            with pytest.raises(StoreUnavailable, match="held"):
                added(TrailFile(folder, patience_s=0.05), 2)
            folder.close()


def test_a_symlink_in_the_trails_place_is_not_followed(tmp_path: Path) -> None:
    with trail(tmp_path) as file:
        target = tmp_path / "target"
        target.write_bytes(b"")
        path_of(tmp_path).symlink_to(target)
        with pytest.raises(Exception, match="symlink"):
            added(file, 1)
        assert target.read_bytes() == b""


def test_a_name_of_somebody_elses_file_loses_what_could_be_a_phone_number() -> None:
    assert nameless("acc/34912345678.mp3") == "acc/[number].mp3"
    key = "a" * 32 + "/2024/05/06/202405-00000000000000000000000000000001.json"
    assert nameless(key) == key


async def write_for_ever(root: Path) -> None:
    """Add records through the ledger until somebody kills the process."""
    with trail(root) as file:
        ledger = await open_ledger(f"sqlite:///{root}/ledger.sqlite3")
        async with Threads(1, "audit") as threads:
            recorder = Recorder(file, ledger, threads, who="me@here", now=lambda: NOON)
            for number in range(1 << 30):
                await recorder.add([draft(number), draft(number)])
                sys.stdout.write(f"{number}\n")
                sys.stdout.flush()


async def state_of(root: Path) -> TrailReport:
    with trail(root) as file:
        ledger = await open_ledger(f"sqlite:///{root}/ledger.sqlite3")
        try:
            async with Threads(1, "audit") as threads:
                return await check_trail(file, ledger, threads, copies=None)
        finally:
            await ledger.close()


def start(root: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, __file__, str(root)], stdout=subprocess.PIPE, text=True)


def begun_and_killed(program: Path, root: Path, *, after_s: float) -> str:
    """Start a program, kill it so long after its first line; the lines that followed it."""
    process = subprocess.Popen([sys.executable, str(program), str(root)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    time.sleep(after_s)
    process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


async def test_a_kill_at_any_moment_leaves_a_whole_trail_with_everything_that_was_promised(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    promised = 0
    for _ in range(4):
        said = begun_and_killed(Path(__file__), tmp_path, after_s=chance.uniform(0, 0.1))
        promised += 2 * (1 + len(said.splitlines()))
        found = await state_of(tmp_path)
        assert found.whole, found.findings
        assert promised <= found.records <= promised + 2
        promised = found.records


async def test_two_writers_at_once_keep_one_chain(tmp_path: Path) -> None:
    writers = [start(tmp_path)]
    # The first makes the ledger.
    assert writers[0].stdout is not None
    assert writers[0].stdout.readline()
    writers += [start(tmp_path), start(tmp_path)]
    counts = []
    for writer in writers:
        assert writer.stdout is not None
        for _ in range(15):
            assert writer.stdout.readline()
    for writer in writers:
        writer.send_signal(signal.SIGTERM)
    counts = [15 + len(writer.communicate()[0].splitlines()) for writer in writers]
    found = await state_of(tmp_path)
    assert found.whole, found.findings
    assert found.records >= 2 * (sum(counts) + 1)


async def test_the_ledgers_mark_only_goes_forward(tmp_path: Path) -> None:
    from archiver.ledger.values_sealing import TrailMarkName

    ledger = await open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    assert await ledger.trail_mark(TrailMarkName.HEAD) is None
    await ledger.raise_trail_mark(TrailMarkName.HEAD, TrailMark(7, "a"))
    await ledger.raise_trail_mark(TrailMarkName.HEAD, TrailMark(5, "b"))
    assert await ledger.trail_mark(TrailMarkName.HEAD) == TrailMark(7, "a")
    assert await ledger.trail_mark(TrailMarkName.PUT) is None
    await ledger.close()
    with sqlite3.connect(f"{tmp_path}/ledger.sqlite3") as connection:
        connection.execute("UPDATE marks SET value = 'nonsense'")
    connection.close()
    again = await open_ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")
    mark = await again.trail_mark(TrailMarkName.HEAD)
    await again.close()
    assert not checked(b"".join(UNTOUCHED), mark).whole


if __name__ == "__main__":
    asyncio.run(write_for_ever(Path(sys.argv[1])))
