"""Archives one recording: stream, count, check, store, settle. A recording's failure is a value; only fatal errors leave.

The order is the local write protocol of the house: nothing has a final name before all checks passed, nothing is settled
as archived before the store confirmed.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from archiver import sidecar
from archiver.errors import ArchiverError, Contradiction, MediaNotThere, Severity
from archiver.ledger.values import LADDER, Attempt, Former, Settlement, Task
from archiver.pbx.base import MediaBody
from archiver.pipeline.checks import Announced, ReceivedMedia
from archiver.pipeline.keeping import LARGEST_MEDIA_BYTES, Checked, Whole, already_there, check, settled
from archiver.pipeline.tools import Bench, Spooling, finished
from archiver.recording import Recording, Status

_BATCH_BYTES = 512 << 10
_SMALL_BYTES = 128 << 10
_QUARANTINE_PAUSE = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Contradicted:
    """A whole body that does not fit its metadata, and why."""

    media: ReceivedMedia
    error: Contradiction


@dataclass(frozen=True, slots=True)
class Received:
    """A body on its way to be concluded: all but the last batch is in the spool; `failures` went before."""

    task: Task
    failures: Sequence[Attempt]
    spool: Spooling
    batch: Sequence[bytes]
    announced: Announced


Check = Callable[[Bench, Task, Sequence[Attempt], ReceivedMedia, Announced], Checked]
"""Checks a body and says what to put, as `keeping.check` does, or raises as that does."""


class Worker:
    """Brings tasks to their settlement, one after another."""

    def __init__(self, bench: Bench, checking: Check = check) -> None:
        self._bench = bench
        self._check = checking

    async def archive(self, task: Task, received: Callable[[], None] = lambda: None) -> Settlement:
        """The settlement of a task, whatever happened to it; `received` is called when a body has come whole.

        Raises:
            ArchiverError: only fatal ones (destination full or denied, sign-in refused); the task stays pending.
        """
        formers: list[Former] = []
        while task.was_known and (there := await self._left_whole(task)) is not None:
            if _fits(task.recording, there):
                return replace(self._adopted(task, there), formers=formers)
            # The source has changed since: what lies there stays, and what it serves now is the next version.
            formers.append(
                Former(task.version, self._bench.key(task), there.fixity, there.sidecar_sha256, self._bench.now())
            )
            task = replace(task, version=task.version + 1)
        found = await self._fetched(task, received)
        return replace(found, formers=formers) if formers else found

    async def _fetched(self, task: Task, received: Callable[[], None]) -> Settlement:
        """The settlement of a task after its download."""
        failures: list[Attempt] = []
        try:
            async for attempt in self._bench.retries.attempts():
                with attempt:
                    last = attempt.num > self._bench.retries.max_retries
                    if attempt.num > 1:
                        self._bench.pbx.traffic.retries += 1
                    try:
                        return await self._try(task, failures, received, last=last)
                    except ArchiverError as error:
                        if error.severity is Severity.FATAL:
                            raise
                        failures.append(self._attempt(task, failures, error))
                        raise
        except MediaNotThere as error:
            return self._not_there(task, failures, error)
        except ArchiverError as error:
            if error.severity is Severity.FATAL:
                raise
            return self._pending(task, failures, error)
        raise AssertionError("unreachable")

    async def _try(
        self, task: Task, failures: Sequence[Attempt], received: Callable[[], None], *, last: bool
    ) -> Settlement:
        bench, recording = self._bench, task.recording
        async with bench.budget.share(min(recording.length_bytes or _BATCH_BYTES, 2 * _BATCH_BYTES)):
            async with (
                bench.limiter.slot() as slot,
                bench.pbx.media(recording.account_id, recording.recording_id) as body,
            ):
                slot.answered(body.waited_s)
                announced = Announced(body.framing, body.content_length, body.content_type)
                spool = bench.spool(_limit_bytes(recording, announced), recording.digest_md5 is not None)
                try:
                    batch = await self._stream(body, spool)
                except BaseException:
                    spool.discard()
                    raise
            # The connection is free again: the last batch, the checks and the store are one thread hop.
            quick = sum(map(len, batch)) <= _SMALL_BYTES and not spool.size_bytes
            threads = bench.quick_threads if quick else bench.threads
            received()
            body_in = Received(task, tuple(failures), spool, batch, announced)
            found: Settlement | Contradicted = await threads.run_together(self._conclude, body_in)
            if isinstance(found, Settlement):
                return found
            try:
                error = found.error
                seen = [failure.detail for failure in failures if failure.reason == error.kind]
                if str(error) not in seen and found.media.fixity.sha256 != task.quarantined_sha256 and not last:
                    raise error
                kept = [*failures, self._attempt(task, failures, error)]
                return await bench.threads.run(self._quarantine, task, kept, found.media, error)
            finally:
                found.media.discard()

    async def _stream(self, body: MediaBody, spool: Spooling) -> list[bytes]:
        bench = self._bench
        batch: list[bytes] = []
        size_bytes = 0
        while chunk := await body.read():
            batch.append(chunk)
            size_bytes += len(chunk)
            bench.on_bytes(len(chunk))
            if pause_s := bench.throttle.pause_s(len(chunk)):
                await asyncio.sleep(pause_s)
            if size_bytes >= _BATCH_BYTES:
                if not await bench.threads.run(spool.write, batch):
                    return []
                batch, size_bytes = [], 0
        return batch

    def _conclude(self, bodies: Sequence[Received]) -> "list[Settlement | Contradicted | BaseException]":
        """Take the last batches, check, store together; media that contradict are handed back, all others given up."""
        checked = [self._checked(body) for body in bodies]
        ready = [one for one, _ in checked if isinstance(one, Checked)]
        stored = iter(self._bench.store.put_many([one.objects for one in ready]) if ready else ())
        outcomes: list[Settlement | Contradicted | BaseException] = []
        for one, media in checked:
            outcome: Settlement | BaseException
            try:
                outcome = settled(self._bench, one, next(stored)) if isinstance(one, Checked) else one
            except Exception as error:  # noqa: BLE001 - handed to whoever waits for this body
                outcome = error
            if media is not None and isinstance(outcome, Contradiction):
                outcomes.append(Contradicted(media, outcome))
                continue
            if media is not None:
                media.discard()
            outcomes.append(outcome)
        return outcomes

    def _checked(self, body: Received) -> tuple[Checked | BaseException, ReceivedMedia | None]:
        """A body after its checks, or what was wrong; with its media once it has come to that."""
        try:
            media = finished(body.spool, body.batch)
        except Exception as error:  # noqa: BLE001 - likewise
            body.spool.discard()
            return error, None
        try:
            return self._check(self._bench, body.task, body.failures, media, body.announced), media
        except Exception as error:  # noqa: BLE001 - likewise
            return error, media

    async def _left_whole(self, task: Task) -> Whole | None:
        """What a killed run left whole in the store; None when there is nothing, or nothing to compare it with."""
        recording = task.recording
        if recording.doubt:
            return None
        return await self._bench.threads.run(already_there, self._bench, self._bench.key(task), recording)

    def _adopted(self, task: Task, found: Whole) -> Settlement:
        """The settlement without a download."""
        return Settlement(
            entry_id=task.entry_id,
            status=Status.ARCHIVED,
            attempts=task.attempts,
            key=self._bench.key(task),
            fixity=found.fixity,
            sidecar_sha256=found.sidecar_sha256,
            archived_at=self._bench.now(),
            adopted=True,
            detail=found.doubt.detail if found.doubt else "",
            flags=(found.doubt.flag,) if found.doubt else (),
        )

    def _quarantine(
        self, task: Task, failures: Sequence[Attempt], media: ReceivedMedia, error: Contradiction
    ) -> Settlement:
        bench, recording = self._bench, task.recording
        at = bench.now()
        reason = {
            "schema": sidecar.SCHEMA,
            "account_id": recording.account_id,
            "recording_id": recording.recording_id,
            "reason": error.kind,
            "detail": str(error),
            "expected_bytes": recording.length_bytes,
            "size_bytes": media.fixity.size_bytes,
            "sha256": media.fixity.sha256.hex(),
            "run_id": bench.run_id,
            "quarantined_at": at.isoformat(timespec="seconds"),
        }
        bench.quarantine.keep(
            account_id=recording.account_id,
            recording_id=recording.recording_id,
            media=media,
            extension=recording.extension,
            reason=json.dumps(reason).encode("ascii") + b"\n",
        )
        rung = task.retries_used + (1 if task.due else 0)
        return Settlement(
            entry_id=task.entry_id,
            status=Status.QUARANTINED,
            attempts=task.attempts + len(failures),
            failures=tuple(failures),
            fixity=media.fixity,
            reason=error.kind,
            detail=str(error),
            next_attempt_at=_after_quarantine(task, rung, at),
            retries_used=rung,
        )

    def _not_there(self, task: Task, failures: Sequence[Attempt], error: MediaNotThere) -> Settlement:
        """The retry ladder: a try that was due moves one rung on, an early one waits where it was."""
        rung = task.retries_used + (1 if task.due else 0)
        gone = rung > len(LADDER)
        later = self._bench.now() + LADDER[min(max(rung, 1), len(LADDER)) - 1]
        return Settlement(
            entry_id=task.entry_id,
            status=Status.MISSING if gone else Status.PENDING,
            attempts=task.attempts + len(failures),
            failures=tuple(failures),
            reason=error.code,
            detail=str(error),
            next_attempt_at=None if gone else later if task.due else task.next_attempt_at or later,
            retries_used=rung,
        )

    def _pending(self, task: Task, failures: Sequence[Attempt], error: ArchiverError) -> Settlement:
        return Settlement(
            entry_id=task.entry_id,
            status=Status.PENDING,
            attempts=task.attempts + len(failures),
            failures=tuple(failures),
            reason=error.kind if isinstance(error, Contradiction) else error.code,
            detail=str(error),
            next_attempt_at=self._bench.now(),
            retries_used=task.retries_used,
        )

    def _attempt(self, task: Task, failures: Sequence[Attempt], error: ArchiverError) -> Attempt:
        reason = error.kind if isinstance(error, Contradiction) else error.code
        return Attempt(task.attempts + len(failures) + 1, self._bench.now(), reason, str(error))


def _fits(recording: Recording, found: Whole) -> bool:
    """Whether it is what the source lists now, as far as it says."""
    same_length = recording.length_bytes in {None, found.fixity.size_bytes}
    return same_length and recording.digest_md5 in {None, found.md5}


def _after_quarantine(task: Task, rung: int, at: datetime) -> datetime | None:
    """Once a day while the ladder has rungs, then only when the source lists it anew; an early try changes nothing."""
    if rung > len(LADDER):
        return None
    return at + _QUARANTINE_PAUSE if task.due else task.next_attempt_at


def _limit_bytes(recording: Recording, announced: Announced) -> int:
    """Where a download stops: one byte past the length, or past an announced length that is not absurdly larger."""
    expected = recording.length_bytes
    if expected is None:
        return LARGEST_MEDIA_BYTES
    longer = announced.content_length or 0
    return max(expected, longer if longer <= 2 * expected + (1 << 20) else 0) + 1
