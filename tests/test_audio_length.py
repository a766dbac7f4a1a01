"""Audio truth: a recording that was cut at the source is told from a whole one, and nothing that bytes hold can raise."""

import hashlib
import io
import struct
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import pytest
from archive_rig import key, media, recording, recordings, rig
from hypothesis import given
from hypothesis import strategies as st

from archiver.pipeline import audio
from archiver.pipeline.audio_length import LENGTH_FLAGS, SHORTER, UNKNOWN, doubt_length
from archiver.recording import Fixity
from archiver.simulator import BytesMedia, Mp3Media

MINUTE_MS = 60_000
MINUTE = b"".join(Mp3Media("seed", MINUTE_MS).chunks())
FRAMES = MINUTE[64:]
FRAME = FRAMES[: audio.frame_length(FRAMES[:4])]


@dataclass
class Body:
    """A body in memory that counts what is read of it."""

    data: bytes
    read: int = 0

    @property
    def fixity(self) -> Fixity:
        return Fixity(len(self.data), hashlib.sha256(self.data).digest())

    def part(self, offset_bytes: int, size_bytes: int) -> bytes:
        found = self.data[offset_bytes : offset_bytes + size_bytes]
        self.read += len(found)
        return found


def flag(data: bytes, duration_ms: int | None) -> str:
    found = doubt_length(Body(data), audio.sniff(data[:64]), duration_ms)
    return found.flag if found else ""


def tagged(size: int) -> bytes:
    """An ID3v2 tag with a picture of this size."""
    picture = b"\0image/png\0\x03\0" + bytes(size)
    frame = b"APIC" + _seven(len(picture)) + b"\0\0" + picture
    return b"ID3\x04\0\0" + _seven(len(frame)) + frame


