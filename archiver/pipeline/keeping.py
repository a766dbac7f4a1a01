"""From a received body to an archived recording: checks, sidecar, store, settlement; and what lies in the store already."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from archiver import sidecar
from archiver.errors import Contradiction, ObjectDiffers
from archiver.keys import sidecar_key
from archiver.ledger.base import Attempt, Settlement, Task
from archiver.pipeline.audio import sniff
from archiver.pipeline.audio_length import Doubt, doubt_length
from archiver.pipeline.checks import Announced, ReceivedMedia, check_media
from archiver.pipeline.tools import Bench, finished
from archiver.recording import Fixity, Status
from archiver.stores.base import NewObject, Origin

LARGEST_MEDIA_BYTES = 4 << 30
_SNIFFED_BYTES = 16
_CONTENT_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "mp4": "audio/mp4", "m4a": "audio/mp4", "ogg": "audio/ogg"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A recording that lies in the store with its sidecar, as it was read back; `doubt` when it is shorter than said."""

    fixity: Fixity
    sidecar_sha256: bytes
    doubt: Doubt | None = None


def check_and_store(
    bench: Bench,
    task: Task,
    failures: Sequence[Attempt],
    media: ReceivedMedia,
    announced: Announced,
    *,
    source: str = "",
) -> Settlement:
    """Check a body, put it and its sidecar into the store, and settle it as archived; `failures` went before.

    `source` is where the body came from, when that was not the PBX's address of the recording.

    Raises:
        Contradiction, StoreError: nothing of it counts as archived.
    """
    recording = task.recording
    flags = check_media(recording, media, announced)
    doubt = doubt_length(media, sniff(media.part(0, _SNIFFED_BYTES)), recording.duration_ms)
    at = bench.now()
    key = bench.key(task)
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
            source=source or bench.pbx.media_url(recording.recording_id),
        )
        objects.append(NewObject(sidecar_key(key), _in_memory(bench, beside), "application/json", origin))
    adopted, sidecar_sha256 = _put(bench, key, objects, media.fixity)
    return Settlement(
        entry_id=task.entry_id,
        status=Status.ARCHIVED,
        attempts=task.attempts + len(failures) + 1,
        failures=tuple(failures),
        key=key,
        fixity=media.fixity,
        sidecar_sha256=sidecar_sha256,
        archived_at=at,
        adopted=adopted,
        detail=doubt.detail if doubt else "",
        flags=(*flags, doubt.flag) if doubt else flags,
    )


def _put(bench: Bench, key: str, objects: Sequence[NewObject], fixity: Fixity) -> tuple[bool, bytes | None]:
    """Whether the recording was there already, and the digest of the sidecar beside it."""
    try:
        adopted = bench.store.put(objects)[0].adopted
        return adopted, objects[1].media.fixity.sha256 if len(objects) > 1 else None
    except ObjectDiffers as error:
        # A run that was killed between object and ledger left a sidecar with its own date: ours may differ in that.
        there = already_there(bench, key)
        if there is None or there.fixity != fixity:
            raise Contradiction(f"the key is taken by other bytes: {error}", kind="key_taken") from None
        return True, there.sidecar_sha256


def already_there(bench: Bench, key: str, duration_ms: int | None = None) -> Whole | None:
    """A whole object with its sidecar, read back from the store; None when there is none. `duration_ms` as it was said."""
    store = bench.store
    beside = sidecar_key(key)
    if store.head(key) is None or store.head(beside) is None:
        return None
    data = b"".join(store.open(beside))
    said = sidecar.decode(data)
    spool = bench.spool(LARGEST_MEDIA_BYTES, False)
    try:
        for chunk in store.open(key):
            spool.write([chunk])
        media = spool.finish()
        found = media.fixity
        try:
            doubt = doubt_length(media, sniff(media.part(0, _SNIFFED_BYTES)), duration_ms)
        finally:
            media.discard()
    finally:
        spool.discard()
    if said is None or said.key != key or said.fixity != found:
        return None
    return Whole(found, hashlib.sha256(data).digest(), doubt)


def _in_memory(bench: Bench, data: bytes) -> ReceivedMedia:
    return finished(bench.spool(len(data) + 1, False), [data])
