"""Recordings with the metadata an intruder or a broken PBX might list. Their media are small and sound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from archiver.simulator.documents import Documents
from archiver.simulator.rows import DELETE, SimulatedRecording
from archiver.simulator.switches import Switches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

HOSTILE_TEXTS: Final[Mapping[str, str]] = {
    "parent folders": "../../../../etc/x",
    "absolute path": "/etc/passwd",
    "backslashes": "..\\..\\x",
    "drive": "C:\\windows\\x",
    "only dots": "..",
    "one dot": ".",
    "empty": "",
    "spaces": "   ",
    "NUL": "a\x00b",
    "device name": "CON",
    "long": "n" * 300,
    "long in bytes": "ä" * 200,
    "encoded parent": "%2e%2e%2f%2e%2e%2fx",
    "home": "~/.ssh/authorized_keys",
    "option": "-rf",
    "formula": "=cmd|' /C calc'!A0",
    "formula at": "@SUM(1+1)",
    "lone surrogate": "a\ud800b",
    "new lines": "x\r\nFAKE LOG level=info event=archived",
    "line separator": "x\u2028FAKE LOG\x85FAKE LOG",
    "escape sequence": "\x1b[2J\x1b]0;owned\x07x",
    "right to left": "\u202egpj.exe\u2066",
    "combining": "e\u0301.mp3",
    "markup": "<script>alert(1)</script>",
    "template": "{name!r} %s ${HOME} $(id) `id`",
    "query": "x?startKey=1&a=b#c",
}
"""Texts that must never reach a path, a log line, a cell or a page as they are."""

HUGE_NAME: Final = "N" * 65_536
"""A name of 64 KB."""

HOSTILE_LENGTHS: Final[Mapping[str, Any]] = {
    "missing": DELETE,
    "null": None,
    "zero": 0,
    "negative": -1,
    "text": "many",
    "float": 10240.5,
    "bool": True,
    "beyond 64 bits": 2**63,
    "list": [10240],
}
"""Values of an attachment's length that say nothing."""

_DURATION_MS: Final = 2000


def hostile_recordings(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """All of them: names, ids, lengths, attachments, other fields; a second apart from `start_unix_s`."""
    kinds = (hostile_names, hostile_ids, hostile_lengths, hostile_attachments, hostile_fields)
    for kind in kinds:
        for recording in kind(account_id, start_unix_s):
            yield recording
            start_unix_s = recording.start_unix_s + 1


def hostile_names(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """A recording for each hostile text, and the huge one, as its `name` and as the name of its attachment."""
    for ordinal, name in enumerate((*HOSTILE_TEXTS.values(), HUGE_NAME)):
        plain = _plain(account_id, start_unix_s, f"name {ordinal}", ordinal)
        entry = next(iter(_document(plain)["_attachments"].values()))
        yield _with(plain, {"name": name, "description": f"recording {name}", "_attachments": {name: entry}})


def hostile_ids(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """A recording for each hostile text as its id. No client can ask for the lone surrogate's media."""
    for ordinal, text in enumerate(HOSTILE_TEXTS.values()):
        yield SimulatedRecording(
            account_id=account_id,
            recording_id=text,
            start_unix_s=start_unix_s + ordinal,
            duration_ms=_DURATION_MS,
        )


def hostile_lengths(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """A recording for each hostile length of its one attachment."""
    for ordinal, length in enumerate(HOSTILE_LENGTHS.values()):
        plain = _plain(account_id, start_unix_s, f"length {ordinal}", ordinal)
        ((name, entry),) = _document(plain)["_attachments"].items()
        del entry["length"]
        yield _with(plain, {"_attachments": {name: entry if length is DELETE else entry | {"length": length}}})


def hostile_attachments(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """None, null, of the wrong type, a stub, two alike, two that both sound right."""
    plain = _plain(account_id, start_unix_s, "attachments", 0)
    ((name, entry),) = _document(plain)["_attachments"].items()
    odd: Iterable[Any] = (
        DELETE,
        None,
        {},
        [],
        "none",
        {name: None},
        {name: entry | {"stub": True}},
        {"a.mp3": entry, "b.mp3": entry | {"length": entry["length"] + 1}},
        {"first.mp3": entry | {"length": 1}, name: entry},
    )
    for ordinal, attachments in enumerate(odd):
        yield _with(_plain(account_id, start_unix_s, f"attachments {ordinal}", ordinal), {"_attachments": attachments})


def hostile_fields(account_id: str, start_unix_s: int) -> Iterator[SimulatedRecording]:
    """Times and durations out of reason, fields of wrong types, and an address that must not be fetched."""
    odd: Iterable[Mapping[str, Any]] = (
        {"url": "http://169.254.169.254/latest/meta-data/"},
        {"start": -1},
        {"start": 2**63, "pvt_created": 2**63},
        {"start": "soon"},
        {"start": None, "pvt_created": None},
        {"start": DELETE, "pvt_created": DELETE},
        {"duration": -1, "duration_ms": -1},
        {"duration": "NaN", "duration_ms": [1]},
        {"user": None},
        {"user": "nobody"},
        {"custom_channel_vars": [[[[[]]]]]},
        {"media_type": ".mp3"},
        {"media_type": "../wav"},
        {"name": None},
        {"name": 7},
        {"name": DELETE},
        {"content_type": "text/html\r\nX-Injected: 1"},
    )
    for ordinal, overrides in enumerate(odd):
        yield _with(_plain(account_id, start_unix_s, f"fields {ordinal}", ordinal), overrides)


def _plain(account_id: str, start_unix_s: int, seed: str, ordinal: int) -> SimulatedRecording:
    mark = seed.encode().hex().rjust(32, "0")[-32:]
    return SimulatedRecording(
        account_id=account_id,
        recording_id=f"202205-{mark}",
        start_unix_s=start_unix_s + ordinal,
        duration_ms=_DURATION_MS,
    )


def _document(recording: SimulatedRecording) -> dict[str, Any]:
    return Documents(Switches()).recording(recording)


def _with(recording: SimulatedRecording, overrides: Mapping[str, Any]) -> SimulatedRecording:
    return SimulatedRecording(
        account_id=recording.account_id,
        recording_id=recording.recording_id,
        start_unix_s=recording.start_unix_s,
        duration_ms=recording.duration_ms,
        overrides=overrides,
    )
