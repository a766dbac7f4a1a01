"""Repairs what a verification found: what to list is listed together, what to fetch is fetched side by side."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from archiver.errors import ArchiverError, PbxError, Severity, first_of
from archiver.keys import sidecar_key
from archiver.ledger.base_repair import Repairable, RepairLedger
from archiver.ledger.values import ArchivedEntry, Run
from archiver.pipeline.breaker import Breaker
from archiver.pipeline.run import Failure
from archiver.pipeline.threads import Threads
from archiver.pipeline.tools import Bench
from archiver.proof.mending.mender import Case, Mended, Mender
from archiver.proof.mending.relisting import listed, times_of, together, window_of
from archiver.proof.mending.repairs import Action, Repair
from archiver.proof.verification.findings import Facts, Finding, Kind
from archiver.proof.verification.inventory import Expected
from archiver.proof.verification.readers import portions
from archiver.proof.verification.reading import read_all_of
from archiver.recording import Recording
from archiver.stores.base import Store
from archiver.window import Window

_AT_ONCE = 50
"""Repairs that one listing serves; more would leave other workers idle."""
_NO_LISTING = frozenset({Action.CORRECT_LEDGER, Action.LEAVE})


@dataclass(frozen=True, slots=True)
class Wanted:
    """A repair, and what the ledger knows of its recording."""

    repair: Repair
    entry: ArchivedEntry
    known: Repairable


@dataclass(slots=True)
class Batch:
    """Repairs of one account whose calls lie close together, and the window that lists them; None to list nothing."""

    account_id: str
    window: Window | None
    wanted: list[Wanted] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mending:
    """What came of each finding, by its place, and the fatal error that ended the repairs early."""

    outcomes: Mapping[int, Mended]
    error: Failure | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of a repair; `grace_s` is how long a repair under way may go on after a stop, in seconds."""

    workers: int
    page_size: int
    grace_s: float


async def deepened(facts: Facts, store: Store, threads: Threads, *, sidecars: bool, stop: asyncio.Event) -> Facts:
    """The facts of a verification that read nothing, with each recording they are about read whole.

    Raises:
        StoreError.
    """
    rows = {item.row for item in (*facts.missing, *(difference.expected for difference in facts.different))}
    items = [Expected(row.key, is_media=True, row=row) for row in rows]
    items += [
        Expected(sidecar_key(row.key), is_media=False, row=row)
        for row in rows
        if sidecars or row.sidecar_sha256 is not None
    ]
    found = Facts(strays=facts.strays, stale=facts.stale)
    for portion in portions(sorted(items, key=lambda item: item.key)):
        for looked in await threads.run(read_all_of, store, portion, stop.is_set):
            if isinstance(looked.wrong, Expected):
                found.missing.append(looked.wrong)
            elif looked.wrong is not None:
                found.different.append(looked.wrong)
    return found


async def mend_all(
    repairs: Sequence[Repair],
    bench: Bench,
    ledger: RepairLedger,
    run: Run,
    bounds: Bounds,
    *,
    stop: asyncio.Event,
    give_up: Callable[[], None] = lambda: None,
) -> Mending:
    """Carry the repairs out. After `stop` those under way are finished or, after the grace period, given up."""
    outcomes: dict[int, Mended] = {}
    error: Failure | None = None
    try:
        batches = deque(batched(await _wanted(repairs, ledger, outcomes)))
        work = _Work(batches, bench, Mender(bench, ledger, run), bounds, outcomes, stop)
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work.go_on()) for _ in range(min(bounds.workers, len(batches)))]
            watch = group.create_task(_watch(stop, workers, bounds.grace_s, give_up))
            if workers:
                await asyncio.wait(workers)
            watch.cancel()
    except* ArchiverError as errors:
        error = Failure.of(first_of(errors))
    why = "interrupted" if error is None else str(error)
    for repair in repairs:
        for place in repair.findings:
            outcomes.setdefault(place, Mended(done=False, words=f"not done: {why}"))
    return Mending(outcomes, error)


def left_alone(repairs: Sequence[Repair], why: str = "") -> Mending:
    """As if nothing could be done: each for its own reason, or all for one."""
    left = {place: Mended(done=False, words=why or repair.why) for repair in repairs for place in repair.findings}
    return Mending(left, None)


