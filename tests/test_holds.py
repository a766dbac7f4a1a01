"""Holds as files and as records of the audit trail: what they say comes back, and no pattern leaves its file."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.ledger.values_retention import Hold
from archiver.proof.evidence.audit import Draft, Record, add_records, record_of
from archiver.proof.evidence.retention_drafts import held_by_record, hold_added
from archiver.proof.retention.hold_files import decode, encode, unknown_holds
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.notes import Notes
from archiver.stores.trail_file import TrailFile

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
NUMBER = "+4930123456"
HOLD = Hold("case", "why", "AZ 7/26", "ann", AT, "a" * 32, AT - timedelta(days=9), AT, ("r1", "r2"))

texts = st.text(max_size=20)
times = st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
holds = st.builds(
    Hold,
    texts,
    texts,
    texts,
    texts,
    times,
    texts,
    st.none() | times,
    st.none() | times,
    st.lists(texts, max_size=3).map(tuple),
    st.lists(texts, max_size=3).map(tuple),
    texts,
    st.none() | times,
    texts,
)


@given(holds)
def test_a_hold_comes_back_from_its_file_as_it_was(hold: Hold) -> None:
    assert decode(encode(hold)) == hold


@given(st.binary())
def test_any_other_bytes_are_no_hold(data: bytes) -> None:
    assert decode(data) is None


def test_a_file_of_a_newer_program_or_without_a_zone_is_none() -> None:
    whole = encode(HOLD)
    assert decode(whole.replace(b'"schema": 1', b'"schema": 2')) is None
    assert decode(whole.replace(b"+00:00", b"").replace(b'Z"', b'"')) is None


def test_what_only_files_tell_of_is_found_and_what_they_cannot_tell_holds_everything() -> None:
    files = {
        "case": encode(HOLD),
        "new": encode(replace(HOLD, name="New")),
        "odd": b"{",
        "named": encode(replace(HOLD, name="other")),
    }
    found = unknown_holds(files, [HOLD])
    assert [hold.name for hold in found] == ["named", "New", "odd"]
    for hold in (found[0], found[2]):
        assert (hold.is_active, hold.account_id, hold.recording_ids, hold.users) == (True, "", (), ())


def recorded(tmp_path: Path, draft: Draft) -> tuple[Record, str]:
    folder = ArchiveFolder(tmp_path / "archive", durable=False)
    add_records(TrailFile(folder), [draft], who="me@here", at=AT, mark=None)
    folder.close()
    line = (tmp_path / "archive/.archiver/audit.jsonl").read_bytes()
    found = record_of(line)
    assert found is not None
    return found, line.decode()


def test_the_trail_tells_of_a_hold_as_much_as_it_may(tmp_path: Path) -> None:
    record, _ = recorded(tmp_path, hold_added(HOLD))
    assert held_by_record(record) == replace(HOLD, reason="placed again from the audit trail")


@pytest.mark.parametrize("what", ["patterns", "ids"])
def test_a_hold_from_the_trail_covers_more_than_before_and_never_less(tmp_path: Path, what: str) -> None:
    many = tuple(f"r{number}" for number in range(201))
    hold = replace(HOLD, users=(NUMBER,)) if what == "patterns" else replace(HOLD, recording_ids=many)
    record, line = recorded(tmp_path, hold_added(hold))
    assert NUMBER not in line
    found = held_by_record(record)
    assert found.users == ()
    assert found.recording_ids == (HOLD.recording_ids if what == "patterns" else ())
    assert f"without its {what}" in found.reason


def test_a_number_in_a_reference_does_not_come_into_the_trail(tmp_path: Path) -> None:
    _, line = recorded(tmp_path, hold_added(replace(HOLD, reference=f"call of {NUMBER}", placed_by="ann 015112345678")))
    assert NUMBER[1:] not in line
    assert "15112345678" not in line


def test_a_note_is_replaced_as_a_whole_or_made_once(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive", durable=True)
    notes = Notes(folder, "holds")
    assert notes.read() == {}
    assert notes.write_new("case", b"first")
    assert not notes.write_new("case", b"second")
    assert notes.read() == {"case": b"first"}
    notes.write("case", b"third")
    (tmp_path / "archive/.archiver/holds/case.1.new").write_bytes(b"of a dead process")
    assert notes.read() == {"case": b"third"}
    folder.close()
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "archive/.archiver/holds").glob("*.json")} == {0o600}
