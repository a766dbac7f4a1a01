"""The session with the PBX: sign-in, GET, media; with `foreign` and `media` the only place that imports aiohttp.

No redirects (a 307 would send the password to another host), no proxies from the environment, no total timeout (it
would run while queueing), the token per request and in memory only. Sources: vendor page, api-facts, aiohttp issues
10313 and 8402.
"""

import asyncio
import json
import math
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from archiver.errors import (
    BadAnswer,
    BadSignInReply,
    MediaNotThere,
    PbxFailing,
    PbxKeptFailing,
    PbxUnreachable,
    RequestRefused,
    SignInRefused,
    TokenExpired,
)
from archiver.pbx import payloads
from archiver.pbx.base import Access, CdrsAnswer, RecordingsAnswer, Traffic
from archiver.pbx.bucket import Bucket
from archiver.pbx.foreign import Translated, check_status, skew_s
from archiver.pbx.media import HttpBody, MediaRequest, Peeked, in_path, media_paths, peeked
from archiver.pbx.memory import PbxMemory
from archiver.pbx.pace import Pace
from archiver.pbx.payloads_seen import token_lifetime_s
from archiver.pbx.retrying import RetryPolicy
from archiver.pbx.tls import tls_context
from archiver.window import Window

_LOGIN_PATH = "/api/v2/login"
RECORDINGS_PATH = "/api/v2/reports/recordings"
CDRS_PATH = "/api/v2/reports/cdrs"
_MOST_PAGE_BYTES = 32 << 20
_MOST_LOGIN_BYTES = 1 << 20
_READ_BUFFER_BYTES = 256 << 10
_RATE_WINDOW_S = 60.0
_LONE_BURST_S = 1.0
_BURST_S = 0.1
_ASK_AGAIN_S = 0.02
_TRANSLATED = Translated()
_REFUSALS = 3
"""So many fresh tokens refused in a row, none of which ever worked, end the run."""


