"""Real S3 servers on loopback, each started once for the whole session and ended by its pid.

`rclone serve s3` and moto's server come with the test dependencies. Ceph comes from the system's packages: without them
its tests are left out and say so, unless ARCHIVER_MUST_RUN names it.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a server, and what it started."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, signum)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                continue


def started(command: list[str], log: Path, environment: dict[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """A server in a process group of its own, which ends with the session."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment, start_new_session=True
        )
    atexit.register(end, process)
    return process


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
    path = Path(tempfile.mkdtemp(prefix="archiver-s3-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@cache
def rclone() -> S3Server:
    """A plain folder behind S3: no conditional writes, no locks, and headers come back as they went in."""
    (folder() / "rclone").mkdir()
    return start_rclone(folder() / "rclone", folder() / "rclone.log")[1]


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
    port, log = free_port(), folder() / "moto.log"
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

    return S3Server("ceph", start_ceph(folder() / "ceph", key=KEY, secret=SECRET))


SERVERS: dict[str, Callable[[], S3Server]] = {"ceph": ceph, "moto": moto, "rclone": rclone}
