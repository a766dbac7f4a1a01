"""Keeps the promise of `probe`, over a session: its sign-in, its limits, its retries."""

from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import urlencode

from archiver.errors import PbxError, RequestRefused, Severity
from archiver.pbx import payloads
from archiver.pbx.base import Access
from archiver.pbx.foreign import check_status
from archiver.pbx.media import Peeked, in_path, media_paths
from archiver.pbx.payloads_seen import body_form, gregorian_s, page_look
from archiver.pbx.probe import BodyForm, MediaSeen, PageSeen, Question, Signs, TlsSeen
from archiver.pbx.retrying import RetryPolicy
from archiver.pbx.session import CDRS_PATH, RECORDINGS_PATH, PbxSession
from archiver.pbx.tls import tls_seen

_MOST_PAGE_BYTES = 32 << 20
_MOST_REFUSAL_BYTES = 64 << 10
_FIRST_BYTE, _PARTIAL = "bytes=0-0", 206
_ODD = ("archiverAsks", "whetherThisIsIgnored")
_ABOUT_LIMITS = ("x-ratelimit", "ratelimit", "x-rate-limit")


class SessionProbe:
    """Keeps the promise of `probe.Probe`; the session must be open."""

    def __init__(self, session: PbxSession, access: Access) -> None:
        self._session = session
        self._access = access
        self.retries = RetryPolicy(access.max_retries, access.retry_wait_s)
        self._met: Counter[str] = Counter()
        self._rate_headers: set[str] = set()
        self._error_bodies: set[BodyForm] = set()
        self._waits_s: list[float] = []

    @property
    def signs(self) -> Signs:
        """What was met so far."""
        return Signs(
            requests=self._session.traffic.requests,
            too_many=self._met["too_many"],
            retry_after=self._met["retry_after"],
            rate_headers=tuple(sorted(self._rate_headers)),
            error_bodies=tuple(sorted(self._error_bodies)),
            waits_s=tuple(self._waits_s),
        )

    @property
    def token_lifetime_s(self) -> float | None:
        """How long the sign-in's token lives; None when it does not say."""
        return self._session.token_lifetime_s

    @property
    def media_paths(self) -> tuple[str, ...]:
        """The address of media as it is set, and its other form if it has one."""
        return media_paths(self._access.recording_path)

    async def tls(self) -> TlsSeen | None:
        """A TLS handshake by itself; None without TLS."""
        return await tls_seen(self._access)

    async def recordings(self, question: Question) -> PageSeen:
        """A page of recordings."""
        answer, refusal = await self._page(RECORDINGS_PATH, question)
        if refusal is not None:
            return PageSeen(refusal)
        found = payloads.recordings_page(answer.body, account_id=question.account_id)
        look = page_look(answer.body, "recordings")
        return PageSeen(recordings=found.rows, cursor=found.cursor, unreadable=found.unreadable, look=look)

    async def cdrs(self, question: Question) -> PageSeen:
        """A page of CDRs."""
        answer, refusal = await self._page(CDRS_PATH, question)
        if refusal is not None:
            return PageSeen(refusal)
        found = payloads.cdrs_page(answer.body, account_id=question.account_id)
        look = page_look(answer.body, "data")
        return PageSeen(cdrs=found.rows, cursor=found.cursor, unreadable=found.unreadable, look=look)

    async def media_head(self, account_id: str, recording_id: str, *, path: str, accept: str) -> MediaSeen:
        """The head of an answer for the first byte of media, at this form of the address."""
        target = path.replace("{recording_id}", in_path(recording_id))
        answer, refusal = await self._asked(
            lambda: self._session.peek(
                target, account_id, accept=accept, byte_range=_FIRST_BYTE, most_bytes=_MOST_REFUSAL_BYTES, whole=False
            ),
            media=True,
        )
        return MediaSeen(
            answer.http_status,
            refusal,
            content_type=answer.content_type,
            partial=answer.http_status == _PARTIAL,
            etag=bool(answer.header("ETag")),
            content_disposition=bool(answer.header("Content-Disposition")),
        )

    async def _page(self, path: str, question: Question) -> tuple[Peeked, PbxError | None]:
        factor = 1000 if question.unit == "ms" else 1
        window = question.window
        parameters = [
            ("startDate", str(int(window.start_at.timestamp()) * factor)),
            ("endDate", str(int(window.end_at.timestamp()) * factor)),
        ]
        if question.page_size is not None:
            parameters.append(("pageSize", str(question.page_size)))
        if question.cursor is not None:
            parameters.append(("startKey", question.cursor))
        elif question.cursor_at is not None:
            parameters.append(("startKey", str(gregorian_s(question.cursor_at))))
        if question.odd_parameter:
            parameters.append(_ODD)
        answer, refusal = await self._asked(
            lambda: self._session.peek(
                f"{path}?{urlencode(parameters)}",
                question.account_id,
                accept="application/json",
                most_bytes=_MOST_PAGE_BYTES,
            ),
            media=False,
        )
        self._waits_s.append(answer.waited_s)
        return answer, refusal

    async def _asked(self, ask: Callable[[], Awaitable[Peeked]], *, media: bool) -> tuple[Peeked, PbxError | None]:
        """An answer and what is wrong with it for good; what may pass is retried, then raised."""
        async for attempt in self.retries.attempts():
            with attempt:
                answer = await ask()
                return answer, self._refusal(answer, media=media)
        raise AssertionError("unreachable")

    def _refusal(self, answer: Peeked, *, media: bool) -> PbxError | None:
        self._note(answer)
        if answer.http_status == _PARTIAL and media:
            return None
        if answer.http_status == 401:  # noqa: PLR2004 - with a token that is fresh
            return RequestRefused("the PBX refused the request (HTTP 401)", http_status=401)
        try:
            headers = {name.title(): value for name, value in answer.headers}
            check_status(answer.http_status, headers, media=media, now=datetime.now(UTC))
        except PbxError as error:
            if error.severity is Severity.RETRYABLE:
                raise
            return error
        return None

    def _note(self, answer: Peeked) -> None:
        names = {name.lower() for name, _ in answer.headers}
        self._rate_headers |= {name[:40] for name in names if name.startswith(_ABOUT_LIMITS)}
        if answer.http_status == 429:  # noqa: PLR2004 - too many requests
            self._met["too_many"] += 1
            self._met["retry_after"] += "retry-after" in names
        elif answer.http_status >= 400:  # noqa: PLR2004 - refusals and faults
            self._error_bodies.add(body_form(answer.body, answer.content_type))
