"""Media of the simulated recordings: valid MPEG audio of any length, made on demand and never held as a whole.

An MP3 here is MPEG-1 Layer III, 64 kbit/s, mono, 44.1 kHz. At that rate 49 frames take exactly 10 240 bytes, so a file
is one short tag and a run of 49-frame blocks. The frames decode to silence; their spare bits come from the seed, and
each block carries its ordinal, so that no two recordings and no two places in one recording hold the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

_SAMPLE_RATE_HZ: Final = 44_100
_SAMPLES_PER_FRAME: Final = 1_152
_BLOCK_FRAMES: Final = 49
_BLOCK_BYTES: Final = 10_240
_BLOCKS_PER_CHUNK: Final = 16
_LEAST_FRAMES: Final = 4
_SHORT_FRAME_BYTES: Final = 208
_HEADER: Final = bytes((0xFF, 0xFB, 0x50, 0xC0))
_PADDED_HEADER: Final = bytes((0xFF, 0xFB, 0x52, 0xC0))
_SIDE_INFO_BYTES: Final = 17
_SPARE_OFFSET: Final = len(_HEADER) + _SIDE_INFO_BYTES
# Spare bits never hold 0xFF, so a reader that searches for the next frame finds no false one.
_WITHOUT_SYNC: Final = bytes(range(255)) + b"\x00"
_TAG_BYTES: Final = 64


class MediaSource(Protocol):
    """A recording's media: its size is known before a byte of it is made."""

    @property
    def length_bytes(self) -> int:
        """Size of the whole media in bytes."""

    @property
    def content_type(self) -> str:
        """The MIME type the PBX gives for it."""

    def chunks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes `[begin, end)` in pieces; `end` defaults to the length."""


@dataclass(frozen=True, slots=True)
class BytesMedia:
    """Media given as bytes, for tests that want to say every byte."""

    data: bytes
    content_type: str = "audio/mpeg"

    @property
    def length_bytes(self) -> int:
        """Size in bytes."""
        return len(self.data)

    def chunks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes `[begin, end)` in one piece."""
        yield self.data[begin:end]


@dataclass(frozen=True, slots=True)
class Mp3Media:
    """A playable, silent MP3 of `duration_ms` or up to one frame (26 ms) more, at least 105 ms, made from the seed."""

    seed: str
    duration_ms: int

    @property
    def content_type(self) -> str:
        """Always audio/mpeg."""
        return "audio/mpeg"

    @property
    def frame_count(self) -> int:
        """How many frames of 1152 samples the duration takes; at least four, as players trust no fewer."""
        return max(_LEAST_FRAMES, -(-self.duration_ms * _SAMPLE_RATE_HZ // (_SAMPLES_PER_FRAME * 1000)))

    @property
    def length_bytes(self) -> int:
        """Size in bytes, tag included."""
        return _TAG_BYTES + _frame_offset(self.frame_count)

    def chunks(self, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes `[begin, end)` in pieces of at most 160 KiB."""
        stop = self.length_bytes if end is None else min(end, self.length_bytes)
        if begin < min(stop, _TAG_BYTES):
            yield self._tag()[begin:stop]
        position = max(begin, _TAG_BYTES)
        block = self._block() if position < stop else b""
        while position < stop:
            first_block, skip = divmod(position - _TAG_BYTES, _BLOCK_BYTES)
            wanted_blocks = -(-(skip + stop - position) // _BLOCK_BYTES)
            chunk = _stamped(block, first_block, min(wanted_blocks, _BLOCKS_PER_CHUNK))[skip : skip + stop - position]
            yield chunk
            position += len(chunk)

    def _tag(self) -> bytes:
        """An ID3v2.3 tag of fixed size whose title is the seed's digest."""
        title = b"\x00" + hashlib.blake2b(self._seed_bytes(), digest_size=16).hexdigest().encode("ascii")
        frame = b"TIT2" + len(title).to_bytes(4, "big") + b"\x00\x00" + title
        body = frame.ljust(_TAG_BYTES - 10, b"\x00")
        return b"ID3\x03\x00\x00" + bytes((0, 0, 0, len(body))) + body

    def _block(self) -> bytes:
        block = bytearray(hashlib.shake_128(self._seed_bytes()).digest(_BLOCK_BYTES).translate(_WITHOUT_SYNC))
        silence = bytes(_SIDE_INFO_BYTES)
        for ordinal in range(_BLOCK_FRAMES):
            begin = _frame_offset(ordinal)
            padded = _frame_offset(ordinal + 1) - begin > _SHORT_FRAME_BYTES
            block[begin : begin + _SPARE_OFFSET] = (_PADDED_HEADER if padded else _HEADER) + silence
        return bytes(block)

    def _seed_bytes(self) -> bytes:
        return self.seed.encode("utf-8", "surrogatepass")


def _frame_offset(ordinal: int) -> int:
    return ordinal * _BLOCK_BYTES // _BLOCK_FRAMES


def _stamped(block: bytes, first_block: int, count: int) -> bytes:
    """Several blocks in a row, each with its ordinal in the spare bits of its first frame."""
    chunk = bytearray(block * count)
    for place in range(count):
        at = place * _BLOCK_BYTES + _SPARE_OFFSET
        ordinal = first_block + place
        chunk[at : at + 3] = bytes((ordinal >> 14 & 127, ordinal >> 7 & 127, ordinal & 127))
    return bytes(chunk)
