"""What a nightly run costs when an archive has a long past, and how soon it asks for the first media."""

import json
import os
import sqlite3
import statistics
import subprocess
import time
from contextlib import ExitStack, closing
from typing import Any

from archiver.simulator import Credentials, Mp3Media

from .archiver_settings import LOCAL_STORE, settings_toml
from .bench import Bench, say
from .contenders import CONCURRENCY
from .launching import Ended, launch
from .live_pbx import LivePbx, Plan, living
from .nights import MEDIA_MS, Past
from .tables import MIB

_A_DAY = 10_000
_PATIENCE_S = 120.0
_PASSWORD = {"ARCHIVER_PBX__PASSWORD": Credentials().password}


def night(bench: Bench) -> None:
    """Nights with nothing new over archives of different sizes, then with one new recording, also after a kill."""
    _nothing_new(bench)
    _first_media(bench)


def _nothing_new(bench: Bench) -> None:
    rows = []
    sizes = [max(1, round(count * bench.chosen.scale)) for count in bench.chosen.entries]
    ended: dict[int, list[Ended]] = {size: [] for size in sizes}
    listed = 0
    with ExitStack() as stack:
        archives = {size: _Archive(bench, _past(size)) for size in sizes}
        pbxes = {size: stack.enter_context(living(archives[size].plan, bench.chosen.work)) for size in sizes}
        for _ in range(bench.chosen.rounds):
            for size in sizes:
                time.sleep(bench.chosen.settle)
                one, report = archives[size].night(pbxes[size])
                if one.exit_code or report["archived"] or report["already_archived"] != report["listed"]:
                    raise RuntimeError(f"a night with nothing new ended with {one.exit_code}: {report}")
                listed = report["listed"]
                _note(bench, "nothing new", size, one)
                ended[size].append(one)
    least = statistics.median(one.wall_s for one in ended[sizes[0]])
    for size in sizes:
        wall_s = statistics.median(one.wall_s for one in ended[size])
        rows.append(
            [
                f"{size:,}",
                f"{listed:,}",
                f"{wall_s:.2f}",
                f"{wall_s - least:+.2f}",
                f"{statistics.median(one.user_s + one.system_s for one in ended[size]):.2f}",
                f"{max(one.peak_rss_bytes for one in ended[size]) / MIB:,.0f}",
            ]
        )
    about = (
        f"`archiver run` without dates, the whole command, medians of {bench.chosen.rounds} alternating rounds: one "
        "account, three days of look back listed anew from the simulator (a process of its own), every recording "
        "archived. The first line is an archive of little more than what is listed."
    )
    head = ["entries", "listed", "s", "s more than the first line", "CPU s (user + system)", "peak MiB"]
    bench.publish("night", "A night with nothing new", about, head, rows)


def _first_media(bench: Bench) -> None:
    size = max(1, round(max(bench.chosen.entries) * bench.chosen.scale))
    rows = []
    for name, killed in (("after a good night", False), ("after a kill", True)):
        firsts = []
        for _ in range(min(3, bench.chosen.rounds)):
            archive = _Archive(bench, _past(size, fresh=1))
            if killed:
                archive.killed_in_mid_media()
            with living(archive.plan, bench.chosen.work) as pbx:
                begun_s = time.monotonic()
                one, report = archive.night(pbx)
            if one.exit_code or report["archived"] != 1:
                raise RuntimeError(f"a night with one new recording ended with {one.exit_code}: {report}")
            first_s = next(at for at in pbx.seen.begins if at > begun_s) - begun_s
            say(f"  first media {name:20} {first_s:8.2f} s")
            bench.write_down("firstmedia", {"entries": size, "killed": killed, "first_media_s": first_s})
            firsts.append(first_s)
        rows.append([f"{size:,}", name, f"{statistics.median(firsts):.2f}", f"{max(firsts):.2f}"])
    about = (
        "From the start of `archiver run` to the first media request, as the simulator saw it; "
        f"{min(3, bench.chosen.rounds)} runs each. One recording is new, the latest of all, so that "
        "the whole look back is listed before it; *after a kill*: the run before was "
        "killed (SIGKILL) while it fetched that recording."
    )
    bench.publish("firstmedia", "The first media request", about, ["entries", "run", "s", "longest"], rows)


def _past(known: int, *, fresh: int = 0) -> Past:
    return Past(int(time.time()), _A_DAY, known, fresh)


class _Archive:
    """A ledger with a past, in a folder of its own, and the PBX that lists the end of it."""

    def __init__(self, bench: Bench, past: Past) -> None:
        self._bench = bench
        self._past = past
        self._root = bench.targets.fresh()
        say(f"night: makes a ledger of {past.known} entries")
        past.make_ledger(self._root, Mp3Media("tiny", MEDIA_MS).length_bytes)
        os.sync()

    @property
    def plan(self) -> Plan:
        return Plan(0, past=self._past)

    def night(self, pbx: LivePbx) -> tuple[Ended, dict[str, Any]]:
        """One nightly run, and its report."""
        ended = launch(self._command(pbx), self._bench.chosen.work, _PASSWORD)
        said = ended.stdout.read_text(encoding="utf-8")
        if not said:
            raise RuntimeError(f"the archiver ended with {ended.exit_code}:\n{ended.told}")
        return ended, json.loads(said)

    def killed_in_mid_media(self) -> None:
        """A run that is killed while it fetches the new recording, from a PBX that takes for ever."""
        with living(Plan(0, think_time_s=3600.0, past=self._past), self._bench.chosen.work) as pbx:
            process = subprocess.Popen(
                self._command(pbx),
                env={**os.environ, **_PASSWORD},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                self._wait_until_one_is_fetched(process)
            finally:
                process.kill()
                process.wait()

    def _wait_until_one_is_fetched(self, process: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + _PATIENCE_S
        with closing(sqlite3.connect(f"file:{self._root}/.archiver/ledger.sqlite3?mode=ro", uri=True)) as ledger:
            while not ledger.execute("SELECT count(*) FROM entries WHERE status = 'pending'").fetchone()[0]:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError("the run that was to be killed never came to the new recording")
                time.sleep(0.1)
        time.sleep(1)  # it is fed to a worker within moments of being noted

    def _command(self, pbx: LivePbx) -> list[str]:
        chosen = self._bench.chosen
        settings = chosen.work / f"night-{self._root.name}.toml"
        text = settings_toml(
            base_url=pbx.base_url,
            ca_file=None,
            page_size=chosen.page_size,
            concurrency=CONCURRENCY // chosen.processes,
            processes=chosen.processes,
            store=LOCAL_STORE.format(durable="true"),
            root=self._root,
        )
        settings.touch(mode=0o600)
        settings.write_text(text, encoding="ascii")
        return [chosen.archiver, "--settings", str(settings), "-q", "run", "--json"]


def _note(bench: Bench, name: str, size: int, ended: Ended) -> None:
    say(
        f"  night {name} {size:>10,} entries {ended.wall_s:8.2f} s CPU {ended.user_s:.2f} + {ended.system_s:.2f} s "
        f"{ended.peak_rss_bytes / MIB:.0f} MiB"
    )
    raw: dict[str, object] = {"contender": name, "entries": size, "wall_s": ended.wall_s, "user_s": ended.user_s}
    bench.write_down("night", raw | {"system_s": ended.system_s, "peak_rss_bytes": ended.peak_rss_bytes})
