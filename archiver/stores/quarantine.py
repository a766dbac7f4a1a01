"""Keeps bytes that contradict their metadata, with the reason beside them, under `.archiver/quarantine`."""

from archiver.keys import safe_id
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import Media
from archiver.stores.disk import spoken_but_absent
from archiver.stores.publishing import Placement
from archiver.stores.spool import SpooledMedia
from archiver.stores.temporaries import OWN_FOLDER


class Quarantine:
    """Files that look like evidence, never like archived objects; safe for threads."""

    def __init__(self, folder: ArchiveFolder) -> None:
        self._folder = folder

    def keep(self, *, account_id: str, recording_id: str, media: Media, extension: str, reason: bytes) -> str:
        """Keep media and its reason (an encoded JSON object); returns the media's path relative to the root.

        The same bytes of the same recording are kept once, with the reason that came first.

        Raises:
            StoreFull, StoreDenied, StoreUnavailable, StoreMismatch, ObjectDiffers: nothing half remains; media may
                stand without their reason, and the same call then adds it.
        """
        segments = (OWN_FOLDER, "quarantine", safe_id(account_id))
        name = f"{safe_id(recording_id)}.{media.fixity.sha256.hex()[:16]}"
        kept = Placement(segments, f"{name}.{safe_id(extension)}", media)
        beside = Placement(segments, f"{name}.json", SpooledMedia.of(reason), first_wins=True)
        if kept.name == beside.name:
            kept = Placement(segments, f"{name}.bytes", media)
        self._folder.publisher.publish([kept, beside])
        return kept.path

    def remove(self, *, account_id: str, recording_id: str) -> int:
        """Remove all that is kept of a recording, durably; how many files it was.

        Raises:
            StoreDenied, StoreUnavailable: some may be removed; the same call removes the rest.
        """
        segments = (OWN_FOLDER, "quarantine", safe_id(account_id))
        disk, start, removed = self._folder.disk, f"{safe_id(recording_id)}.", 0
        path = "/".join((self._folder.path, *segments))
        try:
            with self._folder.folders.use(segments, create=False) as folder, spoken_but_absent(path):
                for found in disk.scan(folder.fd):
                    if found.name.startswith(start) and not found.is_folder:
                        disk.unlink(found.name, dir_fd=folder.fd)
                        removed += 1
                if removed and self._folder.durable:
                    folder.settle()
        except FileNotFoundError:
            return removed
        return removed
