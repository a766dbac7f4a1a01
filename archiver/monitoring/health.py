"""Since when a command has ended badly, remembered under `.archiver/monitoring`; and what of it is news."""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path

from archiver.monitoring.own_files import own_folder
from archiver.whole_files import read_small, write_whole

_FOLDER = "monitoring"
_MOST_BYTES = 1 << 16


class News(Enum):
    """What somebody should hear of."""

    FAILED = "failed"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Health:
    """How a command ended last; `bad_since` is None when it is well, and nobody waits to hear that it is."""

    bad_since: datetime | None
    exit_code: int


def turned(former: Health | None, exit_code: int, at: datetime) -> tuple[Health, News | None]:
    """How a command is now that it ended with this code, and what of it is news.

    A recovery that could not be told (`bad_since` beside exit code 0) is news again.
    """
    since = former.bad_since if former is not None else None
    if not exit_code:
        return Health(None, 0), News.RECOVERED if since is not None else None
    was_bad = former is not None and former.exit_code != 0
    return Health(since if since is not None and was_bad else at, exit_code), News.FAILED


def untold(former: Health | None) -> Health:
    """How a command is that has recovered while nobody could be told."""
    return Health(former.bad_since if former is not None else None, 0)


def read_health(root: Path, command: str) -> Health | None:
    """What is remembered of a command; None when nothing is, or nothing that can be understood.

    Raises:
        OSError: it can't be read.
    """
    try:
        with own_folder(root, _FOLDER, make=False) as fd:
            data = read_small(f"{command}.json", folder_fd=fd, most_bytes=_MOST_BYTES)
    except FileNotFoundError:
        return None
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        said = json.loads(data or b"")
        since = said["bad_since"]
        return Health(
            datetime.fromisoformat(since).astimezone(UTC) if since is not None else None, int(said["exit_code"])
        )
    return None


def write_health(root: Path, command: str, health: Health, *, durable: bool) -> None:
    """Remember it.

    Raises:
        OSError: the former is remembered.
    """
    since = health.bad_since.astimezone(UTC).isoformat() if health.bad_since else None
    data = json.dumps({"bad_since": since, "exit_code": health.exit_code}).encode() + b"\n"
    with own_folder(root, _FOLDER) as fd:
        write_whole(f"{command}.json", data, folder_fd=fd, durable=durable)
