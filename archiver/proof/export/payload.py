"""The payload of a bag: every file that is written into it, with its digest, and what is said of each recording."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from archiver.errors import ObjectNotFound, StoreError
from archiver.keys import sidecar_key
from archiver.ledger.values import Version
from archiver.ledger.values_exporting import KnownRecording
from archiver.proof.export.selection import Call
from archiver.proof.export.sources import difference, finding, listed_call, read_sidecar, words_of
from archiver.proof.verification.findings import Finding, Kind
from archiver.recording import Fixity, Status
from archiver.stores.base import Room, Store

MEDIA = "data/media/"
METADATA = "data/metadata/"


class BagFile(Protocol):
    """A file being written (see `stores.bag_folder`)."""

    @property
    def fixity(self) -> Fixity:
        """That of what was written so far."""
        ...

    def write(self, data: bytes) -> None:
        """Append."""
        ...


class BagFolder(Protocol):
    """A folder under construction (see `stores.bag_folder`)."""

    name: str

    @property
    def path(self) -> Path:
        """Where it is."""
        ...

    def room(self) -> Room:
        """What is free there."""
        ...

    def writing(self, path: str) -> AbstractContextManager[BagFile]:
        """A new file, gone when anything is raised meanwhile."""
        ...

    def settle(self) -> None:
        """Make all of it durable."""
        ...

    def publish(self) -> Path:
        """Give it its name."""
        ...


@dataclass(slots=True)
class Payload:
    """What was written into a bag so far; threads may add to it, each a file of its own."""

    folder: BagFolder
    files: dict[str, Fixity] = field(default_factory=dict)

    @contextmanager
    def writing(self, path: str) -> Iterator[BagFile]:
        """A file of the bag, which counts when it was written to its end."""
        with self.folder.writing(path) as file:
            yield file
            fixity = file.fixity
        self.files[path] = fixity

    def write(self, path: str, data: bytes) -> None:
        """A whole file."""
        with self.writing(path) as file:
            file.write(data)


@dataclass(frozen=True, slots=True)
class Handed:
    """A version of a recording, or a recording without any, as the bag has it; a path is empty where there is no file."""

    known: KnownRecording
    version: Version | None = None
    call: Call | None = None
    path: str = ""
    metadata_path: str = ""
    findings: Sequence[Finding] = ()
    errors: Sequence[StoreError] = ()


class _Damaged(Exception):
    """The object is not what the ledger says: what was copied of it goes again."""

    def __init__(self, found: Finding) -> None:
        super().__init__(found.key)
        self.finding = found


class _NotGiven(Exception):
    """The store does not give the object; told apart from a bag's disk that takes no more."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(str(error))
        self.error = error


def hand_all(
    store: Store, payload: Payload, portion: Sequence[KnownRecording], *, stopped: Callable[[], bool]
) -> list[Handed]:
    """Copy recordings with their sidecars, until `stopped`; blocking. What is damaged or gone is told and not copied.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: the bag can't be written.
    """
    handed: list[Handed] = []
    for known in portion:
        if known.status is not Status.ARCHIVED:
            handed.append(Handed(known, call=listed_call(known)))
        for version in known.objects:
            if stopped():
                return handed
            handed.append(_hand(store, payload, known, version))
    return handed


def _hand(store: Store, payload: Payload, known: KnownRecording, version: Version) -> Handed:
    findings: list[Finding] = []
    errors: list[StoreError] = []
    path = MEDIA + version.key
    try:
        _copy_media(store, payload, known, version, path)
    except _Damaged as damaged:
        findings.append(damaged.finding)
        path = ""
    except _NotGiven as absent:
        errors.append(absent.error)
        findings.append(finding(Kind.UNREADABLE, version.key, known, words_of(version.fixity), str(absent.error)))
        path = ""
    read = read_sidecar(store, known, version)
    metadata_path = ""
    if read.data:
        metadata_path = METADATA + sidecar_key(version.key)
        payload.write(metadata_path, read.data)
    findings += [read.finding] if read.finding is not None else []
    errors += [read.error] if read.error is not None else []
    return Handed(known, version, read.call, path, metadata_path, findings, errors)


def _copy_media(store: Store, payload: Payload, known: KnownRecording, version: Version, path: str) -> None:
    with payload.writing(path) as file:
        for chunk in _given(store, known, version):
            file.write(chunk)
        wrong = difference(version.key, known, version.fixity, file.fixity)
        if wrong is not None:
            raise _Damaged(wrong)


def _given(store: Store, known: KnownRecording, version: Version) -> Iterator[bytes]:
    try:
        yield from store.open(version.key)
    except ObjectNotFound:
        expected = words_of(version.fixity)
        raise _Damaged(finding(Kind.MISSING_OBJECT, version.key, known, expected, "nothing")) from None
    except StoreError as error:
        raise _NotGiven(error) from error
