"""What nothing can be faster than: the parts of an archiver's work, each on its own, beside the whole."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from .bench import Bench, say
from .contenders import CONCURRENCY, Contest, Measure
from .corpus import WORKLOADS
from .frozen_pbx import HEADERS
from .launching import Ended, launch
from .peers import PEERS
from .tables import median

_HERE = Path(__file__).parent
_SIDECAR_BYTES = 1200
HEAD = [
    "workload",
    "contender",
    "recordings/s",
    "archiver's ratio to it",
    "CPU s per 1,000",
    "of it user",
    "of it system",
]


def bound(bench: Bench) -> None:
    """The archiver beside its parts: aiohttp alone, its files alone without Python, curl with and without files."""
    rows = []
    for name in bench.chosen.workload:
        with bench.contests(WORKLOADS[name], bench.chosen.scheme, Contest) as contests:
            for contest in contests:
                rows += _rows(f"{bench.called(contest)}, {contest.scheme}", _rounds(bench, contest))
    about = (
        f"Medians of {bench.chosen.rounds} rounds, in each of which each runs once. *aiohttp alone* reads every body to "
        "its end in one process and keeps nothing. *files alone* is a C program without a network: for each recording a "
        "file and a sidecar, made, written, linked and looked at as the archiver does it, in two threads. *curl to "
        f"nowhere* fetches with {CONCURRENCY} transfers at once and throws away what comes: network and TLS in C; *curl* "
        "writes it to one file each."
    )
    bench.publish("bound", "What nothing can be faster than", about, HEAD, rows)


def _rounds(bench: Bench, contest: Contest) -> dict[str, list[Measure]]:
    parts: dict[str, Callable[[], Measure]] = {
        "archiver": contest.archive,
        "aiohttp alone": lambda: _aiohttp(contest),
    }
    if PEERS["curl"].found:
        parts["curl to nowhere"] = lambda: _curl_to_nowhere(contest)
        parts["curl"] = lambda: PEERS["curl"].fetch(contest)
    compiler = shutil.which("cc")
    if compiler is None:
        say("there is no C compiler: the files alone go unmeasured")
    else:
        program = contest.work / "bare_files"
        source = _HERE / "bare_files.c"
        subprocess.run([compiler, "-O2", "-pthread", "-o", str(program), str(source)], check=True)
        parts["files alone"] = lambda: _files(contest, program)
    found: dict[str, list[Measure]] = {name: [] for name in parts}
    for _ in range(bench.chosen.rounds):
        contest.make_ready(3)
        for name, part in parts.items():
            found[name].append(bench.note("bound", name, contest, part()))
    return found


def _aiohttp(contest: Contest) -> Measure:
    headers, names = contest.work / "headers.json", contest.work / "names"
    headers.write_text(json.dumps(HEADERS), encoding="ascii")
    names.write_text("\n".join(contest.corpus.sizes), encoding="ascii")
    ca_file = str(contest.pbx.ca_file) if contest.scheme == "https" else ""
    command = [sys.executable, str(_HERE / "bare_aiohttp.py"), contest.pbx.media_url(contest.scheme, ""), ca_file]
    return _measured(contest, [*command, str(CONCURRENCY), str(headers), str(names)])


def _curl_to_nowhere(contest: Contest) -> Measure:
    lines = ["silent", "show-error", "fail"]
    lines += [f'header = "{name}: {value}"' for name, value in HEADERS.items()]
    lines += [f'cacert = "{contest.pbx.ca_file}"'] if contest.scheme == "https" else []
    for name in contest.corpus.sizes:
        lines += [f'url = "{contest.pbx.media_url(contest.scheme, name)}"', f'output = "{os.devnull}"']
    given = contest.work / "curl-nowhere.conf"
    given.write_text("\n".join(lines) + "\n", encoding="ascii")
    command = [
        PEERS["curl"].found or "",
        "--disable",
        "--parallel",
        "--parallel-max",
        str(CONCURRENCY),
        "-K",
        str(given),
    ]
    return _measured(contest, command)


def _files(contest: Contest, program: Path) -> Measure:
    count = len(contest.corpus.sizes)
    each = contest.corpus.total_bytes // count
    folder = contest.targets.fresh()
    return _measured(contest, [str(program), str(folder), "2", str(count), str(each), str(_SIDECAR_BYTES)])


def _measured(contest: Contest, command: list[str]) -> Measure:
    contest.settle()
    before = contest.pbx.served()
    ended: Ended = launch(command, contest.work)
    if ended.exit_code:
        raise RuntimeError(f"{command[0]} ended with {ended.exit_code}:\n{ended.told}")
    return contest.measure(ended, before)


def _rows(workload: str, found: dict[str, list[Measure]]) -> list[list[str]]:
    ours = median(found["archiver"], lambda one: one.per_s)
    rows = []
    for name, theirs in found.items():
        per_s = median(theirs, lambda one: one.per_s)
        rows.append(
            [
                workload,
                name,
                f"{per_s:,.0f}",
                "" if name == "archiver" else f"{ours / per_s:.2f}",
                f"{median(theirs, lambda one: one.cpu_s_per_1000):.2f}",
                f"{median(theirs, lambda one: 1000 * one.user_s / one.count):.2f}",
                f"{median(theirs, lambda one: 1000 * one.system_s / one.count):.2f}",
            ]
        )
    return rows
