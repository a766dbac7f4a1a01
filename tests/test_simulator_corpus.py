"""What the simulated PBX has: media, recordings, CDRs."""

from __future__ import annotations

import hashlib
import io
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mutagen.mp3 import MP3, BitrateMode

from archiver.simulator import BytesMedia, Corpus, Mp3Media, SimulatedCdr, SimulatedRecording, Switches
from archiver.simulator.documents import Documents
from archiver.simulator.hostile import HOSTILE_LENGTHS, HOSTILE_TEXTS, hostile_recordings

ACCOUNT = "a" * 32
VENDORS_FIELDS = """
_id owner_id call_id callee_id_name callee_id_number caller_id_name caller_id_number cdr_id content_type
custom_channel_vars description direction duration duration_ms from interaction_id media_source media_type name
origin request source_type start to pvt_created user url _attachments
"""
MAY, JULY = datetime(2024, 5, 1, tzinfo=UTC), datetime(2024, 7, 1, tzinfo=UTC)


def corpus(seed: int = 7, recordings: int = 400, **more: float) -> Corpus:
    return Corpus.generate(seed=seed, accounts=3, recordings=recordings, begin=MAY, end=JULY, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("duration_ms", [10, 100, 1000, 12_345, 61_000, 476_340, 3_600_000])
def test_media_play_for_as_long_as_they_say_and_are_as_long_as_announced(duration_ms: int) -> None:
    media = Mp3Media("seed", duration_ms)
    data = b"".join(media.chunks())
    info: Any = MP3(io.BytesIO(data)).info  # type: ignore[no-untyped-call]
    assert len(data) == media.length_bytes
    assert info.length == pytest.approx(duration_ms / 1000, abs=0.1)
    assert (info.bitrate, info.sample_rate, info.channels, info.layer) == (64_000, 44_100, 1, 3)
    assert info.bitrate_mode is not BitrateMode.VBR
    assert not info.sketchy


def test_every_frame_of_the_media_is_followed_by_the_next_to_the_last_byte() -> None:
    media = Mp3Media("seed", 5_000)
    data = b"".join(media.chunks())
    at, frames = 64, 0
    while at < len(data):
        assert data[at : at + 2] == b"\xff\xfb"
        at += 209 if data[at + 2] & 2 else 208
        frames += 1
    assert (at, frames) == (len(data), media.frame_count)
    assert data.count(b"\xff", 64) == frames


def test_any_piece_of_the_media_equals_that_piece_of_the_whole() -> None:
    media = Mp3Media("seed", 60_000)
    data = b"".join(media.chunks())
    for begin, end in ((0, 1), (10, 64), (60, 70), (64, 10_304), (10_303, 10_305), (163_000, 170_000), (479_000, None)):
        assert b"".join(media.chunks(begin, end)) == data[begin:end]
    assert b"".join(media.chunks(media.length_bytes)) == b""
    assert b"".join(BytesMedia(b"abcdef").chunks(2, 4)) == b"cd"


def test_no_two_recordings_and_no_two_blocks_have_the_same_bytes() -> None:
    digests = {hashlib.sha256(b"".join(row.source.chunks(0, 40_000))).digest() for row in corpus().recordings}
    assert len(digests) == 400
    data = b"".join(Mp3Media("seed", 30_000).chunks())[64:]
    blocks = [data[at : at + 10_240] for at in range(0, len(data), 10_240)]
    assert len(set(blocks)) == len(blocks)


def test_the_same_seed_gives_the_same_corpus_and_another_seed_another() -> None:
    first, again, other = corpus(), corpus(), corpus(seed=8)
    assert (first.recordings, first.cdrs, first.account_ids) == (again.recordings, again.cdrs, again.account_ids)
    assert first.recordings != other.recordings
    documents = Documents(Switches())
    assert [documents.recording(row) for row in first.recordings] == [
        documents.recording(row) for row in again.recordings
    ]


def test_a_corpus_has_the_shape_of_office_calls() -> None:
    made = corpus(recordings=4000)
    recordings, cdrs = made.recordings, made.cdrs
    hours = Counter(datetime.fromtimestamp(row.start_unix_s, UTC).hour for row in recordings)
    durations = sorted(row.duration_ms for row in recordings)
    assert hours[10] > 20 * (hours[3] + 1)
    assert len({row.account_id for row in recordings}) == 3
    assert 100_000 < durations[2000] < 140_000
    assert durations[0] >= 1000
    assert durations[-1] == 3_600_000
    assert all(MAY.timestamp() <= row.start_unix_s < JULY.timestamp() + 7200 for row in recordings)
    forms = Counter(
        "absent" if row.media_recording_id is None
        else "array" if isinstance(row.media_recording_id, tuple)
        else "several" if "," in row.media_recording_id
        else "one"
        for row in cdrs
    )  # fmt: skip
    assert all(forms[form] for form in ("absent", "array", "several", "one"))
    assert len(set(cdrs)) < len(cdrs)
    assert any(row.billing_s == 0 and row.media_recording_id is None for row in cdrs)
    named = {row.interaction_id for row in cdrs}
    assert all(row.interaction_id in named for row in recordings)


def test_lengths_can_be_kept_small() -> None:
    made = corpus(median_duration_s=2.0, max_duration_s=5.0)
    assert max(row.duration_ms for row in made.recordings) == 5000
    assert max(row.source.length_bytes for row in made.recordings) < 41_000


def test_an_id_begins_with_the_month_of_the_start_in_the_servers_local_time() -> None:
    zone = ZoneInfo("America/Toronto")
    made = Corpus.generate(
        seed=1, accounts=1, recordings=300, begin=MAY, end=datetime(2024, 5, 2, tzinfo=UTC), time_zone=zone
    )
    months = {row.recording_id[:7] for row in made.recordings}
    assert months == {"202404-", "202405-"}
    for row in made.recordings:
        local = datetime.fromtimestamp(row.start_unix_s, zone)
        assert row.recording_id.startswith(f"{local:%Y%m}-")
        assert len(row.recording_id) == 39


@pytest.mark.parametrize(
    "wrong",
    [{"accounts": 0}, {"recordings": -1}, {"end": MAY}, {"begin": datetime(2024, 5, 1)}, {"median_duration_s": 0}],  # noqa: DTZ001
)
def test_a_corpus_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"seed": 1, "accounts": 1, "recordings": 1, "begin": MAY, "end": JULY}
    with pytest.raises(ValueError, match=r"begin|account|median"):
        Corpus.generate(**(right | wrong))  # type: ignore[arg-type]


