"""Keeps bytes that contradict their metadata, with the reason beside them, under `.archiver/quarantine`."""

from archiver.keys import safe_id
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import Media
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
