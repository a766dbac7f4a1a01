"""The destination that the settings name: the archive's local folder, and the store that media and sidecars go to.

The folder is there with every store: the ledger, the lock, temporary files and the quarantine stay on this machine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from archiver.errors import SettingsError
from archiver.settings import Settings
from archiver.settings.sections import S3StoreSettings
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import Store
from archiver.stores.disk import spoken
from archiver.stores.local import LocalStore
from archiver.stores.s3_access import Attributes, S3Access
from archiver.stores.s3_lock import LockPolicy

_ACCEPTED = "compliance-accepted"
COMPLIANCE_FLAG = "--i-understand-compliance-is-final"


@dataclass(frozen=True, slots=True)
class Destination:
    """An open store and the local folder beside it; `remote` when the store waits for a network and not for a disk.

    After `give_up` a remote store asks for nothing more, retries included.
    """

    store: Store
    folder: ArchiveFolder
    remote: bool
    give_up: Callable[[], None] = lambda: None

    def prepare(self) -> None:
        """Make both ready for a run, blocking; the archive's lock must be held.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: with what to do.
        """
        if self.remote:
            self.folder.prepare()
        self.store.prepare()

    def join(self) -> None:
        """Likewise, make the local folder ready beside the process that prepared both and holds the archive's lock.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        self.folder.join()

    def make_writable(self) -> None:
        """Make both ready to be written without clearing anything, blocking; the archive's lock must be held.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: with what to do.
        """
        self.folder.join()
        self.folder.check_room()
        if self.remote:
            self.store.prepare()

    def close(self) -> None:
        """Give everything back."""
        self.store.close()
        if self.remote:
            self.folder.close()


def open_destination(settings: Settings, *, durable: bool, make: bool = True) -> Destination:
    """Open what the settings name; the folder is made when only its last part is missing, unless not `make`.

    Raises:
        SettingsError, StoreDenied, StoreFull, StoreUnavailable.
    """
    root = settings.store.local.root
    if settings.archive.store == "local":
        local = LocalStore(root, durable=durable, make=make)
        return Destination(local, local.folder, remote=False)
    from archiver.stores.s3 import MEMORY_BYTES, S3Store
    from archiver.stores.s3_connection import S3Connection

    threads = settings.transfer.concurrency
    attributes = attributes_of(settings.store.s3)
    folder = ArchiveFolder(root, durable=durable, make=make)
    try:
        # What uploads hold in memory stays within the same budget, however many go on at once.
        memory_bytes = min(MEMORY_BYTES, settings.transfer.memory // threads)
        connection = S3Connection(access_of(settings.store.s3, threads))
        store = S3Store(connection, attributes, memory_bytes=memory_bytes)
    except BaseException:
        folder.close()
        raise
    return Destination(store, folder, remote=True, give_up=connection.give_up)


def access_of(s3: S3StoreSettings, threads: int) -> S3Access:
    """Where the bucket is."""
    return S3Access(
        bucket=s3.bucket,
        prefix=s3.prefix,
        region=s3.region,
        endpoint_url=s3.endpoint_url,
        addressing=s3.addressing,
        threads=threads,
        connect_timeout_s=s3.connect_timeout_s,
        read_timeout_s=s3.read_timeout_s,
    )


def attributes_of(s3: S3StoreSettings) -> Attributes:
    """What each object gets.

    Raises:
        SettingsError: the tags are no tags.
    """
    return Attributes(
        storage_class=s3.storage_class,
        encryption=s3.encryption,
        kms_key_id=s3.kms_key_id,
        tags=_tags(s3.tags),
        checksum=s3.checksum,
        lock=LockPolicy(s3.object_lock_mode, s3.retention_days, s3.legal_hold),
    )


def accept_compliance(settings: Settings, *, accepted: bool) -> None:
    """See to it that somebody said once, for this archive, that COMPLIANCE can't be taken back; a file remembers it.

    Raises:
        SettingsError: nobody did.
        StoreDenied, StoreUnavailable: the file can't be looked for, or not be written.
    """
    if settings.archive.store != "s3" or settings.store.s3.object_lock_mode != "COMPLIANCE":
        return
    note = Path(settings.store.local.root) / ".archiver" / _ACCEPTED
    with spoken(str(note)):
        if note.exists():
            return
    if not accepted:
        raise SettingsError(
            "store.s3.object_lock_mode = 'COMPLIANCE': nobody, not even the account's root, can delete what is written "
            f"before store.s3.retention_days ({settings.store.s3.retention_days}) are over; say once that this is "
            f"meant: `archiver run {COMPLIANCE_FLAG} …`"
        )
    with spoken(str(note)):
        note.touch(mode=0o600)


def _tags(text: str) -> Mapping[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if len(pairs) > 10 or not all(name.strip() and equals for name, equals, _ in pairs):  # noqa: PLR2004 - S3's limit
        raise SettingsError(
            f"store.s3.tags: {text[:200]!a} must be at most 10 of name=value, separated by commas, or ''"
        )
    return {name.strip(): value.strip() for name, _, value in pairs}
