"""A sidecar says everything about its recording, and holds the PBX's metadata byte for byte."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver import sidecar
from archiver.recording import Fixity, Recording

FIXITY = Fixity(7, hashlib.sha256(b"content").digest())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def encoded(metadata: bytes, *, recording_id: str = "202611-ab", archived_at: datetime | None = None) -> bytes:
    recording = Recording("acc", recording_id, None, None, None, 7, None, "mp3", metadata)
    return sidecar.encode(
        recording,
        key="acc/2026/11/23/202611-ab.mp3",
        fixity=FIXITY,
        content_type="audio/mpeg",
        archived_at=archived_at or datetime(2026, 11, 23, 12, 0, 1, 999, tzinfo=UTC),
        run_id="run-1",
        source="https://pbx.example.com:9443/api/v2/reports/recording/202611-ab",
    )


def test_a_sidecar_holds_exactly_the_fields_of_the_contract() -> None:
    assert json.loads(encoded(b'{"a": 1}')) == {
        "schema": 1,
        "account_id": "acc",
        "recording_id": "202611-ab",
        "key": "acc/2026/11/23/202611-ab.mp3",
        "size_bytes": 7,
        "sha256": hashlib.sha256(b"content").hexdigest(),
        "content_type": "audio/mpeg",
        "archived_at": "2026-11-23T12:00:01Z",
        "run_id": "run-1",
        "source": "https://pbx.example.com:9443/api/v2/reports/recording/202611-ab",
        "recording": {"a": 1},
    }


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"start":63960916119.000000000000001}',
        b'{"twice":1,"twice":2}',
        b'{ "spaces" :\t[ 1 , 2 ] }',
        '{"name":"José 👋"}'.encode(),
        b'{"escaped":"\\u00e9\\/"}',
        b'{"large":123456789012345678901234567890}',
        b'{"_attachments":{"x.mp3":{"length":-1,"digest":""}},"unknown":{"deep":[null]}}',
    ],
)
def test_metadata_stand_in_it_byte_for_byte(metadata: bytes) -> None:
    data = encoded(metadata)
    assert data.endswith(b', "recording": ' + metadata + b"}\n")
    assert sidecar.decode(data) is not None


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_any_metadata_make_one_whole_object(metadata: dict[str, object]) -> None:
    assert json.loads(encoded(json.dumps(metadata).encode()))["recording"] == metadata


def test_a_recording_without_metadata_has_null() -> None:
    assert json.loads(encoded(b""))["recording"] is None


def test_times_are_utc() -> None:
    at = datetime(2026, 11, 23, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert json.loads(encoded(b"{}", archived_at=at))["archived_at"] == "2026-11-22T23:30:00Z"


@given(st.text())
def test_a_sidecar_is_read_back_as_it_was_written(recording_id: str) -> None:
    said = sidecar.decode(encoded(b'{"sha256": "other", "key": "other"}', recording_id=recording_id))
    assert said == sidecar.Sidecar("acc", recording_id, "acc/2026/11/23/202611-ab.mp3", FIXITY, "run-1")


@given(st.binary())
def test_garbage_is_no_sidecar(data: bytes) -> None:
    assert sidecar.decode(data) is None


@pytest.mark.parametrize("cut", [0, 1, 20, 200, -3])
def test_a_cut_sidecar_is_none(cut: int) -> None:
    assert sidecar.decode(encoded(b'{"a": 1}')[:cut]) is None


@pytest.mark.parametrize("data", [b"[]", b"null", b"1", b"{}", b"[" * 100_000, b'{"account_id": "a"}'])
def test_other_json_is_no_sidecar(data: bytes) -> None:
    assert sidecar.decode(data) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [("sha256", "zz"), ("sha256", 5), ("size_bytes", "many"), ("size_bytes", None), ("size_bytes", float("inf"))],
)
def test_a_sidecar_with_a_senseless_field_is_none(field: str, value: object) -> None:
    found = json.loads(encoded(b"{}"))
    found[field] = value
    assert sidecar.decode(json.dumps(found).encode()) is None
