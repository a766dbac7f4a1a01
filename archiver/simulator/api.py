"""The vendor's API: from a request to a reply, without a wire in between."""

from __future__ import annotations

import hashlib
import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, unquote

from archiver.simulator import listing
from archiver.simulator.documents import Documents
from archiver.simulator.http import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable

    from archiver.simulator.corpus import Corpus
    from archiver.simulator.faults import Kind
    from archiver.simulator.rows import SimulatedRecording
    from archiver.simulator.signin import SignIn
    from archiver.simulator.switches import CursorPlace, Switches

_LOGIN: Final = "/api/v2/login"
_RECORDINGS: Final = "/api/v2/reports/recordings"
_CDRS: Final = "/api/v2/reports/cdrs"
_SINGULAR: Final = "/api/v2/reports/recording/"
_PLURAL: Final = "/api/v2/reports/recordings/"
_TEXT: Final = "text/plain; charset=utf-8"
_INVALID: Final = "The information sent is invalid."
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def route(path: str) -> tuple[Kind, str | None]:
    """The kind of request a path asks for, and the recording id of a media path, decoded."""
    if path == _RECORDINGS:
        return "recordings", None
    if path == _CDRS:
        return "cdrs", None
    if path == _LOGIN:
        return "login", None
    for prefix in (_SINGULAR, _PLURAL):
        if path.startswith(prefix) and len(path) > len(prefix):
            return "media", unquote(path.removeprefix(prefix), errors="surrogatepass")
    return "other", None


