"""How fast the archiver is beside raw downloaders, and what it takes: `python -m tests.bench --help`.

A frozen PBX (nginx on loopback, static pages and media) serves a made-up corpus. Contenders run in turns (A B A B),
each as a whole process into a fresh folder on the disk that holds --work; names, sizes and a sample of the bytes are
checked after every run, outside the measured time. For `latency` and `limit` the PBX is the archiver's own simulator.
Nothing else should run meanwhile.
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from .bench import Bench, say
from .bound_figures import bound
from .cluster_figures import cluster
from .contenders import CONCURRENCY
from .corpus import WORKLOADS
from .frozen_figures import check, durable, listing, memory
from .live_figures import latency, limit
from .night_figures import night
from .peer_figures import peers
from .peers import PEERS
from .rebuild_figures import rebuild
from .s3_figures import s3, s3boto3, s3memory
from .targets import Targets
from .verify_figures import verify

FIGURES: dict[str, Callable[[Bench], None]] = {
    "check": check,
    "peers": peers,
    "bound": bound,
    "durable": durable,
    "listing": listing,
    "memory": memory,
    "s3": s3,
    "s3boto3": s3boto3,
    "s3memory": s3memory,
    "latency": latency,
    "limit": limit,
    "verify": verify,
    "rebuild": rebuild,
    "night": night,
    "cluster": cluster,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)} (default: all but check)")
    add("--peer", nargs="+", choices=PEERS, default=list(PEERS), help="for peers (default: all that are installed)")
    add("--processes", type=int, default=1, help="the archiver's transfer.processes; all share the concurrency")
    add("--workload", nargs="+", choices=WORKLOADS, default=list(WORKLOADS), help="for peers, bound and durable")
    add("--scheme", nargs="+", choices=("http", "https"), default=["http", "https"])
    add("--rounds", "--pairs", type=int, default=5, help="how often each contender runs (latency: at most 3 times)")
    add("--think-time", type=float, nargs="+", default=[0.05, 1.0, 6.0], help="for latency: seconds before each media")
    add("--concurrency", type=int, nargs="+", default=[CONCURRENCY, 256], help="for latency")
    add(
        "--bucket",
        type=float,
        nargs=2,
        default=[100.0, 10.0],
        help="for limit: requests at once, and again each second",
    )
    add("--seconds", type=float, default=180.0, help="for limit: how long the bucket lets the recordings take")
    add("--entries", type=int, nargs="+", default=[20_000, 200_000], help="for verify and night: how many")
    add("--scale", type=float, default=1.0, help="shrinks the number of recordings, for a quick look")
    add("--page-size", type=int, default=1000, help="rows a page")
    add("--with-digest", action="store_true", help="metadata with an MD5; the vendor's page has none")
    add("--without-sidecars", action="store_true", help="s3 also with `archive.sidecar = false`")
    add("--work", type=Path, default=Path("/tmp/archiver-bench"), help="corpora (kept), target, raw results")
    add("--settle", type=float, default=2.0, help="seconds of rest after sync before each run")
    add("--rest", type=float, default=310.0, help="seconds of rest after many files were deleted")
    add("--archiver", default=str(Path(sys.executable).with_name("archiver")), help="the command")
    add("--out", type=Path, help="a Markdown page whose marked sections are rewritten; the plot is drawn beside it")
    return parser


def _chosen() -> argparse.Namespace:
    parser = _parser()
    chosen = parser.parse_args()
    if wrong := [figure for figure in chosen.figures if figure not in FIGURES]:
        parser.error(f"no such figure: {', '.join(wrong)}")
    positive = [chosen.rounds, chosen.scale, chosen.page_size, chosen.processes, chosen.seconds]
    if min(*positive, *chosen.think_time, *chosen.bucket) <= 0:
        parser.error("--rounds, --scale, --page-size, --processes, --seconds, --think-time, --bucket: above 0")
    if min(chosen.concurrency) < 1 or any(many % chosen.processes for many in (CONCURRENCY, *chosen.concurrency)):
        parser.error(f"--processes must divide --concurrency, and {CONCURRENCY}")
    if chosen.out and chosen.scale != 1:
        parser.error("--out takes figures of --scale 1 only")
    chosen.work = chosen.work.resolve()
    return chosen


def main() -> None:
    chosen = _chosen()
    chosen.work.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as with Ctrl-C, the server must not outlive us
    bench = Bench(chosen, Targets(chosen.work, chosen.rest, say))
    try:
        for figure in dict.fromkeys(chosen.figures or [name for name in FIGURES if name != "check"]):
            FIGURES[figure](bench)
    finally:
        bench.targets.delete()


if __name__ == "__main__":
    main()
