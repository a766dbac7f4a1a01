"""How fast the local store takes recordings: `python -m tests.bench.store_bench --help`.

Variants run in turns (A B A B), since disks are noisy; CPU per put says more than puts per second. Nothing is deleted
before the end: ext4 walks over inodes freed in the last minutes one by one, so that a benchmark which cleans up between
its rounds (or runs within five minutes of one that did) measures that walk, up to 0.5 ms per file, and nothing else.
"""

import argparse
import itertools
import os
import resource
import shutil
import statistics
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archiver.stores.base import NewObject
from archiver.stores.disk import RealDisk
from archiver.stores.folders import Folder
from archiver.stores.local import LocalStore
from archiver.stores.spool import Spool, SpooledMedia

SIDECAR = os.urandom(1500)


class NamedDisk(RealDisk):
    """Without O_TMPFILE: each temporary gets a name, a second one, and loses the first."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(95, "switched off")
        return super().open(path, flags, mode, dir_fd=dir_fd)


class NoLock:
    """In place of a folder's lock."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


@contextmanager
def changed(owner: type, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _unlocked(self: Folder, *given: Any) -> None:
    _INIT(self, *given)
    self.lock = NoLock()  # type: ignore[assignment]


def _each_its_own(self: Folder) -> None:
    self._disk.fsync(self.fd)


_INIT = Folder.__init__


@dataclass(frozen=True, slots=True)
class Variant:
    durable: bool
    disk: Callable[[], RealDisk] = RealDisk
    unlocked: bool = False
    ungrouped: bool = False


VARIANTS = {
    "fast": Variant(durable=False),
    "fast-named": Variant(durable=False, disk=NamedDisk),
    "fast-unlocked": Variant(durable=False, unlocked=True),
    "durable": Variant(durable=True),
    "durable-named": Variant(durable=True, disk=NamedDisk),
    "durable-ungrouped": Variant(durable=True, ungrouped=True),
}


@dataclass(frozen=True, slots=True)
class Measured:
    puts_per_s: float
    user_us: float
    sys_us: float


def measure(root: Path, variant: Variant, *, threads: int, media_bytes: int, puts: int, folders: int) -> Measured:
    """Spool and put `puts` recordings with sidecars, spread over a few day folders as a real night does."""
    body = os.urandom(media_bytes)
    with (
        changed(Folder, "__init__", _unlocked if variant.unlocked else _INIT),
        changed(Folder, "_sync", _each_its_own if variant.ungrouped else Folder._sync),
    ):
        store = LocalStore(root, durable=variant.durable, disk=variant.disk())
        store.prepare()
        numbers = iter(range(puts))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    n = next(numbers, None)
                if n is None:
                    return
                spool = Spool(store.folder.temporaries)
                spool.write([body])
                media = spool.finish()
                name = f"acc/2022/05/{n % folders:02}/{n}"
                sidecar = SpooledMedia.of(SIDECAR)
                store.put([NewObject(f"{name}.mp3", media, "a"), NewObject(f"{name}.json", sidecar, "b")])
                media.discard()

        before, started = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        pool = [threading.Thread(target=work) for _ in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF)
        store.close()
    return Measured(
        puts / took, (after.ru_utime - before.ru_utime) / puts * 1e6, (after.ru_stime - before.ru_stime) / puts * 1e6
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("variants", nargs="*", default=["fast", "durable"], help=f"of {', '.join(VARIANTS)}")
    parser.add_argument("--root", type=Path, default=Path("bench-archive"), help="a folder to make and remove")
    parser.add_argument("--threads", type=int, nargs="+", default=[4, 8, 16])
    parser.add_argument("--media-bytes", type=int, default=48_000)
    parser.add_argument("--puts", type=int, default=3000)
    parser.add_argument("--folders", type=int, default=2, help="day folders that are filled at once")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    found: dict[tuple[int, str], list[Measured]] = defaultdict(list)
    numbers = itertools.count()
    chosen.root.mkdir()
    for _ in range(chosen.rounds):
        for threads in chosen.threads:
            for name in chosen.variants:
                one = measure(
                    chosen.root / str(next(numbers)), VARIANTS[name],
                    threads=threads, media_bytes=chosen.media_bytes, puts=chosen.puts, folders=chosen.folders,
                )  # fmt: skip
                found[threads, name].append(one)
    shutil.rmtree(chosen.root)
    sys.stdout.write(f"{chosen.media_bytes} bytes + sidecar, best and median of {chosen.rounds} rounds\n")
    for (threads, name), rounds in sorted(found.items()):
        speeds = [each.puts_per_s for each in rounds]
        user = min(each.user_us for each in rounds)
        system = min(each.sys_us for each in rounds)
        sys.stdout.write(
            f"{name:18} {threads:2} threads  {max(speeds):6.0f} best  {statistics.median(speeds):6.0f} median puts/s  "
            f"CPU per put, least: {user:4.0f} us user {system:5.0f} us system\n"
        )


if __name__ == "__main__":
    main()
