"""Figures against a PBX that is slow, or that limits us: the simulator, which thinks before each media or has a bucket."""

from collections.abc import Callable
from dataclasses import asdict
from statistics import median

from .bench import Bench, say
from .contenders import CONCURRENCY
from .live_pbx import Plan
from .live_runs import Live, archive, fetch
from .tables import MIB

MIDDLE = (0.1, 0.9)
# At least so many recordings for each place in the concurrency, and at least so long at full speed.
LEAST_TURNS = 20
LEAST_S = 10.0
MOST_RUNS = 3
# A run that takes so many times as long as the bucket allows is ended.
PATIENCE = 3
ROOM_BYTES = 16_384

LATENCY_HEAD = [
    "think time",
    "concurrency",
    "recordings",
    "bound, rec/s",
    "archiver, rec/s",
    "share of the bound",
    "with start and end",
    "bare client's share",
    "PBX busy",
    "CPU s per 1,000",
    "peak MiB",
]
LIMIT_HEAD = [
    "requests_per_s",
    "concurrency",
    "recordings",
    "archived",
    "outcome",
    "s",
    "goodput, requests/s",
    "of the refill",
    "of all tokens",
    "requests",
    "refused",
    "share refused",
]


def latency(bench: Bench) -> None:
    """How near the archiver comes to concurrency / think time."""
    chosen = bench.chosen
    runs = min(chosen.rounds, MOST_RUNS)
    rows = []
    for think_time_s in chosen.think_time:
        for concurrency in chosen.concurrency:
            bound = concurrency / think_time_s
            count = round(max(LEAST_TURNS * concurrency, LEAST_S * bound) * chosen.scale)
            plan = Plan(max(count, 2 * concurrency), think_time_s)
            say(f"latency: {plan.count} recordings, {concurrency} at once, {think_time_s:g} s each")
            bench.targets.prepare(runs * plan.count * ROOM_BYTES)
            ours = [_in_time(bench, plan, concurrency) for _ in range(runs)]
            theirs = fetch(bench, plan, concurrency=concurrency)
            _note(bench, "latency", "bare client", plan, concurrency, theirs)
            rows.append(_latency_row(plan, concurrency, ours, theirs))
    about = (
        f"The simulator, a process of its own, waits before each media; no limit for requests, http, tiny recordings, "
        f"medians of {runs} runs. *Bound* is concurrency / think time. What was reached is counted by the simulator: "
        "each request counts with the part of its time there that lies in the middle 80 % of the span from the first "
        "media request to the last answer, divided by the length of that middle; *share* is that over the bound. *With "
        "start and end* is all recordings over the whole span, over the bound: it has the listing's start in it, and "
        f"the end, when fewer are left than could be fetched at once. A *bare client* that always has so many "
        "requests in flight and throws away what comes shows what the simulator gives on the same cores: where its share "
        "stays under 1, that or the machine is the narrow place. *PBX busy* is the simulator's CPU time over the span of "
        "the archiver's run."
    )
    bench.publish("latency", "A slow PBX", about, LATENCY_HEAD, rows)


def _in_time(bench: Bench, plan: Plan, concurrency: int) -> Live:
    live = archive(bench, plan, concurrency=concurrency, requests_per_s=0.0, at_most_s=None)
    found = (live.report["outcome"], live.report["archived"], live.report["retries"], len(live.seen.ends))
    if found != ("complete", plan.count, 0, plan.count):
        raise RuntimeError(f"the archiver's report differs: {live.report}; {len(live.seen.ends)} answers seen")
    _note(bench, "latency", "archiver", plan, concurrency, live)
    return live


def _note(bench: Bench, figure: str, name: str, plan: Plan, concurrency: int, live: Live) -> None:
    """Tell how a run went as it comes, and append it to the raw results."""
    ended, seen = live.ended, live.seen
    say(f"  {figure} {name:12} {ended.wall_s:8.2f} s, {len(seen.ends)} media requests, {len(seen.refused_at)} refused")
    raw: dict[str, object] = {"contender": name, **asdict(plan), "concurrency": concurrency}
    raw |= {"processes": bench.chosen.processes, "wall_s": ended.wall_s, "user_s": ended.user_s}
    raw |= {"system_s": ended.system_s, "peak_rss_bytes": ended.peak_rss_bytes, "exit_code": ended.exit_code}
    raw |= {"span_s": seen.span_s, "pbx_cpu_s": seen.cpu_s, "passed": len(seen.passed_at)}
    raw |= {"refused": len(seen.refused_at), "report": live.report}
    if not seen.refused_at:
        raw["middle_per_s"] = seen.rate(*MIDDLE)
    bench.write_down(figure, raw)


