"""Which recordings an export takes, decided from metadata alone."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.ledger.values_exporting import Sought
from archiver.proof.export.selection import Call, Conditions, call_of, is_party
from archiver.simulator.hostile import HOSTILE_TEXTS

CALL = Call(
    caller_number="+49301234",
    caller_name="Ana García",
    callee_number="2305",
    callee_name="Front Desk",
    from_address="sip:49301234@192.0.2.1:5060;user=phone",
    to_address="2305@pbx.example",
    owner_id="0af5",
    username="Ana@PBX.example",
    user_name="Ana García",
    call_id="call",
    interaction_id="interaction",
    cdr_id="cdr",
)


@pytest.mark.parametrize(
    "party",
    [
        *("+49301234", "49301234", "+2305", "2305", "2305@pbx.example", "ana garcía", "ANA*", "*desk", "front?desk"),
        *("0af5", "ana@pbx.example", "*@pbx.example", "+4930*", "[f]ront desk", "sip:49301234@*"),
    ],
)
def test_a_party_is_found_by_number_name_address_or_pattern(party: str) -> None:
    assert is_party(party, CALL)


@pytest.mark.parametrize("party", ["230", "23055", "301234", "+4930", "garc", "desk", "pbx.example", "call", "?"])
def test_a_party_that_is_only_a_part_of_something_is_not_found(party: str) -> None:
    assert not is_party(party, CALL)


@pytest.mark.parametrize("number", ["1655", "+1655"])
@pytest.mark.parametrize("text", ["1655", "+1655", "1655@pbx", "sip:+1655@pbx", "SIPS:1655@pbx;x=y", "tel:1655"])
def test_a_plain_number_is_found_with_and_without_plus_and_in_addresses(number: str, text: str) -> None:
    assert is_party(number, Call(from_address=text))


@pytest.mark.parametrize("call_id", ["call", "interaction", "cdr"])
def test_a_call_is_found_by_each_of_its_ids_and_only_whole(call_id: str) -> None:
    assert Conditions(call_ids=frozenset({call_id, "other"})).hold(CALL)
    assert not Conditions(call_ids=frozenset({call_id[:-1], call_id.upper()})).hold(CALL)


@given(st.booleans(), st.booleans())
def test_kinds_of_conditions_must_all_hold_and_of_each_kind_one_value_does(party: bool, call: bool) -> None:
    conditions = Conditions(
        parties=("nobody", "2305" if party else "9"), call_ids=frozenset({"x", "call" if call else "y"})
    )
    assert conditions.hold(CALL) == (party and call)


def test_conditions_know_whether_there_are_any_and_whether_the_ledger_can_tell() -> None:
    assert Conditions().is_empty
    assert not Conditions().need_metadata
    by_ledger = Conditions(Sought(account_ids=("a",)))
    assert (by_ledger.is_empty, by_ledger.need_metadata) == (False, False)
    assert Conditions(parties=("1",)).need_metadata


@pytest.mark.parametrize("value", [*HOSTILE_TEXTS.values(), None, 7, 1.5, True, [], {}, [[]], "x" * 70_000])
def test_metadata_of_any_shape_are_read_and_matched_without_an_error(value: Any) -> None:
    names = ("direction", "caller_id_number", "caller_id_name", "from", "owner_id", "user", "call_id", "cdr_id")
    call = call_of(json.dumps(dict.fromkeys(names, value)).encode())
    assert call is not None
    assert not Conditions(parties=("nobody",), call_ids=frozenset({"none"})).hold(call)
    nested = call_of(json.dumps({"user": {"username": value, "first_name": value}}).encode())
    assert nested is not None
    if isinstance(value, str):
        assert replace(nested, username="", user_name="") == Call()


@pytest.mark.parametrize("metadata", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_metadata_says_nothing(metadata: bytes) -> None:
    assert call_of(metadata) is None


def test_a_number_that_is_no_text_is_a_number_all_the_same() -> None:
    call = call_of(b'{"caller_id_number": 1655}')
    assert call is not None
    assert is_party("+1655", call)
