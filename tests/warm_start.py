"""Commands in processes of their own that have nothing left to import: nine tenths of a short command is its imports.

As a program it imports the archiver once and then forks a process for every command it is asked for, which runs what
`python -m archiver` runs, with the streams, folder, environment and umask it was given. `WarmPopen` asks it, and is a
`subprocess.Popen` in everything else: the new process is a child of the test's own, and is signalled and waited for as any.
"""

import atexit
import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_LEFT_OUT = (".__main__", ".migrations", ".cluster")
"""Dask, on which `cluster` rests, reads the environment when it is imported."""
_LONGEST_REQUEST = 1 << 20
_HARMLESS = ("ARCHIVER_", "AWS_", "PYTEST_")


class WarmPopen(subprocess.Popen[str]):
    """`python -m archiver` with these arguments, without the wait for its imports."""

    def _execute_child(self, args: list[str], *others: Any) -> None:
        # As `subprocess` hands them over: cwd, env, and from the tenth on the ends of three pipes.
        cwd, env, pipes = others[4], others[5], others[9:15]
        given = (pipes[0], pipes[3], pipes[5])
        streams = [own if descriptor == -1 else descriptor for own, descriptor in enumerate(given)]
        try:
            self.pid = _starter().start(args, Path(cwd), env, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # as every `_execute_child` does


def fits(env: Mapping[str, str]) -> bool:
    """Whether it differs from the tests' own only in what nobody reads before a command works."""
    started_with = _starter().environment
    changed = {name for name in env.keys() | started_with.keys() if env.get(name) != started_with.get(name)}
    return all(name.startswith(_HARMLESS) for name in changed)


class _Starter:
    """The process that forks; it ends when this one does."""

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self._asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(answering.fileno())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[answering.fileno()]
        )
        answering.close()
        atexit.register(self._end)

    def start(self, arguments: list[str], cwd: Path, env: Mapping[str, str], streams: list[int]) -> int:
        request = {"arguments": arguments, "cwd": str(cwd.absolute()), "env": dict(env), "umask": _umask()}
        _adopt_orphans(True)
        try:
            socket.send_fds(self._asking, [json.dumps(request).encode()], streams)
            pid = int(self._asking.recv(100) or b"0")
        finally:
            _adopt_orphans(False)
        assert pid, "the process that starts commands has ended"
        return pid

    def _end(self) -> None:
        self._asking.close()
        self._process.wait(10)


@cache
def _starter() -> _Starter:
    return _Starter()


def _adopt_orphans(adopt: bool) -> None:
    """Become, for a moment, whom children without a parent fall to."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _umask() -> int:
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:"))
    return int(found.split()[1], 8)


def _import_everything() -> None:
    import archiver

    for module in pkgutil.walk_packages(archiver.__path__, "archiver."):
        if not any(part in module.name for part in _LEFT_OUT):
            importlib.import_module(module.name)
    import uvloop  # noqa: F401 - as the loop does when a command starts

    assert threading.active_count() == 1, "what was imported started a thread, which no fork has"
    gc.collect()
    gc.freeze()


def _serve(answering: socket.socket) -> list[str]:
    """Fork for each request; gives the arguments in the new process, and does not come back in this one."""
    while True:
        said, streams, _, _ = socket.recv_fds(answering, _LONGEST_REQUEST, 3)
        if not said:
            os._exit(0)
        reading, writing = os.pipe()
        between = os.fork()
        if between == 0:
            pid = os.fork()
            if pid == 0:
                return _become(json.loads(said), streams)
            os.write(writing, str(pid).encode())
            os._exit(0)
        # Only when the one between has ended the new process is the asker's child.
        os.waitpid(between, 0)
        answering.send(os.read(reading, 100))
        for descriptor in (reading, writing, *streams):
            os.close(descriptor)


def _become(request: dict[str, Any], streams: list[int]) -> list[str]:
    for own, given in enumerate(streams):
        os.dup2(given, own)
    os.closerange(3, 1024)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    os.chdir(request["cwd"])
    os.umask(request["umask"])
    arguments: list[str] = request["arguments"]
    return arguments


if __name__ == "__main__":
    _import_everything()
    sys.argv = ["archiver", *_serve(socket.socket(fileno=int(sys.argv[1])))]
    runpy.run_module("archiver", run_name="__main__", alter_sys=True)