class PbxSession:
    """An async context manager that keeps the promise of `base.Pbx`.

    One sign-in serves all workers: whoever meets a 401 first drops the old token and signs in again, the others wait
    and repeat their own request. `skew_s` is how far this machine's clock is ahead of the PBX's, None before the first
    sign-in or when it does not tell its time; `token_lifetime_s` how long the token lives, None likewise. Raises
    SettingsError when `ca_file` can't be read.
    """

    def __init__(
        self, access: Access, *, memory: PbxMemory | None = None, read_pause_s: float = _RATE_WINDOW_S
    ) -> None:
        self.traffic = Traffic()
        self.skew_s: float | None = None
        self._access = access
        self._policy = RetryPolicy(access.max_retries, access.retry_wait_s)
        self._memory = memory or PbxMemory.of_one_alone()
        # A session after others has no allowance of its own to begin with.
        self._bucket = Bucket(
            access.requests_per_s,
            burst_s=_LONE_BURST_S if memory is None else _BURST_S,
            level=self._memory.take_left(),
        )
        self._pace = Pace()
        self._rate_window_s = read_pause_s
        self._media_paths = media_paths(access.recording_path)
        if self._memory.media_path in self._media_paths:
            self._media_paths = (self._memory.media_path,)
        self._media_path_known = len(self._media_paths) == 1
        self.token_lifetime_s: float | None = None
        self._sign_in_lock = asyncio.Lock()
        self._quiet_until = 0.0
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        access = self._access
        tls = tls_context(access)
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=access.connections, ssl=tls, ttl_dns_cache=300, keepalive_timeout=30),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=None, sock_connect=access.connect_timeout_s, sock_read=access.read_timeout_s
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
            headers={"Accept-Encoding": "identity", "User-Agent": "recording-archiver"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._memory.left.append(self._bucket.level)
        if self._http is not None:
            await self._http.close()

    def set_rate(self, requests_per_s: float, *, for_s: float = math.inf) -> None:
        """Change the limit of requests per second, 0 is no limit, or say again that it holds.

        After `for_s` seconds without another word no request is sent until there is one.
        """
        self._bucket.set_rate(requests_per_s, for_s=for_s)

    async def sign_in(self) -> None:
        """Sign in now rather than with the first request; retries by itself.

        Raises:
            SignInRefused, BadSignInReply, CertificateRefused, PbxKeptFailing.
        """
        await self._signed_in()

    async def recordings_page(
        self, account_id: str, query: Window, *, page_size: int, cursor: str | None
    ) -> RecordingsAnswer:
        """One page of recordings' metadata; retries, and signs in again, by itself.

        Raises:
            PbxError: after the last retry, or at once when a retry would not help.
        """
        async for attempt in self._policy.attempts():
            with attempt:
                self._count_retry(attempt.num)
                body = await self._page(RECORDINGS_PATH, account_id, query, page_size=page_size, cursor=cursor)
                return payloads.recordings_page(body, account_id=account_id)
        raise AssertionError("unreachable")

    async def cdrs_page(self, account_id: str, query: Window, *, page_size: int, cursor: str | None) -> CdrsAnswer:
        """One page of CDRs; likewise."""
        async for attempt in self._policy.attempts():
            with attempt:
                self._count_retry(attempt.num)
                body = await self._page(CDRS_PATH, account_id, query, page_size=page_size, cursor=cursor)
                return payloads.cdrs_page(body, account_id=account_id)
        raise AssertionError("unreachable")

    def media(self, account_id: str, recording_id: str) -> MediaRequest:
        """One try at a recording's media; signs in again by itself, retries nothing else.

        Until one form of the address has served audio, a 404, 405 or a JSON answer is asked for at the other form too.

        Raises:
            MediaNotThere, PbxFailing, PbxUnreachable, RequestRefused, BadAnswer: on entering the block.
        """
        return MediaRequest(partial(self._open_media, account_id, recording_id), self.traffic)

    async def _open_media(self, account_id: str, recording_id: str) -> HttpBody:
        name = in_path(recording_id)
        for n, path in enumerate(self._media_paths):
            last = self._media_path_known or n == len(self._media_paths) - 1
            try:
                with _TRANSLATED:
                    response, waited_s = await self._get(
                        path.replace("{recording_id}", name), account_id, accept="audio/mpeg", media=True
                    )
            except (MediaNotThere, RequestRefused) as error:
                if last or (isinstance(error, RequestRefused) and error.http_status != 405):  # noqa: PLR2004
                    raise
                continue
            if not self._media_path_known:
                if response.content_type != "application/json":
                    self._media_path_known = True
                    self._media_paths = (path,)
                    self._memory.media_path = path
                elif not last:
                    response.close()
                    continue
            return HttpBody(
                response,
                waited_s,
                min_rate_bytes_per_s=self._access.min_rate_bytes_per_s,
                rate_window_s=self._rate_window_s,
            )
        raise AssertionError("unreachable")

    def media_url(self, recording_id: str) -> str:
        """The address of a recording's media, for the sidecar's `source`; holds no secret."""
        return self._access.base_url + self._media_paths[0].replace("{recording_id}", in_path(recording_id))

    async def peek(
        self, target: str, account_id: str, *, accept: str, byte_range: str = "", most_bytes: int, whole: bool = True
    ) -> Peeked:
        """An answer as it is, whatever its status, and at most `most_bytes` of its body; for looking at the PBX only.

        Unless the `whole` is wanted, an answer that is none of the refusals is looked at without its body. A token that is
        refused is renewed once.

        Raises:
            PbxError: no answer came; statuses are not looked at.
        """
        wanted = {"X-Account-ID": account_id, "Accept": accept} | ({"Range": byte_range} if byte_range else {})
        token, generation = await self._signed_in()
        answer = await self._peek_once(target, token, wanted, most_bytes, whole=whole)
        if answer.http_status == 401:  # noqa: PLR2004 - a token that ended
            self._drop(generation)
            token, generation = await self._signed_in()
            answer = await self._peek_once(target, token, wanted, most_bytes, whole=whole)
        if answer.http_status != 401:  # noqa: PLR2004
            self._worked(generation)
        return answer

    async def _peek_once(
        self, target: str, token: str, wanted: dict[str, str], most_bytes: int, *, whole: bool
    ) -> Peeked:
        headers = wanted | {"Authorization": f"Bearer {token}"}
        with _TRANSLATED:
            response, waited_s = await self._request("GET", target, headers=headers)
            async with response:
                wants_body = whole or response.status >= 400  # noqa: PLR2004 - refusals and faults
                found = await peeked(response, waited_s, most_bytes=most_bytes if wants_body else 0)
        self._succeeded()
        return found

    async def _page(self, path: str, account_id: str, query: Window, *, page_size: int, cursor: str | None) -> bytes:
        factor = 1000 if self._access.time_unit == "ms" else 1
        parameters = {
            "startDate": str(int(query.start_at.timestamp()) * factor),
            "endDate": str(int(query.end_at.timestamp()) * factor),
            "pageSize": str(page_size),
        }
        if cursor is not None:
            parameters["startKey"] = cursor
        with _TRANSLATED:
            response, _ = await self._get(f"{path}?{urlencode(parameters)}", account_id, accept="application/json")
            async with response:
                body = await _limited(response, _MOST_PAGE_BYTES)
        self.traffic.pages += 1
        self._succeeded()
        return body

    async def _get(
        self, target: str, account_id: str, *, accept: str, media: bool = False
    ) -> tuple[aiohttp.ClientResponse, float]:
        """A 200 answer whose body is still to come, and how long it took; with a fresh token for a refused one."""
        first_generation = 0
        for _ in range(_REFUSALS):
            token, generation = await self._signed_in()
            first_generation = first_generation or generation
            headers = {"Authorization": f"Bearer {token}", "X-Account-ID": account_id, "Accept": accept}
            response, waited_s = await self._request("GET", target, headers=headers)
            try:
                _check(response, media=media)
            except TokenExpired:
                response.close()
                self._drop(generation)
                continue
            except BaseException:
                response.close()
                raise
            self._worked(generation)
            return response, waited_s
        if self._memory.worked_generation >= first_generation:
            raise RequestRefused("the PBX refuses this request with every fresh token (HTTP 401)", http_status=401)
        self.traffic.login_refusals += 1
        raise SignInRefused("the PBX signs us in and then refuses every token it gave (HTTP 401)")

    def _drop(self, generation: int) -> None:
        if self._memory.generation == generation:
            self._memory.token = ""

    def _worked(self, generation: int) -> None:
        self._memory.worked_generation = max(self._memory.worked_generation, generation)

    async def _signed_in(self) -> tuple[str, int]:
        memory = self._memory
        if token := memory.token:
            return token, memory.generation
        async with self._sign_in_lock:
            while not memory.signing_in.acquire(blocking=False):  # noqa: ASYNC110 - it belongs to threads, not to this loop
                # Another thread's session signs in.
                await asyncio.sleep(_ASK_AGAIN_S)
            try:
                if memory.refusal is not None:
                    # Whoever waited need not be refused too: some systems lock an account after a few.
                    raise SignInRefused(str(memory.refusal))
                if not memory.token:
                    try:
                        token = await self._sign_in()
                    except SignInRefused as error:
                        memory.refusal = error
                        raise
                    memory.generation += 1
                    memory.token = token
                return memory.token, memory.generation
            finally:
                memory.signing_in.release()

    async def _sign_in(self) -> str:
        access = self._access
        body = json.dumps(
            {"username": access.username, "password": access.password.text, "domain": access.domain}
        ).encode()
        try:
            async for attempt in self._policy.attempts():
                with attempt:
                    self._count_retry(attempt.num)
                    return await self._sign_in_once(body)
        except (PbxUnreachable, PbxFailing, BadAnswer) as error:
            raise PbxKeptFailing(f"signing in at {access.base_url} kept failing: {error}") from None
        except RequestRefused as error:
            self.traffic.login_refusals += 1
            raise SignInRefused(
                f"the sign-in was refused: {error}: check pbx.username, pbx.domain, the password"
            ) from None
        raise AssertionError("unreachable")

    async def _sign_in_once(self, body: bytes) -> str:
        self.traffic.logins += 1
        with _TRANSLATED:
            response, _ = await self._request(
                "POST", _LOGIN_PATH, headers={"Content-Type": "application/json"}, data=body
            )
            self.skew_s = skew_s(response.headers.get("Date", ""), now=datetime.now(UTC))
            async with response:
                try:
                    _check(response, media=False)
                except TokenExpired:
                    raise RequestRefused("HTTP 401", http_status=401) from None
                answer = await _limited(response, _MOST_LOGIN_BYTES)
        token = payloads.access_token(answer)
        if token is None:
            raise BadSignInReply("the login answered 200 but no usable access_token: is pbx.base_url a FonoUC system?")
        self.token_lifetime_s = token_lifetime_s(token, now=datetime.now(UTC))
        self._succeeded()
        return token

    async def _request(self, verb: str, target: str, **arguments: Any) -> tuple[aiohttp.ClientResponse, float]:
        """An answer, and how long the PBX took for it, without our own waits, in seconds."""
        if self._http is None:
            raise AssertionError("the session is not open")
        if self._quiet_until and (quiet_s := self._quiet_until - time.monotonic()) > 0:
            await asyncio.sleep(quiet_s)
        await self._bucket.take()
        ticket = await self._pace.turn()
        self.traffic.requests += 1
        url = URL(self._access.base_url + target, encoded=True)
        response = await self._http.request(verb, url, allow_redirects=False, **arguments)
        waited_s = time.monotonic() - ticket.sent_at_s
        try:
            if response.status in {429, 503}:
                self.traffic.refusals += 1
                _check(response, media=False)
        except PbxFailing as error:
            # Whoever was told to wait speaks for all workers.
            if error.retry_after_s:
                self._quiet_until = max(self._quiet_until, time.monotonic() + error.retry_after_s)
            if response.status == 429:  # noqa: PLR2004 - too many requests
                self._pace.refused(ticket, retry_after_s=error.retry_after_s or 0.0)
        return response, waited_s

    def _count_retry(self, attempt_no: int) -> None:
        if attempt_no > 1:
            self.traffic.retries += 1

    def _succeeded(self) -> None:
        self.traffic.successes += 1


def _check(response: aiohttp.ClientResponse, *, media: bool) -> None:
    if response.status != 200:  # noqa: PLR2004 - the only answer that is one
        check_status(response.status, response.headers, media=media, now=datetime.now(UTC))
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise BadAnswer(f"the PBX sent Content-Encoding {encoding[:20]!a}, which was not asked for")


async def _limited(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most_bytes:
            response.close()
            raise BadAnswer(f"the answer is larger than {most_bytes >> 20} MiB")
    return bytes(body)
