"""What Prometheus is told of an archive: its figures as metric families, or as their text.

No label holds a recording's id or anything that a caller could have given; account ids are the PBX's own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily

from archiver.ledger.values import Outcome
from archiver.proof.verification.findings import Kind
from archiver.reports.fixity import Fixity
from archiver.reports.metrics_shapes import Family, Name, Refusal, by_label, gauge
from archiver.reports.status import AccountStatus, LastRun, StatusReport

_UNFINISHED = "unfinished"
_NEVER_S = 0.0


class LastTraffic(msgspec.Struct, frozen=True):
    """What the last run's report says of its requests; a report without these counts has none."""

    requests: int | None = None
    retries: int | None = None
    refusals: int | None = None
    login_refusals: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of an archive; None for what could not be read.

    `account_ids` are those of the settings: only they are expected to be covered. `ledger_is_there` says whether there
    is a ledger that can be read.
    """

    version: str
    account_ids: frozenset[str]
    ledger_is_there: bool
    status: StatusReport | None
    last_traffic: LastTraffic
    fixity: Fixity | None


def text_of(figures: Figures) -> bytes:
    """The figures in Prometheus' text format, whole."""
    registry = CollectorRegistry()
    registry.register(_Once(list(archive_families(figures))))
    return generate_latest(registry)


def last_traffic(report: bytes) -> LastTraffic:
    """The requests of a run, from its report; nothing where the report has none."""
    try:
        return msgspec.json.decode(report, type=LastTraffic)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return LastTraffic()


def archive_families(figures: Figures) -> Iterator[Family]:
    """What is known of the archive, whether a command works on it or not."""
    yield InfoMetricFamily(Name.BUILD.removesuffix("_info"), "The archiver's version.", {"version": figures.version})
    yield gauge(Name.LEDGER_UP, "1 when there is a ledger that can be read, else 0.", float(figures.ledger_is_there))
    status = figures.status
    if status is not None:
        expected = [account for account in status.accounts if account.account_id in figures.account_ids]
        yield from _expected(expected)
        yield from _volumes(status.accounts)
        success = status.last_success
        yield gauge(
            Name.LAST_SUCCESS,
            "End of the last run that listed and left nothing undone, 0 when there was none.",
            _unix_s(success.ended_at) if success is not None else _NEVER_S,
        )
        if status.last_run is not None:
            yield from _last_run(status.last_run, figures.last_traffic)
    if figures.fixity is not None:
        yield from _fixity(figures.fixity)


def _expected(accounts: Iterable[AccountStatus]) -> Iterator[Family]:
    """What somebody waits for: only of the accounts in the settings."""
    of_accounts = list(accounts)
    yield _by_account(
        Name.COVERAGE,
        "Up to when everything is listed whole, 0 when nothing is.",
        {each.account_id: _unix_s(each.covered_through) if each.covered_through else _NEVER_S for each in of_accounts},
    )
    yield _by_account(
        Name.WINDOWS_INCOMPLETE,
        "Pieces of the calendar that are not listed whole.",
        {each.account_id: float(len(each.windows_incomplete)) for each in of_accounts},
    )
    yield _by_account(
        Name.OLDEST_PENDING_CALL,
        "Start of the oldest call that is pending; absent when none is.",
        {each.account_id: _unix_s(each.oldest_pending) for each in of_accounts if each.oldest_pending},
    )
    yield _by_account(
        Name.OLDEST_PENDING_LISTED,
        "Since when the recording that is pending longest is known; absent when none is.",
        {each.account_id: _unix_s(each.pending_since) for each in of_accounts if each.pending_since},
    )


def _volumes(accounts: Iterable[AccountStatus]) -> Iterator[Family]:
    labels = ["account_id", "status"]
    recordings = GaugeMetricFamily(Name.RECORDINGS, "Recordings by status.", labels=labels)
    size = GaugeMetricFamily(Name.RECORDING_BYTES, "Bytes of recordings by status, as far as known.", labels=labels)
    for account in accounts:
        for status, count in account.recordings.items():
            recordings.add_metric([account.account_id, status], count)
            size.add_metric([account.account_id, status], account.bytes.get(status, 0))
    yield recordings
    yield size


def _last_run(run: LastRun, traffic: LastTraffic) -> Iterator[Family]:
    yield gauge(Name.LAST_RUN_START, "When the last run began.", _unix_s(run.started_at))
    if run.ended_at is not None:
        yield gauge(Name.LAST_RUN_END, "When it ended; absent until it does.", _unix_s(run.ended_at))
        took_s = _unix_s(run.ended_at) - _unix_s(run.started_at)
        yield gauge(Name.LAST_RUN_DURATION, "How long it took; absent until it ends.", took_s)
    outcomes = [*(outcome.value for outcome in Outcome), _UNFINISHED]
    yield by_label(
        Name.LAST_RUN_OUTCOME,
        "1 for how it ended (unfinished: it goes on, or was killed), 0 for the others.",
        "outcome",
        {outcome: float(outcome == (run.outcome or _UNFINISHED)) for outcome in outcomes},
    )
    if traffic.requests is not None:
        yield gauge(Name.LAST_RUN_REQUESTS, "Requests of the last run to the PBX.", traffic.requests)
    if traffic.retries is not None:
        yield gauge(Name.LAST_RUN_RETRIES, "Those that were repeated.", traffic.retries)
    if traffic.refusals is not None and traffic.login_refusals is not None:
        yield by_label(
            Name.LAST_RUN_REFUSALS,
            "Answers that refused, by reason.",
            "reason",
            {Refusal.BUSY.value: traffic.refusals, Refusal.SIGN_IN.value: traffic.login_refusals},
        )


def _fixity(fixity: Fixity) -> Iterator[Family]:
    verified = GaugeMetricFamily(
        Name.LAST_VERIFICATION, "When a verification was last carried through.", labels=["level", "extent"]
    )
    for (level, extent), at in fixity.verified_at.items():
        verified.add_metric([level.value, extent.value], at.timestamp())
    yield verified
    findings = GaugeMetricFamily(
        Name.FINDINGS, "What verifications of a level found, and no repair has mended.", labels=["level", "kind"]
    )
    for level, counts in fixity.findings.items():
        for kind in Kind:
            findings.add_metric([level.value, kind.value], counts.get(kind, 0))
    yield findings


def _by_account(name: Name, meaning: str, values: Mapping[str, float]) -> Family:
    return by_label(name, meaning, "account_id", values)


def _unix_s(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


class _Once:
    """Families that are gathered already."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """All of them."""
        return self._families
