"""What a worker must see before it gets anything to do: a mark in the archive, or the audit trail in the bucket."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, cdr, recordings, rig
from cluster_rig import dask_cluster
from in_process import Silent, made
from s3_kinds import CREDENTIALS, bucket, prefixed
from s3_proxy import Answer, Fault, Request, proxied, refuse
from test_cluster_s3 import use

from archiver.commands.crew import crew_for
from archiver.commands.sharing import Mark, marked, wrong_with_place
from archiver.destination import open_destination
from archiver.errors import NotShared
from archiver.keys import AUDIT_PREFIX
from archiver.settings import Settings
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.notes import Notes


def settings_of(folder: Path) -> Settings:
    (folder / "archive").mkdir()
    return made("http://127.0.0.1:1", folder / "archive")


def test_a_mark_that_a_host_sees_only_after_a_while_is_seen(tmp_path: Path) -> None:
    """As on NFS, where a host that looked into the folder before remembers it as it was."""
    settings = settings_of(tmp_path)
    folder = ArchiveFolder(tmp_path / "archive", durable=False)
    later = threading.Timer(0.7, lambda: Notes(folder, "cluster").write("mark", b"{}"))
    later.start()
    try:
        assert wrong_with_place(settings, Mark("mark", None, "", writes=False)) == ""
    finally:
        later.join()
        folder.close()


def test_a_mark_that_is_nowhere_is_not_looked_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("archiver.commands.sharing._REMEMBERED_S", 0.1)
    settings = settings_of(tmp_path)
    assert "is not the archive of this run" in wrong_with_place(settings, Mark("mark", None, "", writes=False))


async def test_a_bucket_without_a_trail_proves_nothing_and_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def nothing(*_: object, **__: object) -> AsyncIterator[Mark]:
        yield Mark("", frozenset(), "", writes=True)

    monkeypatch.setattr(f"{crew_for.__module__}.{marked.__name__}", nothing)
    settings = settings_of(tmp_path)
    destination = open_destination(settings, durable=False, make=False)
    try:
        with pytest.raises(NotShared, match="audit trail"):
            async with crew_for(
                settings, destination, run_id="", most=1, writes=True, watcher=Silent(), stop=asyncio.Event()
            ):
                pass
    finally:
        destination.close()


@pytest.mark.parametrize("command", [("verify",), ("reconcile", "--since", SINCE, "--until", UNTIL)])
def test_a_trail_that_could_not_be_put_is_brought_before_workers_are_to_know_a_bucket_by_it(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    rows = recordings(4)
    blocked = threading.Event()
    blocked.set()

    def hinder(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        return refuse(403, "AccessDenied")(request, forward) if blocked.is_set() else forward(request)

    access = prefixed(bucket("rclone"), tmp_path)
    with (
        proxied(Fault(hinder, path=AUDIT_PREFIX, times=1000), behind=access.endpoint_url) as proxy,
        rig(tmp_path / "rig", rows, cdrs=[cdr(row) for row in rows]) as it,
        dask_cluster(tmp_path / "dask") as cluster,
    ):
        cluster.start_worker("one", environment=CREDENTIALS)
        use(it, cluster, f"trail_{command[0]}", prefixed(access, tmp_path, endpoint_url=proxy.endpoint_url))
        here = it.command("run", "--since", SINCE, "--until", UNTIL, "--scheduler", "", "--json", env=CREDENTIALS)
        assert here.code == 0, here
        said = it.command(*command, "--json", env=CREDENTIALS)
        assert said.code == 5, said
        assert "audit trail" in said.out + said.err
        blocked.clear()
        said = it.command(*command, "--json", env=CREDENTIALS)
        assert said.code == 0, said
