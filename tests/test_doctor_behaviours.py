"""`doctor` against each switch of the simulator: it names what it met, or says that it could not be told."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from archive_rig import ACCOUNTS, Rig, cdr

from archiver.commands.examination import examine
from archiver.proof.examination.behaviours import MATTERS, Name
from archiver.reports.doctor import BehaviourLine, DoctorReport
from archiver.simulator import (
    BucketRule,
    Corpus,
    ExpireToken,
    Fault,
    FaultScript,
    SimulatedRecording,
    Simulator,
    SimulatorThread,
    Status,
    Switches,
)

NOW = datetime(2024, 6, 1, 3, tzinfo=UTC)
"""A month has just begun, and a call runs over its edge."""
MOST_REQUESTS = 45


def call(ordinal: int, start_at: datetime, *, duration_s: int = 4, account: int = 0) -> SimulatedRecording:
    return SimulatedRecording(
        account_id=ACCOUNTS[account],
        recording_id=f"{start_at:%Y%m}-{ordinal:032x}",
        start_unix_s=int(start_at.timestamp()),
        duration_ms=duration_s * 1000,
    )


def calls() -> list[SimulatedRecording]:
    """Calls of an evening: two of them in the same second, and one over the month's end."""
    evening = datetime(2024, 5, 31, 20, tzinfo=UTC)
    rows = [call(ordinal, evening + timedelta(minutes=ordinal)) for ordinal in range(12)]
    rows.append(call(12, evening + timedelta(minutes=5)))
    return [*rows, call(13, datetime(2024, 5, 31, 23, 58, tzinfo=UTC), duration_s=240)]


@contextmanager
def pbx_with(
    folder: Path,
    rows: list[SimulatedRecording],
    *,
    switches: Switches | None = None,
    cdrs: bool = True,
    faults: tuple[Fault, ...] = (),
) -> Iterator[Rig]:
    """A rig whose PBX lives at NOW."""
    corpus = Corpus(rows, [cdr(row) for row in rows] if cdrs else (), accounts=ACCOUNTS)
    simulator = Simulator(corpus, switches=switches, faults=FaultScript(faults), clock=NOW.timestamp)
    with SimulatorThread(simulator) as pbx:
        yield Rig(folder, pbx)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARCHIVER_PBX__PASSWORD", "simulator")
    return tmp_path / "work"


def look(it: Rig, *, write_profile: bool = False, now: datetime = NOW) -> DoctorReport:
    """The doctor in this process, at the PBX's time."""
    return examine(it.settings_file, hide=lambda _: None, write_profile=write_profile, now=lambda: now)


def by_name(report: DoctorReport) -> dict[str, BehaviourLine]:
    assert [line.name for line in report.behaviours] == [str(name) for name in Name], report
    return {line.name: line for line in report.behaviours}


def checks(report: DoctorReport, section: str = "pbx") -> Mapping[str, Any]:
    return {check.name: check for part in report.sections if part.name == section for check in part.checks}


# Each switch, each value

