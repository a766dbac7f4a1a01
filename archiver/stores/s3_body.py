"""Media as a request's body: counted and digested before they are sent, in memory while small, else read as they go."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

from archiver.errors import StoreMismatch, StoreRefused
from archiver.stores.base import Media

LARGEST_BYTES = 5 << 30
"""What one `put_object` takes; multipart uploads have neither a whole SHA-256 nor a plain ETag, and leave parts behind."""


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was looked at once and is what its media say; `data` can be sent, and sent again."""

    size_bytes: int
    sha256: bytes
    md5: bytes
    data: "bytes | MediaFile"


def body_of(media: Media, *, memory_bytes: int) -> Body:
    """The body of media; up to `memory_bytes` are held in memory, larger media are read twice.

    Raises:
        StoreMismatch: the media are not what their fixity says.
        StoreRefused: they are larger than one upload can be.
        StoreUnavailable, StoreDenied: they can't be read.
    """
    size_bytes = media.fixity.size_bytes
    if size_bytes > LARGEST_BYTES:
        raise StoreRefused(f"{size_bytes} bytes are more than one upload to S3 can hold ({LARGEST_BYTES})")
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    kept: list[bytes] | None = [] if size_bytes <= memory_bytes else None
    came_bytes = 0
    for chunk in media.chunks():
        came_bytes += len(chunk)
        if came_bytes > size_bytes:
            break
        sha256.update(chunk)
        md5.update(chunk)
        if kept is not None:
            kept.append(chunk)
    if came_bytes != size_bytes or sha256.digest() != media.fixity.sha256:
        raise StoreMismatch(f"{came_bytes} bytes came of {size_bytes}, or other bytes than were received")
    # Bytes go out in one piece; botocore sends a file in small ones, and asks the server first (Expect).
    data = MediaFile(media) if kept is None else b"".join(kept)
    return Body(size_bytes, sha256.digest(), md5.digest(), data)


class MediaFile:
    """Media as the seekable file that botocore wants, so that it can repeat a request; for one thread at a time."""

    def __init__(self, media: Media) -> None:
        self._media = media
        self._size_bytes = media.fixity.size_bytes
        self._at = 0
        self._chunks: Iterator[bytes] | None = None
        self._rest = memoryview(b"")

    def tell(self) -> int:
        """The next byte's place."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere; what is read next begins anew, since media are read from their start."""
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        if at != self._at:
            self._at = at
            self._chunks, self._rest = None, memoryview(b"")
        return at

    def read(self, size: int = -1) -> bytes:
        """The next bytes, at most `size` and seldom fewer; empty at the end.

        Raises:
            StoreMismatch: fewer bytes come than were counted; the request breaks off.
        """
        size = self._size_bytes - self._at if size < 0 else min(size, self._size_bytes - self._at)
        parts = []
        while size > 0:
            if not self._rest:
                self._rest = memoryview(self._next())
            part = self._rest[:size]
            parts.append(part)
            self._rest = self._rest[len(part) :]
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)

    def _next(self) -> bytes:
        if self._chunks is None:
            self._chunks = self._from(self._at)
        chunk = next(self._chunks, None)
        if chunk is None:
            raise StoreMismatch(f"{self._at} bytes came where {self._size_bytes} were counted before")
        return chunk

    def _from(self, start: int) -> Iterator[bytes]:
        for chunk in self._media.chunks():
            yield chunk[start:]
            start = max(0, start - len(chunk))
