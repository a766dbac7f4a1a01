"""Nights under odd clocks and odd settings: what the program does, one sentence each."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nights import ACCOUNTS, DAY_S, HOUR_S, Clock, World, call, check_report, ids

from archiver.assembly import RunRequest
from archiver.errors import SettingsError
from archiver.pipeline.planning import LISTED_AHEAD
from archiver.recording import Status
from archiver.reports.run_report import stamp
from archiver.simulator import Corpus, FaultScript, Simulator, Switches

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)
NIGHT_S = 2 * HOUR_S
A, B = ACCOUNTS[:2]


@asynccontextmanager
async def world_of(folder: Path, *accounts: str, days: int = 12, **listing: Any) -> AsyncIterator[World]:
    """A call each six hours in each account."""
    clock = Clock(BEGIN.timestamp())
    corpus = Corpus(accounts=ACCOUNTS)
    switches = Switches(token_lifetime_s=100 * DAY_S)
    async with Simulator(corpus, switches=switches, faults=FaultScript(), clock=clock.unix) as pbx:
        world = World(folder / "archive", clock, corpus, pbx, BEGIN)
        world.accounts = accounts or (A,)
        world.more = {"pbx": {"page_size": 50}, "listing": listing}
        for account_id in world.accounts:
            for ordinal in range(days * 4):
                world.add(call(account_id, ordinal, at(0, hour=3 + 6 * ordinal)))
        yield world


def at(day: int, *, hour: float = 0) -> int:
    """So many days and hours after the beginning, in Unix seconds."""
    return int(BEGIN.timestamp() + day * DAY_S + hour * HOUR_S)


def when(unix_s: float) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)


def ended_before(world: World, unix_s: float, account_id: str = A) -> set[str]:
    rows = (rows[0] for rows in world.truth.values())
    return {row.recording_id for row in rows if row.created_unix_s < unix_s and row.account_id == account_id}


def archived(world: World, account_id: str = A) -> set[str]:
    return {
        name for (account, name), found in world.known.statuses.items() if (account, found) == (account_id, "archived")
    }


async def night(world: World, day: int, **more: Any) -> Any:
    """One at two o'clock; the report of it."""
    world.until(at(day) + NIGHT_S)
    result, code = await world.night(**more)
    check_report(result)
    await world.check(disturbed=False)
    assert code == 0, result.report
    return result.report


