"""Archives one recording: stream, count, check, store, settle. A recording's failure is a value; only fatal errors leave.

The order is the local write protocol of the house: nothing has a final name before all checks passed, nothing is settled
as archived before the store confirmed.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from archiver import sidecar
from archiver.errors import (
    ArchiverError,
    Contradiction,
    MediaNotThere,
    ObjectDiffers,
    Severity,
)
from archiver.keys import KeyTemplate, sidecar_key
from archiver.ledger.base import LADDER, Attempt, Settlement, Task
from archiver.pbx.base import MediaBody, Pbx, Retries
from archiver.pipeline.checks import Announced, ReceivedMedia, check_media
from archiver.pipeline.feed import Budget
from archiver.pipeline.limiter import Limiter
from archiver.pipeline.threads import Threads
from archiver.pipeline.throttle import Throttle
from archiver.recording import Fixity, Recording, Status
from archiver.stores.base import NewObject, Origin, Store

_BATCH_BYTES = 512 << 10
_SMALL_BYTES = 128 << 10
_LARGEST_MEDIA_BYTES = 4 << 30
_QUARANTINE_PAUSE = timedelta(hours=24)
_CONTENT_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "mp4": "audio/mp4", "m4a": "audio/mp4", "ogg": "audio/ogg"}


class Spooling(Protocol):
    """A spool that takes one body (see `stores.spool`)."""

    @property
    def size_bytes(self) -> int:
        """Taken so far."""
        ...

    def write(self, chunks: Sequence[bytes]) -> bool:
        """Take a batch; False when the body is too long."""
        ...

    def finish(self) -> ReceivedMedia:
        """The body as media."""
        ...

    def discard(self) -> None:
        """Give it up."""
        ...


class KeepsQuarantine(Protocol):
    """Keeps bytes that contradict the metadata (see `stores.quarantine`)."""

    def keep(self, *, account_id: str, recording_id: str, media: ReceivedMedia, extension: str, reason: bytes) -> str:
        """Keep them; returns where."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """A worker's tools; all workers share one.

    Small bodies are concluded by `quick_threads`, all other disk work is done by `threads`.
    """

    pbx: Pbx
    store: Store
    quarantine: KeepsQuarantine
    threads: Threads
    quick_threads: Threads
    spool: Callable[[int, bool], Spooling]
    budget: Budget
    retries: Retries
    keys: KeyTemplate
    sidecars: bool
    run_id: str
    now: Callable[[], datetime]
    throttle: Throttle
    limiter: Limiter
    on_bytes: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Contradicted:
    """A whole body that does not fit its metadata, and why."""

    media: ReceivedMedia
    error: Contradiction


class Worker:
    """Brings tasks to their settlement, one after another."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    async def archive(self, task: Task) -> Settlement:
        """The settlement of a task, whatever happened to it.

        Raises:
            ArchiverError: only fatal ones (destination full or denied, sign-in refused); the task stays pending.
        """
        if task.was_known and (adopted := await self._adopt(task)) is not None:
            return adopted
        failures: list[Attempt] = []
        try:
            async for attempt in self._bench.retries.attempts():
                with attempt:
                    last = attempt.num > self._bench.retries.max_retries
                    if attempt.num > 1:
                        self._bench.pbx.traffic.retries += 1
                    try:
                        return await self._try(task, failures, last=last)
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

    async def _try(self, task: Task, failures: Sequence[Attempt], *, last: bool) -> Settlement:
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
            found = await threads.run(self._conclude, task, len(failures), spool, batch, announced)
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

    def _conclude(
        self, task: Task, failed: int, spool: Spooling, batch: Sequence[bytes], announced: Announced
    ) -> "Settlement | Contradicted":
        """Take the last batch, check, store; media that contradict are handed back, all others are given up."""
        try:
            media = _finish(spool, batch)
        except BaseException:
            spool.discard()
            raise
        try:
            settlement = self._check_and_store(task, failed, media, announced)
        except Contradiction as error:
            return Contradicted(media, error)
        except BaseException:
            media.discard()
            raise
        media.discard()
        return settlement

    def _check_and_store(self, task: Task, failed: int, media: ReceivedMedia, announced: Announced) -> Settlement:
        bench, recording = self._bench, task.recording
        flags = check_media(recording, media, announced)
        at = bench.now()
        key = self._key(task)
        content_type = _CONTENT_TYPES.get(recording.extension, announced.content_type or "application/octet-stream")
        # Not `dated_at`, which goes back to the month of the id: retention must not begin before the call.
        dated_at = recording.start_at or recording.saved_at
        origin = Origin(recording.account_id, recording.recording_id, bench.run_id, dated_at)
        objects = [NewObject(key, media, content_type, origin)]
        if bench.sidecars:
            beside = sidecar.encode(
                recording,
                key=key,
                fixity=media.fixity,
                content_type=content_type,
                archived_at=at,
                run_id=bench.run_id,
                source=bench.pbx.media_url(recording.recording_id),
            )
            objects.append(NewObject(sidecar_key(key), _in_memory(self._bench, beside), "application/json", origin))
        adopted = self._put(key, objects, media.fixity)
        return Settlement(
            entry_id=task.entry_id,
            status=Status.ARCHIVED,
            attempts=task.attempts + failed + 1,
            key=key,
            fixity=media.fixity,
            archived_at=at,
            adopted=adopted,
            flags=flags,
        )

    def _put(self, key: str, objects: Sequence[NewObject], fixity: Fixity) -> bool:
        try:
            return self._bench.store.put(objects)[0].adopted
        except ObjectDiffers as error:
            # A run that was killed between object and ledger left a sidecar with its own date: ours may differ in that.
            if self._already_there(key) != fixity:
                raise Contradiction(f"the key is taken by other bytes: {error}", kind="key_taken") from None
            return True

    def _already_there(self, key: str) -> Fixity | None:
        """The fixity of a whole object with its sidecar, read back from the store; None when there is none."""
        store = self._bench.store
        beside = sidecar_key(key)
        if store.head(key) is None or store.head(beside) is None:
            return None
        said = sidecar.decode(b"".join(store.open(beside)))
        spool = self._bench.spool(_LARGEST_MEDIA_BYTES, False)
        try:
            for chunk in store.open(key):
                spool.write([chunk])
            media = spool.finish()
            found = media.fixity
            media.discard()
        finally:
            spool.discard()
        return found if said is not None and said.key == key and said.fixity == found else None

    async def _adopt(self, task: Task) -> Settlement | None:
        """What a killed run left whole in the store, without a download; None when there is nothing to adopt."""
        recording = task.recording
        found = await self._bench.threads.run(self._already_there, self._key(task))
        if found is None or recording.doubt or recording.length_bytes not in {None, found.size_bytes}:
            return None
        return Settlement(
            entry_id=task.entry_id,
            status=Status.ARCHIVED,
            attempts=task.attempts,
            key=self._key(task),
            fixity=found,
            archived_at=self._bench.now(),
            adopted=True,
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

    def _key(self, task: Task) -> str:
        recording = task.recording
        return self._bench.keys.key(
            account_id=recording.account_id,
            recording_id=recording.recording_id,
            dated_at=recording.dated_at,
            extension=recording.extension,
            version=task.version,
        )


def _after_quarantine(task: Task, rung: int, at: datetime) -> datetime | None:
    """Once a day while the ladder has rungs, then only when the source lists it anew; an early try changes nothing."""
    if rung > len(LADDER):
        return None
    return at + _QUARANTINE_PAUSE if task.due else task.next_attempt_at


def _limit_bytes(recording: Recording, announced: Announced) -> int:
    """Where a download stops: one byte past the length, or past an announced length that is not absurdly larger."""
    expected = recording.length_bytes
    if expected is None:
        return _LARGEST_MEDIA_BYTES
    longer = announced.content_length or 0
    return max(expected, longer if longer <= 2 * expected + (1 << 20) else 0) + 1


def _finish(spool: Spooling, batch: Sequence[bytes]) -> ReceivedMedia:
    spool.write(batch)
    return spool.finish()


def _in_memory(bench: Bench, data: bytes) -> ReceivedMedia:
    spool = bench.spool(len(data) + 1, False)
    return _finish(spool, [data])