def batched(wanted: Sequence[Wanted]) -> list[Batch]:
    """Repairs by account and time, so that one listing serves many."""
    batches: list[Batch] = []
    for each in sorted(wanted, key=lambda one: (one.entry.account_id, one.entry.dated_at)):
        window = _window(each)
        last = batches[-1] if batches else None
        if last is not None and last.account_id == each.entry.account_id and len(last.wanted) < _AT_ONCE:
            both = together(last.window, window) if last.window and window else None
            if both is not None or (last.window is None and window is None):
                last.window = both
                last.wanted.append(each)
                continue
        batches.append(Batch(each.entry.account_id, window, [each]))
    return batches


def told(findings: Sequence[Finding], mending: Mending) -> list[Finding]:
    """The findings with what became of each; where a renamed recording was put back, its stray is a foreign object now."""
    said: list[Finding] = []
    for place, finding in enumerate(findings):
        mended = mending.outcomes[place]
        said.append(msgspec.structs.replace(finding, repaired=mended.done, repair=mended.words))
        if finding.kind is Kind.RENAMED and mended.done:
            said.append(
                Finding(
                    kind=Kind.FOREIGN_OBJECT,
                    key=finding.found,
                    account_id="",
                    recording_id="",
                    expected="nothing",
                    found=f"the bytes of {finding.key}",
                    repair="the recording is back under its own name; this was not touched",
                )
            )
    return sorted(said, key=lambda finding: (finding.key, finding.kind))


def _window(wanted: Wanted) -> Window | None:
    if wanted.repair.action in _NO_LISTING or not wanted.entry.is_current:
        return None
    times = times_of(wanted.known.recording)
    return window_of(times) if times else None


async def _wanted(repairs: Sequence[Repair], ledger: RepairLedger, outcomes: dict[int, Mended]) -> list[Wanted]:
    """The repairs that there is something to do for; the others have their outcome."""
    wanted: list[Wanted] = []
    for repair in repairs:
        known = None if repair.entry is None else await ledger.repairable(repair.entry)
        if repair.action is Action.LEAVE or repair.entry is None:
            outcomes.update(dict.fromkeys(repair.findings, Mended(done=False, words=repair.why)))
        elif known is None:
            gone = Mended(done=False, words="the ledger does not hold it any more")
            outcomes.update(dict.fromkeys(repair.findings, gone))
        else:
            wanted.append(Wanted(repair, repair.entry, known))
    return wanted


class _Work:
    """Takes batches until there are no more, or until it is stopped."""

    def __init__(
        self,
        batches: deque[Batch],
        bench: Bench,
        mender: Mender,
        bounds: Bounds,
        outcomes: dict[int, Mended],
        stop: asyncio.Event,
    ) -> None:
        self._batches = batches
        self._bench = bench
        self._mender = mender
        self._page_size = bounds.page_size
        self._outcomes = outcomes
        self._stop = stop
        self._breaker = Breaker(bench.pbx, max(bounds.workers, 3))

    async def go_on(self) -> None:
        """Repair until nothing is left.

        Raises:
            ArchiverError: only fatal ones.
        """
        while self._batches and not self._stop.is_set():
            batch = self._batches.popleft()
            try:
                rows = await self._listed(batch)
            except PbxError as error:
                if error.severity is Severity.FATAL:
                    raise
                self._note(batch.wanted, Mended(done=False, words=f"its metadata can't be listed: {error}"))
                self._breaker.look(error)
                continue
            for each in batch.wanted:
                if self._stop.is_set():
                    return
                recording = rows.get(each.entry.recording_id, each.known.recording)
                mended = await self._mender.mend(Case(each.repair, each.entry, each.known, recording))
                self._note([each], mended)
                self._breaker.look(mended.reason or None, mended.words)

    async def _listed(self, batch: Batch) -> Mapping[str, Recording]:
        if batch.window is None:
            return {}
        ids = frozenset(each.entry.recording_id for each in batch.wanted)
        return await listed(self._bench.pbx, batch.account_id, batch.window, ids, page_size=self._page_size)

    def _note(self, wanted: Sequence[Wanted], mended: Mended) -> None:
        for each in wanted:
            self._outcomes.update(dict.fromkeys(each.repair.findings, mended))


async def _watch(
    stop: asyncio.Event, workers: "Sequence[asyncio.Task[None]]", grace_s: float, give_up: Callable[[], None]
) -> None:
    await stop.wait()
    if not workers:
        return
    _, late = await asyncio.wait(workers, timeout=grace_s)
    if late:
        give_up()
    for worker in late:
        worker.cancel()
