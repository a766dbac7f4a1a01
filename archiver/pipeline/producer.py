"""Lists windows into the ledger and feeds what needs work to the workers; a full feed stops the listing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from archiver.errors import ArchiverError, ListingIncomplete, MediaNotThere, PbxError, RequestRefused, Severity
from archiver.ledger.base import Ledger
from archiver.ledger.values import Run, WindowProgress, WindowState
from archiver.ledger.values_claims import Recovered
from archiver.pbx import listing
from archiver.pbx.base import Pbx
from archiver.pbx.payloads import cdr_only_recording
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.feed import Feed
from archiver.pipeline.tally import Problem, Tally
from archiver.recording import Recording, Status
from archiver.window import ListingWindow, Window

_DUE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Partition:
    """An account's window to list; `period` is what was asked for, and rows that lie outside it are passed over."""

    account_id: str
    window: ListingWindow
    period: Window


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is asked to do; `account_ids` are those whose due retries it takes along.

    `take` gives the next partition to list, None when there are no more.
    """

    run: Run
    take: Callable[[], Awaitable[Partition | None]]
    account_ids: tuple[str, ...]
    page_size: int
    side_by_side: int
    retry_missing: bool


def belongs(recording: Recording, period: Window) -> bool:
    """Whether a recording was asked for: its call started, or was saved, in the period, or the PBX does not say when.

    Which of the two a listing filters by is unknown (api-facts); either is right.
    """
    times = [at for at in (recording.start_at, recording.saved_at) if at is not None]
    return not times or any(at in period for at in times)


class Producer:
    """Walks an order's partitions, a bounded number side by side, then claims what is due, then closes the feed."""

    def __init__(
        self,
        order: Order,
        *,
        pbx: Pbx,
        ledger: Ledger,
        feed: Feed,
        tally: Tally,
        breaker: Breaker,
        now: Callable[[], datetime],
    ) -> None:
        self._order = order
        self._pbx = pbx
        self._ledger = ledger
        self._feed = feed
        self._tally = tally
        self._breaker = breaker
        self._now = now

    async def produce(self) -> None:
        """List everything and feed it.

        Raises:
            ArchiverError: fatal ones only, perhaps in an exception group.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._order.side_by_side):
                    group.create_task(self._lister())
            await self._feed_due()
        finally:
            self._feed.close()

    async def _lister(self) -> None:
        while (partition := await self._order.take()) is not None:
            await self._list(partition)

    async def _list(self, partition: Partition) -> None:
        """One window: complete or, with its reason, incomplete."""
        scanned_at = self._now()
        failed: ArchiverError | None = None
        try:
            await self._walk(partition)
        except PbxError as error:
            if error.severity is Severity.FATAL:
                raise
            failed = error
        covers = partition.window.covers
        await self._ledger.finish_window(
            partition.account_id,
            covers,
            state=WindowState.INCOMPLETE if failed else WindowState.COMPLETE,
            scanned_at=scanned_at,
            reason=f"{failed.code}: {failed}" if failed else "",
        )
        if failed is None:
            self._tally.windows_complete += 1
        else:
            self._tally.windows_incomplete += 1
            self._tally.problem(
                Problem(partition.account_id, "", "incomplete", f"window {covers}: {failed.code}: {failed}", 0)
            )
        self._breaker.look(failed)

    async def _walk(self, partition: Partition) -> None:
        order, account_id = self._order, partition.account_id
        rows_count = 0
        walk = listing.recordings(self._pbx, account_id, page_size=order.page_size)
        async for page in walk.pages(partition.window.query):
            rows = [row for row in page.rows if belongs(row, partition.period)]
            rows_count += len(page.rows)
            await self._record(partition, rows, WindowProgress(page.pages, rows_count, page.cursor))
        if not rows_count:
            await self._cross_check(partition)

    async def _record(self, partition: Partition, rows: list[Recording], progress: WindowProgress) -> None:
        order = self._order
        found = await self._ledger.record_page(
            order.run,
            partition.account_id,
            partition.window.covers,
            rows,
            progress,
            at=self._now(),
            retry_missing=order.retry_missing,
        )
        self._tally.page(len(found.tasks), found.settled)
        self._tally.changed += found.changed
        self._recovered(partition.account_id, found.recovered)
        for task in found.tasks:
            await self._feed.put(task)

    def _recovered(self, account_id: str, found: Recovered) -> None:
        self._tally.recovered(found)
        for recording_id in found.missing_ids:
            reason = f"{MediaNotThere.code}: given up by an attempt of this run whose worker was lost"
            self._tally.problem(Problem(account_id, recording_id, Status.MISSING.value, reason, 0))

    async def _cross_check(self, partition: Partition) -> None:
        """An empty listing is believed only if the CDRs name nothing, or nothing that is not settled.

        What they name is fetched directly, without metadata.

        Raises:
            ListingIncomplete: CDRs name recordings that the empty listing does not show and that are not settled yet.
        """
        account_id = partition.account_id
        named: dict[str, Recording] = {}
        walk = listing.cdrs(self._pbx, account_id, page_size=self._order.page_size)
        try:
            async for page in walk.pages(partition.window.query):
                for cdr in page.rows:
                    for recording_id in cdr.recording_ids:
                        named[recording_id] = cdr_only_recording(cdr, recording_id)
        except RequestRefused:
            # A user without the right to read CDRs: there is nothing to compare with.
            return
        rows = [row for row in named.values() if belongs(row, partition.period)]
        if not rows:
            return
        known = await self._ledger.statuses(account_id, [row.recording_id for row in rows])
        settled = {Status.ARCHIVED, Status.MISSING, Status.EXPIRED}
        open_rows = [row for row in rows if known.get(row.recording_id) not in settled]
        if open_rows:
            await self._record(partition, open_rows, WindowProgress(0, len(open_rows), ""))
            raise ListingIncomplete(
                f"the listing is empty, but CDRs name {len(open_rows)} recordings; fetching them by id"
            )

    async def _feed_due(self) -> None:
        for account_id in self._order.account_ids:
            self._recovered(account_id, await self._ledger.recover(self._order.run, account_id))
            while True:
                tasks = await self._ledger.claim_due(self._order.run, account_id, at=self._now(), limit=_DUE_AT_ONCE)
                self._tally.page(len(tasks), {})
                for task in tasks:
                    await self._feed.put(task)
                if len(tasks) < _DUE_AT_ONCE:
                    break