EXPECTED: dict[tuple[str, Any], dict[str, str]] = {
    ("time_field", "pvt_created"): {"time_field": "pvt_created"},
    ("time_field", "start"): {"time_field": "start"},
    ("time_unit", "s"): {"time_unit": "s"},
    ("time_unit", "ms"): {"time_unit": "ms"},
    ("time_unit", "either"): {"time_unit": "either"},
    ("end_bound", "inclusive"): {"end_bound": "inclusive"},
    ("end_bound", "exclusive"): {"end_bound": "exclusive"},
    ("order", "ascending"): {"order": "ascending"},
    ("order", "descending"): {"order": "descending"},
    ("cursor", "inclusive"): {"cursor": "inclusive"},
    ("cursor", "exclusive"): {"cursor": "exclusive"},
    ("cursor", "exact"): {"cursor": "exact"},
    ("recordings_cursor", "top"): {"recordings_cursor": "top"},
    ("recordings_cursor", "in_data"): {"recordings_cursor": "in_data"},
    ("recordings_cursor", "both"): {"recordings_cursor": "both"},
    ("cdrs_cursor", "top"): {"cdrs_cursor": "top"},
    ("cdrs_cursor", "in_data"): {"cdrs_cursor": "in_data"},
    ("cdrs_cursor", "both"): {"cdrs_cursor": "both"},
    ("last_cursor", "absent"): {"last_cursor": "absent"},
    ("last_cursor", "null"): {"last_cursor": "null"},
    ("last_cursor", "empty"): {"last_cursor": "empty"},
    ("empty_page", "list"): {"empty_page": "list"},
    ("empty_page", "null"): {"empty_page": "null"},
    ("page_cap", 5): {"page_cap": "5", "over_cap": "clamp"},
    ("over_cap", "clamp"): {"page_cap": "", "over_cap": ""},
    ("over_cap", "refuse"): {"page_cap": "", "over_cap": "refuse"},
    ("default_page_size", 3): {"default_page_size": "3"},
    ("max_range_days", 60.0): {"long_range": "whole", "longest_query": "whole"},
    ("max_range_days", 1.0): {"long_range": "refused", "longest_query": "refused"},
    ("over_range", "refuse"): {"long_range": "refused", "longest_query": "whole"},
    ("over_range", "clamp"): {"long_range": "clamped", "longest_query": "whole"},
    ("per_month_databases", True): {"month_edges": "hidden"},
    ("per_month_databases", False): {"month_edges": "shown"},
    ("wrong_parameters", "ignore"): {"wrong_parameters": "ignore"},
    ("wrong_parameters", "refuse"): {"wrong_parameters": "refuse"},
    ("numbers", "sample"): {"numbers": "number", "cdr_numbers": "text"},
    ("numbers", "number"): {"numbers": "number", "cdr_numbers": "number"},
    ("numbers", "text"): {"numbers": "text", "cdr_numbers": "text"},
    ("cdr_timestamp", "gregorian"): {"cdr_timestamp": "gregorian"},
    ("cdr_timestamp", "unix"): {"cdr_timestamp": "unix"},
    ("cdr_timestamp", "ms"): {"cdr_timestamp": "ms"},
    ("attachments", "one"): {"attachments": "one"},
    ("attachments", "none"): {"attachments": "none", "digest": ""},
    ("attachments", "several"): {"attachments": "several"},
    ("digest", "empty"): {"digest": "empty"},
    ("digest", "md5"): {"digest": "md5"},
    ("media_path", "singular"): {"media_path": "singular"},
    ("media_path", "plural"): {"media_path": "plural"},
    ("media_path", "both"): {"media_path": "both"},
    ("media_answer", "audio"): {"media_answer": "audio"},
    ("media_answer", "json_unless_accept"): {"media_answer": "json_unless_accept"},
    ("media_framing", "content_length"): {"media_framing": "content_length"},
    ("media_framing", "chunked"): {"media_framing": "chunked"},
    ("media_framing", "close"): {"media_framing": "close"},
    ("ranges", True): {"ranges": "yes"},
    ("ranges", False): {"ranges": "no"},
    ("etag", True): {"etag": "yes"},
    ("etag", False): {"etag": "no"},
    ("content_disposition", True): {"content_disposition": "yes"},
    ("content_disposition", False): {"content_disposition": "no"},
    ("token_lifetime_s", 1800.0): {"token_lifetime": "1800 s"},
    ("unknown_account", "forbidden"): {"unknown_account": "forbidden"},
    ("unknown_account", "empty"): {"unknown_account": "empty"},
    ("unknown_account", "not_found"): {"unknown_account": "not_found"},
    ("error_bodies", "text"): {"error_bodies": "text"},
    ("error_bodies", "json"): {"error_bodies": "json"},
    ("bucket", None): {"rate_limit": ""},
    ("bucket", BucketRule(6, 8)): {"rate_limit": "429"},
    ("bucket", BucketRule(15, 8, retry_after=True)): {"rate_limit": "429 Retry-After"},
}
MEASURED = {"round_trip_s", "media_think_time_s", "bandwidth_bytes_per_s"}
"""They have no name but a number; `test_speed…` looks at what is said of them."""
STATES = {
    ("time_unit", "ms"): ("time_unit", "failed", 'pbx.time_unit = "ms"'),
    ("page_cap", 5): ("page_cap", "ok", "pbx.page_size = 5 (not needed: a run goes on from the cursor)"),
    ("max_range_days", 1.0): ("longest_query", "failed", "ask whoever runs the PBX"),
    ("attachments", "none"): ("attachments", "weak", "nothing to set: only the framing of the transfer"),
    ("media_path", "plural"): (
        "media_path",
        "weak",
        'pbx.recording_path = "/api/v2/reports/recordings/{recording_id}"',
    ),
    ("media_framing", "close"): ("media_framing", "weak", "ask whoever runs the PBX"),
    ("unknown_account", "empty"): ("unknown_account", "weak", "see that every id in pbx.account_ids is right"),
    ("bucket", BucketRule(6, 8)): ("rate_limit", "weak", "transfer.requests_per_s"),
    ("bucket", BucketRule(15, 8, retry_after=True)): ("rate_limit", "weak", "transfer.requests_per_s"),
}
"""What matters is not only seen."""


