"""How long the audio in a body lasts, against what the metadata say: so a recording that was cut at the source is seen.

Nearly free for nearly all: the first frame's bit rate and the size bound the duration, a few bytes of parsing. Only what
that bound makes suspicious, a variable bit rate and other formats are asked of mutagen.
"""

import io
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from archiver.pipeline import audio
from archiver.recording import Fixity

SHORTER = "shorter_than_said"
UNKNOWN = "duration_unknown"
LENGTH_FLAGS = frozenset({SHORTER, UNKNOWN})

_HEAD_BYTES = 512
"""An MPEG frame's header, its side information and the tag that may follow; a WAV's header."""
_TAG_BYTES = 64
"""A tag of a variable bit rate begins within so many bytes of its frame."""
_SLACK_MS = 2000
_ID3_HEADER_BYTES = 10
_LEAST_BYTES_PER_S = 400
"""Under the thriftiest voice codecs (AMR has 594): fewer are no whole recording, whatever the format."""


class Readable(Protocol):
    """A body that can be read at any place."""

    @property
    def fixity(self) -> Fixity:
        """Its size and digest."""
        ...

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Up to so many bytes from an offset."""
        ...


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a recording is archived with a flag: the flag, a stable short word, and a sentence."""

    flag: str
    detail: str


def doubt_length(media: Readable, kind: str, duration_ms: int | None) -> Doubt | None:
    """What is wrong with the audio's length; None when it lasts as long as said, or nobody said how long.

    `kind` is what `audio.sniff` found. Never raises: what can't be measured is `duration_unknown`.
    """
    if not duration_ms:
        return None
    least_ms = duration_ms - _SLACK_MS - duration_ms // 100
    size_bytes = media.fixity.size_bytes
    if least_ms <= 0:
        return None
    if kind == "mp3":
        head = media.part(0, _HEAD_BYTES)
        start = _frames_start(head)
        frame = head[start:] if start + _TAG_BYTES <= len(head) else media.part(start, _HEAD_BYTES)
        kbit_per_s = audio.bit_rate(frame[:4]) if len(frame) > 4 else 0  # noqa: PLR2004 - a frame header
        if kbit_per_s and (size_bytes - start) * 8 // kbit_per_s >= least_ms and not _varies(frame):
            return None
    return _measured(media, kind, duration_ms, least_ms)


def _measured(media: Readable, kind: str, duration_ms: int, least_ms: int) -> Doubt | None:
    """The slow way, for those that the bound does not clear."""
    size_bytes = media.fixity.size_bytes
    try:
        lasts_ms = _lasts_ms(media, kind)
    except Exception:  # noqa: BLE001 - whatever a parser says of bytes from outside: the recording stays archived
        lasts_ms = None
    if lasts_ms is not None and lasts_ms < least_ms:
        return Doubt(SHORTER, f"the bytes hold {lasts_ms / 1000:,.1f} s of the {duration_ms / 1000:,.1f} s said")
    if size_bytes * 1000 < _LEAST_BYTES_PER_S * duration_ms:
        return Doubt(SHORTER, f"{size_bytes:,} bytes are too few for the {duration_ms / 1000:,.1f} s said")
    if lasts_ms is None and kind in _MEASURABLE:
        return Doubt(UNKNOWN, f"the bytes don't show whether they last the {duration_ms / 1000:,.1f} s said")
    return None


_MEASURABLE = frozenset({"mp3", "wav", "mp4", "ogg", "flac", "aac"})


def _lasts_ms(media: Readable, kind: str) -> int | None:
    """How long the bytes last that are really there, in milliseconds; None for formats that nobody here can read.

    A header's own word for the length is not believed where more bytes belong to it than came.
    """
    if kind == "wav":
        return _wav_ms(media)
    file: BinaryIO = io.BufferedReader(_File(media), 64 << 10)
    if kind == "mp3":
        return _mp3_ms(media, file)
    info = _info(kind, file)
    return None if info is None else int(info * 1000)


def _mp3_ms(media: Readable, file: BinaryIO) -> int:
    from mutagen.mp3 import MPEGInfo

    start = _frames_start(media.part(0, _ID3_HEADER_BYTES))
    found = int(MPEGInfo(file, start).length * 1000)
    said_bytes = _tagged_bytes(media.part(start, _HEAD_BYTES))
    came_bytes = media.fixity.size_bytes - start
    return found * came_bytes // said_bytes if said_bytes > came_bytes else found


def _info(kind: str, file: BinaryIO) -> float | None:
    """Seconds, by mutagen."""
    import mutagen.aac
    import mutagen.flac
    import mutagen.mp4
    import mutagen.oggopus
    import mutagen.oggvorbis

    kinds = {"mp4": [mutagen.mp4.MP4], "flac": [mutagen.flac.FLAC], "aac": [mutagen.aac.AAC]}
    kinds["ogg"] = [mutagen.oggopus.OggOpus, mutagen.oggvorbis.OggVorbis]
    if kind not in kinds:
        return None
    # A reader of one kind fails on the other: the names in the file decide, and None comes of neither.
    found = mutagen.File(file, options=kinds[kind])
    return None if found is None else float(found.info.length)


def _wav_ms(media: Readable) -> int:
    """By the bytes that came after the header, and not by what the header says of itself."""
    at, end = 12, media.fixity.size_bytes
    bytes_per_s = 0
    while at + 8 <= end:
        chunk = media.part(at, 24)
        if chunk[:4] == b"data":
            said = int.from_bytes(chunk[4:8], "little")
            # Streams that did not know their end leave 0 or all ones there.
            length = min(end - at - 8, said or end)
            return length * 1000 // bytes_per_s
        if chunk[:4] == b"fmt ":
            bytes_per_s = int.from_bytes(chunk[16:20], "little")
        size = int.from_bytes(chunk[4:8], "little")
        at += 8 + size + size % 2
    raise ValueError("no data in a WAV")


def _frames_start(head: bytes) -> int:
    """Where an MP3's frames begin: after an ID3v2 tag, however large, if there is one."""
    if head[:3] != b"ID3" or len(head) < _ID3_HEADER_BYTES:
        return 0
    footer = _ID3_HEADER_BYTES if head[5] & 0x10 else 0
    return _ID3_HEADER_BYTES + footer + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9])


def _varies(frame: bytes) -> bool:
    """Whether the first frame carries a tag of a variable bit rate, so that its own rate says nothing."""
    return frame.find(b"Xing", 0, _TAG_BYTES) >= 0 or frame.find(b"VBRI", 0, _TAG_BYTES) >= 0


def _tagged_bytes(frame: bytes) -> int:
    """How many bytes of frames a Xing or Info tag counts; 0 where none does."""
    at = max(frame.find(b"Xing", 0, _TAG_BYTES), frame.find(b"Info", 0, _TAG_BYTES))
    if at < 0:
        return 0
    has = int.from_bytes(frame[at + 4 : at + 8], "big")
    at += 8 + (4 if has & 1 else 0)
    return int.from_bytes(frame[at : at + 4], "big") if has & 2 else 0


class _File(io.RawIOBase):
    """The body as a file to read from, without holding it."""

    def __init__(self, media: Readable) -> None:
        self._media = media
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        from_where = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._media.fixity.size_bytes}[whence]
        if from_where + offset < 0:
            raise OSError("before the beginning")
        self._at = from_where + offset
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        data = self._media.part(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
