"""SIGKILL at every change that `retention apply` makes: each recording is whole or has its tombstone, the next finishes."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from archive_rig import ACCOUNTS, SINCE, UNTIL, cdr, key, recording, recordings, rig
from sqlalchemy import event
from sqlalchemy.engine import Engine
from test_local_store_disks import WatchedDisk

from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.commands.retaining import RetentionRequest, run_retention_apply
from archiver.proof.verification.findings import Kind
from archiver.reports.retention_report import ApplyReport
from archiver.settings import Settings
from archiver.stores import archive_folder

CDRS = "cdrs.jsonl.gz"
CHANGES = frozenset({"write", "link", "unlink"})
ROWS = recordings(3)
ODD = recording(7, overrides={"_attachments": {f"{'f' * 32}.mp3": {"content_type": "audio/mpeg", "length": 5}}})


class Step:
    """Counts changes, those of the disk and the commits of the ledger, and kills this process in place of the nth."""

    def __init__(self, nth: int) -> None:
        self.left = nth

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class SteppedDisk(WatchedDisk):
    """The real disk, each change of which is a step."""

    step = Step(0)

    def before(self, call: str) -> None:
        if call in CHANGES:
            SteppedDisk.step()


def settings_for(root: Path) -> Settings:
    return Settings.model_validate(
        {
            "pbx": {"account_ids": list(ACCOUNTS)},
            "archive": {"durable": False},
            "store": {"local": {"root": str(root)}},
            "retention": {"rules": [{"name": "short", "keep_days": 30}]},
        }
    )


def applied(root: Path) -> ApplyReport:
    work = run_retention_apply(settings_for(root), RetentionRequest(), stop=asyncio.Event())
    return asyncio.run(work).report


def findings(root: Path) -> list[Any]:
    return list(asyncio.run(run_verify(settings_for(root), VerifyRequest(), stop=asyncio.Event())).findings)


def objects(root: Path) -> dict[str, str]:
    """The digest of everything that lies there, by key, the quarantine included."""
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_file() and (not name.startswith(".archiver/") or "quarantine" in name):
            found[name] = sha256(path.read_bytes()).hexdigest()
    return found


def stem(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]


def check_whole_or_tombstone(root: Path, before: dict[str, str]) -> None:
    now = objects(root)
    dead = {stem(name) for name in now if name.endswith(".tombstone.json")}
    told = (root / ".archiver/audit.jsonl").read_bytes().decode()
    for name, digest in before.items():
        # CDRs have a record in the trail, and no tombstone.
        gone = name in told if name.endswith(CDRS) else stem(name) in dead
        assert gone or now.get(name) == digest, name
    assert all(f"{an_id}.tombstone.json" in told for an_id in dead)


STRIDE = 1 if "ARCHIVER_CAMPAIGN" in os.environ else 3
"""Each change of the disk and each commit behind `make campaign`, else every third."""


def step_through(source: Path, top: Path) -> int:
    """Kill at the nth change for n = 1, and so on in strides, until one application lives; how many died."""
    before, died = objects(source), 0
    while True:
        root = top / str(died)
        shutil.copytree(source, root)
        child = os.fork()
        if child == 0:
            SteppedDisk.step = Step(STRIDE * died + 1)
            setattr(archive_folder, "RealDisk", SteppedDisk)  # noqa: B010 - the seam to the disk
            event.listen(Engine, "commit", SteppedDisk.step)
            applied(root)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        check_whole_or_tombstone(root, before)
        if status == 0:
            return died
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert [found for found in findings(root) if found.kind is not Kind.STALE_TEMPORARY] == [], died
        lost = died % 2 == 1
        if lost:
            for file in (root / ".archiver").glob("ledger.sqlite3*"):
                file.unlink()
        report = applied(root)
        assert (report.outcome.value, report.left) == ("complete", []), report
        left = {name for name in objects(root) if not name.endswith(".tombstone.json")}
        # What was never archived is known to the ledger alone.
        assert left == set() or (lost and all("quarantine" in name for name in left)), left
        assert {stem(name) for name in objects(root)} == {stem(name) for name in before if not name.endswith(CDRS)}
        assert findings(root) == [], died
        assert applied(root).expired == 0
        shutil.rmtree(root)
        died += 1


def test_a_kill_at_any_change_leaves_each_recording_whole_or_with_its_tombstone(tmp_path: Path) -> None:
    with rig(tmp_path / "work", [*ROWS, ODD], cdrs=[cdr(row) for row in ROWS[:2]]) as it:
        it.configure(archive={"durable": False})
        assert it.run().json["quarantined"] == 1
        (it.root / key(ROWS[0])).write_bytes(b"damaged")
        assert it.command("verify", "--repair").code == 0
        assert it.command("reconcile", "--since", SINCE, "--until", UNTIL).code == 3
        assert [name for name in it.files() if name.endswith(CDRS)]
        (tmp_path / "steps").mkdir()
        done = subprocess.run(
            [sys.executable, __file__, str(it.root), str(tmp_path / "steps")],
            check=False,
            capture_output=True,
            text=True,
            env=dict(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert json.loads(done.stdout) > 20 // STRIDE


if __name__ == "__main__":
    sys.stdout.write(json.dumps(step_through(Path(sys.argv[1]), Path(sys.argv[2]))))