@pytest.mark.parametrize(("switch", "value"), EXPECTED, ids=[f"{name}={value}" for name, value in EXPECTED])
def test_what_a_switch_plays_is_named(folder: Path, switch: str, value: Any) -> None:
    with pbx_with(folder, calls(), switches=replace(Switches(), **{switch: value})) as it:
        if switch == "bucket":
            it.configure(pbx={"retry_wait_s": 0.4})
        report = look(it)
        found = by_name(report)
        assert {name: found[name].seen for name in EXPECTED[switch, value]} == EXPECTED[switch, value], report
        assert report.exit_code == {("time_unit", "ms"): 2, ("max_range_days", 1.0): 8}.get((switch, value), 0), report
        if (switch, value) in STATES:
            name, state, advice = STATES[switch, value]
            assert found[name].state == state
            assert found[name].advice.startswith(advice)
        else:
            assert {line.state for line in report.behaviours} <= {"ok", "unknown"}, report
        assert it.pbx.stats.requests <= MOST_REQUESTS
        assert it.files() == {}


def test_no_switch_of_the_simulator_and_no_value_of_one_is_left_out() -> None:
    kinds = get_type_hints(Switches)
    assert {switch for switch, _ in EXPECTED} | MEASURED == {one.name for one in fields(Switches)}
    for name, kind in kinds.items():
        if get_origin(kind) is Literal or kind is bool:
            values = {value for switch, value in EXPECTED if switch == name}
            assert values == (set(get_args(kind)) or {True, False}), name


def test_speed_is_that_of_the_answers_and_of_the_one_recording(folder: Path) -> None:
    slow = Switches(round_trip_s=0.03, media_think_time_s=0.2, bandwidth_bytes_per_s=100_000)
    with pbx_with(folder, calls(), switches=slow) as it:
        speed = by_name(look(it))["speed"]
        told = re.search(r"after ([\d,]+) ms, .*recording after ([\d,]+) ms, at ([\d.]+) MB/s", speed.found)
        assert told is not None, speed
        assert int(told[1]) >= 30
        assert int(told[2]) >= 230
        assert float(told[3]) <= 0.1


