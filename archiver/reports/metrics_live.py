"""What Prometheus is told of the command that works just now."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from prometheus_client.core import CounterMetricFamily

from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Tally
from archiver.reports.metrics_shapes import Family, Name, Refusal, by_label, counter, gauge


@dataclass(slots=True)
class Live:
    """The command that works just now: its counts so far, which stay live, and bytes of media that came in."""

    command: str
    started_at: datetime
    tally: Tally
    traffic: Traffic
    bytes_came: int = 0


def live_families(live: Live) -> Iterator[Family]:
    """What the command at work has done so far."""
    tally, traffic = live.tally, live.traffic
    yield by_label(
        Name.COMMAND_START, "When the command at work began.", "command", {live.command: live.started_at.timestamp()}
    )
    yield counter(Name.LISTED, "Recordings listed by the command at work.", tally.listed)
    yield counter(Name.ARCHIVED, "Recordings archived by the command at work.", tally.archived)
    yield counter(Name.ARCHIVED_BYTES, "Bytes archived by the command at work.", tally.bytes_archived)
    yield counter(Name.RECEIVED_BYTES, "Bytes of media that came in.", live.bytes_came)
    yield gauge(Name.UNDER_WAY, "Recordings that wait for their outcome.", tally.claimed - tally.settled)
    yield counter(Name.REQUESTS, "Requests to the PBX by the command at work.", traffic.requests)
    yield counter(Name.RETRIES, "Requests that were repeated.", traffic.retries)
    refused = CounterMetricFamily(
        Name.REFUSALS.removesuffix("_total"), "Answers that refused, by reason.", labels=["reason"]
    )
    refused.add_metric([Refusal.BUSY.value], traffic.refusals)
    refused.add_metric([Refusal.SIGN_IN.value], traffic.login_refusals)
    yield refused
    yield gauge(Name.CONCURRENCY_LIMIT, "Media that may be asked for at once just now.", traffic.at_once)