def _latency_row(plan: Plan, concurrency: int, ours: list[Live], theirs: Live) -> list[str]:
    bound = concurrency / plan.think_time_s

    def of(value: Callable[[Live], float]) -> float:
        return median(value(live) for live in ours)

    reached = of(lambda live: live.seen.rate(*MIDDLE))
    return [
        f"{plan.think_time_s:g} s",
        f"{concurrency}",
        f"{plan.count:,}",
        f"{bound:,.1f}",
        f"{reached:,.1f}",
        f"**{reached / bound:.3f}**",
        f"{of(lambda live: plan.count / live.seen.span_s) / bound:.3f}",
        f"{theirs.seen.rate(*MIDDLE) / bound:.3f}",
        f"{of(lambda live: live.seen.cpu_s / live.seen.span_s):.0%}",
        f"{of(lambda live: 1000 * (live.ended.user_s + live.ended.system_s)) / plan.count:.2f}",
        f"{of(lambda live: live.ended.peak_rss_bytes / MIB):,.0f}",
    ]


def limit(bench: Bench) -> None:
    """How well the archiver uses a PBX that refuses what comes too fast."""
    capacity, refill_per_s = bench.chosen.bucket
    seconds = bench.chosen.seconds * bench.chosen.scale
    plan = Plan(round(capacity + refill_per_s * seconds), 0.0, capacity, refill_per_s)
    rows = []
    for requests_per_s in (0.0, refill_per_s):
        say(f"limit: {plan.count} recordings, requests_per_s = {requests_per_s:g}")
        bench.targets.prepare(plan.count * ROOM_BYTES)
        at_most_s = PATIENCE * plan.count / refill_per_s + 10
        live = archive(bench, plan, concurrency=CONCURRENCY, requests_per_s=requests_per_s, at_most_s=at_most_s)
        _note(bench, "limit", f"{requests_per_s:g}/s", plan, CONCURRENCY, live)
        rows.append(_limit_row(requests_per_s, plan, live))
    about = (
        f"The simulator with a token bucket like Kazoo's, {capacity:g} requests at once and {refill_per_s:g} more a "
        "second, which answers 429 without a Retry-After; http, tiny recordings, one run each. *Goodput* is requests "
        "that were served, pages included, in the middle 80 % of the time from the first answer to the last, so without "
        f"the full bucket's first burst; *of the refill* is that over {refill_per_s:g} a second. *Of all tokens* is "
        f"everything served over {capacity:g} + {refill_per_s:g} a second of that whole time. A run that is not done "
        f"after {PATIENCE} times what the bucket allows is ended (*interrupted*)."
    )
    bench.publish("limit", "A PBX that limits us", about, LIMIT_HEAD, rows)


def _limit_row(requests_per_s: float, plan: Plan, live: Live) -> list[str]:
    passed, refused = live.seen.passed_at, live.seen.refused_at
    answers = sorted([*passed, *refused])
    span_s = answers[-1] - answers[0]
    begin, end = (answers[0] + share * span_s for share in MIDDLE)
    goodput = sum(begin <= at < end for at in passed) / (end - begin)
    tokens = plan.bucket_capacity + plan.bucket_refill_per_s * span_s
    return [
        f"{requests_per_s:g}",
        f"{CONCURRENCY}",
        f"{plan.count:,}",
        f"{live.report['archived']:,}",
        live.report["outcome"],
        f"{live.ended.wall_s:.0f}",
        f"{goodput:.2f}",
        f"**{goodput / plan.bucket_refill_per_s:.3f}**",
        f"{(len(passed) - live.report['logins']) / tokens:.3f}",
        f"{len(answers):,}",
        f"{len(refused):,}",
        f"**{len(refused) / len(answers):.3f}**",
    ]
