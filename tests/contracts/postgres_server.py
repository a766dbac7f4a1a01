"""A PostgreSQL server of its own on loopback for each test process, from the system's packages; a schema for each test.

Without the packages its tests are left out and say so, unless ARCHIVER_MUST_RUN names `postgresql`.
"""

import atexit
import getpass
import hashlib
import os
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
import pytest
from s3_servers import MUST_RUN, free_port

_PROGRAMS = Path("/usr/lib/postgresql")
# Without fsync a restart loses nothing, only a power cut would; it makes the tests several times as fast.
_CONF = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
fsync = {fsync}
full_page_writes = off
shared_buffers = 32MB
max_connections = 60
max_wal_size = 256MB
autovacuum = off
log_min_messages = warning
"""
PASSWORD = "se:cr/et@word"
_URL_PASSWORD = "se%3Acr%2Fet%40word"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A server that can be stopped and started; its one user needs a password."""

    programs: Path
    data: Path
    port: int

    def url(self, schema: str = "", *, port: int = 0, user: str = "archiver") -> str:
        """The address of a schema, which is made if need be."""
        if schema:
            with psycopg.connect(self.url(), autocommit=True) as connection:
                connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'.encode())
        options = f"?options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{user}:{_URL_PASSWORD}@127.0.0.1:{port or self.port}/archive{options}"

    def control(self, *command: str) -> None:
        """`pg_ctl`, waiting until it is done."""
        log = self.data.parent / "server.log"
        done = run_as_owner([str(self.programs / "pg_ctl"), "-D", str(self.data), "-l", str(log), "-w", "-s", *command])
        assert done.returncode == 0, (command, done.stderr, log.read_text(errors="replace")[-2000:])

    def ask(self, schema: str, query: str) -> list[tuple[object, ...]]:
        """What a query gives, beside the ledger."""
        with psycopg.connect(self.url(schema), autocommit=True) as connection:
            found = connection.execute(query.encode())
            return found.fetchall() if found.description else []


def run_as_owner(command: list[str]) -> "subprocess.CompletedProcess[str]":
    """PostgreSQL refuses to run as root."""
    user = "postgres" if os.geteuid() == 0 else None
    return subprocess.run(command, user=user, cwd="/", capture_output=True, text=True, check=False)


def give_to_owner(folder: Path) -> None:
    """What we put there is the server's."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "postgres")


def programs() -> Path | None:
    """Where the newest installed server's programs are; None when there is none."""
    found = [each.parent for each in _PROGRAMS.glob("*/bin/initdb")]
    return max(found, key=lambda each: int(each.parent.name), default=None)


@cache
def postgres() -> PostgresServer:
    """The server that the tests of this process share."""
    found = programs()
    if found is None:
        words = "no PostgreSQL server here: apt-get install postgresql"
        if "postgresql" in MUST_RUN:
            pytest.fail(words)
        pytest.skip(words)
    return start(found, fsync="off")


def start(found: Path, *, fsync: str) -> PostgresServer:
    """A new server, ended with the process that asks for it."""
    folder = Path(tempfile.mkdtemp(prefix="archiver-pg-", dir="/tmp"))
    owner = "postgres" if os.geteuid() == 0 else getpass.getuser()
    secret = folder / "password"
    secret.write_text(PASSWORD)
    data = folder / "data"
    if os.geteuid() == 0:
        shutil.chown(folder, owner)
        shutil.chown(secret, owner)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    initdb = [str(found / "initdb"), "-D", str(data), "-U", "archiver", "-A", "scram-sha-256", "-E", "UTF8"]
    done = run_as_owner([*initdb, f"--pwfile={secret}", "--locale=C.UTF-8", "--no-sync", "--no-instructions"])
    assert done.returncode == 0, done.stderr
    server = PostgresServer(found, data, free_port())
    with (data / "postgresql.conf").open("a") as conf:
        conf.write(_CONF.format(port=server.port, folder=folder, fsync=fsync))
    server.control("start")
    atexit.register(_end, int((data / "postmaster.pid").read_text().split()[0]), server)
    with psycopg.connect(server.url().removesuffix("archive") + "postgres", autocommit=True) as connection:
        # Another alphabet than C, so that whatever leaves the order to the database is found out.
        connection.execute(
            "CREATE DATABASE archive TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LOCALE 'C.UTF-8'"
        )
    return server


def _end(pid: int, server: PostgresServer) -> None:
    if (server.data / "postmaster.pid").exists():
        pid = int((server.data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)


def schema_of(folder: Path) -> str:
    """The schema that belongs to a test's folder."""
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]
