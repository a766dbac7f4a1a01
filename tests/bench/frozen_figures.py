"""Figures of the archiver alone, against the frozen PBX."""

from .bench import Bench
from .contenders import Contest
from .corpus import TINY, WORKLOADS
from .peers import PEERS
from .tables import MIB, median, pair_head, pair_row


def check(bench: Bench) -> None:
    """The frozen PBX and curl alone, once each: proof that the bench works without an archiver."""
    for name in bench.chosen.workload:
        with bench.contests(WORKLOADS[name], bench.chosen.scheme, Contest) as contests:
            for contest in contests:
                contest.make_ready(1)
                measure = bench.note("check", "curl", contest, PEERS["curl"].fetch(contest))
                if measure.lost or measure.wrong or measure.requests_served != measure.count:
                    raise RuntimeError(f"curl and the frozen PBX disagree: {measure}")


def durable(bench: Bench) -> None:
    """What fsync costs."""
    rows = []
    for name in bench.chosen.workload:
        with bench.contests(WORKLOADS[name], bench.chosen.scheme, Contest) as contests:
            for contest in contests:
                contest.make_ready(2 * bench.chosen.rounds)
                safe, quick = [], []
                for _ in range(bench.chosen.rounds):
                    safe.append(bench.note("durable", "durable", contest, contest.archive(durable=True)))
                    quick.append(bench.note("durable", "not durable", contest, contest.archive()))
                rows.append(pair_row(bench.called(contest), contest.scheme, safe, quick))
    about = f"Medians of {bench.chosen.rounds} alternating pairs: what `archive.durable` costs."
    bench.publish("durable", "Durable or not", about, pair_head("durable", "not durable"), rows)


def listing(bench: Bench) -> None:
    """A run over what is archived."""
    rows = []
    with bench.contests(WORKLOADS["small"], bench.chosen.scheme, Contest) as contests:
        for contest in contests:
            contest.make_ready(1)
            bench.note("listing", "first run", contest, contest.archive())
            again = [
                bench.note("listing", "second run", contest, contest.list_again()) for _ in range(bench.chosen.rounds)
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
        f"A second run over a range that is archived; medians of {bench.chosen.rounds}; the whole process; "
        "requests as nginx counted them."
    )
    head = ["rows", "scheme", "pages + sign-ins = requests", "s", "rows/s", "CPU s", "peak MiB"]
    bench.publish("listing", "Listing", about, head, rows)


def memory(bench: Bench) -> None:
    """Peak memory with few and with many recordings."""
    rows = []
    for workload in TINY:
        with bench.contests(workload, ["http"], Contest) as contests:
            for contest in contests:
                contest.make_ready(1)
                first = bench.note("memory", "first run", contest, contest.archive())
                again = bench.note("memory", "second run", contest, contest.list_again())
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
    bench.publish("memory", "Memory", about, ["recordings", "bytes each", *sides], rows)
