"""A simulated PBX, a settings file and the real command in its own process, for tests that look from the outside."""

import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import warm_start
from warm_start import WarmPopen

from archiver.simulator import (
    Corpus,
    Fault,
    FaultScript,
    SimulatedCdr,
    SimulatedRecording,
    Simulator,
    SimulatorThread,
    Switches,
)

ACCOUNTS = ("a" * 32, "b" * 32)
BEGIN_UNIX_S = 1_714_986_000
"""2024-05-06 09:00 UTC."""
SINCE, UNTIL = "2024-05-06", "2024-05-08"
CONSERVED = ("archived", "already_archived", "pending", "missing", "quarantined")
DEADLINE_S = 60.0


def recording(ordinal: int, *, account: int = 0, duration_ms: int = 2000, **more: Any) -> SimulatedRecording:
    """One of a row of recordings, a minute apart."""
    return SimulatedRecording(
        account_id=ACCOUNTS[account],
        recording_id=f"202405-{account:04x}{ordinal:028x}",
        start_unix_s=BEGIN_UNIX_S + 60 * ordinal,
        duration_ms=duration_ms,
        **more,
    )


def recordings(count: int, *, duration_ms: int = 2000) -> list[SimulatedRecording]:
    """So many recordings, shared by the two accounts."""
    return [recording(ordinal, account=ordinal % 2, duration_ms=duration_ms) for ordinal in range(count)]


def cdr(row: SimulatedRecording) -> SimulatedCdr:
    """The call's one leg, which names the recording."""
    return SimulatedCdr(
        account_id=row.account_id,
        cdr_id=f"leg-of-{row.recording_id}",
        ended_unix_s=row.created_unix_s,
        billing_s=row.duration_ms // 1000,
        interaction_id=row.interaction_id,
        media_recording_id=row.recording_id,
    )


def key(row: SimulatedRecording) -> str:
    """Where the default template puts a recording."""
    day = time.strftime("%Y/%m/%d", time.gmtime(row.start_unix_s))
    return f"{row.account_id}/{day}/{row.recording_id}.mp3"


def media(row: SimulatedRecording) -> bytes:
    """The bytes as the PBX has them."""
    return b"".join(row.source.chunks())


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit code and both streams."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        found = json.loads(lines[0])
        assert isinstance(found, dict)
        return found


