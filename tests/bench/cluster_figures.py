"""Figures of a cluster on this machine: how much more several workers archive, and what the way there costs one."""

import json
from datetime import timedelta
from statistics import median

from cluster_rig import dask_cluster
from postgres_server import PostgresServer

from archiver.simulator import Credentials

from .archiver_settings import LOCAL_STORE, settings_toml
from .bench import Bench, say
from .corpus import BEGIN
from .launching import launch
from .live_pbx import Plan, living
from .live_runs import Live
from .scale_server import served

THINK_TIME_S = 1.0
AT_ONCE = 16
"""For each worker."""
SECONDS = 120.0
WORKERS = (1, 2, 4)
WINDOW_HOURS = 1
ROOM_BYTES = 16_384

HEAD = ["workers", "recordings", "s", "rec/s", "of linear", "parcels", "CPU s of the client per 1,000"]
COST_HEAD = ["", "recordings", "s", "of the plain run"]


def cluster(bench: Bench) -> None:
    """Recordings a second of 1, 2 and 4 workers, in turns, and of a plain run beside one worker."""
    rounds = bench.chosen.rounds
    runs: dict[int, list[Live]] = {workers: [] for workers in (0, *WORKERS)}
    parcels: dict[int, list[int]] = {workers: [] for workers in WORKERS}
    with served() as server:
        for number in range(rounds):
            for workers, done in runs.items():
                schema = f"round_{number}_{workers}"
                live = _archive(bench, server, schema, workers)
                done.append(live)
                if workers:
                    query = "SELECT count(*) FROM partition_claims WHERE state = 'done'"
                    parcels[workers].append(int(str(server.ask(schema, query)[0][0])))
    alone = _per_s(runs[1])
    rows = [
        [
            f"{workers}",
            f"{_count(bench, workers):,}",
            f"{median(live.report['duration_s'] for live in runs[workers]):.1f}",
            f"{_per_s(runs[workers]):.1f}",
            f"**{_per_s(runs[workers]) / (workers * alone):.3f}**",
            f"{median(parcels[workers]):.0f}",
            f"{median(_cpu(live) for live in runs[workers]):.2f}",
        ]
        for workers in WORKERS
    ]
    about = (
        f"Workers of one thread each, a scheduler, PostgreSQL (with fsync) and the simulator, all on this machine; the PBX "
        f"thinks {THINK_TIME_S:g} s before each media, and there are {AT_ONCE} requests at a time for each worker, "
        f"so that neither CPU nor network is the limit. Windows of {WINDOW_HOURS} h, tiny recordings, http, no limit of "
        f"requests; 1, 2 and 4 workers and the plain run take turns, medians of {rounds}. *s* is the run's own duration: "
        "from the first listing to the last outcome, with the time to reach the workers and to look at each."
    )
    bench.publish("cluster", "A cluster", about, HEAD, rows)
    plain, far = (median(live.report["duration_s"] for live in runs[workers]) for workers in (0, 1))
    cost = [
        ["plain run", f"{_count(bench, 1):,}", f"{plain:.1f}", "1.000"],
        ["one worker", f"{_count(bench, 1):,}", f"{far:.1f}", f"**{far / plain:.3f}**"],
    ]
    told = f"The same with one worker and without a cluster, both with the ledger in PostgreSQL; medians of {rounds}."
    bench.publish("cluster-cost", "What the way to a worker costs", told, COST_HEAD, cost)


def _count(bench: Bench, workers: int) -> int:
    return max(100, int(bench.chosen.scale * SECONDS * max(workers, 1) * AT_ONCE / THINK_TIME_S))


def _per_s(runs: list[Live]) -> float:
    return median(float(live.report["archived"]) / float(live.report["duration_s"]) for live in runs)


def _cpu(live: Live) -> float:
    return 1000 * (live.ended.user_s + live.ended.system_s) / float(live.report["archived"])


def _archive(bench: Bench, server: PostgresServer, schema: str, workers: int) -> Live:
    """One run; without workers a plain one.

    Raises:
        RuntimeError: it did not archive everything.
    """
    chosen, count = bench.chosen, _count(bench, workers)
    bench.targets.prepare(count * ROOM_BYTES)
    root, settings = bench.targets.fresh(), chosen.work / "settings.toml"
    plan = Plan(count, THINK_TIME_S)
    names = [f"worker-{number}" for number in range(workers)]
    with living(plan, chosen.work) as pbx, dask_cluster(chosen.work / "dask", *names) as dask:
        text = settings_toml(
            base_url=pbx.base_url,
            ca_file=None,
            page_size=chosen.page_size,
            concurrency=AT_ONCE * max(workers, 1),
            processes=1,
            store=LOCAL_STORE.format(durable="false"),
            root=root,
        )
        settings.touch(mode=0o600)
        settings.write_text(text + _shared(server.url(schema), dask.address if workers else ""), encoding="ascii")
        until = BEGIN + timedelta(days=plan.workload.days)
        period = ["--since", f"{BEGIN:%Y-%m-%d}", "--until", f"{until:%Y-%m-%d}"]
        command = [chosen.archiver, "--settings", str(settings), "-q", "run", *period, "--json"]
        ended = launch(command, chosen.work, {"ARCHIVER_PBX__PASSWORD": Credentials().password})
    said = ended.stdout.read_text(encoding="utf-8")
    report = json.loads(said) if said else {}
    if report.get("archived") != count:
        raise RuntimeError(f"the archiver ended with {ended.exit_code}:\n{ended.told}")
    say(f"  cluster {workers} workers {report['duration_s']:8.2f} s {count / report['duration_s']:8.1f}/s")
    bench.write_down("cluster", {"workers": workers, "report": report, "wall_s": ended.wall_s})
    return Live(ended, report, pbx.seen)


def _shared(url: str, scheduler: str) -> str:
    cluster = f'[cluster]\nscheduler = "{scheduler}"\n' if scheduler else ""
    return f'\n[listing]\nwindow_hours = {WINDOW_HOURS}\n[ledger]\nurl = "{url}"\n{cluster}'
