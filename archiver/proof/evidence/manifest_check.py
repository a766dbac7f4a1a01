"""Manifests against the audit trail, which says what each of their parts was when it was written."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from archiver.errors import ObjectNotFound, StoreError
from archiver.keys import MANIFESTS_PREFIX
from archiver.proof.evidence.audit import Record, What, plain
from archiver.proof.evidence.audit_check import finding
from archiver.proof.verification.findings import Finding, Kind
from archiver.proof.verification.verify import Level
from archiver.stores.base import Store

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True)
class Part:
    """A part as the trail says it was written."""

    size_bytes: int
    sha256: str


@dataclass(slots=True)
class KnownParts:
    """The parts that the trail names, by key; `rewritten` are those of which it says two different things."""

    parts: dict[str, Part] = field(default_factory=dict)
    rewritten: set[str] = field(default_factory=set)

    def see(self, record: Record) -> None:
        """Take what a record says of a part."""
        if record.what != What.MANIFEST or not record.subject.startswith(MANIFESTS_PREFIX):
            return
        said = Part(record.details.size_bytes or 0, record.details.sha256 or "")
        if self.parts.setdefault(record.subject, said) != said:
            self.rewritten.add(record.subject)


def check_manifests(
    store: Store, known: KnownParts, level: Level, *, wanted: Callable[[str], bool], stopped: Callable[[], bool]
) -> Iterator[Finding]:
    """What is wrong with the parts whose keys are `wanted`: gone, or changed, at the depth of the level; blocking.

    Raises:
        StoreUnavailable, StoreDenied: the parts can't be listed.
    """
    sizes = {head.key: head.size_bytes for head in store.list(MANIFESTS_PREFIX)}
    for key, part in sorted(known.parts.items()):
        if stopped():
            return
        if not wanted(key):
            continue
        expected = f"{part.size_bytes} bytes, SHA-256 {plain(part.sha256)}, as the audit trail says"
        if key not in sizes:
            yield finding(Kind.MANIFEST, key, expected, "nothing")
        elif key in known.rewritten:
            yield finding(Kind.MANIFEST, key, expected, "another part that was written under its name later")
        elif level is not Level.PRESENCE and sizes[key] != part.size_bytes:
            yield finding(Kind.MANIFEST, key, expected, f"{sizes[key]} bytes")
        elif level is Level.FULL:
            yield from _read(store, key, part, expected)


def _read(store: Store, key: str, part: Part, expected: str) -> Iterator[Finding]:
    try:
        found = store.fixity(key)
    except ObjectNotFound:
        yield finding(Kind.MANIFEST, key, expected, "nothing")
    except StoreError as error:
        yield finding(Kind.MANIFEST, key, expected, f"{UNREADABLE}: {error}")
    else:
        if found.sha256.hex() != part.sha256:
            yield finding(Kind.MANIFEST, key, expected, f"{found.size_bytes} bytes, SHA-256 {found.sha256.hex()}")
