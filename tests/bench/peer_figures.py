"""The archiver beside raw downloaders."""

import math
import statistics

from .bench import Bench, say
from .contenders import CONCURRENCY, Contest, Measure
from .corpus import WORKLOADS
from .peers import PEERS, Peer
from .plot import MISSING, can_draw, draw_ratios, picture
from .tables import MIB, median

HEAD = [
    "workload",
    "contender",
    "recordings/s",
    "MB/s",
    "archiver's ratio to it",
    "by round",
    "CPU s per 1,000",
    "peak MiB",
    "requests each",
    "lost",
    "wrong",
]


def peers(bench: Bench) -> None:
    """Each workload and scheme in rounds: the archiver, then each peer."""
    chosen = bench.chosen
    present = [PEERS[name] for name in chosen.peer if PEERS[name].found]
    absent = [PEERS[name] for name in chosen.peer if not PEERS[name].found]
    for peer in absent:
        say(f"{peer.name} is not here and goes unmeasured (Debian: apt-get install {peer.package})")
    rows = []
    for name in chosen.workload:
        with bench.contests(WORKLOADS[name], chosen.scheme, Contest) as contests:
            for contest in contests:
                rows += _rows(f"{bench.called(contest)}, {contest.scheme}", _rounds(bench, contest, present))
    about = _about(bench, present, absent)
    if chosen.out and can_draw():
        about = f"![Ratios by workload and peer]({picture(chosen.out).name})\n\n{about}"
    elif chosen.out:
        say(MISSING)
    bench.publish("peers", "Against raw downloaders", about, HEAD, rows)
    if chosen.out and can_draw():
        draw_ratios(chosen.out)


def _rounds(bench: Bench, contest: Contest, present: list[Peer]) -> dict[str, list[Measure]]:
    found: dict[str, list[Measure]] = {"archiver": [], **{peer.name: [] for peer in present}}
    for _ in range(bench.chosen.rounds):
        contest.make_ready(1 + len(present))
        found["archiver"].append(bench.note("peers", "archiver", contest, contest.archive()))
        for peer in present:
            measure = bench.note("peers", peer.name, contest, peer.fetch(contest))
            if measure.report["exit_code"]:
                say(f"  {peer.name} ended with {measure.report['exit_code']}: {measure.report['said'][-300:].strip()}")
            found[peer.name].append(measure)
    return found


def _rows(workload: str, found: dict[str, list[Measure]]) -> list[list[str]]:
    ours = found["archiver"]
    rows = []
    for name, theirs in found.items():
        ratios = [one.per_s / other.per_s if other.count else math.inf for one, other in zip(ours, theirs, strict=True)]
        same = theirs is ours
        rows.append(
            [
                workload,
                name,
                f"{median(theirs, lambda one: one.per_s):,.0f}",
                f"{median(theirs, lambda one: one.per_s * one.total_bytes / _asked_for(one) / 1e6):,.0f}",
                "" if same else f"**{statistics.median(ratios):.2f}**",
                "" if same else " ".join(f"{ratio:.2f}" for ratio in ratios),
                f"{median(theirs, lambda one: one.cpu_s_per_1000):.2f}",
                f"{median(theirs, lambda one: one.peak_rss_bytes / MIB):,.0f}",
                f"{median(theirs, lambda one: one.requests_served / _asked_for(one)):.2f}",
                f"{sum(one.lost for one in theirs):,}",
                f"{sum(one.wrong for one in theirs):,}",
            ]
        )
    return rows


def _asked_for(measure: Measure) -> int:
    """How many recordings there were to fetch."""
    return measure.count + measure.lost + measure.wrong


def _about(bench: Bench, present: list[Peer], absent: list[Peer]) -> str:
    chosen = bench.chosen
    digest = "MD5 compared with the metadata" if chosen.with_digest else "no digest in the metadata"
    several = f" in each of {chosen.processes} processes" if chosen.processes > 1 else ""
    called = "; ".join(f"{peer.said} ({peer.version})" for peer in present)
    missing = f" Not here: {', '.join(peer.name for peer in absent)}." if absent else ""
    return (
        f"Medians of {chosen.rounds} rounds, in each of which the archiver and then every peer runs once, each as a whole "
        "process into a fresh folder. The archiver lists, fetches, checks (length, framing, audio, SHA-256; "
        f"{digest}), writes sidecars and the ledger, `durable = false`, concurrency {CONCURRENCY // chosen.processes}"
        f"{several}. The peers are handed the addresses and only save: {called}.{missing} Recordings a second are those "
        "that were right: after each run the names, the sizes and a sample of the bytes are compared, and what a peer "
        "*lost* or got *wrong* is counted over all rounds; the archiver may do neither, or the bench stops. CPU is user "
        "and system time of all processes; memory that of the largest process, or of all archivers together."
    )
