"""Carries out single repairs with a worker's tools. What fails is a value; only fatal errors leave.

The order is the same throughout: what is new is whole in the store before the ledger speaks of it, so that a kill at any
moment leaves a recording repaired, or as damaged as it was and found again; what lies there by then is adopted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from archiver import sidecar
from archiver.errors import ArchiverError, MediaNotThere, Severity, StoreMismatch
from archiver.keys import sidecar_key
from archiver.ledger.base_repair import Repairable, RepairLedger
from archiver.ledger.values import ArchivedEntry, Attempt, Run, Settlement, Task
from archiver.pipeline.checks import Announced, ReceivedMedia, check_media
from archiver.pipeline.keeping import (
    Checked,
    check,
    content_type_of,
    in_memory,
    origin_of,
    pair,
    stored,
    stored_media,
)
from archiver.pipeline.tools import Bench
from archiver.pipeline.worker import Worker
from archiver.proof.mending.repairs import Action, Repair
from archiver.recording import Recording, Status
from archiver.stores.base import NewObject

NOT_LISTED = "; the PBX does not list it any more, so the sidecar has no metadata (`recording: null`)"


@dataclass(frozen=True, slots=True)
class Case:
    """A repair with what it needs: what the ledger knows, and the recording, with metadata when it is still listed."""

    repair: Repair
    entry: ArchivedEntry
    known: Repairable
    recording: Recording

    @property
    def task(self) -> Task:
        """Archive it as the next version; a repair that was killed may have left that in the store."""
        return Task(
            entry_id=self.entry.entry_id,
            recording=self.recording,
            version=self.entry.version + 1,
            was_known=True,
            retries_used=0,
            due=True,
            attempts=self.known.attempts,
        )

    @property
    def note(self) -> str:
        """What to say of the metadata."""
        return "" if self.recording.metadata else NOT_LISTED


@dataclass(frozen=True, slots=True)
class Mended:
    """What came of a repair; `reason` is the stable short word of a failure."""

    done: bool
    words: str
    reason: str = ""


class Mender:
    """Repairs one recording's object at a time; several may be under way."""

    def __init__(self, bench: Bench, ledger: RepairLedger, run: Run) -> None:
        self._bench = bench
        self._ledger = ledger
        self._run = run

    async def mend(self, case: Case) -> Mended:
        """Carry a repair out.

        Raises:
            ArchiverError: only fatal ones; the recording is as damaged as it was.
        """
        try:
            match case.repair.action:
                case Action.CORRECT_LEDGER:
                    return await self._correct_ledger(case)
                case Action.WRITE_SIDECAR:
                    return await self._write_sidecar(case)
                case Action.COPY_BESIDE:
                    return await self._copy_beside(case)
                case Action.FETCH_AGAIN | Action.FETCH_BESIDE:
                    return await self._fetch(case)
                case Action.LEAVE:
                    return Mended(done=False, words=case.repair.why)
        except ArchiverError as error:
            if error.severity is Severity.FATAL:
                raise
            return Mended(done=False, words=str(error), reason=error.code)

    async def _fetch(self, case: Case) -> Mended:
        checking = partial(_check_where_it_was, case.entry) if case.repair.action is Action.FETCH_AGAIN else check
        found = await Worker(self._bench, checking).archive(case.task)
        if found.status is not Status.ARCHIVED:
            await self._ledger.note_tries(self._run, case.entry, found.failures)
            if found.reason != MediaNotThere.code:
                return Mended(done=False, words=f"{found.reason}: {found.detail}", reason=found.reason)
            if case.repair.stray_key:
                return await self._bring_back(case)
            return Mended(done=False, words=f"source gone: {found.detail}", reason=found.reason)
        if found.key != case.entry.key:
            return await self._replaced(case, found)
        await self._ledger.note_tries(self._run, case.entry, found.failures)
        return await self._is_back(case, "fetched again to where it was: the same bytes again")

    async def _bring_back(self, case: Case) -> Mended:
        """The source has it no more, but its bytes lie under another name."""
        stray_key = case.repair.stray_key
        await self._bench.threads.run(_put_copy, self._bench, case, stray_key)
        return await self._is_back(case, f"source gone; brought back from {stray_key}: the same bytes again")

    async def _is_back(self, case: Case, words: str) -> Mended:
        await self._ledger.correct_entry(self._run, case.entry)
        if not case.repair.without_sidecar:
            return Mended(done=True, words=words)
        beside = await self._write_sidecar(case)
        return Mended(done=beside.done, words=f"{words}; sidecar {beside.words}")

    async def _replaced(self, case: Case, settlement: Settlement) -> Mended:
        """The ledger's side of a new version."""
        entry, fixity = case.entry, settlement.fixity
        await self._ledger.replace_damaged(self._run, entry, settlement, recording=case.recording, at=self._bench.now())
        if fixity == entry.fixity:
            said = "the same bytes again"
        else:
            size = f"{fixity.size_bytes} bytes, SHA-256 {fixity.sha256.hex()}" if fixity else "other bytes"
            said = f"changed at the source, which has {size} now"
        how = "taken up" if settlement.adopted else "put"
        return Mended(done=True, words=f"{how} beside it as {settlement.key}: {said}{case.note}")

    async def _copy_beside(self, case: Case) -> Mended:
        settlement = await self._bench.threads.run(_store_copy, self._bench, case)
        return await self._replaced(case, settlement)

    async def _write_sidecar(self, case: Case) -> Mended:
        digest = await self._bench.threads.run(_put_sidecar, self._bench, case)
        await self._ledger.correct_entry(self._run, case.entry, sidecar_sha256=digest)
        same = digest == case.entry.sidecar_sha256
        return Mended(done=True, words=f"written anew{': the same bytes again' if same else case.note}")

    async def _correct_ledger(self, case: Case) -> Mended:
        entry = case.entry
        data = await self._bench.threads.run(_whole, self._bench, sidecar_key(entry.key))
        said = sidecar.decode(data)
        if said is None or said.key != entry.key:
            return Mended(done=False, words="the sidecar changed meanwhile")
        digest = hashlib.sha256(data).digest()
        await self._ledger.correct_entry(self._run, entry, fixity=said.fixity, sidecar_sha256=digest)
        return Mended(done=True, words=f"the ledger was put right from the sidecar: {said.fixity.size_bytes} bytes")