@pytest.mark.parametrize("over", ["refuse", "clamp"])
@pytest.mark.parametrize(("wanted", "right"), [("s", "ms"), ("ms", "s")])
def test_the_wrong_unit_is_told_and_the_advice_works(folder: Path, wanted: str, right: Any, over: Any) -> None:
    with pbx_with(folder, calls(), switches=Switches(time_unit=right, over_range=over)) as it:
        it.configure(pbx={"time_unit": wanted})
        report = look(it)
        line = by_name(report)["time_unit"]
        assert (report.exit_code, line.state, line.seen) == (2, "failed", right)
        assert line.advice == f'pbx.time_unit = "{right}"'
        assert by_name(report)["time_field"].seen == "pvt_created"
        it.configure(pbx={"time_unit": right})
        assert look(it).exit_code == 0


# Too little to tell


ALWAYS = {"empty_page", "wrong_parameters", "unknown_account", "other_accounts", "no_such_recording", "error_bodies"}
ALWAYS |= {"token_lifetime", "speed", "long_range"}
"""What can be told of a PBX without a single call; a range that is refused is refused without calls, too."""


def test_without_any_call_it_says_of_each_thing_that_it_could_not_be_told(folder: Path) -> None:
    with pbx_with(folder, []) as it:
        report = look(it)
        found = by_name(report)
        untold = {name for name, line in found.items() if line.state == "unknown"}
        assert untold == {str(name) for name in Name} - ALWAYS
        for name in untold:
            assert found[name].seen == ""
            assert found[name].found.startswith("could not be told: ")
        assert (report.exit_code, checks(report)["listing"].state) == (0, "weak")


def test_with_one_call_paging_could_not_be_told_and_the_rest_is(folder: Path) -> None:
    with pbx_with(folder, [call(0, NOW - timedelta(hours=5))]) as it:
        found = by_name(look(it))
        assert {name for name, line in found.items() if line.state == "unknown"} == {
            "order", "cursor", "recordings_cursor", "page_cap", "over_cap", "default_page_size", "month_edges",
            "cdrs_cursor", "rate_limit",
        }  # fmt: skip
        assert (found["time_unit"].seen, found["time_field"].seen) == ("either", "pvt_created")


def test_inclusive_and_exact_cursors_are_told_apart_only_by_two_calls_in_one_second(folder: Path) -> None:
    rows = [call(ordinal, NOW - timedelta(minutes=90 - ordinal)) for ordinal in range(5)]
    with pbx_with(folder, rows, switches=Switches(cursor="exact")) as it:
        cursor = by_name(look(it))["cursor"]
        assert (cursor.state, cursor.seen) == ("unknown", "")
        assert "inclusive or exact" in cursor.found


def test_short_calls_whose_times_lie_too_close_tell_no_time_field(folder: Path) -> None:
    rows = [call(ordinal, NOW - timedelta(minutes=90 - ordinal), duration_s=1) for ordinal in range(5)]
    with pbx_with(folder, rows) as it:
        field = by_name(look(it))["time_field"]
        assert (field.state, field.seen) == ("unknown", "")


def test_calls_of_three_weeks_ago_are_found(folder: Path) -> None:
    with pbx_with(folder, [call(ordinal, NOW - timedelta(days=21, minutes=ordinal)) for ordinal in range(3)]) as it:
        report = look(it)
        assert "3 recordings on a page of the last 672 hours" in checks(report)["listing"].found
        assert by_name(report)["time_field"].seen == "pvt_created"


# Limits


def many(count: int) -> list[SimulatedRecording]:
    return [call(ordinal, NOW - timedelta(hours=20, seconds=-5 * ordinal)) for ordinal in range(count)]


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("over", ["clamp", "refuse"])
def test_among_more_calls_than_a_page_long_queries_are_still_told(folder: Path, order: Any, over: Any) -> None:
    with pbx_with(folder, many(450), switches=Switches(order=order, over_range=over), cdrs=False) as it:
        found = by_name(look(it))
        assert found["long_range"].seen == {"clamp": "clamped", "refuse": "refused"}[over]
        assert (found["longest_query"].seen, found["time_field"].seen) == ("whole", "pvt_created")
        assert (found["default_page_size"].seen, found["page_cap"].seen) == ("50", "")


