"""Receives a body: counts and digests it as it comes, in memory while it is small, else in a temporary file."""

import hashlib
from collections.abc import Iterator, Sequence

from archiver.errors import StoreUnavailable
from archiver.recording import Fixity
from archiver.stores.disk import READ_BYTES
from archiver.stores.temporaries import Temporaries, TemporaryFile

_JOINED_BYTES = 128 * 1024
HEAD_BYTES = 64 * 1024
"""How much of a body's beginning is remembered for looking at its format."""


class SpooledMedia:
    """A body received whole (`Media`): its fixity, its MD5 where asked for, its first 64 KiB, and its bytes.

    For one thread at a time. `discard` gives back memory, disk and descriptor; objects made from it stay.
    """

    def __init__(self, fixity: Fixity, *, md5: bytes | None, body: Sequence[bytes], file: TemporaryFile | None) -> None:
        self.fixity = fixity
        self.md5 = md5
        self.file = file
        self._body = body

    @classmethod
    def of(cls, data: bytes) -> "SpooledMedia":
        """Media made here, for instance a sidecar."""
        return cls(Fixity(len(data), hashlib.sha256(data).digest()), md5=None, body=(data,), file=None)

    @property
    def head(self) -> bytes:
        """The first 64 KiB, or all of a smaller body."""
        if self.file is not None:
            return self.file.read(HEAD_BYTES, 0)
        head = b""
        for chunk in self._body:
            head += chunk[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES:
                break
        return head

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Up to so many bytes from an offset; fewer at the end.

        Raises:
            StoreDenied, StoreUnavailable: the spool file can't be read.
        """
        if self.file is not None:
            return self.file.read(size_bytes, offset_bytes)
        end = offset_bytes + size_bytes
        if self._body and end <= len(self._body[0]):
            return self._body[0][offset_bytes:end]
        return b"".join(self._body)[offset_bytes:end]

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the start.

        Raises:
            StoreDenied, StoreUnavailable: the spool file can't be read.
        """
        if self.file is None:
            yield from self._body
            return
        offset = 0
        while data := self.file.read(READ_BYTES, offset):
            offset += len(data)
            yield data

    def discard(self) -> None:
        """Give everything back; again is no error."""
        self._body = ()
        if self.file is not None:
            self.file.discard()


class Spool:
    """Takes one body in batches; for one thread at a time, and its calls block.

    `memory_bytes` stay in memory, a larger body goes to a temporary file. A body never grows past `limit_bytes`; the
    caller sets it to the expected length plus one, so that a body that is too long is noticed and not stored.
    """

    def __init__(
        self,
        temporaries: Temporaries,
        *,
        memory_bytes: int = 1 << 20,
        limit_bytes: int | None = None,
        want_md5: bool = False,
    ) -> None:
        self._temporaries = temporaries
        self._memory_bytes = memory_bytes
        self._limit_bytes = limit_bytes
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if want_md5 else None
        self._size_bytes = 0
        self._body: list[bytes] = []
        self._file: TemporaryFile | None = None
        self._over = False

    @property
    def size_bytes(self) -> int:
        """How much was taken so far."""
        return self._size_bytes

    def write(self, chunks: Sequence[bytes]) -> bool:
        """Take a batch; False once the body reached `limit_bytes`: the rest was not taken, and the download can stop.

        Raises:
            StoreFull, StoreDenied, StoreUnavailable: discard the spool; nothing of it remains.
        """
        self._check_open()
        # Small pieces are cheaper together, large ones as they are.
        for piece in [b"".join(chunks)] if sum(map(len, chunks)) <= _JOINED_BYTES else chunks:
            room = len(piece) if self._limit_bytes is None else self._limit_bytes - self._size_bytes
            batch = piece[: max(room, 0)]
            if batch:
                self._sha256.update(batch)
                if self._md5 is not None:
                    self._md5.update(batch)
                self._size_bytes += len(batch)
                self._keep(batch)
        return self._limit_bytes is None or self._size_bytes < self._limit_bytes

    def finish(self) -> SpooledMedia:
        """The body as media, which own the spool's memory and file from now on."""
        self._check_open()
        self._over = True
        return SpooledMedia(
            Fixity(self._size_bytes, self._sha256.digest()),
            md5=None if self._md5 is None else self._md5.digest(),
            body=tuple(self._body),
            file=self._file,
        )

    def discard(self) -> None:
        """Give up a body that is not finished; after `finish`, or again, nothing happens."""
        if not self._over:
            self._over = True
            self._body.clear()
            if self._file is not None:
                self._file.discard()

    def _keep(self, batch: bytes) -> None:
        if self._file is None:
            self._body.append(batch)
            if self._size_bytes <= self._memory_bytes:
                return
            self._file = self._temporaries.new()
            batch = b"".join(self._body)
            self._body.clear()
        self._file.write(batch)

    def _check_open(self) -> None:
        if self._over:
            raise StoreUnavailable("this spool is finished")
