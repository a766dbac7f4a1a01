"""The PBX's JSON and the domain's words: the only place that knows field names, units and odd shapes.

Sources: the vendor's page (recordings, CDRs, login) and api-facts (numbers as strings, Gregorian seconds, `null` pages,
cursors in two places). Pages are decoded once; each row on its own, so that one odd row does not cost the page.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from archiver.errors import BadAnswer, WrongAccount
from archiver.pbx.base import CdrsAnswer, RecordingsAnswer
from archiver.pbx.raw_rows import raw_rows
from archiver.recording import Cdr, Recording

GREGORIAN_TO_UNIX_S = 62_167_219_200
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_LATEST = datetime(2200, 1, 1, tzinfo=UTC)
_MAX_MEDIA_BYTES = 1 << 40
# A ledger finds recordings by id, and what a database can find is bounded in bytes; JSON counts odd characters as six.
_MAX_ID_BYTES = 1024
_WHOLE = re.compile(r"\s*[+-]?\d{1,20}(\.0*)?\s*\Z", re.ASCII)
_EXTENSIONS = frozenset({"mp3", "wav", "mp4", "m4a", "ogg", "opus", "flac", "aac", "webm", "amr", "au"})
_EXTENSION_OF_TYPE = {
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/mp4": "mp4",
    "video/mp4": "mp4",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
}


class _Page(msgspec.Struct):
    """Either listing; `recordings` and `data` are told apart by which is there."""

    recordings: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    data: list[msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    next_start_key: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _RecordingRow(msgspec.Struct):
    """What the archiver reads of a recording's metadata; any type, since tenants send any."""

    recording_id: Any = msgspec.field(default=None, name="_id")
    name: Any = None
    start: Any = None
    pvt_created: Any = None
    duration_ms: Any = None
    duration: Any = None
    media_type: Any = None
    content_type: Any = None
    attachments: Any = msgspec.field(default=None, name="_attachments")
    account_id: Any = None
    pvt_account_id: Any = None
    next_start_key: Any = None


class _CdrRow(msgspec.Struct):
    id: Any = None
    timestamp: Any = None
    written_at: Any = msgspec.field(default=None, name="datetime")
    media_recording_id: Any = None
    billing_seconds: Any = None
    duration_seconds: Any = None
    duration: Any = None
    hangup_cause: Any = None
    next_start_key: Any = None


_decode_page = msgspec.json.Decoder(_Page).decode
_decode_recording = msgspec.json.Decoder(_RecordingRow).decode
_decode_cdr = msgspec.json.Decoder(_CdrRow).decode
_decode_text = msgspec.json.Decoder(str).decode


def recordings_page(body: bytes, *, account_id: str) -> RecordingsAnswer:
    """A page of recordings' metadata.

    Raises:
        BadAnswer: it is no such page: not JSON, cut short, or without a `recordings` key.
        WrongAccount: a row says that it belongs to another account.
    """
    page = _page(body)
    if page.recordings is msgspec.UNSET:
        raise BadAnswer("the listing's answer has no `recordings`")
    rows: list[Recording] = []
    cursor = _cursor(page.next_start_key)
    unreadable = 0
    for raw in page.recordings or ():
        metadata = bytes(raw)
        row = _decoded(_decode_recording, metadata, _RecordingRow)
        if row is None or not _is_id(row.recording_id):
            if row is not None and _is_cursor_element(row, metadata):
                cursor = cursor or _cursor_value(row.next_start_key)
            else:
                unreadable += 1
            continue
        for owner in (row.account_id, row.pvt_account_id):
            if isinstance(owner, str) and owner and owner.lower() != account_id.lower():
                raise WrongAccount("the PBX listed another account's recordings: check pbx.domain and pbx.account_ids")
        rows.append(_recording(row, account_id, metadata))
    return RecordingsAnswer(tuple(rows), cursor, unreadable)


def cdrs_page(body: bytes, *, account_id: str) -> CdrsAnswer:
    """A page of CDRs; the sample carries the cursor inside `data`, live tenants beside it.

    Raises:
        BadAnswer: it is no such page.
    """
    page = _page(body)
    if page.data is msgspec.UNSET:
        raise BadAnswer("the CDR listing's answer has no `data`")
    rows: list[Cdr] = []
    cursor = _cursor(page.next_start_key)
    unreadable = 0
    for raw in page.data or ():
        row = _decoded(_decode_cdr, bytes(raw), _CdrRow)
        if row is not None and _is_id(row.id):
            rows.append(_cdr(row, account_id, bytes(raw)))
        elif row is not None and _is_cursor_element(row, bytes(raw)):
            cursor = cursor or _cursor_value(row.next_start_key)
        else:
            unreadable += 1
    return CdrsAnswer(tuple(rows), cursor, unreadable)


