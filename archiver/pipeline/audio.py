"""Looks at bytes and says what audio they are; believes nothing else (api-facts: "believe the bytes, not the status")."""

from collections.abc import Iterable

_RATES_V1 = (44100, 48000, 32000)
_BITRATES_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_BITRATES_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_ALIKE = {"m4a": "mp4", "opus": "ogg"}
_SNIFFED = frozenset({"mp3", "wav", "mp4", "ogg", "flac", "aac", "webm", "amr", "au"})


def sniff(head: bytes) -> str:
    """The kind of audio that a body's first bytes show, as a file extension; empty when they show none."""
    if head[:3] == b"ID3" or (len(head) > 3 and frame_length(head[:4]) > 0):  # noqa: PLR2004 - a frame header
        return "mp3"
    if head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE":
        return "wav"
    if head[4:8] == b"ftyp":
        return "mp4"
    starts = {b"OggS": "ogg", b"fLaC": "flac", b"\x1a\x45\xdf\xa3": "webm", b"#!AM": "amr", b".snd": "au"}
    if head[:4] in starts:
        return starts[head[:4]]
    return "aac" if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 else ""  # noqa: PLR2004 - ADTS


def fits(kind: str, extension: str) -> bool:
    """Whether bytes of this kind may bear this extension."""
    wanted = _ALIKE.get(extension, extension)
    return wanted == kind or wanted not in _SNIFFED


def frame_length(header: bytes) -> int:
    """The length in bytes of the MPEG audio layer III frame that a four-byte header begins; 0 when it begins none."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:  # noqa: PLR2004 - the sync word
        return 0
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    bitrate, rate, padding = header[2] >> 4, header[2] >> 2 & 3, header[2] >> 1 & 1
    if version == 1 or layer != 1 or bitrate in {0, 15} or rate == 3:  # noqa: PLR2004 - reserved values
        return 0
    if version == 3:  # noqa: PLR2004 - MPEG-1
        return 144_000 * _BITRATES_V1[bitrate] // _RATES_V1[rate] + padding
    sampling = _RATES_V1[rate] >> (1 if version == 2 else 2)  # noqa: PLR2004 - MPEG-2, else 2.5
    return 72_000 * _BITRATES_V2[bitrate] // sampling + padding


def bit_rate(header: bytes) -> int:
    """The bit rate, in kbit/s, of the MPEG audio layer III frame that a four-byte header begins; 0 when it begins none."""
    if not frame_length(header):
        return 0
    return (_BITRATES_V1 if header[1] >> 3 & 3 == 3 else _BITRATES_V2)[header[2] >> 4]  # noqa: PLR2004 - MPEG-1


def ends_on_a_frame(chunks: Iterable[bytes]) -> bool:
    """Whether an MP3 consists of whole frames to its last byte, tags aside: what a cut at any other place is not."""
    body = b"".join(chunks)
    at = 0
    if body[:3] == b"ID3" and len(body) >= 10:  # noqa: PLR2004 - ID3v2 header
        size = 0
        for byte in body[6:10]:
            size = size << 7 | byte & 0x7F
        at = 10 + size
    end = len(body) - 128 if body[-128:-125] == b"TAG" else len(body)
    frames = 0
    while at + 4 <= end:
        length = frame_length(body[at : at + 4])
        if not length:
            return False
        at += length
        frames += 1
    return frames > 0 and at == end
