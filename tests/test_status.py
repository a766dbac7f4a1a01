"""`status`: what it shows, and what it alarms about when nobody watches."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, SINCE, UNTIL, recording, recordings, rig
from in_process import PERIOD, archived, made
from ledgers import ACCOUNT, DAY, NOON, SHA, failed, list_page
from ledgers import recording as listed

from archiver.assembly import RunRequest
from archiver.commands.inspection import run_status
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Outcome, Run, Settlement, WindowState
from archiver.recording import Fixity, Status
from archiver.reports.status import Alarm, AlarmReason, status_report
from archiver.simulator import Fault
from archiver.simulator.actions import Status as NotThere

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
MAX_AGE = 26 * HOUR
LISTED = b'{"listed":3}'


async def alarms(
    ledger: SqlLedger | None, now: datetime, accounts: Sequence[str] = (ACCOUNT,)
) -> list[tuple[str | None, AlarmReason, str | None]]:
    """What alarms, less its words."""
    report = await status_report(ledger, accounts, now=now, max_age=MAX_AGE)
    assert report.max_age_s == MAX_AGE.total_seconds()
    assert all(alarm.detail.endswith(".") for alarm in report.alarms)
    return [(alarm.account_id, alarm.reason, alarm.since) for alarm in report.alarms]


def stamp(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


async def cover(ledger: SqlLedger, account_id: str = ACCOUNT) -> None:
    """The account is covered through the day's end."""
    await ledger.finish_window(account_id, DAY, state=WindowState.COMPLETE, scanned_at=NOON)


async def end(ledger: SqlLedger, run: Run, at: datetime, outcome: Outcome = Outcome.COMPLETE) -> None:
    await ledger.end_run(run, outcome=outcome, ended_at=at, report=LISTED)


async def test_what_is_exactly_as_old_as_may_be_does_not_alarm_and_what_is_older_does(
    ledger: SqlLedger, run: Run
) -> None:
    await list_page(ledger, run, listed("a"), at=DAY.end_at)
    await cover(ledger)
    await end(ledger, run, DAY.end_at, Outcome.INCOMPLETE)
    assert await alarms(ledger, DAY.end_at + MAX_AGE) == []
    since = stamp(DAY.end_at)
    for late in (timedelta(microseconds=1), SECOND, 1000 * HOUR):
        assert await alarms(ledger, DAY.end_at + MAX_AGE + late) == [
            (None, AlarmReason.RUN, since),
            (ACCOUNT, AlarmReason.COVERAGE, since),
            (ACCOUNT, AlarmReason.PENDING, since),
        ]


async def test_each_alarm_stands_for_itself(ledger: SqlLedger, run: Run) -> None:
    now = DAY.end_at + 2 * MAX_AGE
    await list_page(ledger, run, listed("a"), at=now)
    await ledger.finish_window(ACCOUNT, DAY, state=WindowState.INCOMPLETE, scanned_at=NOON, reason="cut")
    await end(ledger, run, now)
    assert await alarms(ledger, now) == [(ACCOUNT, AlarmReason.COVERAGE, None)]
    await cover(ledger)
    assert await alarms(ledger, now) == [(ACCOUNT, AlarmReason.COVERAGE, stamp(DAY.end_at))]
    assert await alarms(ledger, DAY.end_at) == []


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.INTERRUPTED, None])
async def test_a_run_that_failed_was_stopped_or_was_killed_is_no_run_that_came_to_its_end(
    ledger: SqlLedger, run: Run, outcome: Outcome | None
) -> None:
    await cover(ledger)
    await end(ledger, run, DAY.end_at)
    second = await ledger.begin_run("second", started_at=DAY.end_at + MAX_AGE)
    if outcome is not None:
        await end(ledger, second, DAY.end_at + MAX_AGE, outcome)
    assert await alarms(ledger, DAY.end_at + MAX_AGE) == []
    assert await alarms(ledger, DAY.end_at + MAX_AGE + SECOND) == [
        (None, AlarmReason.RUN, stamp(DAY.end_at)),
        (ACCOUNT, AlarmReason.COVERAGE, stamp(DAY.end_at)),
    ]


async def test_what_is_not_pending_any_more_does_not_alarm(ledger: SqlLedger, run: Run) -> None:
    now = DAY.end_at
    tasks = await list_page(ledger, run, *(listed(name) for name in "abc"), at=now - MAX_AGE - SECOND)
    await cover(ledger)
    await end(ledger, run, now)
    assert [reason for _, reason, _ in await alarms(ledger, now)] == [AlarmReason.PENDING]
    await ledger.settle(run, failed(tasks[0], Status.MISSING))
    await ledger.settle(run, failed(tasks[1], Status.QUARANTINED))
    assert [reason for _, reason, _ in await alarms(ledger, now)] == [AlarmReason.PENDING]
    done = Settlement(
        tasks[2].entry_id, Status.ARCHIVED, attempts=1, key="c.mp3", fixity=Fixity(1000, SHA), archived_at=NOON
    )
    await ledger.settle(run, done)
    assert await alarms(ledger, now) == []


async def test_an_account_that_the_ledger_never_heard_of_alarms_and_one_that_left_the_settings_does_not(
    ledger: SqlLedger, run: Run
) -> None:
    await cover(ledger)
    await list_page(ledger, run, listed("a", account_id=ACCOUNT))
    late = DAY.end_at + 100 * HOUR
    await end(ledger, run, late)
    assert await alarms(ledger, late, ["unheard"]) == [("unheard", AlarmReason.COVERAGE, None)]
    report = await status_report(ledger, ["unheard"], now=late, max_age=MAX_AGE)
    assert [account.account_id for account in report.accounts] == sorted([ACCOUNT, "unheard"])


