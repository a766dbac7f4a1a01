"""A run on a cluster: real scheduler and worker processes, a real PostgreSQL, and the real command."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_rig import Rig, assert_holds_all, conserved, recordings, rig
from cluster_rig import DaskCluster, dask_cluster
from postgres_server import postgres


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with dask_cluster(tmp_path_factory.mktemp("dask"), "one", "two") as it:
        yield it


def on_cluster(it: Rig, cluster: DaskCluster, schema: str, **sections: dict[str, Any]) -> None:
    it.configure(ledger={"url": postgres().url(schema)}, cluster={"scheduler": cluster.address}, **sections)


def test_a_run_on_a_cluster_archives_and_reports_what_a_run_on_one_machine_does(
    cluster: DaskCluster, tmp_path: Path
) -> None:
    rows = recordings(60)
    with rig(tmp_path / "rig", rows) as it:
        on_cluster(it, cluster, "whole")
        said = it.run()
        assert said.code == 0, said
        assert conserved(said.json)
        assert (said.json["archived"], said.json["outcome"], said.json["problems"]) == (60, "complete", [])
        assert_holds_all(it, rows)
        again = it.run()
        assert (again.code, again.json["archived"], again.json["already_archived"]) == (0, 0, 60)
