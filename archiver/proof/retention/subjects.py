"""What retention decides about: a recording with what is known of it."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import translate
from functools import lru_cache
from typing import Any

from archiver.ledger.values_retention import RetentionRow

_USER_FIELDS = ("owner_id", "caller_id_number", "callee_id_number", "from", "to")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the metadata say of a call; empty where they don't: then nobody can tell."""

    direction: str = ""
    users: tuple[str, ...] = ()


NOTHING_KNOWN = Facts()


@dataclass(frozen=True, slots=True)
class Locked:
    """A lock of the store that still holds: until when, None when nobody can say (a legal hold of the store)."""

    until_at: datetime | None


@dataclass(frozen=True, slots=True)
class Subject:
    """A recording to decide about; `dated_at` is the call's start, else when it was saved, else when it was archived."""

    account_id: str
    recording_id: str
    dated_at: datetime | None
    facts: Facts = NOTHING_KNOWN
    lock: Locked | None = None


def subject_of(row: RetentionRow, facts: Facts = NOTHING_KNOWN, lock: Locked | None = None) -> Subject:
    """A row of the ledger as a subject."""
    return Subject(row.account_id, row.recording_id, row.called_at or row.archived_at, facts, lock)


def facts_of(metadata: bytes) -> Facts:
    """What metadata say; nothing where they can't be read."""
    try:
        found = json.loads(metadata)
    except (ValueError, RecursionError):
        return NOTHING_KNOWN
    return _facts(found)


def facts_of_sidecar(data: bytes) -> Facts:
    """Likewise, from a sidecar's bytes."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return NOTHING_KNOWN
    return _facts(found.get("recording") if isinstance(found, dict) else None)


def matches_any(patterns: Sequence[str], users: Sequence[str]) -> bool | None:
    """Whether a pattern fits one of the names and numbers of a call; None when it has none."""
    if not users:
        return None
    return any(_compiled(pattern).match(user) is not None for pattern in patterns for user in users)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.casefold()))


def _facts(found: Any) -> Facts:
    if not isinstance(found, dict):
        return NOTHING_KNOWN
    return Facts(_text(found.get("direction")), tuple(dict.fromkeys(_users(found))))


def _users(found: dict[str, Any]) -> Iterator[str]:
    user = found.get("user")
    values = [found.get(name) for name in _USER_FIELDS]
    values.append(user.get("username") if isinstance(user, dict) else found.get("user.username"))
    for value in values:
        text = _text(value).casefold()
        if text:
            yield text
            # An address is known by its name alone, too: 1655 of 1655@pbx.example.com.
            name = text.partition("@")[0].removeprefix("sip:")
            if name:
                yield name


def _text(value: Any) -> str:
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
