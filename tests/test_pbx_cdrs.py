"""CDRs as the PBX sends them: their times and causes, and their JSON byte for byte."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.pbx import payloads
from archiver.pbx.raw_rows import raw_rows

ACCOUNT = "a" * 32
SAMPLE = datetime(2022, 5, 6, 17, 18, 39, tzinfo=UTC)


def read(**fields: Any) -> Any:
    (found,) = payloads.cdrs_page(json.dumps({"data": [{"id": "leg"} | fields]}).encode(), account_id=ACCOUNT).rows
    return found


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        ({"timestamp": "63819076719"}, SAMPLE),
        ({"timestamp": int(SAMPLE.timestamp())}, SAMPLE),
        ({"timestamp": int(SAMPLE.timestamp()) * 1000}, SAMPLE),
        ({"datetime": "2022-05-06 17:18:39 +0000 UTC"}, SAMPLE),
        ({"timestamp": None, "datetime": "2022-05-06 19:18:39 +0200"}, SAMPLE),
        ({"timestamp": 7, "datetime": "1922-05-06 19:18:39 +0200"}, None),
        ({"datetime": "never"}, None),
        ({"datetime": 5}, None),
        ({"datetime": "0001-01-01 00:00:00 +2359"}, None),
    ],
)
def test_a_cdr_is_dated_by_its_timestamp_or_else_by_its_written_date(
    fields: dict[str, Any], at: datetime | None
) -> None:
    assert read(**fields).at == at


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"billing_seconds": "196", "hangup_cause": "NORMAL_CLEARING"}, (196, None, "NORMAL_CLEARING")),
        ({"billing_seconds": 0, "duration_seconds": "12", "hangup_cause": " no_answer "}, (0, 12, "NO_ANSWER")),
        ({"duration": 9}, (None, 9, "")),
        ({"billing_seconds": None, "duration_seconds": "x", "hangup_cause": 5}, (None, None, "")),
        ({"billing_seconds": True, "duration_seconds": 0, "duration": 4}, (None, 0, "")),
    ],
)
def test_seconds_and_cause_come_as_numbers_or_texts_or_not_at_all(
    fields: dict[str, Any], expected: tuple[int | None, int | None, str]
) -> None:
    found = read(**fields)
    assert (found.billed_s, found.lasted_s, found.hangup_cause) == expected


@pytest.mark.parametrize("odd", ['"x"', '"\\ud800"', '"\\ud800 \\udfff", "n": [1.50, {"]": "}"}]'])
def test_each_cdr_keeps_its_bytes_also_on_a_page_with_a_text_that_is_none(odd: str) -> None:
    rows = [f'{{"id" : "{n}",\t"odd":{odd} , "z": 1e2}}' for n in range(3)]
    body = f'\n{{ "x": {{"data": []}}, "data" : [ {" , ".join(rows)} ,{{"next_start_key": "7"}}] }} '
    found = payloads.cdrs_page(body.encode(), account_id=ACCOUNT)
    assert [row.metadata.decode() for row in found.rows] == rows
    assert found.cursor == "7"
    single = payloads.cdr(rows[1].encode(), account_id=ACCOUNT)
    assert single == found.rows[1]


@pytest.mark.parametrize("data", [b"[]", b"{}", b"null", b"", b"\xff", b'{"id": 5}'])
def test_what_is_no_cdr_is_none(data: bytes) -> None:
    assert payloads.cdr(data, account_id=ACCOUNT) is None


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.lists(values, max_size=5),
    st.dictionaries(st.text().filter(lambda name: name != "data"), values, max_size=3),
    st.sampled_from([None, 2, "\t"]),
    st.booleans(),
)
def test_rows_are_cut_out_of_any_page_as_they_stand(
    rows: list[Any], around: dict[str, Any], indent: Any, is_ascii: bool
) -> None:
    page = around | {"data": rows} | {"last": around}
    body = json.dumps(page, indent=indent, ensure_ascii=is_ascii).encode("utf-8", "surrogatepass")
    found = raw_rows(body, ("data", "recordings"))
    assert [json.loads(row) for row in found["data"]] == rows
    at = 0
    for row in found["data"]:
        at = body.index(row, at) + len(row)
    assert found.keys() <= {"data", "recordings"}