@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
@pytest.mark.parametrize(("days", "reach"), [(30, "whole"), (1.5, "clamped")])
def test_a_query_whose_end_lies_many_pages_on_is_told_by_going_on_from_there(
    folder: Path, cursor: Any, days: float, reach: str
) -> None:
    before = [call(1000 + ordinal, NOW - timedelta(hours=40, seconds=-5 * ordinal)) for ordinal in range(300)]
    switches = Switches(cursor=cursor, over_range="clamp", max_range_days=days)
    with pbx_with(folder, [*before, *many(10)], switches=switches, cdrs=False) as it:
        # A query of a run is 44 hours long here: it begins 64 hours ago, and the recordings that it ends at follow 300.
        assert by_name(look(it))["longest_query"].seen == reach


@pytest.mark.parametrize(("cap", "size"), [(300, "300"), (120, "120")])
def test_a_cap_below_the_configured_page_is_the_number_of_rows_that_came(folder: Path, cap: int, size: str) -> None:
    with pbx_with(folder, many(450), switches=Switches(page_cap=cap), cdrs=False) as it:
        found = by_name(look(it))
        assert (found["page_cap"].seen, found["over_cap"].seen) == (size, "clamp")
        assert found["page_cap"].state == "ok"


@pytest.mark.parametrize(("cap", "size"), [(600, 500), (100, 100), (5, 5), (1, 1)])
def test_pages_that_are_refused_as_too_large_get_a_size_that_works(folder: Path, cap: int, size: int) -> None:
    with pbx_with(folder, calls(), switches=Switches(page_cap=cap, over_cap="refuse")) as it:
        report = look(it)
        cap_line = by_name(report)["page_cap"]
        assert (report.exit_code, cap_line.state, cap_line.advice) == (8, "failed", f"pbx.page_size = {size}")
        assert it.pbx.stats.requests <= MOST_REQUESTS
        it.configure(pbx={"page_size": size})
        assert look(it).exit_code == 0


@pytest.mark.parametrize("over", ["clamp", "refuse"])
def test_a_query_of_a_run_that_is_too_long_fails_and_the_advice_works(folder: Path, over: Any) -> None:
    rows = [call(ordinal, NOW - timedelta(hours=3, minutes=ordinal)) for ordinal in range(4)]
    with pbx_with(folder, rows, switches=Switches(max_range_days=4, over_range=over)) as it:
        it.configure(listing={"window_hours": 168})
        report = look(it)
        line = by_name(report)["longest_query"]
        assert (report.exit_code, line.state, line.seen) == (8, "failed", {"clamp": "clamped"}.get(over, "refused"))
        hours = int(line.advice.removeprefix("listing.window_hours = "))
        it.configure(listing={"window_hours": hours})
        assert by_name(look(it))["longest_query"].seen == "whole"


def test_when_even_a_day_is_refused_shorter_pages_are_listed(folder: Path) -> None:
    rows = [call(ordinal, NOW - timedelta(hours=3, minutes=ordinal)) for ordinal in range(4)]
    with pbx_with(folder, rows, switches=Switches(max_range_days=0.5)) as it:
        report = look(it)
        assert checks(report)["listing"].state == "ok"
        line = by_name(report)["longest_query"]
        assert (line.state, line.seen) == ("failed", "refused")
        assert line.advice.startswith("ask whoever runs the PBX: over a month's edge a run needs")


# Other trouble


def test_a_token_that_ends_in_the_middle_is_renewed(folder: Path) -> None:
    ended = (Fault(on="recordings", after=4, action=ExpireToken()), Fault(on="media", after=2, action=ExpireToken()))
    with pbx_with(folder, calls(), faults=ended) as it:
        found = by_name(look(it))
        assert it.pbx.stats.logins == 3
        assert {name for name, line in found.items() if line.state == "unknown"} == {
            "page_cap", "over_cap", "default_page_size", "rate_limit",
        }  # fmt: skip


