"""A PostgreSQL server of its own with a durable disk, and the plans that it used, as `auto_explain` writes them."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from postgres_server import PostgresServer, programs, start

_CONF = """
full_page_writes = on
shared_buffers = 1GB
max_wal_size = 8GB
checkpoint_timeout = 15min
maintenance_work_mem = 256MB
autovacuum = on
"""
_EXPLAIN = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
}
_PLAN = re.compile(r"plan:\n((?:\t.*\n)+)")
_TABLES = frozenset(
    {"entries", "listed_metadata", "calendar", "tallies", "runs", "former_versions", "partition_claims"}
)
SCHEMA = "archive"


@dataclass(frozen=True)
class Reads:
    """By which indexes or scans statements came to the ledger's rows, and how many pages of 8 KiB they touched in all."""

    ways: tuple[str, ...]
    pages: int


@contextmanager
def served() -> Iterator[PostgresServer]:
    """A fresh server on loopback that syncs; its files go with this process.

    Raises:
        RuntimeError: there are no programs for it.
    """
    found = programs()
    if found is None:
        raise RuntimeError("scale needs a PostgreSQL server: apt-get install postgresql")
    server = start(found, fsync="on")
    with (server.data / "postgresql.conf").open("a") as conf:
        conf.write(_CONF)
    server.control("restart")
    try:
        yield server
    finally:
        # At once: nothing of it is kept.
        server.control("stop", "-m", "immediate")


class Plans:
    """What the server's log says of the statements of connections that asked for it (`explaining`)."""

    def __init__(self, server: PostgresServer) -> None:
        self._log = server.data.parent / "server.log"
        self._from = 0
        self.skip()

    def skip(self) -> None:
        """What was logged until now is of no interest."""
        self._from = self._log.stat().st_size

    def read(self) -> Reads:
        """Of all statements since then."""
        with self._log.open("rb") as log:
            log.seek(self._from)
            text = log.read().decode()
        self.skip()
        ways: dict[str, None] = {}
        pages = 0
        for found in _PLAN.finditer(text):
            plan = json.loads(found[1].replace("\n\t", "\n"))["Plan"]
            pages += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
            for node in _nodes(plan):
                if way := _way(node):
                    ways[way] = None
        return Reads(tuple(ways), pages)


def explaining(url: str) -> str:
    """The same address, whose connections have their plans logged."""
    options = " ".join(f"-c{name}={value}" for name, value in _EXPLAIN.items())
    return f"{url}{quote(f' {options}', safe='')}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


def _way(node: dict[str, Any]) -> str:
    if index := node.get("Index Name"):
        return str(index)
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in _TABLES:
        return f"all of {node['Relation Name']}"
    return ""
