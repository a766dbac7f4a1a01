"""How answers are looked at for `doctor`: what a page, a token or a refusal shows; nothing in them makes it fail."""

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.pbx.payloads_seen import body_form, gregorian_s, page_look, token_lifetime_s
from archiver.pbx.probe import PageLook

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROW = {"_id": "202601-a", "start": 63_934_444_800, "duration": "5", "_attachments": {"a": {"digest": "md5-x"}, "b": {}}}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["next_start_key", "timestamp", "_attachments", "start", "x"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


def look(page: Any, name: str = "recordings") -> PageLook:
    return page_look(json.dumps(page).encode(), name)


@pytest.mark.parametrize(
    ("page", "place", "end"),
    [
        ({"recordings": [ROW], "next_start_key": "63"}, "top", ""),
        ({"recordings": [ROW, {"next_start_key": "63", "page_size": 1}]}, "in_data", ""),
        ({"recordings": [ROW, {"next_start_key": "63"}], "next_start_key": "63"}, "both", ""),
        ({"recordings": [ROW]}, "", "absent"),
        ({"recordings": [ROW, {"page_size": 1}]}, "", "absent"),
        ({"recordings": [ROW], "next_start_key": None}, "", "null"),
        ({"recordings": [ROW, {"next_start_key": None, "page_size": 1}]}, "", "null"),
        ({"recordings": [ROW], "next_start_key": ""}, "", "empty"),
        ({"recordings": [ROW, {"next_start_key": "", "page_size": 1}]}, "", "empty"),
    ],
)
def test_where_a_cursor_stands_and_how_none_looks(page: Any, place: str, end: str) -> None:
    found = look(page)
    assert (found.cursor_place, found.end) == (place, end)
    assert (found.numbers, found.attachments, found.digests, found.empty) == (("number", "text"), (2,), 1, "")


def test_an_empty_page_is_a_list_or_null_and_what_is_no_page_shows_nothing() -> None:
    assert look({"recordings": []}).empty == "list"
    assert look({"recordings": None}).empty == "null"
    assert look({"data": []}) == look([]) == page_look(b"<html>", "data") == PageLook()


@pytest.mark.parametrize(
    ("value", "clocks"),
    [
        (63_934_444_800, ("gregorian",)),
        ("1767225600", ("unix",)),
        (1_767_225_600_000, ("ms",)),
        ("soon", ()),
        (None, ()),
    ],
)
def test_a_timestamps_clock_is_told_by_its_size(value: Any, clocks: tuple[str, ...]) -> None:
    assert look({"data": [{"id": "x", "timestamp": value}]}, "data").clocks == clocks


@given(ANY)
def test_nothing_in_a_page_makes_looking_at_it_fail(value: Any) -> None:
    for page in (value, {"recordings": value}, {"recordings": [value]}, {"recordings": [ROW], "next_start_key": value}):
        assert isinstance(look(page), PageLook)


def jwt(claims: Any) -> str:
    return "e30." + base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + ".sig"


def test_a_tokens_life_is_from_its_issue_to_its_end_else_from_now() -> None:
    ends = int(NOW.timestamp()) + 600
    assert token_lifetime_s(jwt({"exp": ends, "iat": ends - 3600}), now=NOW) == 3600
    assert token_lifetime_s(jwt({"exp": ends}), now=NOW) == 600
    assert token_lifetime_s(jwt({"exp": ends - 700}), now=NOW) == 0


@given(st.text(max_size=40) | ANY.map(jwt) | ANY.map(lambda value: jwt({"exp": value, "iat": value})))
def test_no_token_makes_that_fail(token: str) -> None:
    found = token_lifetime_s(token, now=NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("body", "content_type", "form"),
    [
        (b" \n", "text/plain", "empty"),
        (b'{"error": 1}', "text/plain", "json"),
        (b"Authentication token is invalid", "text/plain", "text"),
        (b"<h1>502</h1>", "", "html"),
        (b"Bad Gateway", "text/html", "html"),
        (b"404", "text/plain", "text"),
    ],
)
def test_the_form_of_a_refusal_is_told_by_its_bytes(body: bytes, content_type: str, form: str) -> None:
    assert body_form(body, content_type) == form


def test_an_instant_is_written_in_the_pbxs_own_seconds() -> None:
    assert gregorian_s(datetime(2022, 5, 6, 17, 14, 53, tzinfo=UTC)) == 63_819_076_493
