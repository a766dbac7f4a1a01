"""The audit trail's records of verifications, findings and repairs, for whoever wants to know what stands open."""

from collections.abc import Callable
from pathlib import Path

from archiver.proof.evidence.audit import Record, What, record_of
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import spoken
from archiver.stores.trail_file import TrailFile

_OF_FIXITY = tuple(f'"what":"{what.value}"'.encode() for what in (What.VERIFIED, What.FINDING, What.REPAIRED))


def read_fixity_records(root: Path, see: Callable[[Record], None]) -> None:
    """Show each of them, in their order; none where there is no archive yet. Blocking, and holds up nobody.

    Raises:
        StoreDenied, StoreUnavailable: the trail can't be read.
    """
    with spoken(str(root)):
        if not (root / ".archiver").exists():
            return
    folder = ArchiveFolder(root, durable=False, make=False)
    try:
        with TrailFile(folder).reading() as opened:
            for line in opened.lines() if opened is not None else ():
                # Most records are of runs and manifests: not worth decoding.
                if any(word in line for word in _OF_FIXITY) and (record := record_of(line)) is not None:
                    see(record)
    finally:
        folder.close()