def _seven(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def variable(frames: int, *, said_bytes: int | None = None) -> bytes:
    """Frames of 32 and 160 kbit/s in turns, behind a Xing tag that counts them."""
    headers = (b"\xff\xfb\x10\xc0", b"\xff\xfb\xa0\xc0")
    made = [headers[turn % 2].ljust(audio.frame_length(headers[turn % 2]), b"\0") for turn in range(frames)]
    total = sum(map(len, made)) + len(FRAME)
    tag = b"Xing" + struct.pack(">III", 3, frames, said_bytes or total)
    first = (FRAME[:4] + bytes(17) + tag).ljust(len(FRAME), b"\0")
    return first + b"".join(made)


def wav(seconds: int, *, said_seconds: int | None = None) -> bytes:
    """8 kHz, 16 bit, mono; the header may say more than comes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as made:
        made.setnchannels(1)
        made.setsampwidth(2)
        made.setframerate(8000)
        made.writeframes(bytes(16_000 * (said_seconds or seconds)))
    return file.getvalue()[: 44 + 16_000 * seconds]


FRAMES_A_MINUTE = 60 * 44_100 // 1152 + 1
VARIABLE = variable(FRAMES_A_MINUTE)


@pytest.mark.parametrize(
    ("data", "duration_ms", "expected"),
    [
        (MINUTE, MINUTE_MS, ""),
        (MINUTE, MINUTE_MS + 2000, ""),
        (MINUTE, 1000, ""),
        (FRAMES, MINUTE_MS, ""),
        (MINUTE[: len(MINUTE) // 2], MINUTE_MS, SHORTER),
        (MINUTE, MINUTE_MS + 4000, SHORTER),
        (MINUTE[: len(MINUTE) // 2], None, ""),
        (MINUTE[: len(MINUTE) // 2], 0, ""),
        (MINUTE[:100], 2000, ""),
        (VARIABLE, MINUTE_MS, ""),
        (VARIABLE[: len(VARIABLE) // 2], MINUTE_MS, SHORTER),
        (variable(FRAMES_A_MINUTE // 2), MINUTE_MS, SHORTER),
        (tagged(300_000) + FRAMES, MINUTE_MS, ""),
        (tagged(300_000) + FRAMES[: len(FRAMES) // 2], MINUTE_MS, SHORTER),
        (tagged(300_000)[:200_000], MINUTE_MS, UNKNOWN),
        (wav(60), MINUTE_MS, ""),
        (wav(30), MINUTE_MS, SHORTER),
        (wav(30, said_seconds=60), MINUTE_MS, SHORTER),
        (b"RIFF\x24\0\0\0WAVE" + b"\0" * 100_000, MINUTE_MS, UNKNOWN),
        (b"ID3" + b"\xff" * 100_000, MINUTE_MS, UNKNOWN),
        (b"\0\0\0\x20ftypM4A " + b"\xfe" * 100_000, MINUTE_MS, UNKNOWN),
        (b"OggS" + b"\xfe" * 100_000, MINUTE_MS, UNKNOWN),
        (b"fLaC" + b"\xfe" * 100_000, MINUTE_MS, UNKNOWN),
        (b"\x1a\x45\xdf\xa3" + b"\xfe" * 100_000, MINUTE_MS, ""),
        (b"\x1a\x45\xdf\xa3" + b"\xfe" * 10_000, MINUTE_MS, SHORTER),
        (FRAME, MINUTE_MS, SHORTER),
    ],
    ids=[
        "whole", "within the slack", "longer than said", "without a tag", "cut by half", "short by four seconds",
        "duration missing", "duration zero", "short calls are within the slack", "variable rate", "variable rate, cut",
        "variable rate, half the frames", "large picture", "large picture, cut", "cut within the picture", "wav",
        "half a wav", "a wav whose header says more", "wav of garbage", "mp3 of garbage", "mp4 of garbage",
        "ogg of garbage", "flac of garbage", "a kind nobody reads", "a kind nobody reads, too few bytes", "one frame",
    ],
)  # fmt: skip
def test_what_the_bytes_hold_is_compared_with_what_was_said(
    data: bytes, duration_ms: int | None, expected: str
) -> None:
    assert flag(data, duration_ms) == expected


@given(
    st.binary(max_size=3000),
    st.sampled_from(
        [b"", b"ID3\x04\0\0", b"RIFF\0\0\0\0WAVE", b"\0\0\0\x20ftyp", b"OggS", b"fLaC", FRAME, VARIABLE[:400]]
    ),
    st.one_of(st.none(), st.integers(-(2**70), 2**70)),
)
def test_no_bytes_and_no_duration_ever_raise(data: bytes, start: bytes, duration_ms: int | None) -> None:
    found = doubt_length(Body(start + data), audio.sniff((start + data)[:64]), duration_ms)
    assert found is None or found.flag in LENGTH_FLAGS


@given(st.integers(5_000, 200_000), st.floats(0, 1))
def test_a_cut_of_a_constant_rate_is_seen_wherever_it_is(duration_ms: int, kept: float) -> None:
    whole = b"".join(Mp3Media("any", duration_ms).chunks())
    held_ms = (int(len(whole) * kept) - 64) / 8
    lost_ms = duration_ms - held_ms
    slack_ms = 2000 + duration_ms // 100
    found = flag(whole[: int(len(whole) * kept)], duration_ms)
    if lost_ms > slack_ms + 200:
        assert found != ""
    elif lost_ms < slack_ms - 200:
        assert found == ""


def test_a_whole_recording_costs_a_few_bytes_only() -> None:
    body = Body(MINUTE)
    assert doubt_length(body, "mp3", MINUTE_MS) is None
    assert body.read <= 512


def test_the_parser_is_not_even_loaded_for_whole_recordings() -> None:
    before = {name for name in sys.modules if name.startswith("mutagen")}
    assert flag(MINUTE, MINUTE_MS) == ""
    assert {name for name in sys.modules if name.startswith("mutagen")} == before


def test_a_recording_cut_at_the_source_is_archived_flagged_and_told(tmp_path: Path) -> None:
    rows = [*recordings(3), recording(3, duration_ms=MINUTE_MS, media=BytesMedia(MINUTE[: len(MINUTE) // 2]))]
    cut = rows[-1]
    with rig(tmp_path / "work", rows) as it:
        report = it.run().json
        assert (report["outcome"], report["archived"], report["flagged"]) == ("complete", 4, 1)
        (problem,) = report["problems"]
        assert (problem["recording_id"], problem["status"]) == (cut.recording_id, "archived")
        assert problem["reason"].startswith("shorter_than_said: the bytes hold 30.0 s of the 60.0 s")
        assert report["problems_total"] == 1
        (found,) = it.command("explain", cut.recording_id, "--json").json["found"]
        assert found["flags"] == ["shorter_than_said"]
        assert "shorter_than_said: the bytes hold 30.0 s" in it.command("explain", cut.recording_id).out
        assert it.media()[key(cut)] == media(cut)
        again = it.command("run", "--since", "2024-05-06", "--until", "2024-05-08")
        assert again.code == 0
        assert "flagged" not in again.out