def test_a_record_looks_like_the_vendors_sample() -> None:
    row = SimulatedRecording(
        account_id=ACCOUNT, recording_id="202205-" + "4" * 32, start_unix_s=1651864893, duration_ms=476_340
    )
    document = Documents(Switches()).recording(row)
    assert set(VENDORS_FIELDS.split()) == set(document)
    assert (document["start"], document["pvt_created"]) == (63819084093, 63819084569)
    assert (document["duration"], document["duration_ms"]) == (476, 476340)
    assert document["_attachments"] == {
        document["name"]: {
            "content_type": "audio/mpeg",
            "revpos": 0,
            "digest": "",
            "length": row.source.length_bytes,
            "stub": False,
        }
    }


def test_a_corpus_may_be_changed_at_any_time() -> None:
    made = Corpus(accounts=[ACCOUNT])
    row = SimulatedRecording(account_id=ACCOUNT, recording_id="x", start_unix_s=100, duration_ms=5000)
    assert list(made.by_time(ACCOUNT, "start").rows) == []
    made.add(row)
    assert made.by_time(ACCOUNT, "start").keys == [100]
    assert made.by_time(ACCOUNT, "pvt_created").keys == [105]
    with pytest.raises(ValueError, match="already"):
        made.add(row)
    longer = SimulatedRecording(account_id=ACCOUNT, recording_id="x", start_unix_s=100, duration_ms=9000)
    made.replace(longer)
    assert made.find(ACCOUNT, "x") is longer
    assert made.remove(ACCOUNT, "x") is longer
    assert list(made.by_time(ACCOUNT, "start").rows) == []
    with pytest.raises(KeyError):
        made.replace(row)
    cdr = SimulatedCdr(account_id="b" * 32, cdr_id="c", ended_unix_s=9, billing_s=1, interaction_id="i")
    made.add_cdr(cdr)
    assert list(made.cdrs_by_time("b" * 32).rows) == [cdr]
    made.remove_cdr(cdr)
    assert list(made.cdrs_by_time("b" * 32).rows) == []


def test_hostile_records_carry_every_hostile_text_and_length() -> None:
    made = Corpus(hostile_recordings(ACCOUNT, 1_700_000_000))
    documents = [json.loads(json.dumps(Documents(Switches()).recording(row))) for row in made.recordings]
    assert {document.get("name") for document in documents if isinstance(document.get("name"), str)} >= set(
        HOSTILE_TEXTS.values()
    )
    assert {document["_id"] for document in documents} >= set(HOSTILE_TEXTS.values())
    maps = [document["_attachments"] for document in documents if isinstance(document.get("_attachments"), dict)]
    lengths = [entry.get("length", "missing") for entries in maps for entry in entries.values() if entry is not None]
    assert "missing" in lengths
    assert all(value in lengths for name, value in HOSTILE_LENGTHS.items() if name != "missing")
