"""A ledger of millions of recordings in PostgreSQL: sizes, times, how fast it can be written; then 100 million on paper."""

import asyncio
import os
import time

import psycopg

from archiver.ledger.ledger import open_ledger

from .bench import Bench, say
from .scale_model import Costs, Job, estimate
from .scale_partitions import compared
from .scale_rows import ACCOUNTS, DAYS, Made, load
from .scale_server import SCHEMA, Plans, served
from .scale_statements import Statements
from .scale_writers import written
from .tables import MIB

_PAPER = 100_000_000
_WORKERS = (1, 10, 100)
_RATES = (10.0, 100.0, 1000.0, 0.0)
_S3_WORKER_PER_S = 83.0
"""docs/performance.md, onto S3: recordings of 500 kB with sidecars, one process, server and client on the same cores."""
_MOST_COMPARED = 2_000_000


def scale(bench: Bench) -> None:
    """Fill the ledger, measure, and reckon."""
    made = Made(bench.chosen.rows)
    with served() as server:
        url = server.url(SCHEMA)
        asyncio.run(_empty(url))
        say(f"loads {made.rows:,} recordings of {ACCOUNTS} accounts and {DAYS} days")
        load_s = load(url, made)
        bytes_each = _sizes(bench, url, made, load_s)
        statements = Statements(url, Plans(server), made, bench.chosen.rounds)
        _times(bench, statements, made)
        ledger_per_s, written_bytes_each = _writers(bench, url, made)
        _partitions(bench, url, made)
    _paper(bench, made, Costs(_S3_WORKER_PER_S, ledger_per_s, bytes_each), written_bytes_each)


async def _empty(url: str) -> None:
    await (await open_ledger(url)).close()


def _sizes(bench: Bench, url: str, made: Made, load_s: float) -> float:
    """The table of sizes; bytes of all tables and indexes for one recording."""
    with psycopg.connect(url, autocommit=True) as connection:
        begun_s = time.monotonic()
        connection.execute("VACUUM")
        vacuum_s = time.monotonic() - begun_s
        begun_s = time.monotonic()
        connection.execute("ANALYZE")
        analyze_s = time.monotonic() - begun_s
        found = connection.execute(
            "SELECT c.relname, c.relkind = 'i', CASE c.relkind WHEN 'i' THEN pg_relation_size(c.oid) "
            "ELSE pg_table_size(c.oid) END AS size FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind IN ('r', 'i') ORDER BY size DESC",
            [SCHEMA],
        ).fetchall()
    total = sum(size for _, _, size in found)
    rows = [
        [f"`{name}`", "index" if is_index else "rows", f"{size / MIB:,.1f}", f"{size / made.rows:,.1f}"]
        for name, is_index, size in found
        if size > MIB
    ]
    rows.append(["all", "", f"{total / MIB:,.1f}", f"{total / made.rows:,.1f}"])
    about = (
        f"{made.rows:,} recordings of {ACCOUNTS} accounts and {DAYS} days, one in a hundred pending with its metadata, "
        f"loaded by COPY into the ledger's own tables with their indexes in {load_s:.0f} s "
        f"({made.rows / load_s:,.0f} a second); VACUUM {vacuum_s:.1f} s, "
        f"ANALYZE {analyze_s:.1f} s. PostgreSQL with fsync and `shared_buffers = 1GB` on the same cores.{_busy()}"
    )
    head = ["table or index", "kind", "MiB", "bytes a recording"]
    bench.publish("scalesizes", "The size of a ledger in PostgreSQL", about, head, rows)
    bench.write_down("scalesizes", {"rows": made.rows, "load_s": load_s, "bytes": total})
    return float(total / made.rows)


def _times(bench: Bench, statements: Statements, made: Made) -> None:
    say("times the ledger's calls")
    timed = asyncio.run(statements.measured())
    count, first_s, all_s = asyncio.run(statements.walked())
    about = (
        f"In the ledger of {made.rows:,}, through the program's own methods, each call of another account, "
        f"{bench.chosen.rounds} times; its commit is durable. Pages of 8 KiB and indexes are those of one more call, by "
        f"`auto_explain` (EXPLAIN ANALYZE, BUFFERS). A walk over all {count:,} objects in the order of their keys "
        f"(`verify`): the first after {first_s:.1f} s, {count / all_s:,.0f} a second in all.{_busy()}"
    )
    head = ["call", "of", "median ms", "longest ms", "pages touched", "read by"]
    bench.publish("scaletimes", "How long its calls take", about, head, [each.row for each in timed])
    for each in timed:
        raw = {"call": each.name, "about": each.about, "times_s": list(each.times_s), "pages": each.reads.pages}
        bench.write_down("scaletimes", raw)


