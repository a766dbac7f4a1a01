"""Takes over recordings that another tool saved: what the PBX lists is looked for among files, and not downloaded.

A file is adopted when its name holds the recording's id, its size is the metadata's length, and it passes the checks that
a download would. Files are copied; they themselves are left alone.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum

import msgspec

from archiver.errors import BadAnswer, Contradiction, Severity, StoreError
from archiver.ledger.base import Ledger
from archiver.ledger.values import Settlement, Task
from archiver.pbx.base import Framing
from archiver.pipeline.checks import Announced
from archiver.pipeline.keeping import check, stored
from archiver.pipeline.tools import Bench
from archiver.proof.restoration.found_files import FoundFile, Passed, read_file
from archiver.recording import Fixity, Status

_ASKED_AT_ONCE = 500


class Why(StrEnum):
    """Why a file was not taken over."""

    NO_ID = "no_id"
    SEVERAL_IDS = "several_ids"
    NOT_LISTED = "not_listed"
    NO_LENGTH = "no_length"
    OTHER_SIZE = "other_size"
    NOT_AUDIO = "not_audio"
    CONTRADICTS = "contradicts"
    OTHER_BYTES = "other_bytes"
    DUPLICATE = "duplicate"
    UNREADABLE = "unreadable"
    NOT_STORED = "not_stored"


class NotTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was not taken over, and why; the id is empty where its name holds none."""

    path: str
    recording_id: str
    reason: Why
    detail: str


