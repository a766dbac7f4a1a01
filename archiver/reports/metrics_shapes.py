"""The metrics' names, and how each kind of them is made with prometheus_client."""

from collections.abc import Mapping
from enum import StrEnum

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

Family = Metric
"""A metric with its samples."""


class Name(StrEnum):
    """Every metric there is; `docs/monitoring.md` explains each."""

    BUILD = "archiver_build_info"
    LEDGER_UP = "archiver_ledger_up"
    COVERAGE = "archiver_coverage_timestamp_seconds"
    WINDOWS_INCOMPLETE = "archiver_windows_incomplete"
    OLDEST_PENDING_CALL = "archiver_oldest_pending_call_timestamp_seconds"
    OLDEST_PENDING_LISTED = "archiver_oldest_pending_listed_timestamp_seconds"
    RECORDINGS = "archiver_recordings"
    RECORDING_BYTES = "archiver_recording_bytes"
    LAST_RUN_START = "archiver_last_run_start_timestamp_seconds"
    LAST_RUN_END = "archiver_last_run_end_timestamp_seconds"
    LAST_RUN_DURATION = "archiver_last_run_duration_seconds"
    LAST_RUN_OUTCOME = "archiver_last_run_outcome"
    LAST_RUN_REQUESTS = "archiver_last_run_requests"
    LAST_RUN_RETRIES = "archiver_last_run_retries"
    LAST_RUN_REFUSALS = "archiver_last_run_refusals"
    LAST_SUCCESS = "archiver_last_success_timestamp_seconds"
    LAST_VERIFICATION = "archiver_last_verification_timestamp_seconds"
    FINDINGS = "archiver_findings"
    COMMAND_START = "archiver_command_start_timestamp_seconds"
    LISTED = "archiver_listed_total"
    ARCHIVED = "archiver_archived_total"
    ARCHIVED_BYTES = "archiver_archived_bytes_total"
    RECEIVED_BYTES = "archiver_received_bytes_total"
    UNDER_WAY = "archiver_under_way"
    REQUESTS = "archiver_requests_total"
    RETRIES = "archiver_retries_total"
    REFUSALS = "archiver_refusals_total"
    CONCURRENCY_LIMIT = "archiver_concurrency_limit"


class Refusal(StrEnum):
    """How the PBX refused: it asked for fewer requests (429, 503), or it refused the sign-in for good."""

    BUSY = "busy"
    SIGN_IN = "sign_in"


def gauge(name: Name, meaning: str, value: float) -> Family:
    """One value that comes and goes."""
    return GaugeMetricFamily(name, meaning, value)


def counter(name: Name, meaning: str, value: float) -> Family:
    """One count that only grows while a command works."""
    return CounterMetricFamily(name.removesuffix("_total"), meaning, value)


def by_label(name: Name, meaning: str, label: str, values: Mapping[str, float]) -> Family:
    """Values that come and go, by a label."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