def _writers(bench: Bench, url: str, made: Made) -> tuple[float, float]:
    """The table; the best rate of all in recordings a second, and by how many bytes the ledger grew for each."""
    rows, best, total, before = [], 0.0, 0, _size_of(url)
    for processes in (1, 2, 4):
        say(f"writes with {processes} processes")
        wrote = asyncio.run(written(url, processes, bench.chosen.write_seconds, first=processes * 10**10))
        per_s = sum(each.recordings / each.wall_s for each in wrote)
        cpu_ms = 1000 * sum(each.cpu_s for each in wrote) / sum(each.recordings for each in wrote)
        best = max(best, per_s)
        total += sum(each.recordings for each in wrote)
        rows.append([str(processes), "pages of 1,000", f"{per_s:,.0f}", f"{per_s / processes:,.0f}", f"{cpu_ms:.3f}"])
        bench.write_down("scalewriters", {"processes": processes, "per_s": per_s, "cpu_ms": cpu_ms})
    grown = (_size_of(url) - before) / total
    about = (
        f"Into the ledger of {made.rows:,}: new recordings, listed (`record_page`), settled as archived and durable, "
        "under a claim as on a cluster's worker, each process another account. Clients and server share the cores, so "
        f"a server of its own is faster. All tables and indexes grew by {grown:,.0f} bytes a recording: its "
        f"metadata and its row as it was pending leave room, which VACUUM gives to later ones.{_busy()}"
    )
    head = ["processes", "each", "recordings/s", "of one process", "client's CPU ms a recording"]
    bench.publish("scalewriters", "How fast it can be written", about, head, rows)
    return best, grown


def _partitions(bench: Bench, url: str, made: Made) -> None:
    say("compares with a partitioned table")
    rows = min(made.rows, _MOST_COMPARED)
    found = compared(url, rows=rows, rounds=max(3, 3 * bench.chosen.rounds))
    about = (
        f"Two copies of the first {rows:,} rows of `entries`: plain, and in 16 partitions by HASH (account_no). Medians "
        f"of {max(3, 3 * bench.chosen.rounds)} alternating rounds in milliseconds, each undone; the ratio is "
        f"partitioned over plain.{_busy()}"
    )
    head = ["of", "what", "plain", "16 partitions", "ratio"]
    bench.publish("scalepartitions", "Partitioned by account or not", about, head, found)


def _paper(bench: Bench, made: Made, costs: Costs, written_bytes_each: float) -> None:
    jobs = [Job(_PAPER, ACCOUNTS * DAYS, workers, rate) for workers in _WORKERS for rate in _RATES]
    rows = []
    for job in jobs:
        each = estimate(job, costs)
        rate = f"{job.requests_per_s:g}" if job.requests_per_s else "no limit"
        rows.append([str(job.workers), rate, f"{each.per_s:,.0f}", f"{each.hours:,.0f}", str(each.limit)])
    it = estimate(jobs[0], costs)
    about = (
        f"Not measured but reckoned (`tests/bench/scale_model.py`), from: a worker process onto S3 archives "
        f"{costs.worker_per_s:.0f} recordings of 500 kB a second (docs/performance.md), the ledger takes "
        f"{costs.ledger_per_s:,.0f} a second and {costs.ledger_bytes_each:,.0f} bytes for each (above). "
        f"In each case {it.requests:,} requests to the PBX, {it.puts:,} PUTs (${it.puts_usd:,.0f} at $0.005 for 1,000) "
        f"and a ledger of {it.ledger_gb:,.0f} GB, {_PAPER * written_bytes_each / 1e9:,.0f} GB if VACUUM never came."
    )
    head = ["workers", "`requests_per_s`", "recordings/s", "hours", "the limit"]
    bench.publish("scalepaper", "100 million recordings, on paper", about, head, rows)


def _busy() -> str:
    return f" The machine's load was {os.getloadavg()[0]:.1f}, of {os.cpu_count()} cores."


def _size_of(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace"
        ).fetchone()
    return int(found[0]) if found else 0