class Adoption:
    """Adopts what fits, task by task as the listing brings them; `look_at_rest` says what became of the other files."""

    def __init__(self, bench: Bench, found: Iterable[FoundFile | Passed]) -> None:
        self.adopted = 0
        self.bytes_adopted = 0
        self.already_archived = 0
        self.files = 0
        self.not_taken: list[NotTaken] = []
        self._bench = bench
        self._left: dict[str, FoundFile] = {}
        self._by_id: defaultdict[str, list[FoundFile]] = defaultdict(list)
        self._doubts: dict[str, NotTaken] = {}
        self._taken: set[tuple[str, str]] = set()
        for each in found:
            self.files += 1
            if isinstance(each, Passed):
                self._refuse(each.shown, "", Why.UNREADABLE, each.why)
            elif len(each.ids) > 1:
                self._refuse(each.shown, each.ids[0], Why.SEVERAL_IDS, f"its name holds {len(each.ids)} ids")
            else:
                self._left[each.path] = each
                for recording_id in dict.fromkeys((each.ids[0], each.ids[0].lower())):
                    self._by_id[recording_id].append(each)

    async def archive(self, task: Task) -> Settlement | None:
        """The settlement of a task whose recording is among the files, None for any other, which stays as it is.

        Raises:
            ArchiverError: fatal ones only.
        """
        for file in self._by_id.get(task.recording.recording_id, ()):
            if file.path in self._left:
                settlement = await self._try(task, file)
                if settlement is not None:
                    return settlement
        return None

    async def _try(self, task: Task, file: FoundFile) -> Settlement | None:
        # Nobody else's meanwhile: two accounts may have a recording of the same id.
        del self._left[file.path]
        found: Settlement | NotTaken | None = None
        try:
            async for attempt in self._bench.retries.attempts():
                with attempt:
                    found = await self._bench.threads.run(self._take, task, file)
        except StoreError as error:
            if error.severity is Severity.FATAL:
                raise
            found = _not_taken(file, task.recording.recording_id, Why.NOT_STORED, str(error))
        if not isinstance(found, Settlement):
            self._left[file.path] = file
            if found is not None:
                self._doubts[file.path] = found
            return None
        self._doubts.pop(file.path, None)
        self._taken.add((task.recording.account_id, task.recording.recording_id))
        self.adopted += 1
        self.bytes_adopted += file.size_bytes
        self._bench.on_bytes(file.size_bytes)
        return found

    def _take(self, task: Task, file: FoundFile) -> Settlement | NotTaken:
        """Check a file and put a copy of it into the store."""
        recording = task.recording
        if recording.length_bytes is None:
            return _not_taken(file, recording.recording_id, Why.NO_LENGTH, "the PBX gives no length to compare it with")
        if recording.length_bytes != file.size_bytes:
            detail = f"{file.size_bytes} bytes, where the metadata say {recording.length_bytes}"
            return _not_taken(file, recording.recording_id, Why.OTHER_SIZE, detail)
        spool = self._bench.spool(file.size_bytes + 1, recording.digest_md5 is not None)
        try:
            for chunk in read_file(file.path):
                spool.write([chunk])
            media = spool.finish()
            try:
                announced = Announced(Framing.LENGTH, file.size_bytes, "")
                source = f"adopted from the file {file.shown}"
                settlement = stored(self._bench, check(self._bench, task, (), media, announced, source=source))
            finally:
                media.discard()
        except (Contradiction, BadAnswer) as error:
            kind = error.kind if isinstance(error, Contradiction) else error.code
            why = Why.NOT_AUDIO if kind in {"not_audio", BadAnswer.code} else Why.CONTRADICTS
            return _not_taken(file, recording.recording_id, why, f"{kind}: {error}")
        except OSError as error:
            return _not_taken(file, recording.recording_id, Why.UNREADABLE, error.strerror or str(error))
        finally:
            spool.discard()
        return replace(settlement, adopted=True)

    async def look_at_rest(self, ledger: Ledger, account_ids: Iterable[str]) -> None:
        """Say of each file that was not taken why; call it after the run.

        Raises:
            LedgerError.
        """
        accounts = list(account_ids)
        left = list(self._left.values())
        for start in range(0, len(left), _ASKED_AT_ONCE):
            await self._look(ledger, accounts, left[start : start + _ASKED_AT_ONCE])
        self.not_taken.sort(key=lambda each: each.path)

    async def _look(self, ledger: Ledger, accounts: list[str], files: list[FoundFile]) -> None:
        ids = list({name for file in files for name in (file.ids[0], file.ids[0].lower())})
        known = {account_id: await ledger.statuses(account_id, ids) for account_id in accounts}
        for file in files:
            held = [
                (account_id, name)
                for account_id in accounts
                for name in dict.fromkeys((file.ids[0], file.ids[0].lower()))
                if known[account_id].get(name) is Status.ARCHIVED
            ]
            if held:
                await self._compare(ledger, file, held)
            elif file.path in self._doubts:
                self.not_taken.append(self._doubts[file.path])
            elif any(name in known[account_id] for account_id in accounts for name in file.ids):
                self._refuse(file.shown, file.ids[0], Why.NOT_LISTED, "the PBX does not list it in this period")
            elif file.named:
                self._refuse(file.shown, file.ids[0], Why.NOT_LISTED, "the PBX does not list it")
            else:
                self._refuse(file.shown, "", Why.NO_ID, "its name holds no id that the PBX lists")

    async def _compare(self, ledger: Ledger, file: FoundFile, held: list[tuple[str, str]]) -> None:
        """A file whose recording is archived already: the same bytes, a second copy, or others."""
        try:
            found = await self._bench.threads.run(_fixity, file)
        except OSError as error:
            self._refuse(file.shown, file.ids[0], Why.UNREADABLE, error.strerror or str(error))
            return
        for account_id, recording_id in held:
            for history in await ledger.histories(recording_id):
                same = any(version.fixity == found for version in history.versions)
                if history.account_id != account_id or not same:
                    continue
                if (account_id, recording_id) in self._taken:
                    self._refuse(file.shown, recording_id, Why.DUPLICATE, "another file of these bytes was taken over")
                else:
                    self.already_archived += 1
                return
        self._refuse(file.shown, held[0][1], Why.OTHER_BYTES, "it is archived already, with other bytes")

    def _refuse(self, shown: str, recording_id: str, why: Why, detail: str) -> None:
        self.not_taken.append(NotTaken(path=shown, recording_id=recording_id, reason=why, detail=detail))


def _not_taken(file: FoundFile, recording_id: str, why: Why, detail: str) -> NotTaken:
    return NotTaken(path=file.shown, recording_id=recording_id, reason=why, detail=detail)


def _fixity(file: FoundFile) -> Fixity:
    digest, size_bytes = hashlib.sha256(), 0
    for chunk in read_file(file.path):
        digest.update(chunk)
        size_bytes += len(chunk)
    return Fixity(size_bytes, digest.digest())