async def test_without_a_ledger_everything_alarms() -> None:
    assert await alarms(None, NOON, ["a", "b"]) == [
        (None, AlarmReason.RUN, None),
        ("a", AlarmReason.COVERAGE, None),
        ("b", AlarmReason.COVERAGE, None),
    ]


async def test_the_last_success_is_the_last_run_that_listed_and_left_nothing(ledger: SqlLedger, run: Run) -> None:
    assert (await status_report(ledger, [], now=NOON)).last_success is None
    await end(ledger, run, NOON + HOUR)
    for number, (outcome, told) in enumerate(
        [
            (Outcome.INCOMPLETE, LISTED),
            (Outcome.COMPLETE, b'{"entered":3}'),
            (Outcome.COMPLETE, b""),
            (Outcome.FAILED, LISTED),
        ]
    ):
        later = await ledger.begin_run(f"later-{number}", started_at=NOON)
        await ledger.end_run(later, outcome=outcome, ended_at=NOON + 9 * HOUR, report=told)
    report = await status_report(ledger, [], now=NOON)
    assert report.last_success is not None
    assert (report.last_success.run_id, report.last_success.ended_at) == (run.run_id, stamp(NOON + HOUR))
    assert (report.max_age_s, report.alarms) == (None, [])
    assert report.last_run is not None
    assert (report.last_run.run_id, report.last_run.outcome) == ("later-3", "failed")


def test_silence_becomes_an_alarm_once_it_lasts_too_long(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(4)) as it:
        settings = made(it.base_url, it.root)
        night = datetime(2024, 5, 8, 1, 30, tzinfo=UTC)

        async def story() -> tuple[list[Alarm], list[Alarm], list[Alarm]]:
            before = await run_status(settings, max_age=MAX_AGE, now=lambda: night)
            result = await archived(settings, RunRequest(), now=lambda: night)
            assert result.report.outcome is Outcome.COMPLETE
            after = await run_status(settings, max_age=MAX_AGE, now=lambda: night + MAX_AGE)
            silence = await run_status(settings, max_age=MAX_AGE, now=lambda: night + MAX_AGE + SECOND)
            return before.alarms, after.alarms, silence.alarms

        before, after, silence = asyncio.run(story())
        expected = [(None, "run"), (ACCOUNTS[0], "coverage"), (ACCOUNTS[1], "coverage")]
        assert [(alarm.account_id, alarm.reason) for alarm in before] == expected
        assert after == []
        assert [(alarm.account_id, alarm.reason) for alarm in silence] == expected


def test_a_recording_that_stays_pending_alarms_while_runs_go_on(tmp_path: Path) -> None:
    row = recording(1)
    gone = Fault(on="media", recording_id=row.recording_id, action=NotThere(code=404), times=-1)
    with rig(tmp_path, [row], faults=[gone]) as it:
        settings = made(it.base_url, it.root)
        night = datetime(2024, 5, 8, 1, 30, tzinfo=UTC)

        async def story() -> tuple[list[Alarm], list[Alarm]]:
            await archived(settings, PERIOD, now=lambda: night)
            quiet = await run_status(settings, max_age=2 * HOUR, now=lambda: night + 2 * HOUR)
            next_one = night + 3 * HOUR
            await archived(settings, RunRequest(), now=lambda: next_one)
            return quiet.alarms, (await run_status(settings, max_age=2 * HOUR, now=lambda: next_one)).alarms

        quiet, rung = asyncio.run(story())
        assert [alarm.reason for alarm in quiet if alarm.reason is AlarmReason.PENDING] == []
        assert [(alarm.account_id, alarm.reason, alarm.since) for alarm in rung] == [
            (row.account_id, AlarmReason.PENDING, stamp(night))
        ]


def test_the_command_tells_its_alarms_by_exit_code_json_and_a_line_each(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        nothing = it.command("status", "--max-age", "26h")
        assert nothing.code == 3
        assert nothing.out.count("! ALARM (coverage), account ") == len(ACCOUNTS)
        assert "! ALARM (run): no run came to its end: none ever did" in nothing.out
        assert it.command("status").code == 0
        assert it.run().code == 0
        old = it.command("status", "--max-age", "26h", "--json")
        assert old.code == 3
        assert old.json["max_age_s"] == 26 * 3600
        assert [alarm["reason"] for alarm in old.json["alarms"]] == ["coverage", "coverage"]
        assert old.json["alarms"][0]["since"] == f"{UNTIL}T00:00:00Z"
        success = old.json["last_success"]
        assert (success["run_id"], success["ended_at"]) == tuple(
            old.json["last_run"][name] for name in ("run_id", "ended_at")
        )
        fine = it.command("status", "--max-age", "5000w", "--json")
        assert (fine.code, fine.json["alarms"]) == (0, [])
        it.configure(listing={"window_hours": 672})  # of the years up to now
        assert it.command("run", "--since", SINCE, "--json").code == 0
        assert it.command("status", "--max-age", "1h").code == 0


@pytest.mark.parametrize("age", ["", "26", "0h", "2026-05-06", "-1d", "26h ago"])
def test_an_age_that_is_none_is_refused(tmp_path: Path, age: str) -> None:
    with rig(tmp_path, []) as it:
        said = it.command("status", "--max-age", age)
        assert (said.code, said.out) == (2, "")
        assert "--max-age" in said.err
