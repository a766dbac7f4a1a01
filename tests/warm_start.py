"""Commands in processes of their own that have nothing left to import: nine tenths of a short command is its imports.

As a program it imports the archiver once and then forks a process for every command it is asked for, which runs what
`python -m archiver` runs, with the streams, folder, environment and umask it was given. `WarmPopen` asks it, and is a
`subprocess.Popen` in everything else: the new process is a child of the test's own, and is signalled and waited for as any.

Another one has Dask as well, for commands that work on a cluster and for `dask` itself.
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
_LEFT_OUT = (".__main__", ".migrations")
_ON_DASK = ".cluster"
"""Dask, on which it rests, is slow to import, and reads the environment then: it is told to do so again."""
_LONGEST_REQUEST = 1 << 20
_HARMLESS = ("ARCHIVER_", "AWS_", "DASK_", "PYTEST_")


class WarmPopen(subprocess.Popen[str]):
    """`python -m archiver` with these arguments, without the wait for its imports."""

    program = "archiver"
    with_dask = False

    def _execute_child(self, args: list[str], *others: Any) -> None:
        # As `subprocess` hands them over: cwd, env, and from the tenth on the ends of three pipes.
        cwd, env, pipes = others[4], others[5], others[9:15]
        given = (pipes[0], pipes[3], pipes[5])
        streams = [own if descriptor == -1 else descriptor for own, descriptor in enumerate(given)]
        try:
            self.pid = _starter(self.with_dask).start(self.program, args, Path(cwd or "."), env, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # as every `_execute_child` does


class WarmOnDask(WarmPopen):
    """The same for a command that works on a cluster."""

    with_dask = True


class WarmDask(WarmOnDask):
    """`python -m dask`."""

    program = "dask"


def fits(env: Mapping[str, str]) -> bool:
    """Whether it differs from the tests' own only in what nobody reads before a command works."""
    started_with = _starter(False).environment
    changed = {name for name in env.keys() | started_with.keys() if env.get(name) != started_with.get(name)}
    return all(name.startswith(_HARMLESS) for name in changed)


class _Starter:
    """The process that forks; it ends when this one does."""

    def __init__(self, *, with_dask: bool) -> None:
        self.environment = dict(os.environ)
        self._asking, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, __file__, str(answering.fileno()), *["dask"][:with_dask]]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[answering.fileno()]
        )
        answering.close()
        atexit.register(self._end)

    def start(self, program: str, arguments: list[str], cwd: Path, env: Mapping[str, str], streams: list[int]) -> int:
        request = {"arguments": [program, *arguments], "cwd": str(cwd.absolute()), "env": dict(env), "umask": _umask()}
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
def _starter(with_dask: bool) -> _Starter:
    return _Starter(with_dask=with_dask)


def _adopt_orphans(adopt: bool) -> None:
    """Become, for a moment, whom children without a parent fall to."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _umask() -> int:
    found = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Umask:"))
    return int(found.split()[1], 8)


def _import_everything(*, with_dask: bool) -> None:
    import archiver

    left_out = _LEFT_OUT if with_dask else (*_LEFT_OUT, _ON_DASK)
    for module in pkgutil.walk_packages(archiver.__path__, "archiver."):
        if not any(part in module.name for part in left_out):
            importlib.import_module(module.name)
    if with_dask:
        for name in ("dask.cli", "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"):
            importlib.import_module(name)
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
    if "dask" in sys.modules:
        sys.modules["dask"].config.refresh()
    arguments: list[str] = request["arguments"]
    return arguments


if __name__ == "__main__":
    _import_everything(with_dask="dask" in sys.argv[2:])
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
