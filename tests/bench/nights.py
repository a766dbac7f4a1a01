"""An account with a long past: what the PBX still lists of it, and a ledger that knows all of it."""

import asyncio
import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Outcome
from archiver.simulator import MediaSource, SimulatedRecording

from .corpus import ACCOUNT_ID

DAY_S = 86_400
LOOKBACK_S = 3 * DAY_S
LISTED_S = 4 * DAY_S
"""The PBX lists so much of the past; a night asks for no more."""
MEDIA_MS = 100
_SHA256 = hashlib.sha256(b"").digest()
_COLUMNS = (
    "account_no, recording_id, status, run_no, listed_at, start_at, saved_at, duration_ms, length_bytes, extension, "
    "key, size_bytes, sha256, sidecar_sha256, archived_ms, archived_run_no, manifest_part"
)
_INSERT = f"INSERT INTO entries ({_COLUMNS}) VALUES (1, ?, 'archived', 1, ?, ?, ?, ?, ?, 'mp3', ?, ?, ?, ?, ?, 1, 1)"


@dataclass(frozen=True)
class Past:
    """So many calls a day up to `until_s` (Unix seconds); the ledger holds the `known` latest, but for the last `fresh`."""

    until_s: int
    a_day: int
    known: int
    fresh: int = 0

    @property
    def begin(self) -> datetime:
        """The midnight before the first call."""
        first = self.until_s - (self.known + self.fresh + 1) * DAY_S // self.a_day
        return datetime.fromtimestamp(first // DAY_S * DAY_S, UTC)

    def calls(self, count: int, *, skip: int = 0) -> Iterator[tuple[str, int]]:
        """The ids and starts of the latest, the last first."""
        for number in range(skip, skip + count):
            start_s = self.until_s - 60 - number * DAY_S // self.a_day
            yield f"{datetime.fromtimestamp(start_s, UTC):%Y%m}-{start_s:08x}{number:024x}", start_s

    def rows(self, media: MediaSource) -> Iterator[SimulatedRecording]:
        """What the PBX lists."""
        listed = min(self.known + self.fresh, LISTED_S * self.a_day // DAY_S)
        for recording_id, start_s in self.calls(listed):
            yield SimulatedRecording(
                account_id=ACCOUNT_ID,
                recording_id=recording_id,
                start_unix_s=start_s,
                duration_ms=MEDIA_MS,
                media=media,
            )

    def make_ledger(self, root: Path, length_bytes: int) -> None:
        """The ledger alone: a night with nothing new looks at no object."""
        (root / ".archiver").mkdir(parents=True, mode=0o700)
        path = root / ".archiver" / "ledger.sqlite3"
        asyncio.run(_empty(path, datetime.fromtimestamp(self.until_s - DAY_S, UTC)))
        with closing(sqlite3.connect(path)) as ledger:
            ledger.execute("PRAGMA synchronous=OFF")
            ledger.execute("INSERT INTO accounts (account_no, account_id) VALUES (1, ?)", [ACCOUNT_ID])
            ledger.executemany(_INSERT, self._entries(length_bytes))
            ledger.execute(
                "INSERT INTO tallies (account_no, status, recordings, bytes) "
                "SELECT account_no, status, count(*), sum(size_bytes) FROM entries"
            )
            ledger.executemany(
                "INSERT INTO calendar (account_no, start_at, end_at, state, scanned_at) VALUES (1, ?, ?, 'complete', ?)",
                self._calendar(),
            )
            ledger.commit()

    def _entries(self, length_bytes: int) -> Iterator[tuple[object, ...]]:
        for recording_id, start_s in self.calls(self.known, skip=self.fresh):
            key = f"{ACCOUNT_ID}/{datetime.fromtimestamp(start_s, UTC):%Y/%m/%d}/{recording_id}.mp3"
            times = (start_s, start_s, start_s + MEDIA_MS // 1000)
            yield (
                recording_id, *times, MEDIA_MS, length_bytes, key, length_bytes, _SHA256, _SHA256, start_s * 1000,
            )  # fmt: skip

    def _calendar(self) -> Iterator[tuple[int, int, int]]:
        """A piece a day, each listed last on the night that settled it, the latest on the night before this one."""
        day, last = int(self.begin.timestamp()), self.until_s - DAY_S
        while day < last:
            end = min(day + DAY_S, last)
            yield day, end, min(end + LOOKBACK_S, last)
            day = end


async def _empty(path: Path, at: datetime) -> None:
    ledger = await open_ledger(f"sqlite:///{path}")
    run = await ledger.begin_run("made", started_at=at)
    await ledger.end_run(run, outcome=Outcome.COMPLETE, ended_at=at + timedelta(minutes=1), report=b"{}")
    await ledger.close()
