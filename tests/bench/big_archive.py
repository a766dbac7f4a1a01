"""Archives made directly, ledger and files, without a PBX: as large as a verification is to be measured with."""

import asyncio
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome

from .archiver_settings import settings_without_pbx
from .corpus import ACCOUNT_ID, BEGIN

_A_DAY = 10_000
_LINKS = 30_000
"""ext4 takes 65,000 names of one file."""

_COLUMNS = (
    "account_no, recording_id, status, run_no, listed_at, start_at, length_bytes, extension, "
    "key, size_bytes, sha256, sidecar_sha256, archived_ms, archived_run_no"
)


@dataclass(frozen=True)
class Made:
    """One recording that lies in the archive."""

    recording_id: str
    key: str
    start_s: int
    size_bytes: int
    sha256: bytes
    sidecar_sha256: bytes


def make_archive(root: Path, count: int, size_bytes: int) -> Path:
    """An archive of so many recordings of that size in `root`, unless it is there; its settings file.

    Recordings of a few bytes are names of one file, since nothing but names and sizes is looked at.
    """
    settings = root / "settings.toml"
    if settings.exists():
        return settings
    archive = root / "archive"
    (archive / ".archiver" / "tmp").mkdir(parents=True, mode=0o700)
    asyncio.run(_empty_ledger(archive))
    made = _linked(archive, count, size_bytes) if size_bytes < 1000 else _written(archive, count, size_bytes)
    _fill(archive, made)
    text = settings_without_pbx(archive)
    settings.write_text(text, encoding="utf-8")
    return settings


async def _empty_ledger(archive: Path) -> None:
    ledger = await open_ledger(f"sqlite:///{archive}/.archiver/ledger.sqlite3")
    run = await ledger.begin_run("made", started_at=BEGIN)
    await ledger.end_run(run, outcome=Outcome.COMPLETE, ended_at=datetime.now(UTC), report=b"{}")
    await ledger.close()


def _names(archive: Path, count: int) -> Iterator[tuple[str, Path, int]]:
    """Ids, the paths of their media, and when the calls were; the folders are made on the way."""
    for number in range(count):
        day, place = divmod(number, _A_DAY)
        at = BEGIN + timedelta(days=day, seconds=8 * place)
        folder = archive / ACCOUNT_ID / f"{at:%Y/%m/%d}"
        if place == 0:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        recording_id = f"{at:%Y%m}-{number:032x}"
        yield recording_id, folder / f"{recording_id}.mp3", int(at.timestamp())


def _linked(archive: Path, count: int, size_bytes: int) -> Iterator[Made]:
    data, beside = os.urandom(size_bytes), b"{}"
    digests = hashlib.sha256(data).digest(), hashlib.sha256(beside).digest()
    first: tuple[Path, Path] | None = None
    for number, (recording_id, path, start_s) in enumerate(_names(archive, count)):
        sidecar = path.with_suffix(".json")
        if first is None or number % _LINKS == 0:
            path.write_bytes(data)
            sidecar.write_bytes(beside)
            first = path, sidecar
        else:
            os.link(first[0], path)
            os.link(first[1], sidecar)
        yield Made(recording_id, path.relative_to(archive).as_posix(), start_s, size_bytes, *digests)


def _written(archive: Path, count: int, size_bytes: int) -> Iterator[Made]:
    for recording_id, path, start_s in _names(archive, count):
        data = os.urandom(size_bytes)
        sha256 = hashlib.sha256(data)
        key = path.relative_to(archive).as_posix()
        said = {"schema": 1, "recording_id": recording_id, "key": key, "size_bytes": size_bytes}
        said |= {"sha256": sha256.hexdigest(), "recording": {"name": "x" * 800}}
        beside = json.dumps(said).encode()
        path.write_bytes(data)
        path.with_suffix(".json").write_bytes(beside)
        yield Made(recording_id, key, start_s, size_bytes, sha256.digest(), hashlib.sha256(beside).digest())


def _fill(archive: Path, made: Iterator[Made]) -> None:
    statement = f"INSERT INTO entries ({_COLUMNS}) VALUES (1, ?, 'archived', 1, ?, ?, ?, 'mp3', ?, ?, ?, ?, ?, 1)"
    with closing(sqlite3.connect(archive / ".archiver" / "ledger.sqlite3")) as ledger:
        ledger.execute("PRAGMA synchronous=OFF")
        ledger.execute("INSERT INTO accounts (account_no, account_id) VALUES (1, ?)", [ACCOUNT_ID])
        rows = (
            (
                one.recording_id,
                one.start_s,
                one.start_s,
                one.size_bytes,
                one.key,
                one.size_bytes,
                one.sha256,
                one.sidecar_sha256,
                one.start_s * 1000,
            )
            for one in made
        )
        ledger.executemany(statement, rows)
        ledger.commit()
