"""What a rebuild reads of an archive: any sidecar that was written is understood, and none that was changed is trusted."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from archiver import sidecar
from archiver.keys import KeyTemplate, sidecar_key
from archiver.ledger.values_rebuilding import StoredRecording
from archiver.pbx.payloads import recordings_page
from archiver.proof.restoration.stored import Groups, Misfit, Read, read_groups
from archiver.recording import Fixity, Recording
from archiver.stores.base import ObjectHead

AT = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SHA = bytes(range(32))
MEDIA = b"media"
KEYS = KeyTemplate("{account_id}/{start:%Y}/{recording_id}.{extension}", UTC)


@dataclass(frozen=True)
class Objects:
    """A disk, as far as a rebuild looks at it."""

    data: Mapping[str, bytes]

    def list(self, prefix: str = "") -> Iterator[ObjectHead]:
        return (ObjectHead(key, len(self.data[key]), AT.timestamp()) for key in sorted(self.data))

    def open(self, key: str) -> Iterator[bytes]:
        yield self.data[key]


def read(data: Mapping[str, bytes]) -> Read:
    objects = Objects(data)
    return read_groups(objects, Groups(objects.list()).some(1000), full=False)  # type: ignore[arg-type]


def written(recording: Recording, version: int = 1) -> dict[str, bytes]:
    """A recording's two objects, as a run writes them."""
    key = KEYS.key(
        account_id=recording.account_id,
        recording_id=recording.recording_id,
        dated_at=recording.dated_at,
        extension=recording.extension,
        version=version,
    )
    said = sidecar.encode(
        recording, key=key, fixity=Fixity(len(MEDIA), SHA), content_type="audio/mpeg", archived_at=AT,
        run_id="run", source="https://pbx.example.com/x",
    )  # fmt: skip
    return {key: MEDIA, sidecar_key(key): said}


def listed(recording_id: str, **fields: object) -> Recording:
    """As a listing brings it."""
    page = {"recordings": [{"_id": recording_id, "start": 63_882_950_400, **fields}]}
    (row,) = recordings_page(json.dumps(page).encode(), account_id="acc").rows
    return row


IDS = st.text(min_size=1, max_size=40)
FIELDS = st.dictionaries(
    st.sampled_from(["name", "media_type", "duration_ms", "start", "pvt_created", "_attachments", "extra"]),
    st.one_of(st.none(), st.text(max_size=9), st.integers(-9, 2**40), st.just({"a.mp3": {"length": 5}})),
)
ONE = written(listed("202605-ab", duration_ms=1000))
(SIDECAR,) = (key for key in ONE if key.endswith(".json"))


@given(IDS, FIELDS, st.integers(1, 3))
def test_what_was_written_is_understood_as_it_was_listed(
    recording_id: str, fields: dict[str, object], version: int
) -> None:
    recording = listed(recording_id, **fields)
    found = read(written(recording, version))
    assert (found.problems, found.bare) == ([], [])
    (stored,) = found.stored
    assert (stored.recording, stored.version, stored.fixity) == (recording, version, Fixity(len(MEDIA), SHA))
    assert (stored.archived_at, stored.run_id) == (AT, "run")


@given(st.text(st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), min_size=1, max_size=3))
def test_ids_that_no_utf8_can_hold_are_understood(recording_id: str) -> None:
    # As JSON brings it: two halves that belong together are one letter there.
    bare = Recording("acc", json.loads(json.dumps(recording_id)), None, None, None, None, None, "mp3", b"")
    (stored,) = read(written(bare)).stored
    assert stored.recording == bare


@given(st.integers(0, len(ONE[SIDECAR]) - 1), st.integers(0, 255))
def test_a_sidecar_with_a_changed_byte_never_stops_a_rebuild(place: int, byte: int) -> None:
    data = bytearray(ONE[SIDECAR])
    data[place] = byte
    found = read(ONE | {SIDECAR: bytes(data)})
    assert len(found.stored) + len([one for one in found.problems if one.kind is not Misfit.SIZE]) == 1
    for stored in found.stored:
        assert isinstance(stored, StoredRecording)
        assert stored.recording.recording_id == "202605-ab"


@given(st.binary(max_size=300))
def test_any_bytes_in_place_of_a_sidecar_are_a_problem(data: bytes) -> None:
    found = read(ONE | {SIDECAR: data})
    assert [one.kind for one in found.problems] == [Misfit.NO_SIDECAR]
    assert found.stored == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), unique=True))
def test_versions_and_neighbours_are_told_apart_whatever_their_order(rows: list[tuple[str, int]]) -> None:
    data: dict[str, bytes] = {}
    for name, version in rows:
        data |= written(listed(f"202605-{name}", media_type="wav"), version)
        data |= written(listed(f"202605-{name}-b"), version)
    found = read(data)
    assert (found.problems, found.bare, len(found.stored)) == ([], [], 2 * len(rows))
