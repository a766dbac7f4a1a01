"""Nights at the calendar's edges, in zones that differ: nothing is missed or doubled, days have their folders."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import pytest
from nights import ACCOUNTS, DAY_S, HOUR_S, Clock, World, call, check_report, ids, local_day, stored

from archiver.recording import Status
from archiver.simulator import Corpus, FaultScript, Simulator, Switches


@dataclass(frozen=True)
class Edge:
    """An instant at which a calendar does something, as the archive's zone and the PBX's own zone see it."""

    name: str
    at: str
    archive_zone: str
    server_zone: str
    time_field: Literal["pvt_created", "start"] = "pvt_created"

    @property
    def unix_s(self) -> int:
        return int(datetime.fromisoformat(self.at).timestamp())


EDGES = [
    Edge("summer time begins", "2024-03-31T01:00Z", "Europe/Berlin", "UTC"),
    Edge("summer time ends", "2024-10-27T01:00Z", "Europe/Berlin", "America/New_York", "start"),
    Edge("daylight saving begins", "2024-03-10T07:00Z", "America/New_York", "Europe/Berlin", "start"),
    Edge("daylight saving ends", "2024-11-03T06:00Z", "America/New_York", "America/New_York"),
    Edge("half an hour back", "2024-04-06T15:00Z", "Australia/Lord_Howe", "Australia/Lord_Howe", "start"),
    Edge("half an hour on", "2024-10-05T15:30Z", "Australia/Lord_Howe", "UTC"),
    Edge("month's end fourteen hours ahead", "2024-04-30T10:00Z", "Pacific/Kiritimati", "Etc/GMT+12"),
    Edge("month's end twelve hours behind", "2024-05-01T12:00Z", "Etc/GMT+12", "Pacific/Kiritimati", "start"),
    Edge("the server's month ends far ahead", "2024-05-31T10:00Z", "UTC", "Pacific/Kiritimati"),
    Edge("the server's month ends far behind", "2024-06-01T12:00Z", "UTC", "Etc/GMT+12", "start"),
    Edge("the month ends where a window does", "2024-07-01T00:00Z", "Europe/Madrid", "UTC"),
    Edge("leap day begins", "2024-02-29T00:00Z", "UTC", "Asia/Kolkata"),
    Edge("leap day ends", "2024-02-29T23:00Z", "Europe/Madrid", "Europe/Madrid", "start"),
    Edge("February without a leap day", "2023-02-28T23:00Z", "Europe/Madrid", "America/St_Johns"),
    Edge("new year", "2024-12-31T18:30Z", "Asia/Kolkata", "Asia/Kolkata"),
    Edge("new year elsewhere", "2025-01-01T03:30Z", "America/St_Johns", "UTC", "start"),
    Edge("a day that Samoa did not have", "2011-12-30T10:00Z", "Pacific/Apia", "Pacific/Apia"),
]


def starts(edge: Edge) -> set[int]:
    """Seconds around the edge, around each midnight near it in each zone, and every few hours."""
    found = {edge.unix_s + hours * HOUR_S for hours in range(-40, 41, 8)}
    found |= {edge.unix_s + seconds for seconds in (-3600, -1800, -61, -1, 0, 1, 1800, 3600)}
    for zone in {ZoneInfo(edge.archive_zone), ZoneInfo(edge.server_zone), UTC}:
        near = datetime.fromtimestamp(edge.unix_s, zone).date()
        for days in (-1, 0, 1):
            day = near + timedelta(days=days)
            midnight = int(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())
            found |= {midnight - 1, midnight}
    return found


def nightly(edge: Edge) -> list[float]:
    """Half past two by the clock on the wall, there or not, in the night of the edge and the three after."""
    near = datetime.fromtimestamp(edge.unix_s, ZoneInfo(edge.archive_zone)).date()
    days = [near + timedelta(days=days) for days in range(4)]
    zone = ZoneInfo(edge.archive_zone)
    return [datetime(day.year, day.month, day.day, 2, 30, tzinfo=zone).timestamp() for day in days]


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.name)
async def test_nights_over_an_edge_miss_nothing_double_nothing_and_keep_each_day_in_its_folder(
    tmp_path: Path, edge: Edge
) -> None:
    begin = datetime.fromtimestamp(edge.unix_s - 2 * DAY_S, UTC)
    clock = Clock(begin.timestamp(), tick_s=0.5)
    server_zone, zone = ZoneInfo(edge.server_zone), ZoneInfo(edge.archive_zone)
    switches = Switches(time_field=edge.time_field, token_lifetime_s=DAY_S)
    corpus = Corpus(accounts=ACCOUNTS, time_zone=server_zone)
    async with Simulator(corpus, switches=switches, faults=FaultScript(), clock=clock.unix) as pbx:
        world = World(tmp_path / "archive", clock, corpus, pbx, begin)
        world.accounts = ACCOUNTS[:1]
        world.more = {"archive": {"timezone": edge.archive_zone}, "pbx": {"page_size": 50}}
        if edge.time_field == "pvt_created":
            # Nothing but what is known of months then brings a call that runs over the end of one.
            world.more["listing"] = {"window_hours": 24 if edge.server_zone == "UTC" else 7, "overlap_hours": 0}
        for ordinal, start in enumerate(sorted(starts(edge))):
            # Long enough that some run over every edge; their audio is short.
            is_over = 0 < edge.unix_s - start <= HOUR_S
            seconds = 2 * HOUR_S if is_over else (1, 90, 2 * HOUR_S)[ordinal % 3]
            world.add(call(ACCOUNTS[0], ordinal, start, seconds=seconds, audio_ms=1000), with_cdr=True)
        for at in nightly(edge):
            world.until(at)
            result, code = await world.night()
            check_report(result)
            assert code == 0, result.report
            assert result.report.windows_incomplete == 0
            await world.check(disturbed=False)
            assert at - 1 <= world.known.covered(ACCOUNTS[0]) <= clock.at
        assert set(world.known.statuses.values()) == {Status.ARCHIVED}
        assert set(pbx.stats.media_whole.values()) == {1}
        files = stored(world.root)
        for name, rows in world.truth.items():
            assert local_day(rows[0], zone) in files[name][1].as_posix()
        assert set(files) == set(world.truth) == set(pbx.stats.media_whole)
        assert_manifests_hold_each_day(world)
        assert (await world.verify()).findings == []


def assert_manifests_hold_each_day(world: World) -> None:
    """Each medium stands in a manifest of its own day, once."""
    zone = world.settings().archive.zone
    named: dict[str, str] = {}
    for path in (world.root / ".archiver" / "manifests").rglob("*"):
        if path.is_file():
            for line in path.read_text().splitlines():
                key = line.split("  ", 1)[1]
                assert key not in named, key
                named[key] = path.as_posix()
    for rows in world.truth.values():
        account_id, recording_id = ids(rows[0])
        day = local_day(rows[0], zone)
        manifest = named[f"{account_id}/{day}/{recording_id}.mp3"]
        assert re.search(day.replace("/", "[-/]?"), manifest), (day, manifest)
