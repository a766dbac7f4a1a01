"""SIGKILL at every call and at random moments: after the restart every final name is complete (`faults.md` row 57)."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from test_local_store_disks import KillingDisk
from test_local_store_faults import BODIES, a_night, check_recovers, check_whole, open_store

from archiver.stores.base import NewObject
from archiver.stores.spool import Spool, SpooledMedia


def body_of(key: str) -> bytes:
    rng = random.Random(key)
    return rng.randbytes(rng.choice([10, 3000, 200_000]))


def put_for_ever(root: Path, *, nameless: bool) -> None:
    """Eight threads put numbered bodies until somebody kills the process."""
    store = open_store(root, KillingDisk(1 << 60, nameless=nameless))
    store.prepare()
    sys.stdout.write("ready\n")
    sys.stdout.flush()

    def work(thread: int) -> None:
        for n in range(1 << 30):
            key = f"t{thread % 3}/{thread}-{n}.mp3"
            spool = Spool(store.folder.temporaries, memory_bytes=4096)
            spool.write([body_of(key)])
            media = spool.finish()
            store.put([NewObject(key, media, "a"), NewObject(key[:-3] + "json", SpooledMedia.of(key.encode()), "b")])
            media.discard()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))


def kill_at_every_call(top: Path, *, nameless: bool) -> int:
    """Fork a child that dies at its nth call, for n = 1 until one lives; how many died."""
    died = 0
    while True:
        root = top / str(died) / "archive"
        root.parent.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            a_night(open_store(root, KillingDisk(died + 1, nameless=nameless)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if root.exists():
            check_whole(root)
        check_recovers(root)
        if status == 0:
            return died
        assert os.WTERMSIG(status) == signal.SIGKILL
        died += 1


def run_this(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("files", ["nameless", "named"])
def test_a_kill_at_any_call_leaves_only_whole_objects_and_the_next_run_ends_well(tmp_path: Path, files: str) -> None:
    with run_this("every", str(tmp_path), files) as process:
        said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert int(said) > 60


@pytest.mark.parametrize("files", ["nameless", "named"])
def test_a_kill_at_a_random_moment_leaves_only_whole_objects(tmp_path: Path, files: str) -> None:
    rng = random.Random(57)
    root = tmp_path / "archive"
    found = 0
    for _ in range(4):
        with run_this("random", str(root), files) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(rng.uniform(0.02, 0.25))
            process.kill()
        left = list((root / ".archiver/tmp").iterdir())
        assert files == "named" or left == []
        for path in root.glob("t*/*"):
            key = path.relative_to(root).as_posix()
            expected = body_of(key) if key.endswith(".mp3") else (key[:-4] + "mp3").encode()
            assert path.read_bytes() == expected
            found += 1
            if key.endswith(".json"):
                assert path.with_suffix(".mp3").exists(), "the media come before their sidecar"
        store = open_store(root)
        store.prepare()
        assert list((root / ".archiver/tmp").iterdir()) == []
        store.close()
    assert found > len(BODIES)


if __name__ == "__main__":
    what, where, how = sys.argv[1:]
    if what == "every":
        sys.stdout.write(str(kill_at_every_call(Path(where), nameless=how == "nameless")))
    else:
        put_for_ever(Path(where), nameless=how == "nameless")
