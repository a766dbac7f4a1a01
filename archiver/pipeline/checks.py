"""Decides whether a received body is the recording it should be. Pure: no network, no disk beyond the media's own."""

from dataclasses import dataclass
from typing import Protocol

from archiver.errors import BadAnswer, BodyCut, Contradiction
from archiver.pbx.base import Framing
from archiver.pipeline import audio
from archiver.recording import Recording
from archiver.stores.base import Media


class ReceivedMedia(Media, Protocol):
    """Media as the spool hands them over."""

    @property
    def md5(self) -> bytes | None:
        """MD5 where it was asked for."""
        ...

    @property
    def head(self) -> bytes:
        """The first bytes, up to 64 KiB."""
        ...

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        """Up to so many bytes from an offset; fewer at the end."""
        ...

    def discard(self) -> None:
        """Give everything back."""
        ...


@dataclass(frozen=True, slots=True)
class Announced:
    """What the answer's head said of its body."""

    framing: Framing
    content_length: int | None
    content_type: str


def check_media(recording: Recording, media: ReceivedMedia, announced: Announced) -> tuple[str, ...]:
    """Return flags for a body that may be archived; raise for any other.

    Raises:
        BadAnswer: it is no recording at all (an error page, nothing).
        BodyCut: it ended early, and its framing could not say so.
        Contradiction: a whole body that does not fit the metadata.
    """
    size_bytes = media.fixity.size_bytes
    expected = recording.length_bytes
    if not size_bytes:
        raise BadAnswer("the PBX answered 200 with an empty body")
    weak = announced.framing is Framing.EOF
    if weak and expected is not None and size_bytes < expected:
        raise BodyCut(f"{size_bytes} of {expected} bytes came before the connection closed")
    kind = audio.sniff(media.head)
    if not kind and size_bytes != expected:
        raise BadAnswer("the PBX answered 200 with something that is no audio")
    _check_against_metadata(recording, media, kind)
    if not weak:
        return ()
    if expected is None:
        raise Contradiction(
            "neither the metadata nor the answer tell the length: it may be cut", kind="unproven_length"
        )
    if kind == "mp3" and not audio.ends_on_a_frame(media.chunks()):
        raise Contradiction("the length fits, but the last MP3 frame is cut", kind="weak_framing")
    return ("weak_framing",)


def _check_against_metadata(recording: Recording, media: ReceivedMedia, kind: str) -> None:
    expected, size_bytes = recording.length_bytes, media.fixity.size_bytes
    if recording.doubt:
        raise Contradiction(recording.doubt, kind="metadata")
    if expected is not None and size_bytes != expected:
        raise Contradiction(f"{size_bytes} bytes came where the metadata say {expected}", kind="length")
    if not kind:
        raise Contradiction("as many bytes as announced, but they are no audio", kind="not_audio")
    if not audio.fits(kind, recording.extension):
        raise Contradiction(f"the bytes are {kind}, the metadata say {recording.extension}", kind="other_format")
    if recording.digest_md5 is not None and media.md5 != recording.digest_md5:
        raise Contradiction("the MD5 differs from the metadata's digest", kind="digest")
