"""Goes through the ledger, and through sidecars where the ledger alone can't tell, for the recordings to export."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from archiver.errors import ArchiverError, StoreError, first_of
from archiver.ledger.base import Ledger
from archiver.ledger.values_exporting import KnownRecording
from archiver.pipeline.threads import Threads
from archiver.proof.export.selection import Conditions
from archiver.proof.export.sources import listed_call, read_sidecar
from archiver.proof.verification.findings import Finding
from archiver.proof.verification.reading import GONE_AFTER
from archiver.recording import Status
from archiver.stores.base import Store

_SIDE_BY_SIDE = 16
_TOGETHER = 32


@dataclass(slots=True)
class Gathered:
    """The recordings that were meant, and what could not be told: `undecided` have no metadata to go by.

    `ids_seen` are the asked-for recording ids and call ids that a chosen recording has.
    """

    chosen: list[KnownRecording] = field(default_factory=list)
    undecided: int = 0
    findings: list[Finding] = field(default_factory=list)
    ids_seen: set[str] = field(default_factory=set)

    @property
    def size_bytes(self) -> int:
        """Of all media."""
        return sum(each.fixity.size_bytes for known in self.chosen for each in known.objects)

    @property
    def objects(self) -> int:
        """How many media there are."""
        return sum(len(known.objects) for known in self.chosen)


@dataclass(frozen=True, slots=True)
class _Judged:
    """One recording against the conditions; `chosen` is None where that can't be told."""

    known: KnownRecording
    chosen: bool | None
    ids_seen: frozenset[str] = frozenset()
    findings: Sequence[Finding] = ()
    errors: Sequence[StoreError] = ()


async def gather(
    ledger: Ledger, store: Store, threads: Threads, conditions: Conditions, *, stop: asyncio.Event
) -> Gathered:
    """Everything that fits, in the order of accounts and calls; after `stop` is set, what it has come to.

    In memory are the chosen ones and a few batches.

    Raises:
        LedgerError, StoreError: it can't be told, or the store gives one sidecar after another not.
    """
    it = _Gathering(store, threads, conditions, stop)
    failed: ArchiverError | None = None
    try:
        async with asyncio.TaskGroup() as group, aclosing(ledger.known_recordings(conditions.sought)) as batches:
            async for batch in batches:
                await it.take(batch, group)
                if stop.is_set():
                    break
    except* ArchiverError as errors:
        failed = first_of(errors)
    if failed is not None:
        raise failed
    it.gathered.chosen.sort(key=lambda known: (known.account_id, known.dated_at, known.recording_id))
    it.gathered.findings.sort(key=lambda each: each.key)
    return it.gathered


class _Gathering:
    """Judges batch by batch, reading side by side."""

    def __init__(self, store: Store, threads: Threads, conditions: Conditions, stop: asyncio.Event) -> None:
        self.gathered = Gathered()
        self._store = store
        self._threads = threads
        self._conditions = conditions
        self._stop = stop
        self._room = asyncio.Semaphore(_SIDE_BY_SIDE)
        self._errors_in_a_row = 0

    async def take(self, batch: Sequence[KnownRecording], group: asyncio.TaskGroup) -> None:
        """One batch; `group` reads what has to be read."""
        if not self._conditions.need_metadata:
            for known in batch:
                self._note(_Judged(known, chosen=True))
            return
        for start in range(0, len(batch), _TOGETHER):
            await self._room.acquire()
            if self._stop.is_set():
                self._room.release()
                return
            group.create_task(self._judge(batch[start : start + _TOGETHER]))

    async def _judge(self, portion: Sequence[KnownRecording]) -> None:
        try:
            judged = await self._threads.run(
                judge_all, self._store, portion, self._conditions, stopped=self._stop.is_set
            )
        finally:
            self._room.release()
        for each in judged:
            self._note(each)

    def _note(self, judged: _Judged) -> None:
        self._errors_in_a_row = self._errors_in_a_row + len(judged.errors) if judged.errors else 0
        if self._errors_in_a_row >= GONE_AFTER:
            # A bad sector is a finding; a store that is gone is none.
            raise judged.errors[-1]
        self.gathered.findings += judged.findings
        if judged.chosen is None:
            self.gathered.undecided += 1
        elif judged.chosen:
            self.gathered.chosen.append(judged.known)
            named = self._conditions.sought.recording_ids.intersection({judged.known.recording_id})
            self.gathered.ids_seen |= judged.ids_seen | named


def judge_all(
    store: Store, portion: Sequence[KnownRecording], conditions: Conditions, *, stopped: Callable[[], bool]
) -> list[_Judged]:
    """Each recording against conditions on its metadata; blocking."""
    return [_judged(store, known, conditions) for known in portion if not stopped()]


def _judged(store: Store, known: KnownRecording, conditions: Conditions) -> _Judged:
    read = [read_sidecar(store, known, version) for version in known.objects]
    calls = [each.call for each in read]
    if known.status is not Status.ARCHIVED:
        # Of one that has expired nothing is left that could tell.
        calls.append(listed_call(known))
    findings = [each.finding for each in read if each.finding is not None]
    errors = [each.error for each in read if each.error is not None]
    fitting = [call for call in calls if call is not None and conditions.hold(call)]
    if fitting:
        # What is wrong with its sidecar is told when it is copied.
        seen = conditions.call_ids.intersection(each for call in fitting for each in call.ids)
        return _Judged(known, chosen=True, ids_seen=seen, errors=errors)
    return _Judged(known, chosen=None if None in calls else False, findings=findings, errors=errors)
