"""Evidence that is made here, on its way into a store."""

import hashlib
from collections.abc import Iterator

from archiver.recording import Fixity


class InMemory:
    """Bytes as media (`stores.base.Media`)."""

    def __init__(self, data: bytes) -> None:
        self.fixity = Fixity(len(data), hashlib.sha256(data).digest())
        self._data = data

    def chunks(self) -> Iterator[bytes]:
        """The bytes, in one piece."""
        yield self._data