class Api:
    """Answers requests from a corpus under given switches.

    Args:
        corpus: what there is; may change between requests.
        switches: how the PBX behaves.
        sign_in: who may ask.
        clock: Unix seconds.
    """

    def __init__(self, corpus: Corpus, switches: Switches, sign_in: SignIn, clock: Callable[[], float]) -> None:
        self._corpus = corpus
        self._switches = switches
        self._sign_in = sign_in
        self._clock = clock
        self._documents = Documents(switches)

    def answer(self, kind: Kind, recording_id: str | None, request: Request) -> Reply:
        """The PBX's own answer."""
        if kind == "other":
            return self.error(HTTPStatus.NOT_FOUND, "404 page not found")
        if request.method != ("POST" if kind == "login" else "GET"):
            return self.error(HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        if kind == "login":
            return self._login(request)
        denied = self._denied(request)
        if denied is not None:
            return denied
        return self._page(kind, request) if recording_id is None else self._media(request, recording_id)

    def error(self, status: HTTPStatus, text: str) -> Reply:
        """An error, as text or as JSON."""
        if self._switches.error_bodies == "json":
            return Reply(status, _json({"error": str(int(status)), "message": text, "status": "error"}))
        return Reply(status, text.encode(), _TEXT)

    def metadata(self, account_id: str, recording_id: str) -> bytes:
        """A recording's metadata in the listing's envelope; an empty list for one that is not there."""
        row = self._corpus.find(account_id, recording_id)
        return _json({"recordings": [] if row is None else [self._documents.recording(row)]})

    def other_media(self, account_id: str, recording_id: str) -> bytes:
        """The media of the first other recording of the account; empty if there is none."""
        for row in self._corpus.by_time(account_id, "start").rows:
            if row.recording_id != recording_id:
                return b"".join(row.source.chunks())
        return b""

    def _denied(self, request: Request) -> Reply | None:
        """The refusal of a request that comes without a live token or for no account of ours."""
        if not self._sign_in.is_valid(request.headers.get("authorization", "")):
            return self.error(HTTPStatus.UNAUTHORIZED, "Authentication token is invalid")
        if not request.account_id:
            return self.error(HTTPStatus.BAD_REQUEST, _INVALID)
        if self._corpus.knows(request.account_id) or self._switches.unknown_account == "empty":
            return None
        if self._switches.unknown_account == "forbidden":
            return self.error(HTTPStatus.FORBIDDEN, "You are not allowed to use this account")
        return self.error(HTTPStatus.NOT_FOUND, "Account not found")

    def _login(self, request: Request) -> Reply:
        try:
            answer = self._sign_in.sign_in(json.loads(request.body))
        except (ValueError, RecursionError):
            return self.error(HTTPStatus.BAD_REQUEST, _INVALID)
        if answer is None:
            return self.error(HTTPStatus.UNAUTHORIZED, "Invalid credentials")
        return Reply(HTTPStatus.OK, _json(answer))

    def _page(self, kind: Kind, request: Request) -> Reply:
        switches, corpus, now = self._switches, self._corpus, self._clock()
        try:
            query = listing.read_query(request.parameters, switches, now)
        except listing.Refused:
            return self.error(HTTPStatus.BAD_REQUEST, _INVALID)
        rows: list[dict[str, Any]]
        if kind == "recordings":
            index = corpus.by_time(request.account_id, switches.time_field)
            found = listing.page(index, query, switches, now=now, time_zone=corpus.time_zone)
            rows, cursor = [self._documents.recording(row) for row in found.rows], found.cursor
            return self._envelope("recordings", rows, cursor, switches.recordings_cursor)
        legs = listing.page(
            corpus.cdrs_by_time(request.account_id), query, switches, now=now, time_zone=corpus.time_zone
        )
        rows, cursor = [self._documents.cdr(row) for row in legs.rows], legs.cursor
        return self._envelope("data", rows, cursor, switches.cdrs_cursor)

    def _envelope(self, key: str, rows: list[dict[str, Any]], cursor: str | None, place: CursorPlace) -> Reply:
        told: dict[str, Any] = {}
        if cursor is not None:
            told["next_start_key"] = cursor
        elif self._switches.last_cursor != "absent":
            told["next_start_key"] = None if self._switches.last_cursor == "null" else ""
        told["page_size"] = len(rows)
        listed: list[dict[str, Any]] | None = rows
        if not rows and self._switches.empty_page == "null":
            listed = None
        if rows and place != "top":
            listed = [*rows, told]
        return Reply(HTTPStatus.OK, _json({key: listed} | (told if place != "in_data" else {})))

    def _media(self, request: Request, recording_id: str) -> Reply:
        path: Literal["singular", "plural"] = "singular" if request.path.startswith(_SINGULAR) else "plural"
        if self._switches.media_path not in {"both", path}:
            return self.error(HTTPStatus.NOT_FOUND, "404 page not found")
        row = self._corpus.find(request.account_id, recording_id)
        if row is None or not row.is_available(self._clock()):
            return self.error(HTTPStatus.NOT_FOUND, "recording not found")
        wants_audio = "audio/mpeg" in request.headers.get("accept", "").lower()
        if self._switches.media_answer == "json_unless_accept" and not wants_audio:
            return Reply(HTTPStatus.OK, self.metadata(request.account_id, recording_id))
        return self._audio(request, row)

    def _audio(self, request: Request, row: SimulatedRecording) -> Reply:
        switches, media = self._switches, row.source
        reply = Reply(HTTPStatus.OK, b"", media.content_type, media=media, end_byte=media.length_bytes)
        reply.framing = switches.media_framing
        reply.wait_s = switches.media_think_time_s
        if switches.content_disposition:
            name = quote(str(self._documents.recording(row).get("name", "")), safe="", errors="surrogatepass")
            reply.headers.append(("Content-Disposition", f"attachment; filename*=UTF-8''{name}"))
        if switches.etag:
            tag = f'"{hashlib.blake2b(f"{media!r}".encode(), digest_size=8).hexdigest()}"'
            reply.headers.append(("ETag", tag))
            if request.headers.get("if-none-match") == tag:
                reply.status, reply.media = HTTPStatus.NOT_MODIFIED, None
                return reply
        if switches.ranges:
            _apply_range(request.headers.get("range", ""), reply)
        return reply


def _apply_range(asked: str, reply: Reply) -> None:
    """Narrow a reply to one byte range; a range it can't read is ignored, as HTTP has it."""
    reply.headers.append(("Accept-Ranges", "bytes"))
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]):
        return
    length = reply.length_bytes
    first = int(found[1]) if found[1] else max(0, length - int(found[2]))
    end = min(length, int(found[2]) + 1) if found[1] and found[2] else length
    if first >= end:
        reply.status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        reply.headers.append(("Content-Range", f"bytes */{length}"))
        reply.replace_body(b"")
        return
    reply.status, reply.first_byte, reply.end_byte = HTTPStatus.PARTIAL_CONTENT, first, end
    reply.headers.append(("Content-Range", f"bytes {first}-{end - 1}/{length}"))


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii")
