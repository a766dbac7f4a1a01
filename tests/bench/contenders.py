"""Where contenders meet, and the first of them: the archiver, as a whole process that archives into a fresh folder."""

import filecmp
import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .archiver_settings import LOCAL_STORE, settings_toml
from .corpus import BEGIN, Frozen
from .frozen_pbx import FrozenPbx
from .launching import Ended, launch
from .targets import Targets

CONCURRENCY = 32
SAMPLES = 50


@dataclass(frozen=True)
class Measure:
    """What one contender took, its children included.

    Attributes:
        peak_rss_bytes: of the largest process; of an archiver told to use several, of all together.
        count: recordings that were right in the end.
        lost: recordings that were not there; wrong: of another size or with other bytes in the sample, or too much.
    """

    wall_s: float
    user_s: float
    system_s: float
    peak_rss_bytes: int
    count: int
    total_bytes: int
    connections: int
    requests_served: int
    lost: int = 0
    wrong: int = 0
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        return self.count / self.wall_s

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s

    @property
    def cpu_s_per_1000(self) -> float:
        return 1000 * self.cpu_s / self.count if self.count else math.inf


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
    processes: int = 1
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
        command = [self.archiver, "--settings", str(settings), "-q", "run", *period, "--json"]
        before = self.pbx.served()
        ended = launch(command, self.work, self._environment(), crowd=self.processes > 1)
        if ended.exit_code:
            raise RuntimeError(f"the archiver ended with {ended.exit_code}:\n{ended.told}")
        return self.measure(ended, before, report=json.loads(ended.stdout.read_text(encoding="utf-8")))

    def measure(self, ended: Ended, before: tuple[int, int], *, lost: int = 0, wrong: int = 0, **more: Any) -> Measure:
        """What a contender took, and what it asked of the server since it had served `before`."""
        after = self.pbx.served()
        return Measure(
            wall_s=ended.wall_s,
            user_s=ended.user_s,
            system_s=ended.system_s,
            peak_rss_bytes=ended.peak_rss_bytes,
            count=max(0, len(self.corpus.sizes) - lost - wrong),
            total_bytes=self.corpus.total_bytes,
            connections=after[0] - before[0],
            requests_served=after[1] - before[1],
            lost=lost,
            wrong=wrong,
            **more,
        )

    def _settings(self, *, durable: bool) -> str:
        return settings_toml(
            base_url=self.pbx.base_urls[self.scheme],
            ca_file=self.pbx.ca_file if self.scheme == "https" else None,
            page_size=self.page_size,
            concurrency=CONCURRENCY // self.processes,
            processes=self.processes,
            store=self._store_settings(durable=durable),
            root=self.target,
        )

    def _store_settings(self, *, durable: bool) -> str:
        return LOCAL_STORE.format(durable=str(durable).lower())

    def _environment(self) -> dict[str, str]:
        return {"ARCHIVER_PBX__PASSWORD": "frozen"}

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
        """Hold a folder against the corpus, as `compared` does.

        Raises:
            RuntimeError: something is missing, of another size, of other bytes, or too much.
        """
        lost, wrong = self.compared(folder, keys, with_sidecars=with_sidecars)
        if lost or wrong:
            raise RuntimeError(f"{folder}: {len(lost)} files lost, {len(wrong)} wrong: {[*lost, *wrong][:5]}")

    def compared(self, folder: Path, keys: dict[str, str], *, with_sidecars: bool) -> tuple[list[str], list[str]]:
        """The files that are not there, and those that are wrong: other sizes, other bytes in a sample, too much.

        `keys` says by recording id where each should be.
        """
        files = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file()}
        paths = {str(name): path for name, path in files.items() if name.parts[0] != ".archiver"}
        media = {keys[name]: size for name, size in self.corpus.sizes.items()}
        sidecars = {f"{key.removesuffix('.mp3')}.json" for key in media} if with_sidecars else set()
        expected = media.keys() | sidecars
        wrong = paths.keys() - expected
        wrong |= {key for key, size in media.items() if key in paths and paths[key].stat().st_size != size}
        for name in list(keys)[:: max(1, len(media) // SAMPLES)]:
            path = paths.get(keys[name])
            if path and not filecmp.cmp(self.corpus.media_file(name), path, shallow=False):
                wrong.add(keys[name])
        return sorted(expected - paths.keys()), sorted(wrong)
