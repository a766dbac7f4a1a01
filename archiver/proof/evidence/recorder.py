"""Writes the audit trail for a command: records, the ledger's mark behind them, and copies in a store."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from archiver.ledger.base import Ledger
from archiver.ledger.values_sealing import TrailMark, TrailMarkName
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Draft, Record, TrailFile, add_records, record_of
from archiver.proof.evidence.audit_check import Examination, TrailReport
from archiver.proof.evidence.audit_copies import compare_copies, copied_through, copies_in, copy_lines, restore_lines
from archiver.stores.base import Store


class Recorder:
    """Adds records in the name of `who`; `run_id` is the run they belong to, empty outside of one.

    `copies` is the store that gets a copy of every record, None where the local file is all there is.
    """

    def __init__(
        self,
        file: TrailFile,
        ledger: Ledger,
        threads: Threads,
        *,
        who: str,
        now: Callable[[], datetime],
        run_id: str = "",
        copies: Store | None = None,
    ) -> None:
        self._file = file
        self._ledger = ledger
        self._threads = threads
        self._who = who
        self._now = now
        self._run_id = run_id
        self._copies = copies
        self._head: TrailMark | None = None

    async def add(self, drafts: Sequence[Draft]) -> None:
        """Add records, all of them durable on return, and note the last one in the ledger.

        Killed in between, the trail is ahead of the ledger, which the next addition makes good. With a ledger that knows
        of no record yet, a trail that was lost comes back from its copies first.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: none of them is there.
            LedgerError: they may be there.
        """
        mark = self._head or await self._ledger.trail_mark(TrailMarkName.HEAD)
        if mark is None and self._copies is not None:
            await self._threads.run(restore_lines, self._file, self._copies)
        ours = [draft if draft.run_id else replace(draft, run_id=self._run_id) for draft in drafts]
        self._head = await self._threads.run(add_records, self._file, ours, who=self._who, at=self._now(), mark=mark)
        await self._ledger.raise_trail_mark(TrailMarkName.HEAD, self._head)

    async def copy(self) -> None:
        """Put what has no copy yet into the store; without one nothing happens.

        Raises:
            StoreError, LedgerError: the next command puts what is left.
        """
        if self._copies is None:
            return
        mark = await self._ledger.trail_mark(TrailMarkName.PUT)
        after = mark.seq if mark is not None else await self._threads.run(copied_through, self._copies)
        through = await self._threads.run(copy_lines, self._file, self._copies, after=after)
        if through is not None:
            await self._ledger.raise_trail_mark(TrailMarkName.PUT, through)


async def check_trail(
    file: TrailFile,
    ledger: Ledger | None,
    threads: Threads,
    *,
    copies: Store | None,
    each: Callable[[Record], None] = lambda _: None,
) -> TrailReport:
    """Walk over the whole trail, and over its `copies` where they shall be read; `each` sees every record.

    Raises:
        StoreError, LedgerError: it can't be told.
    """
    # Before the file is read: whatever is added meanwhile is ahead of the mark.
    mark = put = None
    if ledger is not None:
        mark, put = await ledger.trail_mark(TrailMarkName.HEAD), await ledger.trail_mark(TrailMarkName.PUT)

    def walked() -> TrailReport:
        found = Examination(mark)
        # Likewise listed first.
        objects = copies_in(copies) if copies is not None else []
        with file.reading() as opened:
            for record in found.walk(opened.lines() if opened is not None else iter(())):
                each(record)
        return found.report(compare_copies(copies, objects, found, put) if copies is not None else 0)

    return await threads.run(walked)


async def read_trail(file: TrailFile, threads: Threads, each: Callable[[Record], None]) -> None:
    """Every record that can be read, in order, whether the trail is whole or not.

    Raises:
        StoreDenied, StoreUnavailable.
    """

    def walked() -> None:
        with file.reading() as opened:
            for line in opened.lines() if opened is not None else ():
                record = record_of(line)
                if record is not None:
                    each(record)

    await threads.run(walked)
