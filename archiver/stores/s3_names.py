"""Which keys a folder of the bucket held a moment ago: one listing stands for a thousand heads.

For stores that would overwrite. The archive's lock makes this process the only writer, so that a key which was absent
stays absent until we write it; lest that be trusted for ever, a listing counts for a few minutes.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from archiver.stores.s3_connection import S3Connection

_FRESH_S = 300.0
_MOST_FOLDERS = 64
_MOST_NAMES = 20_000
"""A folder's names that are remembered, some 2 MB; a fuller folder is asked key by key."""


class _Folder:
    """One folder; `names` is None where only the store itself can tell."""

    def __init__(self) -> None:
        self.listing = threading.Lock()
        self.names: set[str] | None = None
        self.listed_at_s = float("-inf")


class KnownNames:
    """Remembers names by folder; safe for threads, one of which lists while the others of its folder wait."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._guard = threading.Lock()
        self._folders: OrderedDict[str, _Folder] = OrderedDict()

    def take(self, connection: S3Connection, key: str) -> bool:
        """Whether the key is free, which it is no more from now on: whoever comes next must ask the store.

        Raises:
            StoreUnavailable, StoreDenied: the folder could not be listed.
        """
        path = connection.access.path(key)
        folder = self._folder(path.rpartition("/")[0])
        with folder.listing:
            if self._clock() - folder.listed_at_s >= _FRESH_S:
                folder.names = _listed(connection, path.rpartition("/")[0])
                folder.listed_at_s = self._clock()
            if folder.names is None or path in folder.names:
                return False
            folder.names.add(path)
            if len(folder.names) > _MOST_NAMES:
                folder.names = None
            return True

    def _folder(self, name: str) -> _Folder:
        with self._guard:
            folder = self._folders.setdefault(name, _Folder())
            self._folders.move_to_end(name)
            while len(self._folders) > _MOST_FOLDERS:
                self._folders.popitem(last=False)
            return folder


def _listed(connection: S3Connection, folder: str) -> set[str] | None:
    """All names of a folder in one page, None if it has more: some servers read each object to list it."""
    prefix = f"{folder}/" if folder else ""
    page = connection.call("list_objects_v2", Prefix=prefix, Delimiter="/")
    return None if page.get("IsTruncated") else {found["Key"] for found in page.get("Contents", ())}
