"""What the figures share: what was chosen, the frozen PBX, notes as measures come, and tables as they are done."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

from .contenders import Contest, Measure
from .corpus import Workload, frozen
from .frozen_pbx import find_nginx, serving
from .tables import MIB, keep, section, stamp, surroundings
from .targets import Targets

Kind = TypeVar("Kind", bound=Contest)


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


@dataclass
class Bench:
    """The stage that every figure is measured on."""

    chosen: argparse.Namespace
    targets: Targets

    @cached_property
    def nginx(self) -> str:
        return find_nginx()

    @contextmanager
    def contests(self, workload: Workload, schemes: list[str], kind: type[Kind]) -> Iterator[Iterator[Kind]]:
        """The contests over a workload, one per scheme, while its PBX runs."""
        chosen = self.chosen
        scaled = workload.scaled(chosen.scale)
        say(f"{scaled.name}: {scaled.count} recordings; makes the corpus unless it is there")
        corpus = frozen(scaled, chosen.work, page_size=chosen.page_size, digest=chosen.with_digest)
        with serving(corpus, self.nginx) as pbx:
            pbx.walk("http")
            pbx.walk("https")
            corpus.warm()
            given = (chosen.work, chosen.archiver, self.targets, chosen.page_size, chosen.settle, chosen.processes)
            yield (kind(pbx, scheme, *given) for scheme in schemes)

    def note(self, figure: str, name: str, contest: Contest, measure: Measure) -> Measure:
        """Tell a measure as it comes, and append it to the raw results."""
        workload = contest.corpus.workload.name
        spoiled = f"  {measure.lost} lost, {measure.wrong} wrong" if measure.lost or measure.wrong else ""
        say(
            f"  {figure} {workload} {contest.scheme} {name:20} {measure.wall_s:8.2f} s {measure.per_s:8.0f}/s "
            f"CPU {measure.user_s:.2f} + {measure.system_s:.2f} s  {measure.peak_rss_bytes / MIB:.0f} MiB{spoiled}"
        )
        raw = {"workload": workload, "scheme": contest.scheme, "contender": name, "processes": contest.processes}
        self.write_down(figure, raw | asdict(measure))
        return measure

    def write_down(self, figure: str, raw: dict[str, object]) -> None:
        """Append to the raw results."""
        line = {"at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", "figure": figure} | raw
        with (self.chosen.work / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def publish(self, name: str, title: str, about: str, head: list[str], rows: list[list[str]]) -> None:
        """Print a table, and keep it in the page if there is to be one; each number of processes has its own."""
        processes = self.chosen.processes
        if processes > 1:
            name, title = f"{name}-{processes}", f"{title}, with {processes} processes"
        scale = f" Scale {self.chosen.scale}: no figure to quote." if self.chosen.scale != 1 else ""
        dated = [[*row, stamp()] for row in rows]
        where = surroundings(self.__dict__.get("nginx"))
        told = section(name, title, f"{about} {where}{scale}", [*head, "measured at"], dated)
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        if self.chosen.out:
            keep(self.chosen.out, name, told)

    def called(self, contest: Contest) -> str:
        """A workload in a few words."""
        corpus = contest.corpus
        each = corpus.total_bytes / len(corpus.sizes)
        size = f"{each / 1e6:.1f} MB" if each >= 1e6 else f"{each / 1e3:.0f} kB"
        return f"{corpus.workload.name}: {len(corpus.sizes):,} x {size}"
