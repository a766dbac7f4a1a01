"""`data/audit.jsonl`: the audit trail's lines that have to do with the recordings, byte for byte and in their order."""

from collections.abc import Sequence
from datetime import tzinfo

from archiver.keys import sidecar_key
from archiver.proof.evidence.audit import Record, TrailFile, What, record_of
from archiver.proof.evidence.manifests import day_of, manifest_key
from archiver.proof.export.payload import Handed, Payload

LINES = "data/audit.jsonl"


class Related:
    """Which records have to do with recordings.

    Those about their objects and sidecars, the manifests that name them, the runs that archived them, and verifications,
    which look at everything.
    """

    def __init__(self, handed: Sequence[Handed], timezone: tzinfo) -> None:
        self._subjects: set[str] = set()
        self._run_ids: set[str] = set()
        for each in handed:
            if (version := each.version) is None:
                continue
            self._subjects |= {version.key, sidecar_key(version.key)}
            self._run_ids |= {version.run_id} if version.run_id else set()
            if version.manifest_part:
                day = day_of(each.known.recording_id, each.known.called_at, timezone)
                self._subjects.add(manifest_key(each.known.account_id, day, version.manifest_part))

    def holds(self, record: Record) -> bool:
        """Whether this is one of them."""
        if record.what in {What.RUN_BEGAN, What.RUN_ENDED}:
            return record.run_id in self._run_ids
        return record.what == What.VERIFIED or record.subject in self._subjects


def add_trail_lines(file: TrailFile, payload: Payload, related: Related) -> int:
    """Write the lines; how many they are. Blocking.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable.
    """
    count = 0
    with payload.writing(LINES) as kept, file.reading() as opened:
        for line in opened.lines() if opened is not None else ():
            record = record_of(line)
            if record is not None and related.holds(record):
                kept.write(line)
                count += 1
    return count