def _check_where_it_was(
    entry: ArchivedEntry,
    bench: Bench,
    task: Task,
    failures: Sequence[Attempt],
    media: ReceivedMedia,
    announced: Announced,
) -> Checked:
    """Check a body, to be put where its like lay before; other bytes than those are a new version.

    Raises:
        Contradiction: the body does not fit its metadata.
    """
    if media.fixity != entry.fixity:
        return check(bench, task, failures, media, announced)
    recording = task.recording
    flags = check_media(recording, media, announced)
    content_type = content_type_of(recording, announced.content_type)
    objects = [NewObject(entry.key, media, content_type, origin_of(recording, bench.run_id))]
    return Checked(task, failures, objects, entry.archived_at, flags, entry.sidecar_sha256)


def _copy(bench: Bench, case: Case, key: str) -> ReceivedMedia:
    media = stored_media(bench, key)
    if media.fixity != case.entry.fixity:
        media.discard()
        raise StoreMismatch(f"{key} does not hold what was archived")
    return media


def _put_copy(bench: Bench, case: Case, key: str) -> None:
    media = _copy(bench, case, key)
    try:
        origin = origin_of(case.recording, bench.run_id)
        bench.store.put([NewObject(case.entry.key, media, content_type_of(case.recording), origin)])
    finally:
        media.discard()


def _store_copy(bench: Bench, case: Case) -> Settlement:
    media = _copy(bench, case, case.entry.key)
    try:
        content_type = content_type_of(case.recording)
        with_sidecar = replace(bench, sidecars=True)
        return stored(with_sidecar, pair(with_sidecar, case.task, (), media, content_type))
    finally:
        media.discard()


def _put_sidecar(bench: Bench, case: Case) -> bytes:
    """Write a sidecar for what was archived when it was; byte for byte the one that is gone, if the PBX says the same."""
    entry, recording = case.entry, case.recording
    url = bench.pbx.media_url(recording.recording_id)
    # Which of the two addresses the PBX serves is found out only by a fetch.
    sources = dict.fromkeys(
        (url, url.replace("/recording/", "/recordings/"), url.replace("/recordings/", "/recording/"))
    )
    made = [
        sidecar.encode(
            recording,
            key=entry.key,
            fixity=entry.fixity,
            content_type=content_type_of(recording),
            archived_at=entry.archived_at,
            run_id=case.known.run_id or bench.run_id,
            source=source,
        )
        for source in sources
    ]
    data = next((each for each in made if hashlib.sha256(each).digest() == entry.sidecar_sha256), made[0])
    origin = origin_of(recording, bench.run_id)
    bench.store.put([NewObject(sidecar_key(entry.key), in_memory(bench, data), "application/json", origin)])
    return hashlib.sha256(data).digest()


def _whole(bench: Bench, key: str) -> bytes:
    return b"".join(bench.store.open(key))
