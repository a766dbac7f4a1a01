"""A nightly run on a cluster: many accounts with little each, and what is due from the night before."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from archive_rig import Rig, Said, assert_holds_all, conserved
from cluster_rig import DaskCluster, claims, dask_cluster, on_cluster
from postgres_server import postgres

from archiver.simulator import Corpus, SimulatedRecording, Simulator, SimulatorThread

ACCOUNTS = tuple(f"{number:032x}" for number in range(1, 41))
OLD, NEW = 2, 2
"""Recordings of each account whose window is settled already, and of the last hours."""
DAY_S = 86_400
SAME = (
    *("outcome", "accounts", "listed", "archived", "already_archived", "pending", "missing", "quarantined"),
    *("bytes_archived", "windows_complete", "windows_incomplete", "pages", "problems_total", "error"),
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), "one", "two") as it:
        yield it


class Ahead:
    """The PBX's clock."""

    by_s = 0.0

    def __call__(self) -> float:
        return time.time() + self.by_s


def rows(at: float) -> list[SimulatedRecording]:
    """Calls of twenty days ago and of the last hours; of each account one of each comes without its media at first."""
    begins = [at - 20 * DAY_S, at - 20 * DAY_S + 60, at - 18_000, at - 17_940]
    return [
        SimulatedRecording(
            account_id=account_id,
            recording_id=f"{datetime.fromtimestamp(begin, UTC):%Y%m}-{int(account_id, 16):04x}{number:028x}",
            start_unix_s=int(begin),
            duration_ms=2000,
            available_at=at + 3600 if number % 2 else 0,
        )
        for account_id in ACCOUNTS
        for number, begin in enumerate(begins)
    ]


@contextmanager
def two_nights(
    folder: Path, cluster: DaskCluster, schema: str, at: float, *options: str
) -> Iterator[tuple[Rig, Said, Said, int]]:
    """A backfill, then a night in which what was not there is due; the second night's requests as the PBX saw them."""
    clock, corpus = Ahead(), rows(at)
    with SimulatorThread(Simulator(Corpus(corpus, accounts=ACCOUNTS), clock=clock)) as pbx:
        it = Rig(folder, pbx)
        on_cluster(it, cluster, schema, pbx={"account_ids": list(ACCOUNTS)}, listing={"window_hours": 240})
        first = it.command("run", "--since", "25d", "--json", *options)
        clock.by_s = 2 * 3600
        postgres().ask(schema, "UPDATE entries SET next_attempt_at = next_attempt_at - 600000000")
        asked = pbx.stats.requests
        second = it.command("run", "--json", *options)
        yield it, first, second, pbx.stats.requests - asked


def test_a_night_on_a_cluster_does_what_one_machine_does_and_asks_the_pbx_for_no_more(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    at = time.time()
    every = len(rows(at))
    with (
        two_nights(tmp_path / "far", cluster, "night_far", at) as (far, far_first, far_second, far_requests),
        two_nights(tmp_path / "here", cluster, "night_here", at, "--scheduler", "") as (_, first, second, requests),
    ):
        assert (far_first.code, far_second.code) == (first.code, second.code) == (3, 0), (far_first, far_second)
        for ours, theirs in ((far_first.json, first.json), (far_second.json, second.json)):
            assert conserved(ours)
            assert {name: ours[name] for name in SAME} == {name: theirs[name] for name in SAME}
            assert 1 <= ours["logins"] <= 2
        # Each worker signs in for itself, and until it has had its first audio asks for what is not there at two addresses.
        assert far_first.json["requests"] <= first.json["requests"] + 3
        assert far_second.json["requests"] <= second.json["requests"] + 1
        assert far_second.json["archived"] == every // 2
        assert far_requests <= requests + 1
        assert_holds_all(far, rows(at))
        assert len({row.holder for row in claims("night_far", far_second.json["run_id"])}) == 2
        assert {row.state for row in claims("night_far")} == {"done"}
