"""Recordings and CDRs as the JSON documents of the vendor's page."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from archiver.simulator.rows import DELETE, GREGORIAN_OFFSET_S, SimulatedCdr, SimulatedRecording

if TYPE_CHECKING:
    from collections.abc import Mapping

    from archiver.simulator.mp3 import MediaSource
    from archiver.simulator.switches import Switches

_FIRST_NAMES: Final = ("Jim", "Joe", "John", "Ana", "Mary", "Olga", "Li", "Samir", "Zoë", "Ngozi", "Pat")
_LAST_NAMES: Final = ("One", "Rei", "Silva", "Müller", "O'Neil", "Chen", "Okafor", "García", "Smith")
_REALM: Final = "pbx.example"
_TEXT_OR_NUMBER: Final = ("duration", "duration_ms", "start", "pvt_created")


@dataclass(slots=True)
class Documents:
    """Writes documents under given switches; remembers the digests it had to read whole media for."""

    switches: Switches
    _md5: dict[MediaSource, str] = field(default_factory=dict)

    def recording(self, row: SimulatedRecording) -> dict[str, Any]:
        """A recording's metadata."""
        mark = row.mark
        marks = hashlib.blake2b(row.recording_id.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
        first_name, last_name = _person(mark)
        name, owner_id = f"{marks[:32]}.mp3", marks[32:]
        call_id = f"{mark:x}ataaaehmg{marks[:4]}"
        caller, callee = str(1000 + mark % 9000), str(1000 + (mark >> 8) % 9000)
        content_type = row.source.content_type
        document: dict[str, Any] = {
            "_id": row.recording_id,
            "owner_id": owner_id,
            "call_id": call_id,
            "callee_id_name": "",
            "callee_id_number": callee,
            "caller_id_name": f"{first_name} {last_name}",
            "caller_id_number": caller,
            "cdr_id": f"{row.recording_id[:6]}-{call_id}",
            "content_type": content_type,
            "custom_channel_vars": {"Media-Name": name, "Media-Recording-ID": row.recording_id},
            "description": f"recording {name}",
            "direction": "inbound" if mark & 1 else "outbound",
            "duration": row.duration_ms // 1000,
            "duration_ms": row.duration_ms,
            "from": f"{caller}@{_REALM}",
            "interaction_id": row.interaction_id,
            "media_source": "recorded",
            "media_type": "mp3",
            "name": name,
            "origin": "inbound from onnet to account",
            "request": f"{callee}@{_REALM}",
            "source_type": "kzc_recording",
            "start": row.start_unix_s + GREGORIAN_OFFSET_S,
            "to": f"{callee}@{_REALM}",
            "pvt_created": row.created_unix_s + GREGORIAN_OFFSET_S,
            "user": {
                "username": f"{first_name}{last_name}@{_REALM}".lower(),
                "first_name": first_name,
                "last_name": last_name,
            },
            "url": "http://127.0.0.1:60891/recordings/v1",
            "_attachments": self._attachments(name, row.source),
        }
        if self.switches.numbers == "text":
            document.update({key: str(document[key]) for key in _TEXT_OR_NUMBER})
        return _merged(document, row.overrides)

    def cdr(self, row: SimulatedCdr) -> dict[str, Any]:
        """One leg's CDR."""
        mark = row.mark
        caller, callee = str(15_550_000_000 + mark % 10_000_000), str(1000 + (mark >> 8) % 9000)
        numbers: dict[str, Any] = {"timestamp": self._timestamp(row.ended_unix_s), "billing_seconds": row.billing_s}
        if self.switches.numbers != "number":
            numbers = {key: str(value) for key, value in numbers.items()}
        document: dict[str, Any] = {
            "id": row.cdr_id,
            "call_id": row.cdr_id.partition("-")[2],
            "interaction_id": row.interaction_id,
            "datetime": datetime.fromtimestamp(row.ended_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
            "timestamp": numbers["timestamp"],
            "caller_id_name": " ".join(_person(mark)),
            "caller_id_number": caller,
            "callee_id_name": " ".join(_person(mark >> 4)),
            "callee_id_number": callee,
            "to": f"{callee}@192.0.2.23:5060",
            "from": f"{caller}@192.0.2.190",
            "billing_seconds": numbers["billing_seconds"],
            "hangup_cause": row.hangup_cause,
            "recording_filename": f"{mark:08x}{mark ^ 0x5EED5EED:08x}{mark:08x}{mark:08x}.mp3",
        }
        named = row.media_recording_id
        if named is not None:
            document["media_recording_id"] = named if isinstance(named, str) else list(named)
        return _merged(document, row.overrides)

    def _timestamp(self, unix_s: int) -> int:
        match self.switches.cdr_timestamp:
            case "gregorian":
                return unix_s + GREGORIAN_OFFSET_S
            case "unix":
                return unix_s
            case "ms":
                return unix_s * 1000

    def _attachments(self, name: str, media: MediaSource) -> dict[str, Any]:
        if self.switches.attachments == "none":
            return {}
        length: int | str = media.length_bytes
        entry = {
            "content_type": media.content_type,
            "revpos": 0,
            "digest": self._digest(media) if self.switches.digest == "md5" else "",
            "length": str(length) if self.switches.numbers == "text" else length,
            "stub": False,
        }
        if self.switches.attachments == "one":
            return {name: entry}
        # The wanted one stands in the middle, so that neither "the first" nor "the last" finds it by luck.
        return {
            "waveform.json": entry | {"content_type": "application/json", "length": 517},
            name: entry,
            f"preview-{name}": entry | {"length": 4096},
        }

    def _digest(self, media: MediaSource) -> str:
        told = self._md5.get(media)
        if told is None:
            md5 = hashlib.md5(usedforsecurity=False)
            for chunk in media.chunks():
                md5.update(chunk)
            told = self._md5[media] = f"md5-{base64.b64encode(md5.digest()).decode('ascii')}"
        return told


def _person(mark: int) -> tuple[str, str]:
    return _FIRST_NAMES[mark % len(_FIRST_NAMES)], _LAST_NAMES[mark // 16 % len(_LAST_NAMES)]


def _merged(document: dict[str, Any], overrides: Mapping[str, Any] | None) -> dict[str, Any]:
    for key, value in (overrides or {}).items():
        if value is DELETE:
            document.pop(key, None)
        else:
            document[key] = value
    return document
