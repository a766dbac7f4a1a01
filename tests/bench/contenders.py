"""Who is measured: the archiver and curl, each as a whole process that fetches a corpus into a fresh folder."""

import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .corpus import ACCOUNT_ID, BEGIN, Frozen
from .frozen_pbx import HEADERS, FrozenPbx
from .targets import Targets

CONCURRENCY = 32
LAUNCHER = Path(__file__).with_name("launcher.py")
SAMPLES = 50


@dataclass(frozen=True)
class Measure:
    """What one process took, its children included (of memory: the largest process)."""

    wall_s: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    count: int
    total_bytes: int
    connections: int
    requests_served: int
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.count / self.wall_s

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


@dataclass
class Contest:
    """Where the contenders meet: a frozen PBX under one scheme, and a folder to work in."""

    pbx: FrozenPbx
    scheme: str
    work: Path
    archiver: str
    targets: Targets
    page_size: int
    settle_s: float
    target: Path = Path()

    @property
    def corpus(self) -> Frozen:
        return self.pbx.corpus

    def make_ready(self, run_count: int) -> None:
        """See to the room that so many runs need, the blocks of small files and sidecars included."""
        self.targets.prepare(run_count * (self.corpus.total_bytes + 16_384 * len(self.corpus.sizes)))

    def settle(self) -> None:
        """Leave no unwritten pages of the run before."""
        os.sync()
        time.sleep(self.settle_s)

    def curl(self) -> Measure:
        """Fetch all media into a fresh folder with curl, under the names that the archiver gives."""
        self.target = self.targets.fresh()
        self.settle()
        lines = ["silent", "show-error", "fail", "create-dirs"]
        lines += [f'header = "{name}: {value}"' for name, value in HEADERS.items()]
        if self.scheme == "https":
            lines.append(f'cacert = "{self.pbx.ca_file}"')
        for recording_id, key in self.corpus.keys.items():
            lines.append(f'url = "{self.pbx.media_url(self.scheme, recording_id)}"')
            lines.append(f'output = "{self.target / key}"')
        config = self.work / "curl.conf"
        config.write_text("\n".join(lines) + "\n", encoding="ascii")
        curl = shutil.which("curl") or "/usr/bin/curl"
        command = [curl, "--disable", "--parallel", "--parallel-max", str(CONCURRENCY), "-K", str(config)]
        found, _ = self._launch(command)
        self.check_files(self.target, self.corpus.keys, with_sidecars=False)
        measure = self._measure(found, {})
        if measure.requests_served != measure.count:
            raise RuntimeError(f"curl sent {measure.requests_served} requests for {measure.count} recordings")
        return measure

    def archive(self, *, durable: bool = False) -> Measure:
        """Archive the corpus into a fresh folder and check the report and the files."""
        self.target = self.targets.fresh()
        self.settle()
        measure = self._run_archiver(durable=durable)
        self.check_report(measure, archived=len(self.corpus.sizes))
        self.check_files(self.target, self.corpus.keys, with_sidecars=True)
        return measure

    def list_again(self) -> Measure:
        """Run the archiver over the archive that is there: nothing but listing is left to do."""
        self.settle()
        measure = self._run_archiver(durable=False)
        self.check_report(measure, archived=0)
        return measure

    def _run_archiver(self, *, durable: bool) -> Measure:
        settings = self.work / "settings.toml"
        settings.write_text(self._settings(durable=durable), encoding="ascii")
        settings.chmod(0o600)
        period = ["--since", f"{BEGIN:%Y-%m-%d}", "--until", f"{self.corpus.until:%Y-%m-%d}"]
        found, output = self._launch([self.archiver, "--settings", str(settings), "-q", "run", *period, "--json"])
        return self._measure(found, json.loads(output))

    def _settings(self, *, durable: bool) -> str:
        ca_file = self.pbx.ca_file if self.scheme == "https" else ""
        return f"""
[pbx]
base_url = "{self.pbx.base_urls[self.scheme]}"
username = "archiver"
domain = "example"
account_ids = ["{ACCOUNT_ID}"]
ca_file = "{ca_file}"
page_size = {self.page_size}

[transfer]
concurrency = {CONCURRENCY}
requests_per_s = 0.0

{self._archive_settings(durable=durable)}
[store.local]
root = "{self.target}"
"""

    def _archive_settings(self, *, durable: bool) -> str:
        return f"""
[archive]
store = "local"
sidecar = true
durable = {str(durable).lower()}
"""

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "ARCHIVER_PBX__PASSWORD": "frozen"}

    def _launch(self, command: list[str]) -> tuple[dict[str, Any], str]:
        """Run a command under the launcher; returns what it took and its stdout.

        Raises:
            RuntimeError: it ended with anything but 0.
        """
        result, stdout, stderr = (self.work / f"process.{name}" for name in ("json", "stdout", "stderr"))
        launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(result), str(stdout), str(stderr)]
        before = self.pbx.served()
        subprocess.run(launcher + command, check=True, env=self._environment())
        after = self.pbx.served()
        found = json.loads(result.read_text(encoding="ascii"))
        found |= {"connections": after[0] - before[0], "requests_served": after[1] - before[1]}
        if found["exit_code"]:
            told = f"{stderr.read_text(errors='replace')[-3000:]}\n{stdout.read_text(errors='replace')[-3000:]}"
            raise RuntimeError(f"{Path(command[0]).name} ended with {found['exit_code']}:\n{told}")
        return found, stdout.read_text(encoding="utf-8")

    def _measure(self, found: dict[str, Any], report: dict[str, Any]) -> Measure:
        del found["exit_code"]
        return Measure(**found, count=len(self.corpus.sizes), total_bytes=self.corpus.total_bytes, report=report)

    def check_report(self, measure: Measure, *, archived: int) -> None:
        """Hold a run's report against the corpus, and its requests against the server's own count.

        Raises:
            RuntimeError: with the fields that differ.
        """
        report, count = measure.report, measure.count
        if measure.requests_served != self.corpus.page_count + archived + report.get("logins", 0):
            raise RuntimeError(f"nginx counted {measure.requests_served} requests; {report}")
        expected = {
            "outcome": "complete",
            "listed": count,
            "archived": archived,
            "already_archived": count - archived,
            "bytes_archived": self.corpus.total_bytes if archived else 0,
            "pages": self.corpus.page_count,
            "requests": measure.requests_served,
            "windows_complete": self.corpus.workload.days,
            **dict.fromkeys(
                ("pending", "missing", "quarantined", "retries", "windows_incomplete", "problems_total"), 0
            ),
        }
        wrong = {name: (report.get(name), value) for name, value in expected.items() if report.get(name) != value}
        if wrong:
            raise RuntimeError(f"the archiver's report differs (found, expected): {wrong}; {report}")

    def check_files(self, folder: Path, keys: dict[str, str], *, with_sidecars: bool) -> None:
        """Hold a folder against the corpus: every name (`keys` by recording id) and size, and the bytes of a sample.

        Raises:
            RuntimeError: something is missing, of another size, of other bytes, or too much.
        """
        files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        paths = {str(name): path for name, path in files.items() if name.parts[0] != ".archiver"}
        media = {keys[name]: size for name, size in self.corpus.sizes.items()}
        sidecars = {f"{key.removesuffix('.mp3')}.json" for key in media} if with_sidecars else set()
        names_differ = paths.keys() ^ (media.keys() | sidecars)
        sizes_differ = [key for key, size in media.items() if key in paths and paths[key].stat().st_size != size]
        if names_differ or sizes_differ:
            raise RuntimeError(
                f"{len(names_differ)} names and {len(sizes_differ)} sizes differ in {folder}: "
                f"{sorted([*names_differ, *sizes_differ])[:5]}"
            )
        for name in list(keys)[:: max(1, len(media) // SAMPLES)]:
            if not filecmp.cmp(self.corpus.media_file(name), folder / keys[name], shallow=False):
                raise RuntimeError(f"other bytes in {keys[name]}")
