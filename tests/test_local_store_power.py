"""Power loss at the seam: every state that the calls made so far allow is whole (`faults.md` row 58)."""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from test_local_store_disks import WatchedDisk

from archiver.errors import ArchiverError
from archiver.stores.base import NewObject
from archiver.stores.local import LocalStore
from archiver.stores.quarantine import Quarantine
from archiver.stores.spool import Spool, SpooledMedia


@dataclass(frozen=True, slots=True)
class Op:
    """One call that changed something; `node` is a file or folder by its own number, `name` and `child` an entry."""

    call: str
    node: int
    name: str = ""
    child: int = 0
    data: bytes = b""
    promised: tuple[tuple[str, bytes], ...] = ()


class LoggingDisk(WatchedDisk):
    """Writes down each call that changes something; inodes are numbered anew, since the kernel uses theirs again."""

    def __init__(self, top: Path, *, nameless: bool) -> None:
        super().__init__(nameless=nameless)
        self.log: list[Op] = []
        self._numbers = itertools.count(1)
        self._nodes = {top.stat().st_ino: 0}

    def _made(self, inode: int) -> int:
        self._nodes[inode] = next(self._numbers)
        return self._nodes[inode]

    def _node(self, fd: int) -> int:
        return self._nodes[os.fstat(fd).st_ino]

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        fd = super().open(path, flags, mode, dir_fd=dir_fd)
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            self._made(os.fstat(fd).st_ino)
        elif flags & os.O_CREAT and dir_fd is not None:
            self.log.append(Op("entry", self._node(dir_fd), path, self._made(os.fstat(fd).st_ino)))
        return fd

    def write(self, fd: int, data: bytes | memoryview) -> int:
        taken = super().write(fd, data)
        self.log.append(Op("write", self._node(fd), data=bytes(data[:taken])))
        return taken

    def fsync(self, fd: int) -> None:
        super().fsync(fd)
        self.log.append(Op("fsync", self._node(fd)))

    def sync_all(self, fd: int) -> None:
        super().sync_all(fd)
        self.log.append(Op("sync_all", 0))

    def link(self, source: str, name: str, *, src_dir_fd: int | None, dst_dir_fd: int) -> None:
        super().link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        child = self._nodes[os.stat(name, dir_fd=dst_dir_fd).st_ino]
        self.log.append(Op("entry", self._node(dst_dir_fd), name, child))

    def unlink(self, name: str, *, dir_fd: int) -> None:
        super().unlink(name, dir_fd=dir_fd)
        self.log.append(Op("gone", self._node(dir_fd), name))

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        super().mkdir(name, mode, dir_fd=dir_fd)
        parent = Path(name).parent.stat().st_ino if dir_fd is None else os.fstat(dir_fd).st_ino
        child = self._made(os.stat(name, dir_fd=dir_fd).st_ino)
        self.log.append(Op("entry", self._nodes[parent], Path(name).name, child))

    def returned(self, promised: dict[str, bytes]) -> None:
        self.log.append(Op("returned", 0, promised=tuple(promised.items())))


