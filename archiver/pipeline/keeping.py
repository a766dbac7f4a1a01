"""From a received body to an archived recording: checks, sidecar, store, settlement; and what lies in the store already."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from archiver import sidecar
from archiver.errors import ArchiverError, Contradiction, ObjectDiffers
from archiver.keys import sidecar_key
from archiver.ledger.values import Attempt, Settlement, Task
from archiver.pipeline.audio import sniff
from archiver.pipeline.audio_length import Doubt, doubt_length
from archiver.pipeline.checks import Announced, ReceivedMedia, check_media
from archiver.pipeline.tools import Bench, finished
from archiver.recording import Fixity, Recording, Status
from archiver.stores.base import NewObject, Origin, StoredObject

LARGEST_MEDIA_BYTES = 4 << 30
_SNIFFED_BYTES = 16
_CONTENT_TYPES = {"mp3": "audio/mpeg", "wav": "audio/wav", "mp4": "audio/mp4", "m4a": "audio/mp4", "ogg": "audio/ogg"}


@dataclass(frozen=True, slots=True)
class Whole:
    """A recording that lies in the store with its sidecar, as it was read back; `doubt` when it is shorter than said.

    `md5` is None unless the recording's metadata has a digest to compare it with.
    """

    fixity: Fixity
    sidecar_sha256: bytes
    md5: bytes | None = None
    doubt: Doubt | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """A body that passed every check: the objects to put, the recording first, and what its settlement will say.

    `sidecar_sha256` is that of a sidecar which lies there already, when there is none to put.
    """

    task: Task
    failures: Sequence[Attempt]
    objects: Sequence[NewObject]
    at: datetime
    flags: Sequence[str]
    sidecar_sha256: bytes | None = None
    detail: str = ""

    @property
    def key(self) -> str:
        """Where the recording belongs."""
        return self.objects[0].key

    @property
    def fixity(self) -> Fixity:
        """The recording's."""
        return self.objects[0].media.fixity


def check(
    bench: Bench,
    task: Task,
    failures: Sequence[Attempt],
    media: ReceivedMedia,
    announced: Announced,
    *,
    source: str = "",
) -> Checked:
    """Check a body and write its sidecar; `failures` went before.

    `source` is where the body came from, when that was not the PBX's address of the recording.

    Raises:
        Contradiction: the body does not fit its metadata.
    """
    task = _with_kind(task, media)
    recording = task.recording
    flags = check_media(recording, media, announced)
    doubt = doubt_length(media, sniff(media.part(0, _SNIFFED_BYTES)), recording.duration_ms)
    made = pair(bench, task, failures, media, content_type_of(recording, announced.content_type), source=source)
    return replace(made, flags=(*flags, doubt.flag), detail=doubt.detail) if doubt else replace(made, flags=flags)


def pair(
    bench: Bench,
    task: Task,
    failures: Sequence[Attempt],
    media: ReceivedMedia,
    content_type: str,
    *,
    source: str = "",
) -> Checked:
    """Media that passed their checks with their sidecar, for the key of the task's version; `source` as for `check`."""
    recording = task.recording
    at = bench.now()
    key = bench.key(task)
    origin = origin_of(recording, bench.run_id)
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
        objects.append(NewObject(sidecar_key(key), in_memory(bench, beside), "application/json", origin))
    return Checked(task, tuple(failures), objects, at, ())


def stored(bench: Bench, checked: Checked) -> Settlement:
    """Put what was checked, and settle it.

    Raises:
        Contradiction, StoreError: nothing of it counts as archived.
    """
    return settled(bench, checked, bench.store.put_many([checked.objects])[0])


def settled(bench: Bench, checked: Checked, outcome: "Sequence[StoredObject] | ArchiverError") -> Settlement:
    """The settlement as archived, after the store's word on its objects.

    Raises:
        Contradiction, StoreError: nothing of it counts as archived.
    """
    task = checked.task
    adopted, sidecar_sha256 = _confirmed(bench, checked, outcome)
    return Settlement(
        entry_id=task.entry_id,
        status=Status.ARCHIVED,
        attempts=task.attempts + len(checked.failures) + 1,
        failures=checked.failures,
        key=checked.key,
        fixity=checked.fixity,
        sidecar_sha256=sidecar_sha256,
        archived_at=checked.at,
        adopted=adopted,
        detail=checked.detail,
        flags=checked.flags,
    )


def _with_kind(task: Task, media: ReceivedMedia) -> Task:
    """Where only a CDR named a recording nothing tells what kind of audio it is, but its bytes."""
    kind = "" if task.recording.metadata else sniff(media.head)
    return replace(task, recording=replace(task.recording, extension=kind)) if kind else task


def content_type_of(recording: Recording, announced: str = "") -> str:
    """The MIME type of a recording's media: by its extension, else what the PBX announced."""
    return _CONTENT_TYPES.get(recording.extension, announced or "application/octet-stream")


def origin_of(recording: Recording, run_id: str) -> Origin:
    """Where an object comes from."""
    # Not `dated_at`, which goes back to the month of the id: retention must not begin before the call.
    return Origin(recording.account_id, recording.recording_id, run_id, recording.start_at or recording.saved_at)


def _confirmed(
    bench: Bench, checked: Checked, outcome: "Sequence[StoredObject] | ArchiverError"
) -> tuple[bool, bytes | None]:
    """Whether the recording was there already, and the digest of the sidecar beside it."""
    if isinstance(outcome, ObjectDiffers):
        # A run that was killed between object and ledger left a sidecar with its own date: ours may differ in that.
        there = already_there(bench, checked.key, checked.task.recording)
        if there is None or there.fixity != checked.fixity:
            raise Contradiction(f"the key is taken by other bytes: {outcome}", kind="key_taken") from None
        return True, there.sidecar_sha256
    if isinstance(outcome, ArchiverError):
        raise outcome
    beside = checked.objects[1].media.fixity.sha256 if len(checked.objects) > 1 else checked.sidecar_sha256
    return outcome[0].adopted, beside


def already_there(bench: Bench, key: str, recording: Recording) -> Whole | None:
    """A whole object with its sidecar, read back from the store; None when there is none, or no sidecar that fits it."""
    store = bench.store
    beside = sidecar_key(key)
    if store.head(key) is None or store.head(beside) is None:
        return None
    data = b"".join(store.open(beside))
    said = sidecar.decode(data)
    media = stored_media(bench, key, want_md5=recording.digest_md5 is not None)
    try:
        found, md5 = media.fixity, media.md5
        doubt = doubt_length(media, sniff(media.part(0, _SNIFFED_BYTES)), recording.duration_ms)
    finally:
        media.discard()
    if said is None or said.key != key or said.fixity != found:
        return None
    return Whole(found, hashlib.sha256(data).digest(), md5, doubt)


def stored_media(bench: Bench, key: str, *, want_md5: bool = False) -> ReceivedMedia:
    """An object's bytes as the store gives them, in a spool of their own; to be discarded. Its MD5 if that is wanted.

    Raises:
        StoreError.
    """
    spool = bench.spool(LARGEST_MEDIA_BYTES, want_md5)
    try:
        for chunk in bench.store.open(key):
            spool.write([chunk])
        return spool.finish()
    except BaseException:
        spool.discard()
        raise


def in_memory(bench: Bench, data: bytes) -> ReceivedMedia:
    """A few bytes as media."""
    return finished(bench.spool(len(data) + 1, False), [data])
