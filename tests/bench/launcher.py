"""Runs one command and writes what it took as JSON: `launcher.py RESULT STDOUT STDERR COMMAND…`.

A program of its own, and a small one: the kernel starts a child's peak memory at that of the process that spawns it, so
a benchmark that holds an index of 200,000 recordings would lend its own size to curl. It imports next to nothing (run
it with `python -I -S`) and its start-up stands outside the measured time.
"""

import json
import os
import sys
import time


def main() -> None:
    result, stdout, stderr, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    outputs = [(os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o600), (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o600)]
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=outputs)
    _, status, usage = os.wait4(pid, 0)
    took = time.perf_counter() - started
    found = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_s": took,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "peak_rss_bytes": usage.ru_maxrss * 1024,
    }
    with open(result, "w", encoding="ascii") as file:  # noqa: PTH123 -- pathlib would double this program's size
        json.dump(found, file)


if __name__ == "__main__":
    main()
