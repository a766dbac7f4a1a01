"""Real S3 servers on loopback, each started when it is first asked for and ended with the session.

`rclone serve s3` and moto's server come with the test dependencies. Ceph comes from the system's packages: without them
its tests are left out and say so, unless ARCHIVER_MUST_RUN names it.
"""

import atexit
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

KEY, SECRET = "ARCHIVERKEY0123456789", "archiversecret0123456789archiversecret01"
RCLONE = Path(sys.executable).parent / "rclone"
MUST_RUN = frozenset(os.environ.get("ARCHIVER_MUST_RUN", "").replace(",", " ").split())
CEPH = ("ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin", "monmaptool", "ceph-authtool")


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where a server listens; every server knows the same key."""

    name: str
    endpoint_url: str


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def started(command: list[str], log: Path, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """A server in a process group of its own, which ends with the session."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    with (folder() / "pids").open("a") as pids:
        pids.write(f"{process.pid} {_began(process.pid)}\n")
    atexit.register(process.poll)  # which keeps it: one that is forgotten complains that it still runs
    return process


def _began(pid: int) -> str:
    """When a process began, in the kernel's ticks; '' when there is none: a pid alone may be another's by now."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except FileNotFoundError:
        return ""


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server before the session ends."""
    _end(process.pid, _began(process.pid))
    process.wait(5)


def _end(pid: int, began: str) -> None:
    """End a server, and what it started."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        until_s = time.monotonic() + 5
        while _began(pid) == began and _state(pid) != "Z" and time.monotonic() < until_s:
            with suppress(ProcessLookupError):
                os.killpg(pid, signum)
            time.sleep(0.05)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def wait_for(ready: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"{log.stem} did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as calling:
        calling.settimeout(1)
        return calling.connect_ex(("127.0.0.1", port)) == 0


@cache
def folder() -> Path:
    """What the processes of a session share; the last that leaves ends the servers and removes it."""
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", f"alone-{os.getpid()}")
    path = Path(tempfile.gettempdir(), f"archiver-s3-{session}")
    while True:
        path.mkdir(mode=0o700, exist_ok=True)
        using = os.open(path / "users", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(using, fcntl.LOCK_SH)
        if (path / "users").exists():
            break
        os.close(using)  # somebody has just left as the last
    atexit.register(_leave, path, using, os.getpid())
    return path


def _leave(path: Path, using: int, user: int) -> None:
    if os.getpid() != user:  # what was forked uses nothing
        return
    try:
        fcntl.flock(using, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if (path / "pids").exists():
        for line in reversed((path / "pids").read_text().splitlines()):
            pid, _, began = line.partition(" ")
            _end(int(pid), began)
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Among the processes of the session."""
    with (folder() / f"{what}.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _shared(name: str, start: Callable[[], str]) -> S3Server:
    """The server of that name for all processes of the session, started when it is not there."""
    with one_at_a_time(name):
        told = folder() / f"{name}.url"
        if not told.exists():
            told.write_text(start())
        return S3Server(name, told.read_text())


@cache
def rclone() -> S3Server:
    """A plain folder behind S3: no conditional writes, no locks, and headers come back as they went in."""
    return _shared("rclone", _start_rclone)


def _start_rclone() -> str:
    (folder() / "rclone").mkdir()
    return start_rclone(folder() / "rclone", folder() / "rclone.log")[1].endpoint_url


def start_rclone(served: Path, log: Path) -> "tuple[subprocess.Popen[bytes], S3Server]":
    """Serve a folder; its folders are the buckets."""
    port = free_port()
    command = [str(RCLONE), "serve", "s3", str(served)]
    command += ["--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}", "--config", os.devnull]
    process = started(command, log)
    wait_for(lambda: answers(port), process, log)
    return process, S3Server("rclone", f"http://127.0.0.1:{port}")


@cache
def moto() -> S3Server:
    """Locks, conditional writes and KMS in memory; checks neither checksums nor signatures."""
    # Each process of the session has its own: it is no server for several at once, and walks all it has for each listing.
    port, log = free_port(), folder() / f"moto-{os.getpid()}.log"
    process = started([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], log)
    wait_for(lambda: answers(port), process, log)
    return S3Server("moto", f"http://127.0.0.1:{port}")


@cache
def ceph() -> S3Server:
    """A Ceph of one node in memory, with its gateway: real locks, versions, checksums."""
    missing = [program for program in CEPH if shutil.which(program) is None]
    if missing:
        words = f"no Ceph here ({', '.join(missing)}): apt-get install ceph-mon ceph-osd ceph-common radosgw"
        if "ceph" in MUST_RUN:
            pytest.fail(words)
        pytest.skip(words)
    from ceph_server import start_ceph

    return _shared("ceph", lambda: start_ceph(folder() / "ceph", key=KEY, secret=SECRET))


SERVERS: dict[str, Callable[[], S3Server]] = {"ceph": ceph, "moto": moto, "rclone": rclone}
