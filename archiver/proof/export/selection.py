"""Which recordings an export takes: a pure decision. Kinds of conditions must all hold, of each kind one value does."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from archiver.ledger.values_exporting import Sought

_LONGEST_TEXT = 1024
"""Longer texts than this are compared as far as this."""
_NUMBER = re.compile(r"\+?\d+\Z", re.ASCII)
_SCHEME = re.compile(r"(?:sips?|tel):", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Call:
    """What a recording's metadata say of its call; a text that is not there, or is none, is empty."""

    direction: str = ""
    caller_number: str = ""
    caller_name: str = ""
    callee_number: str = ""
    callee_name: str = ""
    from_address: str = ""
    to_address: str = ""
    owner_id: str = ""
    username: str = ""
    user_name: str = ""
    call_id: str = ""
    interaction_id: str = ""
    cdr_id: str = ""

    @property
    def parties(self) -> tuple[str, ...]:
        """Everything that names who took part."""
        return (
            *(self.caller_number, self.caller_name, self.callee_number, self.callee_name),
            *(self.from_address, self.to_address, self.owner_id, self.username, self.user_name),
        )

    @property
    def ids(self) -> tuple[str, ...]:
        """Everything that names the call."""
        return tuple(each for each in (self.call_id, self.interaction_id, self.cdr_id) if each)


@dataclass(frozen=True, slots=True)
class Conditions:
    """What was asked for: `sought` can be told by the ledger; parties and call ids need a recording's metadata.

    A party is a number, a name or an address, or a pattern with `*`, `?` and `[…]`; case does not matter.
    """

    sought: Sought = field(default_factory=Sought)
    parties: Sequence[str] = ()
    call_ids: frozenset[str] = frozenset()

    @property
    def need_metadata(self) -> bool:
        """Whether the ledger alone can't tell."""
        return bool(self.parties or self.call_ids)

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        sought = self.sought
        return not (self.need_metadata or sought.account_ids or sought.period or sought.recording_ids)

    def hold(self, call: Call) -> bool:
        """Whether a call has one of the parties, and one of the ids, where these were asked for."""
        if self.call_ids and not self.call_ids.intersection(call.ids):
            return False
        return not self.parties or any(is_party(party, call) for party in self.parties)


def is_party(party: str, call: Call) -> bool:
    """Whether somebody took part in a call.

    A plain number is also found with or without a leading `+`, and as the user of an address such as `sip:49301@pbx`.
    """
    wanted = party.casefold()
    number = wanted.removeprefix("+") if _NUMBER.match(wanted) else None
    for text in call.parties:
        for name in _names(text):
            if fnmatchcase(name, wanted) or (number is not None and name.removeprefix("+") == number):
                return True
    return False


def _names(text: str) -> Iterator[str]:
    """What a text may be known by: itself, and the user of an address."""
    whole = text[:_LONGEST_TEXT].casefold()
    if not whole:
        return
    yield whole
    bare = _SCHEME.sub("", whole, count=1)
    user = bare.partition("@")[0].partition(";")[0]
    if user and user != whole:
        yield user


def call_of(metadata: bytes) -> Call | None:
    """What metadata say; None when there are none, or they are no JSON object."""
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        return None
    return call_from(found)


def call_from(found: Any) -> Call | None:
    """Likewise, decoded."""
    if not isinstance(found, dict):
        return None
    user = found.get("user")
    user = user if isinstance(user, dict) else {}
    return Call(
        direction=_text(found, "direction"),
        caller_number=_text(found, "caller_id_number"),
        caller_name=_text(found, "caller_id_name"),
        callee_number=_text(found, "callee_id_number"),
        callee_name=_text(found, "callee_id_name"),
        from_address=_text(found, "from"),
        to_address=_text(found, "to"),
        owner_id=_text(found, "owner_id"),
        username=_text(user, "username"),
        user_name=f"{_text(user, 'first_name')} {_text(user, 'last_name')}".strip(),
        call_id=_text(found, "call_id"),
        interaction_id=_text(found, "interaction_id"),
        cdr_id=_text(found, "cdr_id"),
    )


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else ""
