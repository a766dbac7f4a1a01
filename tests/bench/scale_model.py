"""On paper: what very many recordings take on a cluster, and which part becomes the limit first. Pure."""

from dataclasses import dataclass
from enum import StrEnum

_PUT_USD = 0.005 / 1000
_OVERLAP = 1.25
"""A window of 24 hours asks for six more."""


class Part(StrEnum):
    """What can be the limit."""

    WORKERS = "the workers"
    PBX = "the PBX (`requests_per_s`)"
    LEDGER = "the ledger"


@dataclass(frozen=True)
class Costs:
    """What was measured: rates in recordings a second, of one worker process and of the whole ledger."""

    worker_per_s: float
    ledger_per_s: float
    ledger_bytes_each: float
    page_size: int = 1000
    puts_each: int = 2


@dataclass(frozen=True)
class Job:
    """So many recordings, in so many windows (accounts times days), by so many workers; 0 requests a second is no limit."""

    recordings: int
    windows: int
    workers: int
    requests_per_s: float


@dataclass(frozen=True)
class Estimate:
    """What a job comes to. `per_s` is in recordings; requests are those to the PBX."""

    per_s: float
    hours: float
    requests: int
    puts: int
    puts_usd: float
    ledger_gb: float
    limit: Part


def estimate(job: Job, costs: Costs) -> Estimate:
    """As fast as the slowest part allows."""
    pages = max(job.windows, round(job.recordings * _OVERLAP / costs.page_size))
    requests = job.recordings + pages + job.workers
    bounds = {Part.WORKERS: job.workers * costs.worker_per_s, Part.LEDGER: costs.ledger_per_s}
    if job.requests_per_s:
        bounds[Part.PBX] = job.requests_per_s * job.recordings / requests
    limit = min(bounds, key=lambda part: bounds[part])
    puts = job.recordings * costs.puts_each
    return Estimate(
        per_s=bounds[limit],
        hours=job.recordings / bounds[limit] / 3600,
        requests=requests,
        puts=puts,
        puts_usd=puts * _PUT_USD,
        ledger_gb=job.recordings * costs.ledger_bytes_each / 1e9,
        limit=limit,
    )