@dataclass(slots=True)
class Machine:
    """What a power loss may leave after some calls: synced for sure, and each unsynced change perhaps."""

    synced: dict[int, bytes] = field(default_factory=dict)
    written: defaultdict[int, bytes] = field(default_factory=lambda: defaultdict(bytes))
    entries: defaultdict[int, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    pending: list[Op] = field(default_factory=list)
    promised: dict[str, bytes] = field(default_factory=dict)

    def do(self, op: Op) -> None:
        if op.call == "write":
            self.written[op.node] += op.data
        elif op.call == "fsync":
            if op.node in self.written:
                self.synced[op.node] = self.written[op.node]
            for change in [change for change in self.pending if change.node == op.node]:
                apply(self.entries, change)
                self.pending.remove(change)
        elif op.call == "sync_all":
            self.synced.update(self.written)
            for change in self.pending:
                apply(self.entries, change)
            self.pending.clear()
        elif op.call == "returned":
            self.promised.update(op.promised)
        else:
            self.pending.append(op)

    def states(self) -> Iterator[tuple[dict[str, bytes], bool]]:
        """Every state as path → bytes; unsynced files come back empty, zeroed, torn or whole."""
        for kept in itertools.product((False, True), repeat=len(self.pending)):
            entries = defaultdict(dict, {node: dict(names) for node, names in self.entries.items()})
            for change, keep in zip(self.pending, kept, strict=True):
                if keep:
                    apply(entries, change)
            for damage in ("empty", "zeroed", "torn", "whole"):
                yield dict(self._tree(entries, 0, "", damage)), all(kept)

    def _tree(
        self, entries: dict[int, dict[str, int]], node: int, path: str, damage: str
    ) -> Iterator[tuple[str, bytes]]:
        for name, child in entries.get(node, {}).items():
            if child in self.written:
                yield f"{path}{name}", self._content(child, damage)
            yield from self._tree(entries, child, f"{path}{name}/", damage)

    def _content(self, node: int, damage: str) -> bytes:
        data = self.written[node]
        if damage == "whole" or self.synced.get(node) == data:
            return data
        return {"empty": b"", "zeroed": bytes(len(data)), "torn": data[: len(data) // 2] + bytes(len(data) // 2)}[
            damage
        ]


def apply(entries: dict[int, dict[str, int]], change: Op) -> None:
    names = entries.setdefault(change.node, {})
    if change.call == "gone":
        names.pop(change.name, None)
    else:
        names[change.name] = change.child


def damage_in(log: list[Op], bodies: dict[str, bytes]) -> str:
    """The first legal state that breaks the promise, in words; empty when there is none."""
    machine = Machine()
    for number, op in enumerate(log):
        machine.do(op)
        for tree, _ in machine.states():
            for path, data in tree.items():
                if "/tmp/" not in path and data != bodies[path]:
                    return f"after call {number} {op.call}: {path} is visible but not whole"
            for path, data in machine.promised.items():
                if tree.get(path) != data:
                    return f"after call {number} {op.call}: {path} was promised and is lost"
    return ""


BODY = bytes(range(250)) * 4
BODIES = {"archive/a/b/x.mp3": BODY, "archive/a/b/x.json": b"sidecar"}


def log_of_a_put(top: Path, *, nameless: bool, spooled: bool, durable: bool = True) -> list[Op]:
    disk = LoggingDisk(top, nameless=nameless)
    store = LocalStore(top / "archive", durable=durable, disk=disk, reserve_bytes=0)
    store.prepare()
    spool = Spool(store.folder.temporaries, memory_bytes=0 if spooled else 1 << 20)
    spool.write([BODY[:300]])
    spool.write([BODY[300:]])
    media = spool.finish()
    store.put([NewObject("a/b/x.mp3", media, "a"), NewObject("a/b/x.json", SpooledMedia.of(b"sidecar"), "b")])
    disk.returned(BODIES)
    media.discard()
    store.close()
    return disk.log


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("spooled", [True, False], ids=["from a file", "from memory"])
def test_what_a_durable_put_returned_for_is_whole_in_every_state_a_power_loss_may_leave(
    tmp_path: Path, *, nameless: bool, spooled: bool
) -> None:
    assert damage_in(log_of_a_put(tmp_path, nameless=nameless, spooled=spooled), BODIES) == ""


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
def test_no_fsync_of_a_put_can_be_left_out(tmp_path: Path, *, nameless: bool) -> None:
    log = log_of_a_put(tmp_path, nameless=nameless, spooled=True)
    syncs = [n for n, op in enumerate(log) if op.call == "fsync"]
    assert len(syncs) == 6, "the new root's parent, two files, and three folders"
    for n in syncs:
        assert damage_in(log[:n] + log[n + 1 :], BODIES), f"fsync {n} does nothing"


MANY = {f"archive/a/b/{n}.mp3": BODY + bytes([n]) for n in range(8)}


def log_of_many_puts(top: Path) -> list[Op]:
    disk = LoggingDisk(top, nameless=True)
    store = LocalStore(top / "archive", durable=True, disk=disk, reserve_bytes=0)
    store.prepare()
    groups = [[NewObject(path.removeprefix("archive/"), SpooledMedia.of(body), "a")] for path, body in MANY.items()]
    assert not any(isinstance(outcome, ArchiverError) for outcome in store.put_many(groups))
    disk.returned(MANY)
    store.close()
    return disk.log


def test_many_puts_share_their_syncs_and_what_returned_survives_a_power_loss_at_any_moment(tmp_path: Path) -> None:
    log = log_of_many_puts(tmp_path)
    assert [op.call for op in log].count("sync_all") == 1
    assert [op.call for op in log].count("fsync") == 4, "the new root's parent, and each folder once"
    assert damage_in(log, MANY) == ""


def test_no_sync_of_many_puts_can_be_left_out(tmp_path: Path) -> None:
    """But for the new root's parent, which the shared sync takes along."""
    log = log_of_many_puts(tmp_path)
    for n in [n for n, op in enumerate(log) if op.call in {"fsync", "sync_all"}][1:]:
        assert damage_in(log[:n] + log[n + 1 :], MANY), f"sync {n} does nothing"


def test_without_durable_the_same_check_finds_what_can_be_lost(tmp_path: Path) -> None:
    assert damage_in(log_of_a_put(tmp_path, nameless=True, spooled=False, durable=False), BODIES)


def test_an_adopted_object_is_made_durable_even_if_its_writer_never_synced(tmp_path: Path) -> None:
    disk = LoggingDisk(tmp_path, nameless=True)
    for durable in (False, True):
        store = LocalStore(tmp_path / "archive", durable=durable, disk=disk, reserve_bytes=0)
        store.prepare()
        store.put([NewObject("a/b/x.mp3", SpooledMedia.of(BODY), "a")])
        store.close()
    disk.returned({"archive/a/b/x.mp3": BODY})
    machine = Machine()
    for op in disk.log:
        machine.do(op)
    assert all(tree.get("archive/a/b/x.mp3") == BODY for tree, _ in machine.states())


def test_quarantined_bytes_and_their_reason_are_as_durable_as_objects(tmp_path: Path) -> None:
    disk = LoggingDisk(tmp_path, nameless=True)
    store = LocalStore(tmp_path / "archive", durable=True, disk=disk, reserve_bytes=0)
    path = Quarantine(store.folder).keep(
        account_id="acc", recording_id="r", media=SpooledMedia.of(BODY), extension="mp3", reason=b"why"
    )
    kept = {f"archive/{path}": BODY, f"archive/{path.removesuffix('mp3')}json": b"why"}
    disk.returned(kept)
    store.close()
    assert damage_in(disk.log, kept) == ""


def test_a_durable_delete_stays_deleted(tmp_path: Path) -> None:
    disk = LoggingDisk(tmp_path, nameless=True)
    store = LocalStore(tmp_path / "archive", durable=True, disk=disk, reserve_bytes=0)
    store.put([NewObject("a/x", SpooledMedia.of(BODY), "a")])
    store.delete("a/x")
    store.close()
    machine = Machine()
    for op in disk.log:
        machine.do(op)
    assert not any("archive/a/x" in tree for tree, _ in machine.states())