async def test_a_night_before_the_beginning_lists_nothing_and_is_well(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        world.begin = when(at(5))
        report = await night(world, 3)
        assert (report.listed, report.pages, report.since, report.until) == (0, 0, None, None)
        assert world.known.covered(A) == -math.inf
        await night(world, 7)
        assert archived(world) == ended_before(world, at(7) + NIGHT_S) - ended_before(world, at(5))


async def test_a_clock_that_is_set_back_lists_again_and_fetches_nothing_twice(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        await night(world, 5)
        world.clock.at = at(4)
        result, code = await world.night()
        await world.check(disturbed=False)
        assert (code, result.report.archived) == (0, 0)
        assert world.known.covered(A) == at(4)
        await night(world, 6)
        assert archived(world) == ended_before(world, at(6) + NIGHT_S)
        assert world.known.covered(A) == at(6) + NIGHT_S
        assert set(world.pbx.stats.media_whole.values()) == {1}


@pytest.mark.parametrize("lookback_days", [0, 3])
async def test_what_a_clock_that_was_years_ahead_left_is_made_up_and_coverage_says_no_more_than_is_true(
    tmp_path: Path, lookback_days: int
) -> None:
    """The machine's clock alone was wrong for a night; the PBX lists what it has."""
    async with world_of(tmp_path, lookback_days=lookback_days) as world:
        await night(world, 4)
        world.until(at(5))
        await world.night(now=lambda: when(at(60)))
        for day in (6, 7, 8):
            await night(world, day)
            assert archived(world) == ended_before(world, at(day) + NIGHT_S)
            assert world.known.covered(A) == at(day) + NIGHT_S
            (ahead,) = world.known.accounts[A].windows_incomplete
            assert (ahead["since"], ahead["until"]) == (stamp(when(at(day) + NIGHT_S)), stamp(when(at(60))))
            assert ahead["reason"] == LISTED_AHEAD
        assert set(world.pbx.stats.media_whole.values()) == {1}


async def test_without_a_look_back_each_piece_is_listed_once_and_calls_over_the_end_are_the_next_nights(
    tmp_path: Path,
) -> None:
    async with world_of(tmp_path, lookback_days=0) as world:
        over = call(A, 900, at(5) + NIGHT_S - HOUR_S, seconds=2 * HOUR_S, audio_ms=1000)
        world.add(over)
        first = await night(world, 5)
        assert over.recording_id not in archived(world)
        second = await night(world, 6)
        assert (second.since, second.until) == (first.until, stamp(when(at(6) + NIGHT_S)))
        assert archived(world) == ended_before(world, at(6) + NIGHT_S)
        again = await night(world, 6)
        assert (again.pages, again.listed) == (0, 0)


async def test_without_a_look_back_what_is_listed_late_is_left_to_reconcile(tmp_path: Path) -> None:
    async with world_of(tmp_path, lookback_days=0) as world:
        late = call(A, 900, at(4), listed_at=at(6))
        world.add(late)
        for day in (5, 7):
            await night(world, day)
        assert ids(late) not in world.known.statuses
        world.more["listing"] = {"lookback_days": 4}
        await night(world, 8)
        assert late.recording_id in archived(world), "a longer look back finds what the shorter one left"


async def test_an_account_that_is_added_later_starts_at_the_beginning(tmp_path: Path) -> None:
    async with world_of(tmp_path, A, B) as world:
        world.accounts = (A,)
        await night(world, 5)
        world.accounts = (A, B)
        report = await night(world, 6)
        assert report.since == stamp(BEGIN)
        for account_id in (A, B):
            assert archived(world, account_id) == ended_before(world, at(6) + NIGHT_S, account_id)
            assert world.known.covered(account_id) == at(6) + NIGHT_S


async def test_an_account_that_is_added_without_a_beginning_is_named_and_the_night_is_refused(tmp_path: Path) -> None:
    async with world_of(tmp_path, A, B) as world:
        world.accounts = (A,)
        await night(world, 5)
        world.accounts = (A, B)
        world.until(at(6))
        with pytest.raises(SettingsError, match=f"{B}.*needs a beginning.*listing.begin"):
            await world.night(world.settings(listing={"begin": ""}))


async def test_an_account_that_left_the_settings_is_neither_listed_nor_retried_and_status_still_shows_it(
    tmp_path: Path,
) -> None:
    async with world_of(tmp_path, A, B) as world:
        waits = call(B, 900, at(4), available_at=at(6))
        world.add(waits)
        world.until(at(5))
        await world.night()
        world.accounts = (A,)
        await night(world, 7)
        assert world.known.statuses[ids(waits)] is Status.PENDING
        asked = world.pbx.stats.media_gets[ids(waits)]
        await night(world, 8)
        assert world.pbx.stats.media_gets[ids(waits)] == asked == 1
        assert world.known.covered(B) == at(5)
        assert world.known.accounts[B].recordings["pending"] == 1
        # Back in the settings, it goes on where it stood.
        world.accounts = (A, B)
        await night(world, 9)
        assert archived(world, B) == ended_before(world, at(9) + NIGHT_S, B)
        assert world.known.covered(B) == at(9) + NIGHT_S


@pytest.mark.parametrize("hours", [[24, 5, 1], [1, 168, 24], [672, 7, 24]])
async def test_windows_of_another_length_each_night_leave_nothing_out(tmp_path: Path, hours: list[int]) -> None:
    async with world_of(tmp_path) as world:
        for day, window_hours in enumerate(hours, 4):
            world.more["listing"] = {"window_hours": window_hours}
            await night(world, day)
            assert archived(world) == ended_before(world, at(day) + NIGHT_S)
            assert world.known.covered(A) == at(day) + NIGHT_S


async def test_an_overlap_longer_than_the_window_costs_pages_and_no_media(tmp_path: Path) -> None:
    async with world_of(tmp_path, window_hours=6, overlap_hours=48) as world:
        for day in (4, 5, 6):
            await night(world, day)
        assert archived(world) == ended_before(world, at(6) + NIGHT_S)
        assert set(world.pbx.stats.media_whole.values()) == {1}


async def test_a_hole_between_the_coverage_and_a_backfill_is_made_up_by_the_next_night(tmp_path: Path) -> None:
    """Nights stand still from the third on; on the eighth a person archives the last day by hand."""
    async with world_of(tmp_path) as world:
        await night(world, 3)
        await night(world, 8, request=RunRequest(since=when(at(7))))
        assert archived(world) == ended_before(world, at(3) + NIGHT_S) | (
            ended_before(world, at(8) + NIGHT_S) - ended_before(world, at(7))
        )
        assert world.known.covered(A) == at(3) + NIGHT_S
        (hole,) = world.known.accounts[A].windows_incomplete
        assert (hole["until"], hole["reason"]) == (stamp(when(at(7))), "not listed yet")
        await night(world, 9)
        assert archived(world) == ended_before(world, at(9) + NIGHT_S)
        assert world.known.covered(A) == at(9) + NIGHT_S
        assert set(world.pbx.stats.media_whole.values()) == {1}


async def test_a_trial_of_the_last_day_before_the_first_night_leaves_nothing_out(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        await night(world, 8, request=RunRequest(since=when(at(7))))
        assert world.known.covered(A) == -math.inf
        await night(world, 9)
        assert archived(world) == ended_before(world, at(9) + NIGHT_S)


async def test_an_old_backfill_beside_the_nights_moves_neither_their_beginning_nor_their_coverage(
    tmp_path: Path,
) -> None:
    async with world_of(tmp_path) as world:
        world.begin = when(at(6))
        await night(world, 8)
        covered = world.known.covered(A)
        await night(world, 8, request=RunRequest(since=when(at(0)), until=when(at(2))))
        assert world.known.covered(A) == covered
        report = await night(world, 9)
        assert report.since == stamp(when(at(6))) or report.since > stamp(when(at(5)))
        wanted = ended_before(world, at(9) + NIGHT_S) - ended_before(world, at(6))
        assert archived(world) == wanted | ended_before(world, at(2))


async def test_a_backfill_beyond_now_covers_up_to_now(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        now = at(4) + NIGHT_S
        report = await night(world, 4, request=RunRequest(since=BEGIN, until=BEGIN + timedelta(days=400)))
        assert report.until == stamp(when(now))
        assert world.known.covered(A) == now
        nothing = await night(world, 4, request=RunRequest(since=when(at(300)), until=when(at(400))))
        assert (nothing.listed, nothing.pages) == (0, 0)
        await night(world, 5)
        assert archived(world) == ended_before(world, at(5) + NIGHT_S)


async def test_an_archive_without_a_beginning_goes_on_from_its_first_backfill(tmp_path: Path) -> None:
    async with world_of(tmp_path) as world:
        world.begin = when(at(2))
        settings = world.settings(listing={"begin": ""})
        await night(world, 4, settings=settings, request=RunRequest(since=when(at(2)), until=when(at(3))))
        await night(world, 6, settings=settings)
        assert archived(world) == ended_before(world, at(6) + NIGHT_S) - ended_before(world, at(2))
        assert world.known.covered(A) == at(6) + NIGHT_S
