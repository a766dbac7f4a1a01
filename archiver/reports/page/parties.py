"""Who spoke with whom, from a recording's metadata or its sidecar; nothing here raises for what makes no sense."""

from collections.abc import Mapping
from typing import Any

import msgspec

from archiver.reports.page.values import Parties


class _Metadata(msgspec.Struct):
    caller_id_number: Any = ""
    caller_id_name: Any = ""
    callee_id_number: Any = ""
    callee_id_name: Any = ""
    from_: Any = msgspec.field(default="", name="from")
    to: Any = ""


class _Sidecar(msgspec.Struct):
    recording: _Metadata | None = None


def parties_of(metadata: bytes) -> Parties:
    """The parties that the PBX's metadata name."""
    try:
        return _parties(msgspec.json.decode(metadata, type=_Metadata))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Parties()


def parties_in_sidecar(sidecar: bytes) -> Parties:
    """The parties that the metadata in a sidecar name."""
    try:
        found = msgspec.json.decode(sidecar, type=_Sidecar).recording
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Parties()
    return Parties() if found is None else _parties(found)


def _parties(found: _Metadata) -> Parties:
    return Parties(
        caller=_party(found.caller_id_number, found.caller_id_name, found.from_),
        callee=_party(found.callee_id_number, found.callee_id_name, found.to),
    )


def _party(number: Any, name: Any, address: Any) -> str:
    said = [_text(each) for each in (number, name)]
    return " ".join(each for each in said if each) or _text(address)


def _text(value: Any) -> str:
    if isinstance(value, Mapping | list | bool) or value is None:
        return ""
    return str(value).strip()
