"""Hosts on this machine: a network namespace with an address, a host name and process ids of its own for each.

They meet on a bridge of the test's own, and see the same files.
"""

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import pytest
from s3_servers import MUST_RUN

_PATIENCE = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 2),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
    ((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 5000),
)
"""As the ledger asks of PostgreSQL's own connections, only sooner: a host that is gone is noticed."""
_TOOLS = ("ip", "unshare", "mount")


@dataclass(frozen=True, slots=True)
class Host:
    """`link` is the bridge's end of its cable; `inside` is what a command begins with to run there."""

    name: str
    address: str
    link: str
    inside: tuple[str, ...]

    def cut(self) -> None:
        """Pull its cable."""
        _ip("link", "set", self.link, "down")

    def mend(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self.link, "up")


@contextmanager
def hosts(*names: str) -> Iterator[tuple[str, list[Host]]]:
    """The address at which the hosts reach this process, and the hosts; skipped where the machine does not permit it."""
    ours = os.getpid() % 256
    net, bridge = f"10.213.{ours}", f"arch{os.getpid() % 100_000}"
    made: list[tuple[str, ...]] = []
    try:
        _try("link", "add", bridge, "type", "bridge")
        made.append(("link", "del", bridge))
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        found = []
        for number, name in enumerate(names, 2):
            space, link = f"{bridge}-{number}", f"{bridge}v{number}"
            _ip("netns", "add", space)
            made.append(("netns", "del", space))
            _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", space)
            made.append(("link", "del", link))
            _ip("link", "set", link, "master", bridge, "up")
            _ip("-n", space, "addr", "add", f"{net}.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")
            found.append(Host(name, f"{net}.{number}", link, _inside(space, name)))
        yield f"{net}.1", found
    finally:
        for undo in reversed(made):
            subprocess.run(["ip", *undo], capture_output=True, check=False)


def _inside(space: str, name: str) -> tuple[str, ...]:
    apart = ("unshare", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ("ip", "netns", "exec", space, *apart, "sh", "-c", f'hostname "{name}" && exec "$@"', "sh")


def _try(*arguments: str) -> None:
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    why = f"no {', '.join(missing)} here: apt-get install iproute2" if missing else ""
    if not why:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
        why = f"networks of one's own are not permitted here: {done.stderr.strip()}" if done.returncode else ""
    if why and "hosts" in MUST_RUN:
        pytest.fail(why)
    if why:
        pytest.skip(why)


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stderr)


@contextmanager
def forwarded(address: str, port: int) -> Iterator[int]:
    """A port at that address that leads to one of loopback's."""
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server((address, 0)) as listening:
        accepting = threading.Thread(target=_accept, args=(listening, port, ends, threads))
        accepting.start()
        try:
            yield listening.getsockname()[1]
        finally:
            _shut(listening)
            accepting.join()
            for end in ends:
                _shut(end)
            for thread in threads:
                thread.join()
            for end in ends:
                end.close()


def _accept(listening: socket.socket, port: int, ends: list[socket.socket], threads: list[threading.Thread]) -> None:
    with suppress(OSError):
        while True:
            near, _ = listening.accept()
            ends.append(near)
            for option, value in _PATIENCE:
                near.setsockopt(*option, value)
            try:
                far = socket.create_connection(("127.0.0.1", port))
            except OSError:
                _shut(near)
                continue
            ends.append(far)
            for both in ((near, far), (far, near)):
                thread = threading.Thread(target=_pass_on, args=both)
                thread.start()
                threads.append(thread)


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        _shut(end)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
