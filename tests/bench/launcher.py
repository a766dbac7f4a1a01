"""Runs one command and writes what it took as JSON: `launcher.py RESULT STDOUT STDERR COMMAND…`.

A program of its own, and a small one: the kernel starts a child's peak memory at that of the process that spawns it, so
a benchmark that holds an index of 200,000 recordings would lend its own size to curl. It imports next to nothing (run
it with `python -I -S`) and its start-up stands outside the measured time. It adopts processes that the command leaves
behind, so that what they took is counted, too.
"""

import ctypes
import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource


PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    result, stdout, stderr, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    outputs = [(os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o600)]
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=outputs)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - started
    usages = [usage, *orphans()]
    found = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_s": took,
        "user_s": sum(one.ru_utime for one in usages),
        "system_s": sum(one.ru_stime for one in usages),
        "peak_rss_bytes": max(one.ru_maxrss for one in usages) * 1024,
    }
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 -- pathlib would double this program's size
        json.dump(found, file)


def orphans() -> "list[resource.struct_rusage]":
    found = []
    while True:
        try:
            found.append(os.wait4(-1, 0)[2])
        except ChildProcessError:
            return found


if __name__ == "__main__":
    main()
