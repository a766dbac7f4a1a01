"""The rules of `[[retention.rules]]`, each checked with its name in the message."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from archiver.settings.checks import listed

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_KEEP = re.compile(r"([0-9]{1,5})([ymd])\Z")
_MOST_DAYS = 36_525
_MOST_YEARS = 100
_MONTHS = 12
_KEYS = ("name", "keep", "keep_days", "account_ids", "direction", "users")
_LONGEST_TEXT = 256
_HOW_LONG = f"'7y', '18m' or '90d' (at most {_MOST_YEARS} years)"


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """How long recordings are kept: so many months and days from the call's date; empty conditions mean all of them."""

    name: str
    months: int
    days: int
    account_ids: tuple[str, ...] = ()
    direction: str = ""
    users: tuple[str, ...] = ()


def retention_rules(value: object) -> object:
    """Rules from their tables, or from JSON in the environment.

    Raises:
        ValueError: in which rule what is wrong.
    """
    tables = listed(value)
    if not isinstance(tables, list | tuple):
        raise ValueError("must be tables, [[retention.rules]], or a JSON list of objects")  # noqa: TRY004
    rules = [each if isinstance(each, RetentionRule) else _rule(each, place) for place, each in enumerate(tables, 1)]
    names = [rule.name.lower() for rule in rules]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"rule {rules[place].name!a}: another rule has this name")
    return tuple(rules)


def _rule(table: object, place: int) -> RetentionRule:
    if not isinstance(table, Mapping):
        raise ValueError(f"rule {place}: must be a table")  # noqa: TRY004 - pydantic wants a ValueError
    name = table.get("name")
    if not isinstance(name, str) or not _NAME.match(name):
        raise ValueError(f"rule {place}: needs a name of up to 64 letters, digits, '_' and '-'")
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"rule {name!a}: {str(key)[:64]!a} is none of {', '.join(_KEYS)}")
    months, days = _keep(name, table)
    direction = table.get("direction", "")
    if not isinstance(direction, str) or len(direction) > _LONGEST_TEXT:
        raise ValueError(f"rule {name!a}: direction must be a text such as 'inbound'; '' is any")
    return RetentionRule(
        name, months, days, _texts(name, table, "account_ids"), direction.strip(), _texts(name, table, "users")
    )


def _keep(name: str, table: Mapping[Any, Any]) -> tuple[int, int]:
    """Months and days."""
    if ("keep" in table) == ("keep_days" in table):
        raise ValueError(f"rule {name!a}: needs either keep, such as {_HOW_LONG}, or keep_days")
    if "keep_days" in table:
        days = table["keep_days"]
        if not isinstance(days, int) or isinstance(days, bool) or not 0 <= days <= _MOST_DAYS:
            raise ValueError(f"rule {name!a}: keep_days must be a whole number from 0 to {_MOST_DAYS}")
        return 0, days
    match = _KEEP.match(table["keep"]) if isinstance(table["keep"], str) else None
    if match is None:
        raise ValueError(f"rule {name!a}: keep must be {_HOW_LONG}")
    number = int(match[1])
    months, days = {"y": (_MONTHS * number, 0), "m": (number, 0), "d": (0, number)}[match[2]]
    if months > _MONTHS * _MOST_YEARS or days > _MOST_DAYS:
        raise ValueError(f"rule {name!a}: keep must be {_HOW_LONG}")
    return months, days


def _texts(name: str, table: Mapping[Any, Any], key: str) -> tuple[str, ...]:
    found = table.get(key, [])
    if not isinstance(found, list | tuple) or not all(
        isinstance(each, str) and 0 < len(each.strip()) <= _LONGEST_TEXT for each in found
    ):
        raise ValueError(f"rule {name!a}: {key} must be a list of texts")
    return tuple(each.strip() for each in found)
