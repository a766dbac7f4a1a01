"""Whole runs in the test's own process and loop, for tests that need the clock, the loop or the run's own task."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from archive_rig import ACCOUNTS, SINCE, UNTIL, key, media

from archiver.assembly import RunRequest, utc_now
from archiver.commands.archiving import RunResult, run_archive
from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Tally
from archiver.settings import Settings
from archiver.simulator import SimulatedRecording

PERIOD = RunRequest(
    since=datetime.fromisoformat(SINCE).replace(tzinfo=UTC), until=datetime.fromisoformat(UNTIL).replace(tzinfo=UTC)
)
"""A backfill of the corpus's days."""
NIGHTLY = RunRequest()


class Silent:
    """Watches nothing."""

    def begin(self, tally: Tally, traffic: Traffic) -> None:
        pass

    def bytes_came(self, size_bytes: int) -> None:
        pass

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        pass

    def moved(self) -> None:
        pass


def made(base_url: str, root: Path, **transfer: object) -> Settings:
    """Settings without patience."""
    return Settings.model_validate(
        {
            "pbx": {
                "base_url": base_url,
                "username": "archiver",
                "domain": "example",
                "password": "simulator",
                "account_ids": list(ACCOUNTS),
                "max_retries": transfer.pop("max_retries", 0),
                "retry_wait_s": 0,
                "page_size": transfer.pop("page_size", 1000),
            },
            "listing": {"begin": SINCE},
            "transfer": {"requests_per_s": 0} | transfer,
            "archive": {"durable": False},
            "store": {"local": {"root": str(root)}},
        }
    )


async def archived(
    settings: Settings, request: RunRequest = PERIOD, *, now: Callable[[], datetime] = utc_now
) -> RunResult:
    """One run."""
    return await run_archive(settings, request, stop=asyncio.Event(), watcher=Silent(), now=now)


def files(root: Path) -> dict[str, bytes]:
    """The recordings under the root."""
    found = (path for path in root.rglob("*.mp3") if ".archiver" not in path.parts)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def leftovers(root: Path) -> list[Path]:
    return [path for path in (root / ".archiver" / "tmp").rglob("*") if path.is_file()]


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def source(rows: Sequence[SimulatedRecording]) -> dict[str, bytes]:
    return {key(row): media(row) for row in rows}
