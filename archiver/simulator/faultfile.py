"""Reading faults from a JSON or TOML file, with errors that name the entry and the field.

A file holds a list under `faults` (or, in JSON, a bare list). An entry has the fields of `Fault`, and in place of
`action` one or more keys that name actions, each a table of that action's fields:

    [[faults]]
    on = "media"
    times = 2
    cut = { after_bytes = 1000, how = "rst" }
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import json
import tomllib
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from archiver.simulator import actions

if TYPE_CHECKING:
    from pathlib import Path

ACTIONS: Final[Mapping[str, type[actions.Action]]] = {
    "status": actions.Status,
    "redirect": actions.Redirect,
    "drop": actions.Drop,
    "raw": actions.Raw,
    "cut": actions.Cut,
    "frame": actions.Frame,
    "stall": actions.Stall,
    "drip": actions.Drip,
    "body": actions.Body,
    "extra": actions.Extra,
    "content_length": actions.ContentLength,
    "content_encoding": actions.ContentEncoding,
    "headers": actions.Headers,
    "header_flood": actions.HeaderFlood,
    "delay": actions.Delay,
    "expire_token": actions.ExpireToken,
}
"""The actions by the key that names them in a file."""

_FIELDS: Final[Mapping[str, Any]] = {
    "on": Literal["login", "recordings", "cdrs", "media", "any"],
    "account_id": str,
    "recording_id": str,
    "page": int,
    "start_key": str,
    "after": int,
    "times": int,
    "name": str,
}


def read_fault_file(path: Path) -> list[dict[str, Any]]:
    """The arguments of each fault in the file.

    Raises:
        ValueError: the file, the entry (counted from 1) and the field that are wrong, and what is allowed.
        OSError: the file can't be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        document = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    entries = document.get("faults") if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of faults, under the key 'faults'")  # noqa: TRY004 -- one error for a wrong file
    return [_entry(entry, f"{path}: fault {ordinal}") for ordinal, entry in enumerate(entries, 1)]


def _entry(entry: object, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected a table, not {entry!r:.40}")  # noqa: TRY004 -- one error for a wrong file
    if unknown := entry.keys() - _FIELDS.keys() - ACTIONS.keys():
        raise ValueError(f"{where}: unknown field {min(unknown)!r}; allowed are {', '.join((*_FIELDS, *ACTIONS))}")
    arguments = {key: _value(_FIELDS[key], value, f"{where}: {key}") for key, value in entry.items() if key in _FIELDS}
    if "on" not in arguments:
        raise ValueError(f"{where}: field 'on' is missing")
    chosen = tuple(_action(key, value, f"{where}: {key}") for key, value in entry.items() if key in ACTIONS)
    if not chosen:
        raise ValueError(f"{where}: no action; one of {', '.join(ACTIONS)}")
    return arguments | {"action": chosen}


def _action(key: str, table: object, where: str) -> actions.Action:
    if not isinstance(table, dict):
        raise ValueError(f"{where}: expected a table of the action's fields, not {table!r:.40}")  # noqa: TRY004 -- one error for a wrong file
    kind = ACTIONS[key]
    hints = get_type_hints(kind, localns={"Mapping": Mapping})
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := table.keys() - fields.keys():
        raise ValueError(f"{where}.{min(unknown)}: unknown field; allowed are {', '.join(fields) or 'none'}")
    for name, field in fields.items():
        if name not in table and field.default is dataclasses.MISSING:
            raise ValueError(f"{where}.{name}: missing")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in table.items()})


def _value(wanted: Any, value: Any, where: str) -> Any:
    """The value if it is of the wanted type; bytes come as base64, whole numbers may stand for floats."""
    if get_origin(wanted) in {Union, UnionType}:
        (wanted,) = (choice for choice in get_args(wanted) if choice is not NoneType)
    if get_origin(wanted) is Literal:
        if value not in get_args(wanted):
            raise ValueError(f"{where}: {value!r:.40} is none of {', '.join(map(str, get_args(wanted)))}")
        return value
    if get_origin(wanted) is Mapping:
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected a table, not {value!r:.40}")
        return {key: _value(str, text, f"{where}.{key}") for key, text in value.items()}
    if wanted is bytes:
        return _bytes(value, where)
    if wanted is float and type(value) is int:
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{where}: expected {wanted.__name__}, not {value!r:.40}")
    return value


def _bytes(value: object, where: str) -> bytes:
    try:
        return base64.b64decode(value if isinstance(value, str) else "?", validate=True)
    except binascii.Error:
        raise ValueError(f"{where}: expected base64, not {value!r:.40}") from None