def test_the_other_accounts_are_asked_for_and_one_that_is_refused_fails(folder: Path) -> None:
    refused = Fault(on="recordings", account_id=ACCOUNTS[1], action=Status(code=403), times=-1)
    with pbx_with(folder, calls(), faults=(refused,)) as it:
        report = look(it)
        line = by_name(report)["other_accounts"]
        assert (report.exit_code, line.state) == (8, "failed")
        assert ACCOUNTS[1] in line.found


def test_a_user_who_may_not_read_cdrs_can_archive_all_the_same(folder: Path) -> None:
    refused = Fault(on="cdrs", action=Status(code=403), times=-1)
    with pbx_with(folder, calls(), faults=(refused,)) as it:
        report = look(it)
        line = by_name(report)["cdrs"]
        assert (report.exit_code, line.state, line.seen) == (0, "weak", "refused")


def test_a_pbx_that_fails_in_the_middle_is_not_asked_on_and_on(folder: Path) -> None:
    broken = Fault(on="recordings", after=1, action=Status(code=500), times=-1)
    with pbx_with(folder, calls(), faults=(broken,)) as it:
        found = by_name(look(it))
        assert it.pbx.stats.recordings_pages <= 8
        assert "HTTP 500" in found["time_unit"].found
        assert "failed too often" in found["wrong_parameters"].found
        assert {line.state for line in found.values()} <= {"ok", "unknown"}


def test_a_time_filter_that_is_passed_over_is_told(folder: Path) -> None:
    rows = [call(0, NOW - timedelta(hours=2)), call(1, datetime(2001, 9, 9, 2, 30, tzinfo=UTC))]
    with pbx_with(folder, rows) as it:
        line = by_name(look(it))["empty_page"]
        assert (line.state, line.seen) == ("weak", "")
        assert "passes over startDate and endDate" in line.found


def test_requests_keep_to_the_configured_rate_and_are_few_dozens(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        it.configure(transfer={"requests_per_s": 15})
        begun_s = time.monotonic()
        look(it)
        took_s = time.monotonic() - begun_s
        requests = it.pbx.stats.requests
        assert 15 < requests <= 36
        assert took_s >= (requests - 15) / 15 - 0.1
        assert max(it.pbx.stats.media_gets.values()) <= 4


def test_at_most_one_recording_comes_whole(folder: Path) -> None:
    rows = [call(ordinal, NOW - timedelta(hours=3, minutes=-9 * ordinal), duration_s=500) for ordinal in range(4)]
    sizes = [len(b"".join(row.source.chunks())) for row in rows]
    for framing in ("content_length", "chunked", "close"):
        with pbx_with(folder, rows, switches=Switches(media_framing=framing, attachments="none")) as it:
            look(it)
            fetched = {key[1] for key, gets in it.pbx.stats.media_gets.items() if gets}
            assert len(fetched & {row.recording_id for row in rows}) == 1
            assert it.pbx.stats.body_bytes < 5 * max(sizes)


def test_no_secret_is_in_the_report(folder: Path) -> None:
    corpus = Corpus(calls(), accounts=ACCOUNTS)
    simulator = Simulator(corpus, clock=NOW.timestamp)
    with SimulatorThread(simulator) as pbx:
        it = Rig(folder, pbx)
        said = repr(look(it, write_profile=True)) + (it.root / ".archiver" / "pbx-profile.json").read_text()
        canaries = simulator.canaries
        assert len(canaries) > 3
        assert not [secret for secret in canaries if secret in said]


def test_each_behaviour_says_what_it_means_for_a_run() -> None:
    assert set(MATTERS) == set(Name)
    assert all(MATTERS.values())
