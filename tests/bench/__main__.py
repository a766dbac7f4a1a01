"""How fast the archiver is beside curl and rclone, and what it takes: `python -m tests.bench --help`.

A frozen PBX (nginx on loopback, static pages and media) serves a made-up corpus. Contenders run in turns (A B A B),
each as a whole process into a fresh folder on the disk that holds --work; names, sizes and a sample of the bytes are
checked after every run, outside the measured time. Nothing else should run meanwhile.
"""

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from .contenders import Contest, Measure
from .corpus import HEAVY, TINY, TO_S3, WORKLOADS, Workload, frozen
from .frozen_pbx import find_nginx, serving
from .s3_contest import S3Contest, rclone_version
from .tables import MIB, keep, median, pair_head, pair_row, section, stamp, surroundings
from .targets import Targets

FIGURES = ("curl", "durable", "listing", "memory", "s3", "s3memory")
Kind = TypeVar("Kind", bound=Contest)


def say(text: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")


@dataclass
class Bench:
    """The figures, and what they share."""

    chosen: argparse.Namespace
    nginx: str
    targets: Targets

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
            yield (
                kind(pbx, scheme, chosen.work, chosen.archiver, self.targets, chosen.page_size, chosen.settle)
                for scheme in schemes
            )

    def note(self, figure: str, name: str, contest: Contest, measure: Measure) -> Measure:
        """Tell a measure as it comes, and append it to the raw results."""
        count, scheme = measure.count, contest.scheme
        workload = contest.corpus.workload.name
        say(
            f"  {figure} {workload} {scheme} {name:20} {measure.wall_s:8.2f} s {measure.per_s:8.0f}/s "
            f"CPU {measure.user_s:.2f} + {measure.system_s:.2f} s  {measure.peak_rss_bytes / MIB:.0f} MiB"
        )
        raw: dict[str, object] = {
            "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "figure": figure,
            "workload": workload,
        }
        raw |= {"scheme": scheme, "contender": name, "count": count}
        with (self.chosen.work / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(raw | asdict(measure)) + "\n")
        return measure

    def publish(self, name: str, title: str, about: str, head: list[str], rows: list[list[str]]) -> None:
        scale = f" Scale {self.chosen.scale}: no figure to quote." if self.chosen.scale != 1 else ""
        dated = [[*row, stamp()] for row in rows]
        told = section(name, title, f"{about} {surroundings(self.nginx)}{scale}", [*head, "measured at"], dated)
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        if self.chosen.out:
            keep(self.chosen.out, name, told)

    def check(self) -> None:
        """The frozen PBX and curl alone, once each: proof that the bench works without an archiver."""
        for name in self.chosen.workload:
            with self.contests(WORKLOADS[name], self.chosen.scheme, Contest) as contests:
                for contest in contests:
                    contest.make_ready(1)
                    self.note("check", "curl", contest, contest.curl())

    def curl(self) -> None:
        rows = []
        for name in self.chosen.workload:
            with self.contests(WORKLOADS[name], self.chosen.scheme, Contest) as contests:
                for contest in contests:
                    contest.make_ready(2 * self.chosen.pairs)
                    ours, theirs = [], []
                    for _ in range(self.chosen.pairs):
                        ours.append(self.note("curl", "archiver", contest, contest.archive()))
                        theirs.append(self.note("curl", "curl", contest, contest.curl()))
                    rows.append(pair_row(self.called(contest), contest.scheme, ours, theirs))
        digest = "MD5 compared with the metadata" if self.chosen.with_digest else "no digest in the metadata"
        about = (
            f"Medians of {self.chosen.pairs} alternating pairs. The archiver lists, fetches, checks (length, framing, "
            f"audio, SHA-256; {digest}), writes sidecars and the ledger, `durable = false`, concurrency 32; "
            "`curl --parallel --parallel-max 32` is handed the URLs and only saves."
        )
        self.publish("curl", "Against curl", about, pair_head("archiver", "curl"), rows)

    def durable(self) -> None:
        rows = []
        for name in self.chosen.workload:
            with self.contests(WORKLOADS[name], self.chosen.scheme, Contest) as contests:
                for contest in contests:
                    contest.make_ready(2 * self.chosen.pairs)
                    safe, quick = [], []
                    for _ in range(self.chosen.pairs):
                        safe.append(self.note("durable", "durable", contest, contest.archive(durable=True)))
                        quick.append(self.note("durable", "not durable", contest, contest.archive()))
                    rows.append(pair_row(self.called(contest), contest.scheme, safe, quick))
        about = f"Medians of {self.chosen.pairs} alternating pairs: what `archive.durable` costs."
        self.publish("durable", "Durable or not", about, pair_head("durable", "not durable"), rows)

    def listing(self) -> None:
        rows = []
        with self.contests(WORKLOADS["small"], self.chosen.scheme, Contest) as contests:
            for contest in contests:
                contest.make_ready(1)
                self.note("listing", "first run", contest, contest.archive())
                again = [
                    self.note("listing", "second run", contest, contest.list_again()) for _ in range(self.chosen.pairs)
                ]
                report = again[-1].report
                rows.append(
                    [
                        f"{report['listed']:,}",
                        contest.scheme,
                        f"{report['pages']} + {report['logins']} = {again[-1].requests_served}",
                        f"{median(again, lambda one: one.wall_s):.2f}",
                        f"{median(again, lambda one: one.per_s):,.0f}",
                        f"{median(again, lambda one: one.cpu_s):.2f}",
                        f"{median(again, lambda one: one.peak_rss_bytes / MIB):,.0f}",
                    ]
                )
        about = (
            f"A second run over a range that is archived; medians of {self.chosen.pairs}; the whole process; "
            "requests as nginx counted them."
        )
        head = ["rows", "scheme", "pages + sign-ins = requests", "s", "rows/s", "CPU s", "peak MiB"]
        self.publish("listing", "Listing", about, head, rows)

    def memory(self) -> None:
        rows = []
        for workload in TINY:
            with self.contests(workload, ["http"], Contest) as contests:
                for contest in contests:
                    contest.make_ready(1)
                    first = self.note("memory", "first run", contest, contest.archive())
                    again = self.note("memory", "second run", contest, contest.list_again())
                    size_bytes = first.total_bytes // first.count
                    rows.append(
                        [f"{first.count:,}", f"{size_bytes:,}"]
                        + [
                            cell
                            for one in (first, again)
                            for cell in (f"{one.wall_s:.1f}", f"{one.per_s:,.0f}", f"{one.peak_rss_bytes / MIB:,.0f}")
                        ]
                    )
        sides = [f"{run} run: {column}" for run in ("first", "second") for column in ("s", "rows/s", "peak MiB")]
        about = "Peak memory must not grow with the number of recordings; http, one run each."
        self.publish("memory", "Memory", about, ["recordings", "bytes each", *sides], rows)

    def s3(self) -> None:
        rows = []
        kinds = [True, False] if self.chosen.without_sidecars else [True]
        with self.contests(TO_S3, self.chosen.scheme, S3Contest) as contests:
            for contest in contests:
                for contest.sidecars in kinds:
                    contest.make_ready(2 * self.chosen.pairs)
                    ours, theirs = [], []
                    for _ in range(self.chosen.pairs):
                        ours.append(self.note("s3", "archiver", contest, contest.archive()))
                        theirs.append(self.note("s3", "rclone", contest, contest.rclone()))
                    called = f"{self.called(contest)}{'' if contest.sidecars else ', no sidecars'}"
                    rows.append(pair_row(called, contest.scheme, ours, theirs))
        about = (
            f"Medians of {self.chosen.pairs} alternating pairs onto `rclone serve s3`, which works on the same cores, "
            "into a fresh bucket each. The archiver lists, fetches, checks, puts each recording and its sidecar, reads "
            "both heads back and keeps the ledger, `durable = false`, concurrency 32; a second run after each made no "
            f"media request and no PUT. `rclone copy --transfers 32 --checkers 32` ({rclone_version()}) copies the same "
            "media from the web server's index, with a HEAD, a GET, a PUT and a HEAD for each."
        )
        self.publish("s3", "To S3, against rclone", about, pair_head("archiver", "rclone"), rows)

    def s3memory(self) -> None:
        rows = []
        with self.contests(HEAVY, ["http"], S3Contest) as contests:
            for contest in contests:
                contest.make_ready(2)
                one = self.note("s3memory", "archiver", contest, contest.archive())
                peak = [f"{one.peak_rss_bytes / MIB:,.0f}", f"{one.peak_rss_bytes / 1e6:,.0f}"]
                speed = [f"{one.wall_s:.1f}", f"{one.total_bytes / one.wall_s / 1e6:,.0f}"]
                rows.append([f"{one.count:,}", f"{one.total_bytes // one.count:,}", *speed, *peak])
        about = "The whole command with long recordings onto `rclone serve s3`, concurrency 32; http, one run."
        head = ["recordings", "bytes each", "s", "MB/s", "peak MiB", "peak MB"]
        self.publish("s3memory", "Memory with S3", about, head, rows)

    def called(self, contest: Contest) -> str:
        corpus = contest.corpus
        each = corpus.total_bytes / len(corpus.sizes)
        size = f"{each / 1e6:.1f} MB" if each >= 1e6 else f"{each / 1e3:.0f} kB"
        return f"{corpus.workload.name}: {len(corpus.sizes):,} x {size}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    allowed = ["check", *FIGURES]
    parser.add_argument(
        "figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(allowed)} (default: all but check)"
    )
    parser.add_argument(
        "--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="for curl and durable"
    )
    parser.add_argument("--scheme", nargs="+", choices=("http", "https"), default=["http", "https"])
    parser.add_argument("--pairs", type=int, default=5, help="how often each contender runs")
    parser.add_argument("--scale", type=float, default=1.0, help="shrinks the number of recordings, for a quick look")
    parser.add_argument("--page-size", type=int, default=1000, help="rows a page")
    parser.add_argument("--with-digest", action="store_true", help="metadata with an MD5; the vendor's page has none")
    parser.add_argument("--without-sidecars", action="store_true", help="s3 also with `archive.sidecar = false`")
    parser.add_argument(
        "--work", type=Path, default=Path("/tmp/archiver-bench"), help="corpora (kept), target, raw results"
    )
    parser.add_argument("--settle", type=float, default=2.0, help="seconds of rest after sync before each run")
    parser.add_argument("--rest", type=float, default=310.0, help="seconds of rest after many files were deleted")
    parser.add_argument("--archiver", default=str(Path(sys.executable).with_name("archiver")), help="the command")
    parser.add_argument("--out", type=Path, help="a Markdown page whose marked sections are rewritten")
    chosen = parser.parse_args()
    wrong = [figure for figure in chosen.figures if figure not in allowed]
    if wrong or chosen.pairs < 1 or chosen.scale <= 0 or chosen.page_size < 1:
        parser.error(f"no such figure: {', '.join(wrong)}" if wrong else "--pairs, --scale, --page-size: above 0")
    if chosen.out and chosen.scale != 1:
        parser.error("--out takes figures of --scale 1 only")
    chosen.work = chosen.work.resolve()
    chosen.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C, the server must not outlive us
    bench = Bench(chosen, find_nginx(), Targets(chosen.work, chosen.rest, say))
    try:
        for figure in dict.fromkeys(chosen.figures or FIGURES):
            getattr(bench, figure)()
    finally:
        bench.targets.delete()


if __name__ == "__main__":
    main()
