"""How the PBX writes what it sends, where the archiver reads all of its ways alike: for `doctor` to look at.

What a page says is `payloads`' to read. This looks at the same bytes once more, tolerantly, and raises nothing.
"""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from archiver.pbx.payloads import GREGORIAN_TO_UNIX_S, instant
from archiver.pbx.probe import BodyForm, PageLook

_COUNTING = ("start", "pvt_created", "duration", "duration_ms", "timestamp", "billing_seconds")
_GREGORIAN_FROM, _MILLISECONDS_FROM = 60_000_000_000, 100_000_000_000


def page_look(body: bytes, name: str) -> PageLook:
    """How a page is written whose rows stand under `name`; nothing of it where it is no page."""
    page = _loads(body)
    if not isinstance(page, dict) or name not in page:
        return PageLook()
    elements = [row for row in page[name] or () if isinstance(row, dict)] if isinstance(page[name], list | None) else []
    rows = [row for row in elements if "next_start_key" not in row]
    inside = next((row for row in elements if "next_start_key" in row or row.keys() == {"page_size"}), None)
    rows = [row for row in rows if row is not inside]
    places = [page] if inside is None else [page, inside]
    held = [place for place in places if place.get("next_start_key")]
    where = {(True, False): "top", (False, True): "in_data", (True, True): "both"}
    return PageLook(
        cursor_place=where.get((page in held, inside is not None and inside in held), ""),
        end="" if held else _end(places),
        empty="" if rows else ("null" if page[name] is None else "list"),
        numbers=tuple(sorted(set(_numbers(rows)))),
        attachments=tuple(_attachments(row) for row in rows),
        digests=sum(_has_digest(row) for row in rows),
        clocks=tuple(sorted({clock for row in rows if (clock := _clock(row.get("timestamp")))})),
    )


def body_form(body: bytes, content_type: str) -> BodyForm:
    """What the body of a refusal is."""
    if not body.strip():
        return "empty"
    if isinstance(_loads(body), dict | list):
        return "json"
    return "html" if "html" in content_type or body.lstrip()[:1] == b"<" else "text"


def token_lifetime_s(token: str, *, now: datetime) -> float | None:
    """How long a token lives by its own word (a JWT's `exp`, counted from `iat`, else from now); None when it has none."""
    parts = token.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - head, claims and signature of a JWT
        return None
    try:
        claims = _loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    if not isinstance(claims, dict):
        return None
    ends_at, issued_at = instant(claims.get("exp")), instant(claims.get("iat"))
    return None if ends_at is None else max((ends_at - (issued_at or now)).total_seconds(), 0.0)


def gregorian_s(at: datetime) -> int:
    """The second as the PBX counts in its documents and cursors."""
    return int(at.timestamp()) + GREGORIAN_TO_UNIX_S


def _end(places: list[Any]) -> str:
    """How the cursor looks that is none; where it stands in several places the last one that has it speaks."""
    for place in reversed(places):
        if "next_start_key" in place:
            return "null" if place["next_start_key"] is None else "empty"
    return "absent"


def _numbers(rows: list[Any]) -> Iterator[str]:
    for row in rows:
        for name in _COUNTING:
            if isinstance(row.get(name), str) and row[name].strip():
                yield "text"
            elif isinstance(row.get(name), int | float) and not isinstance(row[name], bool):
                yield "number"


def _attachments(row: Any) -> int:
    found = row.get("_attachments")
    return len(found) if isinstance(found, dict) else 0


def _has_digest(row: Any) -> bool:
    found = row.get("_attachments")
    entries = found.values() if isinstance(found, dict) else ()
    return any(isinstance(entry, dict) and bool(entry.get("digest")) for entry in entries)


def _clock(value: Any) -> str:
    """What a timestamp counts, told by its size."""
    try:
        number = abs(int(value))
    except (TypeError, ValueError, OverflowError):
        return ""
    if number >= _MILLISECONDS_FROM:
        return "ms"
    return "gregorian" if number >= _GREGORIAN_FROM else "unix"


def _loads(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