def cdr(metadata: bytes, *, account_id: str) -> Cdr | None:
    """A single CDR as it was sent; None when it is none."""
    row = _decoded(_decode_cdr, metadata, _CdrRow)
    return _cdr(row, account_id, metadata) if row is not None and _is_id(row.id) else None


def cdr_only_recording(cdr: Cdr, recording_id: str) -> Recording:
    """A recording that only a CDR names: everything but the ids and the time is unknown."""
    return Recording(
        account_id=cdr.account_id,
        recording_id=recording_id,
        start_at=cdr.at,
        saved_at=None,
        duration_ms=None,
        length_bytes=None,
        digest_md5=None,
        extension="mp3",
        metadata=b"",
    )


def recording_of(metadata: bytes, *, account_id: str, recording_id: str) -> Recording | None:
    """The recording whose metadata these are, as a listing gives it; None when they are no recording's or another's."""
    row = _decoded(_decode_recording, metadata, _RecordingRow)
    if row is None or row.recording_id != recording_id:
        return None
    return _recording(row, account_id, metadata)


def access_token(body: bytes) -> str | None:
    """The token of a login's answer, or None when there is none that could safely stand in a header."""
    found = _loads(body)
    token = found.get("access_token") if isinstance(found, dict) else None
    if isinstance(token, str) and token and token.isascii() and token.isprintable() and " " not in token:
        return token
    return None


def instant(value: Any) -> datetime | None:
    """An aware UTC instant from a Gregorian or Unix second, or milliseconds of either; None when it is none.

    Told apart by size (api-facts): a Gregorian second read as Unix would be a valid date in the year 3992.
    """
    number = _whole(value)
    if number is None or abs(number) >= 1 << 63:
        return None
    if number >= 60_000_000_000_000:  # noqa: PLR2004 - Gregorian milliseconds
        seconds = number / 1000 - GREGORIAN_TO_UNIX_S
    elif number >= 100_000_000_000:  # noqa: PLR2004 - Unix milliseconds
        seconds = number / 1000
    elif number >= 60_000_000_000:  # noqa: PLR2004 - Gregorian seconds
        seconds = float(number - GREGORIAN_TO_UNIX_S)
    else:
        seconds = float(number)
    try:
        found = _EPOCH + timedelta(seconds=int(seconds))
    except OverflowError:
        return None
    return found if _EARLIEST <= found < _LATEST else None


def _page(body: bytes) -> _Page:
    try:
        return _decode_page(body)
    except RecursionError:
        raise BadAnswer("the listing's answer is nested too deeply") from None
    except msgspec.MsgspecError:
        pass
    # A lone surrogate in one name stops msgspec, and must not stop the page.
    found = _loads(body) if b"\\u" in body else None
    if not isinstance(found, dict):
        raise BadAnswer("the listing's answer is not the JSON it should be, or was cut short")
    page = _Page()
    names = ("recordings", "data")
    rows = raw_rows(body, names)
    for name in names:
        if name in rows:
            setattr(page, name, [msgspec.Raw(row) for row in rows[name]])
        elif found.get(name, msgspec.UNSET) is None:
            setattr(page, name, None)
    if "next_start_key" in found:
        page.next_start_key = msgspec.Raw(json.dumps(found["next_start_key"]).encode())
    return page


def _loads(body: bytes) -> Any:
    """Tolerant JSON, or None: for what msgspec is too strict for."""
    try:
        return json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _decoded(decode: Any, raw: bytes, shape: Any) -> Any:
    """A row in its shape; the tolerant way when the strict one fails; None when it is no object at all."""
    try:
        return decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = _loads(raw)
    if not isinstance(found, dict):
        return None
    row = shape()
    for field in msgspec.structs.fields(shape):
        setattr(row, field.name, found.get(field.encode_name))
    return row


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and len(json.dumps(value[: _MAX_ID_BYTES + 1])) <= _MAX_ID_BYTES + 2


def _is_cursor_element(row: _RecordingRow | _CdrRow, raw: bytes) -> bool:
    """Whether an element without an id is the listing's last one, which is no row; at the end its cursor is null."""
    if row.next_start_key is not None:
        return True
    found = _loads(raw)
    return isinstance(found, dict) and len(found) > 0 and found.keys() <= {"next_start_key", "page_size"}