@dataclass
class Rig:
    """A folder with settings and an archive, and the PBX that they name."""

    folder: Path
    pbx: SimulatorThread
    base_url: str = ""
    cold: bool = False
    """Whether each command starts as a user's does, which costs most of a second; else see `warm_start`."""
    warm: type[WarmPopen] = WarmPopen

    def __post_init__(self) -> None:
        self.base_url = self.base_url or self.pbx.base_url
        self.folder.mkdir(exist_ok=True)
        self.configure()

    @property
    def root(self) -> Path:
        """The archive."""
        return self.folder / "archive"

    @property
    def settings_file(self) -> Path:
        """The settings."""
        return self.folder / "settings.toml"

    def configure(self, **sections: dict[str, Any]) -> None:
        """Write the settings file, `sections` merged over a quick default."""
        made: dict[str, dict[str, Any]] = {
            "pbx": {
                "base_url": self.base_url,
                "username": "archiver",
                "domain": "example",
                "account_ids": list(ACCOUNTS),
                "retry_wait_s": 0.01,
            },
            "transfer": {"requests_per_s": 0},
            "store.local": {"root": str(self.root)},
        }
        for name, values in sections.items():
            section = name.replace("__", ".")
            made[section] = made.get(section, {}) | values
        lines = []
        for section, values in made.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
        self.settings_file.write_text("\n".join(lines) + "\n")

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a command; without a HOME that could be written."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ARCHIVER_")}
        return kept | {"ARCHIVER_PBX__PASSWORD": "simulator"} | more

    def start(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        limits: Sequence[str] = (),
    ) -> "Started":
        """The command, running; `limits` are options of prlimit, under which it starts cold."""
        under = ["prlimit", *limits] if limits else []
        environment = self.environment(**(env or {}))
        warm = not (self.cold or limits) and warm_start.fits(environment)
        kind, command = (self.warm, []) if warm else (subprocess.Popen, [*under, sys.executable, "-m", "archiver"])
        return Started(
            kind(
                [*command, *arguments],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def command(self, *arguments: str, env: dict[str, str] | None = None, limits: Sequence[str] = ()) -> Said:
        """The command, done."""
        return self.start(*arguments, env=env, limits=limits).wait()

    def run(self, *arguments: str, limits: Sequence[str] = ()) -> Said:
        """`run --json` over the period of the corpus."""
        return self.command("run", "--since", SINCE, "--until", UNTIL, "--json", *arguments, limits=limits)

    def files(self) -> dict[str, bytes]:
        """Every file of the archive outside `.archiver`, by key."""
        found = (path for path in self.root.rglob("*") if path.is_file() or path.is_symlink())
        keys = {path: path.relative_to(self.root).as_posix() for path in found}
        return {name: path.read_bytes() for path, name in keys.items() if not name.startswith(".archiver/")}

    def media(self) -> dict[str, bytes]:
        """Every recording of the archive, by key."""
        return {name: data for name, data in self.files().items() if not name.endswith(".json")}

    def temporaries(self) -> list[Path]:
        """What lies in the folder for temporary files."""
        return [path for path in (self.root / ".archiver" / "tmp").rglob("*") if path.is_file()]

    def quarantined(self) -> dict[str, bytes]:
        """Every file in quarantine, by name."""
        folder = self.root / ".archiver" / "quarantine"
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Started:
    """A command that runs."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def wait(self, timeout_s: float = DEADLINE_S) -> Said:
        """Its end."""
        try:
            out, err = self.process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"still running after {timeout_s} s: {out[-2000:]} {err[-2000:]}") from None
        return Said(self.process.returncode, out or "", err or "")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)


@contextmanager
def rig(
    folder: Path,
    rows: Sequence[SimulatedRecording],
    *,
    cdrs: Sequence[SimulatedCdr] = (),
    faults: Sequence[Fault] = (),
    switches: Switches | None = None,
    tls: ssl.SSLContext | None = None,
    cold: bool = False,
) -> Iterator[Rig]:
    """A rig with this corpus; every scripted fault must have been hit at its end."""
    script = FaultScript(faults)
    simulator = Simulator(Corpus(rows, cdrs, accounts=ACCOUNTS), faults=script, switches=switches, tls=tls)
    with SimulatorThread(simulator) as pbx:
        yield Rig(folder, pbx, cold=cold)
        assert not script.unhit()


@contextmanager
def small_file_system(path: Path, size: str) -> Iterator[Path]:
    """A file system of its own with that many bytes; the test is skipped where mounting is not permitted."""
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=False, capture_output=True
    )
    if made.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {made.stderr.decode(errors='replace').strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True)


def until(condition: Callable[[], bool], *, seconds: float = DEADLINE_S) -> None:
    """Wait for a condition.

    Raises:
        AssertionError: it did not come true in time.
    """
    end_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.005)


def conserved(report: dict[str, Any]) -> bool:
    """Whether a report's counts add up."""
    return bool(report["listed"] == sum(report[name] for name in CONSERVED))


def assert_holds_all(the_rig: Rig, rows: Sequence[SimulatedRecording]) -> None:
    """The archive is the source: each recording once with its bytes, each with its sidecar, and nothing else."""
    source = {key(row): media(row) for row in rows}
    found = the_rig.files()
    assert {name for name in found if not name.endswith(".json")} == set(source)
    assert all(found[name] == data for name, data in source.items())
    assert {name.removesuffix(".json") for name in found if name.endswith(".json")} == {
        name.removesuffix(".mp3") for name in source
    }
    for name, data in source.items():
        said = json.loads(found[name.removesuffix(".mp3") + ".json"])
        assert (said["key"], said["size_bytes"], said["sha256"]) == (name, len(data), sha256(data).hexdigest())
    assert the_rig.temporaries() == []


def assert_private(folder: Path) -> None:
    """Files are 0600 and folders 0700, or stricter."""
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.lstat().st_mode) & 0o077 == 0, path
