"""Bytes say what they are, a cut MP3 is seen, and a body that contradicts its metadata is never archived."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import BadAnswer, BodyCut, Contradiction
from archiver.pbx.base import Framing
from archiver.pipeline import audio
from archiver.pipeline.checks import Announced, check_media
from archiver.recording import Fixity, Recording
from archiver.simulator import Mp3Media

MP3 = b"".join(Mp3Media("seed", 3000).chunks())
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100)
HTML = b"<!doctype html><title>502 Bad Gateway</title>"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (MP3[:64], "mp3"),
        (MP3[64:128], "mp3"),
        (b"\xff\xf3\x40\xc0" + bytes(10), "mp3"),
        (WAV, "wav"),
        (b"RF64\xff\xff\xff\xffWAVE", "wav"),
        (b"\x00\x00\x00\x20ftypM4A ", "mp4"),
        (b"OggS\x00", "ogg"),
        (b"fLaC\x00", "flac"),
        (b"\x1a\x45\xdf\xa3", "webm"),
        (b"#!AMR\n", "amr"),
        (b".snd\x00", "au"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"", ""),
        (b"\xff", ""),
        (b"\xff\xfb", ""),
        (HTML, ""),
        (b'{"error":"not found"}', ""),
        (b"RIFF\x24\x00\x00\x00AVI ", ""),
        (bytes(64), ""),
        (b"\xff" * 64, ""),
    ],
)
def test_the_first_bytes_tell_the_kind(head: bytes, kind: str) -> None:
    assert audio.sniff(head) == kind


@given(st.binary(max_size=200))
def test_any_bytes_have_a_kind_or_none(head: bytes) -> None:
    assert audio.sniff(head) in {"", "mp3", "wav", "mp4", "ogg", "flac", "aac", "webm", "amr", "au"}
    audio.ends_on_a_frame([head])


@pytest.mark.parametrize(
    ("kind", "extension", "fits"),
    [
        ("mp3", "mp3", True),
        ("mp4", "m4a", True),
        ("ogg", "opus", True),
        ("wav", "mp3", False),
        ("mp3", "wav", False),
        ("mp3", "bin", True),
    ],
)
def test_a_kind_fits_its_extension(kind: str, extension: str, fits: bool) -> None:
    assert audio.fits(kind, extension) is fits


@given(st.text(max_size=10), st.integers(0, 20_000))
def test_a_whole_mp3_ends_on_a_frame(seed: str, duration_ms: int) -> None:
    assert audio.ends_on_a_frame(Mp3Media(seed, duration_ms).chunks())


def frame_ends() -> set[int]:
    ends, at = set(), 64
    while at < len(MP3):
        at += audio.frame_length(MP3[at : at + 4])
        ends.add(at)
    return ends


ENDS = frame_ends()


@given(st.integers(0, len(MP3) - 1))
def test_a_cut_is_seen_anywhere_but_between_two_frames(cut: int) -> None:
    assert audio.ends_on_a_frame([MP3[:cut]]) == (cut in ENDS)


def test_tags_at_both_ends_are_no_frames() -> None:
    assert audio.ends_on_a_frame([MP3, b"TAG" + bytes(125)])
    assert audio.ends_on_a_frame([MP3[64:]])
    assert not audio.ends_on_a_frame([MP3, b"TAG" + bytes(124)])
    assert not audio.ends_on_a_frame([MP3[:64]])
    assert not audio.ends_on_a_frame([])


@given(st.lists(st.integers(0, len(MP3)), max_size=5))
def test_it_does_not_matter_how_the_bytes_come_in_pieces(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(MP3)]
    assert audio.ends_on_a_frame([MP3[a:b] for a, b in pairwise(places)])


@dataclass(frozen=True)
class Received:
    """A body in memory."""

    data: bytes

    @property
    def fixity(self) -> Fixity:
        return Fixity(len(self.data), hashlib.sha256(self.data).digest())

    @property
    def md5(self) -> bytes | None:
        return hashlib.md5(self.data).digest()

    @property
    def head(self) -> bytes:
        return self.data[:65536]

    def chunks(self) -> Iterator[bytes]:
        yield self.data

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        return self.data[offset_bytes : offset_bytes + size_bytes]

    def discard(self) -> None:
        """Nothing to give back."""


RECORDING = Recording("acc", "202611-ab", None, None, None, len(MP3), None, "mp3", b"{}")
UNKNOWN_LENGTH = replace(RECORDING, length_bytes=None)
WHOLE = [Framing.LENGTH, Framing.CHUNKED]


def check(recording: Recording, data: bytes, framing: Framing) -> tuple[str, ...]:
    length = len(data) if framing is Framing.LENGTH else None
    return check_media(recording, Received(data), Announced(framing, length, "audio/mpeg"))


@pytest.mark.parametrize("framing", WHOLE)
@pytest.mark.parametrize(
    "recording",
    [RECORDING, UNKNOWN_LENGTH, replace(RECORDING, digest_md5=hashlib.md5(MP3).digest())],
    ids=["length", "nothing", "length and digest"],
)
def test_a_body_that_fits_is_archived_without_a_flag(recording: Recording, framing: Framing) -> None:
    assert check(recording, MP3, framing) == ()


def test_a_body_that_ends_with_its_connection_is_flagged() -> None:
    assert check(RECORDING, MP3, Framing.EOF) == ("weak_framing",)


@pytest.mark.parametrize("framing", list(Framing))
@pytest.mark.parametrize("recording", [RECORDING, UNKNOWN_LENGTH])
def test_an_empty_body_is_no_recording(recording: Recording, framing: Framing) -> None:
    with pytest.raises(BadAnswer, match="empty"):
        check(recording, b"", framing)


@pytest.mark.parametrize("framing", WHOLE)
@pytest.mark.parametrize("recording", [RECORDING, UNKNOWN_LENGTH])
def test_an_error_page_with_status_200_is_no_recording(recording: Recording, framing: Framing) -> None:
    with pytest.raises(BadAnswer, match="no audio"):
        check(recording, HTML, framing)


@pytest.mark.parametrize("cut", [1, 100, len(MP3) // 2, len(MP3) - 1, max(ENDS - {len(MP3)})])
def test_a_connection_that_closes_early_is_a_cut_body(cut: int) -> None:
    with pytest.raises(BodyCut):
        check(RECORDING, MP3[:cut], Framing.EOF)


LONGER = MP3 + b"x"
NOT_AUDIO = b"<" * len(MP3)
PADDED_WAV = WAV.ljust(len(MP3), b"\x00")
CUT_INSIDE = MP3[: len(MP3) - 10]


@pytest.mark.parametrize(
    ("recording", "data", "framing", "kind"),
    [
        (replace(RECORDING, doubt="the length is negative"), MP3, Framing.LENGTH, "metadata"),
        (RECORDING, MP3[:-1], Framing.LENGTH, "length"),
        (RECORDING, LONGER, Framing.CHUNKED, "length"),
        (RECORDING, LONGER, Framing.EOF, "length"),
        (RECORDING, NOT_AUDIO, Framing.LENGTH, "not_audio"),
        (RECORDING, PADDED_WAV, Framing.LENGTH, "other_format"),
        (UNKNOWN_LENGTH, WAV, Framing.CHUNKED, "other_format"),
        (replace(RECORDING, digest_md5=bytes(16)), MP3, Framing.LENGTH, "digest"),
        (UNKNOWN_LENGTH, MP3, Framing.EOF, "unproven_length"),
        (replace(RECORDING, length_bytes=len(CUT_INSIDE)), CUT_INSIDE, Framing.EOF, "weak_framing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_contradicts_the_metadata_is_named(recording: Recording, data: bytes, framing: Framing, kind: str) -> None:
    with pytest.raises(Contradiction) as caught:
        check(recording, data, framing)
    assert caught.value.kind == kind


@given(st.integers(0, len(MP3) - 1), st.sampled_from(list(Framing)))
def test_no_cut_of_a_recording_with_a_length_ever_passes(cut: int, framing: Framing) -> None:
    with pytest.raises((BadAnswer, BodyCut, Contradiction)):
        check(RECORDING, MP3[:cut], framing)