def _recording(row: _RecordingRow, account_id: str, metadata: bytes) -> Recording:
    attachment = _attachment(row)
    length, doubt = _length(attachment.get("length"))
    duration = _whole(row.duration_ms)
    if duration is None:
        seconds = _whole(row.duration)
        duration = None if seconds is None else seconds * 1000
    return Recording(
        account_id=account_id,
        recording_id=row.recording_id,
        start_at=instant(row.start),
        saved_at=instant(row.pvt_created),
        duration_ms=duration if duration is not None and 0 < duration < 1 << 40 else None,
        length_bytes=length,
        digest_md5=_md5(attachment.get("digest")),
        extension=_extension(row, attachment),
        metadata=metadata,
        doubt=doubt,
    )


def _cdr(row: _CdrRow, account_id: str, metadata: bytes) -> Cdr:
    lasted_s = _whole(row.duration_seconds)
    return Cdr(
        account_id,
        str(row.id),
        instant(row.timestamp) or _written(row.written_at),
        tuple(_recording_ids(row)),
        billed_s=_whole(row.billing_seconds),
        lasted_s=_whole(row.duration) if lasted_s is None else lasted_s,
        hangup_cause=row.hangup_cause.strip().upper() if isinstance(row.hangup_cause, str) else "",
        metadata=metadata,
    )


def _written(value: Any) -> datetime | None:
    """An instant as the PBX writes it out: `2022-05-06 17:18:39 +0000 UTC`."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.strptime(value.removesuffix(" UTC"), "%Y-%m-%d %H:%M:%S %z").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found if _EARLIEST <= found < _LATEST else None


def _attachment(row: _RecordingRow) -> dict[str, Any]:
    """The attachment that is the media: the one named like the recording, else the first audio one, else a sole one."""
    attachments = row.attachments
    if not isinstance(attachments, dict):
        return {}
    entries = [(name, entry) for name, entry in attachments.items() if isinstance(entry, dict)]
    for name, entry in entries:
        if name == row.name:
            return entry
    for name, entry in entries:
        kind = entry.get("content_type")
        if (isinstance(kind, str) and kind.startswith("audio/")) or name.rpartition(".")[2].lower() in _EXTENSIONS:
            return entry
    return entries[0][1] if len(entries) == 1 else {}


def _length(value: Any) -> tuple[int | None, str]:
    """A length in bytes when it is positive, and what is wrong with one that makes no sense."""
    if value is None:
        return None, ""
    number = None if isinstance(value, bool) else _whole(value)
    if number is None or not 0 <= number <= _MAX_MEDIA_BYTES:
        return None, f"_attachments length makes no sense: {str(value)[:40]!a}"
    return number or None, ""


def _whole(value: Any) -> int | None:
    """A whole number from a number or a string; None for anything else, booleans and fractions included."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str) and _WHOLE.match(value):
        return int(value.strip().partition(".")[0])
    return None


def _md5(value: Any) -> bytes | None:
    """CouchDB's `md5-<base64>` as 16 bytes."""
    if not isinstance(value, str) or not value.startswith("md5-"):
        return None
    try:
        digest = base64.b64decode(value[4:], validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest if len(digest) == 16 else None  # noqa: PLR2004 - an MD5


def _extension(row: _RecordingRow, attachment: dict[str, Any]) -> str:
    if isinstance(row.media_type, str):
        kind = row.media_type.strip().lstrip(".").lower()
        if kind in _EXTENSIONS:
            return kind
    for value in (row.content_type, attachment.get("content_type")):
        if isinstance(value, str) and value.partition(";")[0].strip().lower() in _EXTENSION_OF_TYPE:
            return _EXTENSION_OF_TYPE[value.partition(";")[0].strip().lower()]
    if isinstance(row.name, str):
        kind = row.name.rpartition(".")[2].lower()
        if kind in _EXTENSIONS:
            return kind
    return "mp3"


def _cursor(raw: msgspec.Raw | msgspec.UnsetType) -> str | None:
    """The cursor byte for byte; None where the listing ends: absent, null or an empty string."""
    if raw is msgspec.UNSET:
        return None
    text = bytes(raw)
    if text[:1] != b'"':
        return None if text == b"null" else text.decode("ascii", "replace")
    try:
        return _decode_text(text) or None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise BadAnswer("the listing's cursor can't be read") from None


def _cursor_value(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None


def _recording_ids(row: _CdrRow) -> Iterator[str]:
    """`media_recording_id` holds none, one, several separated by commas, or an array."""
    named = row.media_recording_id
    texts = named if isinstance(named, list) else [named]
    for text in texts:
        if isinstance(text, str):
            for part in text.split(","):
                if _is_id(part.strip()):
                    yield part.strip()
