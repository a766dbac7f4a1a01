"""`plan` and `run --dry-run`: walk the listing only, write nothing, and say what an archive run would mean."""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from archiver.errors import PbxError, Severity
from archiver.ledger.base import Ledger
from archiver.pbx import listing
from archiver.pbx.base import Pbx
from archiver.pipeline.producer import Partition, belongs
from archiver.recording import Recording, Status
from archiver.window import Window


class Volume(msgspec.Struct, kw_only=True):
    """Recordings, bytes by the metadata's lengths, how many give no length, and the hours of audio."""

    recordings: int = 0
    bytes: int = 0
    without_length: int = 0
    audio_hours: float = 0.0

    def add(self, recording: Recording) -> None:
        """Count one recording."""
        self.recordings += 1
        self.bytes += recording.length_bytes or 0
        self.without_length += recording.length_bytes is None
        self.audio_hours += (recording.duration_ms or 0) / 3_600_000


class PlanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What lies at the source in a period, by month; `hours` is what fetching takes at the configured limits."""

    accounts: list[str]
    total: Volume
    months: dict[str, Volume]
    already_archived: int
    to_archive: int
    pages: int
    requests: int
    windows_complete: int
    windows_incomplete: int
    problems: list[str]
    hours: float
    hours_limited_by: str
    free_bytes: int | None


@dataclass(slots=True)
class Rates:
    """The configured limits: requests a second (0 for none) and bytes a second (None for none)."""

    requests_per_s: float
    bytes_per_s: float | None

    def hours(self, volume: Volume) -> tuple[float, str]:
        """How long fetching takes at least, and which limit says so."""
        found = [(0.0, "no limit is set")]
        if self.requests_per_s:
            found.append((volume.recordings / self.requests_per_s / 3600, "transfer.requests_per_s"))
        if self.bytes_per_s:
            found.append((volume.bytes / self.bytes_per_s / 3600, "transfer.bandwidth"))
        return max(found)


class Planner:
    """Walks partitions in order, account by account, and counts each recording once, with flat memory.

    A recording can be listed twice only by queries that overlap, so ids are remembered no longer than that.
    """

    def __init__(self, pbx: Pbx, ledger: Ledger | None, *, page_size: int) -> None:
        self._pbx = pbx
        self._ledger = ledger
        self._page_size = page_size
        self._recent: deque[tuple[str, Window, set[str]]] = deque()
        self._months: dict[str, Volume] = defaultdict(Volume)
        self._known: dict[Status, int] = defaultdict(int)
        self._complete = 0
        self._problems: list[str] = []

    async def plan(
        self, partitions: Iterable[Partition], *, accounts: list[str], rates: Rates, free_bytes: int | None
    ) -> PlanReport:
        """The plan.

        Raises:
            PbxError: fatal ones; a window that can't be listed whole is a problem in the report.
        """
        for partition in partitions:
            try:
                await self._window(partition)
                self._complete += 1
            except PbxError as error:
                if error.severity is Severity.FATAL:
                    raise
                self._problems.append(f"{partition.account_id} window {partition.window.covers}: {error}")
        total = Volume(
            recordings=sum(month.recordings for month in self._months.values()),
            bytes=sum(month.bytes for month in self._months.values()),
            without_length=sum(month.without_length for month in self._months.values()),
            audio_hours=round(sum(month.audio_hours for month in self._months.values()), 2),
        )
        hours, limited_by = rates.hours(total)
        for month in self._months.values():
            month.audio_hours = round(month.audio_hours, 2)
        return PlanReport(
            accounts=accounts,
            total=total,
            months=dict(sorted(self._months.items())),
            already_archived=self._known[Status.ARCHIVED],
            to_archive=total.recordings - self._known[Status.ARCHIVED],
            pages=self._pbx.traffic.pages,
            requests=self._pbx.traffic.requests,
            windows_complete=self._complete,
            windows_incomplete=len(self._problems),
            problems=self._problems,
            hours=round(hours, 2),
            hours_limited_by=limited_by,
            free_bytes=free_bytes,
        )

    async def _window(self, partition: Partition) -> None:
        account_id, query = partition.account_id, partition.window.query
        while self._recent and (self._recent[0][0] != account_id or self._recent[0][1].end_at <= query.start_at):
            self._recent.popleft()
        ids: set[str] = set()
        self._recent.append((account_id, query, ids))
        walk = listing.recordings(self._pbx, account_id, page_size=self._page_size)
        async for page in walk.pages(query):
            fresh = [
                row
                for row in page.rows
                if belongs(row, partition.period)
                and not any(row.recording_id in earlier for _, _, earlier in self._recent)
            ]
            ids.update(row.recording_id for row in fresh)
            for row in fresh:
                self._months[f"{row.dated_at:%Y-%m}"].add(row)
            if self._ledger is not None and fresh:
                for status, count in (await self._ledger.classify_page(account_id, fresh)).items():
                    self._known[status] += count
