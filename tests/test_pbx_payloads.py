"""The PBX's JSON into the domain's words: odd values doubt a row, never a page, and nothing crashes (rows 7, 14 to 16)."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.errors import BadAnswer, WrongAccount
from archiver.pbx import payloads
from archiver.recording import Recording

ACCOUNT = "a" * 32
NOON = 1_714_996_800
GREGORIAN_S = 62_167_219_200
AT = datetime.fromtimestamp(NOON, UTC)
MD5 = hashlib.md5(b"media", usedforsecurity=False).digest()


def row(**changed: Any) -> dict[str, Any]:
    told = {
        "_id": "202405-1",
        "name": "call.mp3",
        "start": NOON + GREGORIAN_S,
        "pvt_created": NOON + GREGORIAN_S + 4,
        "duration_ms": 4000,
        "media_type": "mp3",
        "_attachments": {"call.mp3": {"content_type": "audio/mpeg", "length": 32000, "digest": ""}},
    }
    return told | changed


def listed(*rows: Any, **more: Any) -> bytes:
    return json.dumps({"recordings": list(rows)} | more).encode()


def read(**changed: Any) -> Recording:
    (found,) = payloads.recordings_page(listed(row(**changed)), account_id=ACCOUNT).rows
    return found


def attached(**entry: Any) -> Recording:
    return read(_attachments={"call.mp3": {"content_type": "audio/mpeg"} | entry})


def test_a_row_of_the_vendor_s_shape_becomes_a_recording() -> None:
    found = read()
    assert (found.account_id, found.recording_id, found.extension, found.doubt) == (ACCOUNT, "202405-1", "mp3", "")
    assert (found.start_at, found.saved_at) == (AT, AT + timedelta(seconds=4))
    assert (found.duration_ms, found.length_bytes, found.digest_md5) == (4000, 32000, None)


def test_the_metadata_of_a_row_are_kept_byte_for_byte() -> None:
    raw = b'{ "_id" : "x",  "odd": 1.50e3, "b":"\\u00e4", "_id2":[1, 2] }'
    (found,) = payloads.recordings_page(b'{"recordings": [' + raw + b"]}", account_id=ACCOUNT).rows
    assert found.metadata == raw


@pytest.mark.parametrize(
    ("length", "expected", "is_doubted"),
    [
        (32000, 32000, False),
        ("32000", 32000, False),
        (" 32000 ", 32000, False),
        (32000.0, 32000, False),
        ("32000.0", 32000, False),
        (1 << 40, 1 << 40, False),
        (None, None, False),
        (0, None, False),
        ("0", None, False),
        (-1, None, True),
        ("-1", None, True),
        (1.5, None, True),
        (1e300, None, True),
        (True, None, True),
        (False, None, True),
        (2**63, None, True),
        (2**64, None, True),
        ("9" * 5000, None, True),
        ("", None, True),
        ("many", None, True),
        ("\u0663", None, True),
        ([], None, True),
        ({}, None, True),
        ([32000], None, True),
    ],
)
def test_a_length_is_a_positive_whole_number_or_unknown_and_nonsense_is_doubted(
    length: Any, expected: int | None, is_doubted: bool
) -> None:
    """Row 14."""
    found = attached(length=length)
    assert found.length_bytes == expected
    assert bool(found.doubt) is is_doubted
    assert len(found.doubt) < 200
    assert found.doubt.isascii()


def test_a_row_without_any_length_is_not_doubted() -> None:
    """Row 14: missing."""
    assert (attached().length_bytes, attached().doubt) == (None, "")


@pytest.mark.parametrize(
    ("attachments", "length"),
    [
        (None, None),
        ({}, None),
        ([], None),
        ("text", None),
        ({"call.mp3": None}, None),
        ({"call.mp3": 7}, None),
        ({"odd": {"length": 5}}, 5),
        ({"a.json": {"length": 1}, "call.mp3": {"length": 2}}, 2),
        ({"a.json": {"length": 1}, "x": {"content_type": "audio/mpeg", "length": 3}}, 3),
        ({"a.json": {"length": 1}, "b.wav": {"length": 4}, "c.mp3": {"length": 5}}, 4),
        ({"a.json": {"length": 1}, "b.json": {"length": 2}}, None),
        ({"a.json": {"content_type": 7, "length": 1}, "b": {"content_type": None, "length": 2}}, None),
        ({"stub.mp3": {"length": 6, "stub": True, "revpos": 2}}, 6),
    ],
)
def test_of_several_attachments_the_one_named_like_the_recording_or_the_audio_counts(
    attachments: Any, length: int | None
) -> None:
    """Row 14: no, one, two attachments, stub=true."""
    assert read(_attachments=attachments).length_bytes == length


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        NOON + GREGORIAN_S,
        NOON * 1000,
        (NOON + GREGORIAN_S) * 1000,
        str(NOON),
        str(NOON + GREGORIAN_S),
        str(NOON * 1000),
        float(NOON + GREGORIAN_S),
        f"{NOON + GREGORIAN_S}.0",
    ],
)
def test_a_time_is_read_in_every_unit_the_pbx_uses(value: Any) -> None:
    assert payloads.instant(value) == AT
    assert read(start=value).start_at == AT


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -1,
        1,
        True,
        "",
        "noon",
        "2024-05-06",
        [],
        {},
        1.5,
        1e300,
        -1e300,
        float("inf"),
        float("nan"),
        2**63,
        10**30,
        -(10**30),
        "9" * 5000,
        10**5000,
        "٣" * 10,
        GREGORIAN_S,
        253402300800,
        7258118400,
    ],
    ids=range(24),
)
def test_a_time_that_makes_no_sense_is_unknown(value: Any) -> None:
    assert payloads.instant(value) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"duration_ms": 4000}, 4000),
        ({"duration_ms": "4000"}, 4000),
        ({"duration_ms": None, "duration": 4}, 4000),
        ({"duration_ms": None, "duration": "4"}, 4000),
        ({"duration_ms": 0}, None),
        ({"duration_ms": -5}, None),
        ({"duration_ms": 2**63}, None),
        ({"duration_ms": True}, None),
        ({"duration_ms": []}, None),
    ],
)
def test_a_duration_is_read_from_milliseconds_or_seconds(told: dict[str, Any], expected: int | None) -> None:
    assert read(**told).duration_ms == expected


@pytest.mark.parametrize(
    ("digest", "expected"),
    [
        ("md5-" + base64.b64encode(MD5).decode(), MD5),
        ("", None),
        (None, None),
        (7, None),
        ("md5-", None),
        ("md5-!!!!", None),
        ("md5-ä", None),
        ("md5-" + base64.b64encode(MD5[:15]).decode(), None),
        ("sha1-" + base64.b64encode(MD5).decode(), None),
        (base64.b64encode(MD5).decode(), None),
    ],
)
def test_a_digest_is_couchdb_s_md5_or_unknown(digest: Any, expected: bytes | None) -> None:
    assert attached(digest=digest).digest_md5 == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"media_type": ".MP3"}, "mp3"),
        ({"media_type": "wav"}, "wav"),
        ({"media_type": "../../x", "name": "x.wav"}, "mp3"),
        ({"media_type": None, "content_type": "audio/x-wav; rate=8000", "_attachments": {}}, "wav"),
        ({"media_type": None, "name": "call.MP4", "_attachments": {}}, "mp4"),
        ({"media_type": None, "name": "call.exe", "_attachments": {}}, "mp3"),
        ({"media_type": 7, "name": 7, "content_type": 7, "_attachments": {}}, "mp3"),
    ],
)
def test_an_extension_is_a_known_one_or_mp3(told: dict[str, Any], expected: str) -> None:
    assert read(**told).extension == expected


@pytest.mark.parametrize("field", ["account_id", "pvt_account_id"])
def test_another_account_s_row_stops_the_run(field: str) -> None:
    """Row 7."""
    with pytest.raises(WrongAccount):
        payloads.recordings_page(listed(row(), row(_id="2", **{field: "b" * 32})), account_id=ACCOUNT)
    for same in (ACCOUNT, ACCOUNT.upper(), "", None, 7):
        assert read(**{field: same}).account_id == ACCOUNT


@pytest.mark.parametrize(
    "odd",
    [None, 7, "text", [], {}, {"_id": 7}, {"_id": ""}, {"_id": "x" * 1025}, {"_id": "\U00023456" * 300}, {"name": "x"}],
)
def test_a_row_that_can_t_be_named_is_counted_and_the_page_goes_on(odd: Any) -> None:
    """Row 14."""
    found = payloads.recordings_page(listed(row(), odd, row(_id="2")), account_id=ACCOUNT)
    assert ([one.recording_id for one in found.rows], found.unreadable) == (["202405-1", "2"], 1)


@pytest.mark.parametrize("odd", [None, 7, "text", [], {}, {"id": 7}, {"id": ""}, {"media_recording_id": "x"}])
def test_a_cdr_that_can_t_be_named_is_counted_and_the_page_goes_on(odd: Any) -> None:
    body = json.dumps({"data": [{"id": "1"}, odd, {"id": "2"}]}).encode()
    found = payloads.cdrs_page(body, account_id=ACCOUNT)
    assert ([one.cdr_id for one in found.rows], found.unreadable) == (["1", "2"], 1)


@pytest.mark.parametrize(
    ("top", "element", "cursor"),
    [
        ({}, None, None),
        ({"next_start_key": None}, None, None),
        ({"next_start_key": ""}, None, None),
        ({"next_start_key": "638"}, None, "638"),
        ({"next_start_key": 638}, None, "638"),
        ({}, {"next_start_key": "638", "page_size": 1}, "638"),
        ({}, {"next_start_key": 638, "page_size": 1}, "638"),
        ({}, {"next_start_key": None, "page_size": 1}, None),
        ({}, {"next_start_key": "", "page_size": 1}, None),
        ({}, {"page_size": 1}, None),
        ({"next_start_key": "1"}, {"next_start_key": "2", "page_size": 1}, "1"),
    ],
)
def test_the_cursor_is_read_at_both_places_and_is_no_row(top: dict[str, Any], element: Any, cursor: str | None) -> None:
    rows = [] if element is None else [element]
    recordings = payloads.recordings_page(listed(row(), *rows, **top), account_id=ACCOUNT)
    assert (len(recordings.rows), recordings.cursor, recordings.unreadable) == (1, cursor, 0)
    cdrs = payloads.cdrs_page(json.dumps({"data": [{"id": "1"}, *rows]} | top).encode(), account_id=ACCOUNT)
    assert (len(cdrs.rows), cdrs.cursor, cdrs.unreadable) == (1, cursor, 0)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b"<html>",
        b'{"data": []}',
        b'{"recordings": 7}',
        b'{"recordings": {}}',
        b'{"recordings": [NaN]}',
        b'{"recordings": [',
        b'{"recordings": []',
        b'{"recordings": []} x',
        b"\xff\xfe",
        b'{"recordings": ' + b"[" * 100000,
        b"[" * 100000,
        b'{"a": ' * 100000,
        b'{"recordings": [' + b"9" * 5000,
    ],
    ids=range(19),
)
def test_what_is_no_page_is_a_bad_answer(body: bytes) -> None:
    """Row 15."""
    with pytest.raises(BadAnswer):
        payloads.recordings_page(body, account_id=ACCOUNT)


def test_null_and_an_empty_list_are_an_empty_page() -> None:
    for body in (b'{"recordings": []}', b'{"recordings": null}'):
        found = payloads.recordings_page(body, account_id=ACCOUNT)
        assert (found.rows, found.cursor, found.unreadable) == ((), None, 0)


def test_a_number_of_five_thousand_digits_in_one_row_does_not_cost_the_page() -> None:
    """Row 15."""
    huge = b'{"_id": "big", "start": ' + b"9" * 5000 + b"}"
    body = b'{"recordings": [' + json.dumps(row()).encode() + b", " + huge + b"]}"
    found = payloads.recordings_page(body, account_id=ACCOUNT)
    assert found.rows[0].recording_id == "202405-1"
    assert len(found.rows) + found.unreadable == 2


@pytest.mark.parametrize("name", ["\ud800", "\x00", "\u202e", "x" * 65536, "\x1b[2J", "\n", "a/../b"])
def test_a_name_of_odd_characters_does_not_cost_its_row(name: str) -> None:
    """Row 16."""
    found = payloads.recordings_page(listed(row(name=name), row(_id="2")), account_id=ACCOUNT)
    assert [one.recording_id for one in found.rows] == ["202405-1", "2"]
    assert json.loads(found.rows[0].metadata)["name"] == name


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, ()),
        ("", ()),
        ("a", ("a",)),
        ("a, b,,c ", ("a", "b", "c")),
        (["a", "b,c", 7, None], ("a", "b", "c")),
        (7, ()),
        ({}, ()),
    ],
)
def test_a_cdr_names_its_recordings_as_text_as_a_list_or_not_at_all(named: Any, expected: tuple[str, ...]) -> None:
    body = json.dumps({"data": [{"id": "1", "timestamp": NOON, "media_recording_id": named}]}).encode()
    (found,) = payloads.cdrs_page(body, account_id=ACCOUNT).rows
    assert (found.recording_ids, found.at) == (expected, AT)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["_id", "id", "start", "_attachments", "length", "digest", "next_start_key", "name", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def refused_or_read(body: bytes) -> bool:
    """Whether each reader either gave a page or refused it in our own words; anything else is raised."""
    for reader in (payloads.recordings_page, payloads.cdrs_page):
        try:
            found = reader(body, account_id=ACCOUNT)
        except (BadAnswer, WrongAccount):
            continue
        if found.unreadable < 0 or not all(row.account_id == ACCOUNT for row in found.rows):
            return False
    return True


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_our_errors(body: bytes) -> None:
    assert refused_or_read(body)
    assert refused_or_read(b'{"recordings": [' + body + b'], "data": []}')
    assert payloads.access_token(body) is None or b"access_token" in body


@given(st.lists(ANYTHING, max_size=4), ANYTHING)
def test_no_json_raises_anything_but_our_errors(rows: list[Any], cursor: Any) -> None:
    body = json.dumps({"recordings": rows, "data": rows, "next_start_key": cursor}).encode()
    assert refused_or_read(body)
    assert payloads.access_token(body) is None


@given(ANYTHING)
def test_no_value_of_a_field_raises_anything_but_our_errors(value: Any) -> None:
    for field in row():
        assert refused_or_read(listed(row(**{field: value})))
    for field in ("length", "digest", "content_type"):
        assert refused_or_read(listed(row(_attachments={"call.mp3": {field: value}})))


@pytest.mark.parametrize("field", [b"_id", b"name", b"media_type", b"start", b"account_id"])
def test_a_row_with_bytes_that_are_no_text_costs_no_page(field: bytes) -> None:
    body = b'{"recordings":[{"_id":"a"},{"_id":"b","' + field + b'":"\xff"}]}'
    found = payloads.recordings_page(body, account_id=ACCOUNT)
    assert ([one.recording_id for one in found.rows], found.unreadable) == (["a"], 1)


def test_a_cursor_that_is_no_text_is_a_bad_answer() -> None:
    with pytest.raises(BadAnswer):
        payloads.recordings_page(b'{"recordings":[],"next_start_key":"\xff"}', account_id=ACCOUNT)


def test_metadata_of_another_recording_are_not_taken_for_this_one_s() -> None:
    metadata = json.dumps(row()).encode()
    assert payloads.recording_of(metadata, account_id=ACCOUNT, recording_id="202405-1") == read()
    assert payloads.recording_of(metadata, account_id=ACCOUNT, recording_id="202405-2") is None
    assert payloads.recording_of(b"[]", account_id=ACCOUNT, recording_id="202405-1") is None
