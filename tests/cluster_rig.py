"""A Dask scheduler and workers in processes of their own on loopback, as an operator starts them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import warm_start
from archive_rig import Rig, until
from hosts_apart import Host
from postgres_server import postgres
from s3_servers import free_port
from warm_start import WarmDask, WarmOnDask

_DASK = [sys.executable, "-W", "ignore", "-m", "dask"]
_PATIENCE = {
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
}


@dataclass
class DaskCluster:
    """A scheduler, and workers by the names they were given."""

    folder: Path
    port: int
    scheduler: "subprocess.Popen[bytes]"
    host: str = "127.0.0.1"
    workers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)
    scheme: str = "tcp"
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"

    def start_worker(
        self,
        name: str,
        *,
        threads: int = 1,
        hides: Path | None = None,
        environment: Mapping[str, str] | None = None,
        host: Host | None = None,
        **more: str,
    ) -> int:
        """Start one on `host` and wait until the scheduler knows it; its pid. `environment` and `more` are for its own.

        What it `hides` it sees empty, as a host would on which nothing is mounted there.
        """
        self.begin_worker(name, threads=threads, hides=hides, environment=environment, host=host, **more)
        self.wait_for(name)
        return self.workers[name].pid

    def begin_worker(
        self,
        name: str,
        *,
        threads: int = 1,
        hides: Path | None = None,
        environment: Mapping[str, str] | None = None,
        host: Host | None = None,
        **more: str,
    ) -> None:
        """The same without the wait."""
        command = ["worker", self.address, "--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--name", name]
        self.ports[name] = free_port()
        command += ["--host", host.address if host else "127.0.0.1", "--worker-port", str(self.ports[name])]
        command += ["--local-directory", str(self.folder / f"of-{name}"), "--memory-limit", "0"]
        log = self.folder / f"{name}.log"
        self.workers[name] = _started(command, log, {**(environment or {}), **more}, hides, host.inside if host else ())

    def wait_for(self, name: str) -> None:
        log = self.folder / f"{name}.log"
        until(lambda: b"Registered to" in log.read_bytes() or self.workers[name].poll() is not None)
        assert self.workers[name].poll() is None, log.read_text()

    def signal(self, name: str, number: signal.Signals) -> None:
        self.workers[name].send_signal(number)
        if number == signal.SIGKILL:
            self.workers[name].wait()

    def name_of(self, address: str) -> str:
        """The worker at an address, as the ledger's claims name it."""
        return next(name for name, port in self.ports.items() if address.endswith(f":{port}"))

    def end(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@contextmanager
def dask_cluster(
    folder: Path,
    *names: str,
    threads: int = 1,
    scheme: str = "tcp",
    host: str = "127.0.0.1",
    scheduler: Mapping[str, str] | None = None,
) -> Iterator[DaskCluster]:
    """A scheduler, with this in its environment, and workers; none of them is left afterwards."""
    folder.mkdir(exist_ok=True)
    port, log = free_port(), folder / "scheduler.log"
    command = ["scheduler", "--host", host, "--port", str(port), "--no-dashboard", "--no-show"]
    command += ["--protocol", scheme]
    cluster = DaskCluster(folder, port, _started(command, log, {**(scheduler or {})}), host, scheme=scheme)
    try:
        until(lambda: b"Scheduler at" in log.read_bytes() or cluster.scheduler.poll() is not None)
        assert cluster.scheduler.poll() is None, log.read_text()
        for name in names:
            cluster.begin_worker(name, threads=threads)
        for name in names:
            cluster.wait_for(name)
        yield cluster
    finally:
        cluster.end()


def _started(
    command: list[str], log: Path, more: dict[str, str], hides: Path | None = None, inside: Sequence[str] = ()
) -> "subprocess.Popen[bytes]":
    apart = [*inside]
    if hides is not None:
        apart += ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o mode=700 none "{hides}" && exec "$@"', "sh"]
        if subprocess.run([*apart, "true"], capture_output=True, check=False).returncode:
            pytest.skip("mounting is not permitted here")
    environment = os.environ | _PATIENCE | more
    kind: Any = subprocess.Popen
    words = [*apart, *_DASK, *command]
    if not apart and warm_start.fits(environment):
        kind, words = WarmDask, command
    with log.open("wb") as out:
        process: subprocess.Popen[bytes] = kind(
            words, stdout=out, stderr=subprocess.STDOUT, cwd=log.parent, env=environment
        )
        return process


class ClaimRow(NamedTuple):
    """An attempt at a parcel, as it stands in the ledger."""

    partition: str
    holder: str
    state: str


def claims(schema: str, run_id: str = "") -> list[ClaimRow]:
    """The attempts of a run, or of all, in their order."""
    which = f"WHERE run_id = '{run_id}'" if run_id else ""
    query = f"SELECT partition, holder, state FROM partition_claims JOIN runs USING (run_no) {which} ORDER BY claim_no"
    return [ClaimRow(*map(str, row)) for row in postgres().ask(schema, query)]


def on_cluster(it: Rig, cluster: DaskCluster, schema: str, **sections: dict[str, Any]) -> None:
    """Settings with a ledger in this schema, and the cluster's scheduler."""
    it.warm = WarmOnDask
    it.configure(ledger={"url": postgres().url(schema)}, cluster={"scheduler": cluster.address}, **sections)
