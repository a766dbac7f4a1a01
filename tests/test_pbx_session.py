"""The session over real sockets: sign-in, retries, cuts, and that nothing foreign or secret comes out of it."""

import asyncio
import inspect
import ssl
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
from aiohttp import client_exceptions, http_exceptions

from archiver.errors import (
    BadAnswer,
    BadSignInReply,
    BodyCut,
    CertificateRefused,
    MediaNotThere,
    PbxError,
    PbxFailing,
    PbxKeptFailing,
    PbxUnreachable,
    RequestRefused,
    SettingsError,
    SignInRefused,
    TooSlow,
)
from archiver.pbx import foreign
from archiver.pbx.base import Access, Framing, MediaBody, Secret
from archiver.pbx.memory import PbxMemory
from archiver.pbx.retrying import RetryPolicy
from archiver.pbx.session import PbxSession
from archiver.simulator import (
    Action,
    Body,
    BytesMedia,
    ContentEncoding,
    Corpus,
    Credentials,
    Cut,
    Drip,
    Drop,
    ExpireToken,
    Fault,
    FaultScript,
    HeaderFlood,
    Headers,
    Raw,
    Redirect,
    SimulatedRecording,
    Simulator,
    Stall,
    Status,
    Switches,
)
from archiver.simulator.switches import BucketRule
from archiver.window import Window

ACCOUNT = "a" * 32
NOON = 1_714_996_800
MEDIA = bytes(range(256)) * 64
PASSWORD = "canary-p4ssw0rd"
RECORDINGS = [
    SimulatedRecording(
        account_id=ACCOUNT,
        recording_id=f"202405-{n:032x}",
        start_unix_s=NOON + n,
        duration_ms=4000,
        media=BytesMedia(MEDIA),
    )
    for n in range(50)
]
IDS = [row.recording_id for row in RECORDINGS]
WINDOW = Window(datetime.fromtimestamp(NOON, UTC), datetime.fromtimestamp(NOON + 600, UTC))


def access(base_url: str, **changed: Any) -> Access:
    told: dict[str, Any] = {
        "base_url": base_url,
        "username": "archiver",
        "domain": "example",
        "password": Secret(PASSWORD),
        "ca_file": None,
        "time_unit": "s",
        "page_size": 50,
        "recording_path": "/api/v2/reports/recording/{recording_id}",
        "connect_timeout_s": 5.0,
        "read_timeout_s": 5.0,
        "max_retries": 2,
        "retry_wait_s": 0.01,
        "requests_per_s": 0.0,
        "min_rate_bytes_per_s": 0.0,
        "connections": 60,
    }
    return Access(**(told | changed))


@asynccontextmanager
async def pair(
    *faults: Fault, switches: Switches | None = None, **changed: Any
) -> AsyncIterator[tuple[Simulator, PbxSession]]:
    """A simulator and a session with it; every fault must have been hit at the end."""
    script = FaultScript(faults)
    simulator = Simulator(
        Corpus(RECORDINGS), switches=switches, faults=script, credentials=Credentials(password=PASSWORD)
    )
    async with simulator as pbx, PbxSession(access(pbx.base_url, **changed)) as session:
        yield pbx, session
    assert script.unhit() == []


async def page(session: PbxSession) -> list[str]:
    answer = await session.recordings_page(ACCOUNT, WINDOW, page_size=100, cursor=None)
    return [row.recording_id for row in answer.rows]


async def whole(body: MediaBody) -> bytes:
    got = b""
    while chunk := await body.read():
        got += chunk
    return got


async def media(session: PbxSession, recording_id: str = IDS[0]) -> bytes:
    async with session.media(ACCOUNT, recording_id) as body:
        return await whole(body)


# Sign-in


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_login_is_asked_once_and_ends_the_run(status: int) -> None:
    """Row 1."""
    async with pair(Fault(on="login", action=Status(code=status), times=-1)) as (pbx, session):
        with pytest.raises(SignInRefused):
            await page(session)
        assert pbx.stats.logins == pbx.stats.requests == 1
        assert (session.traffic.login_refusals, session.traffic.refusals) == (1, 0)


async def test_a_wrong_password_is_asked_once_and_never_shown() -> None:
    """Row 1."""
    async with pair(password=Secret("wr0ng-canary")) as (pbx, session):
        with pytest.raises(SignInRefused) as caught:
            await page(session)
        assert pbx.stats.requests == 1
    assert "wr0ng-canary" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value)


@pytest.mark.parametrize(
    "action", [Status(code=500), Status(code=503), Status(code=502, text="<html>"), Drop(), Drop(how="rst")]
)
async def test_a_login_that_fails_twice_and_then_works_signs_in(action: Action) -> None:
    """Row 2."""
    async with pair(Fault(on="login", action=action, times=2)) as (pbx, session):
        assert await page(session) == IDS
        assert pbx.stats.logins == 3


async def test_a_login_that_times_out_once_is_repeated() -> None:
    """Row 2."""
    stall = Fault(on="login", action=Stall(after_bytes=5, seconds=5))
    async with pair(stall, read_timeout_s=0.2) as (_, session):
        assert await page(session) == IDS


async def test_a_login_that_fails_for_ever_stops_the_run_after_one_retry_policy() -> None:
    async with pair(Fault(on="login", action=Status(code=500), times=-1)) as (pbx, session):
        with pytest.raises(PbxKeptFailing):
            await page(session)
        assert pbx.stats.logins == 3


@pytest.mark.parametrize(
    "body",
    [
        Body(kind="html"),
        Body(kind="empty"),
        Body(text="{}"),
        Body(text='{"access_token": ""}'),
        Body(text='{"access_token": null}'),
        Body(text='{"access_token": 7}'),
        Body(text='{"access_token": "abc\\r\\nX-Evil: 1"}'),
        Body(text='{"access_token": "abc\\ndef"}'),
        Body(text='{"access_token": "a b"}'),
        Body(text='{"access_token": "ä"}'),
        Body(text='{"access_token": "\\ud800"}'),
        Body(text="[" * 100_000),
        Body(text='["access_token"]'),
    ],
    ids=range(13),
)
async def test_a_login_answer_without_a_token_fit_for_a_header_ends_the_run(body: Body) -> None:
    """Row 3."""
    async with pair(Fault(on="login", action=body)) as (pbx, session):
        with pytest.raises(BadSignInReply):
            await page(session)
        assert pbx.stats.requests == 1


async def test_one_new_sign_in_serves_fifty_requests_whose_token_expired() -> None:
    """Row 4: half pages, half media; each refused request is repeated once, none is lost."""
    async with pair() as (pbx, session):
        await page(session)
        pbx.expire_tokens()
        work = [media(session, an_id) if n % 2 else page(session) for n, an_id in enumerate(IDS)]
        found = await asyncio.gather(*work)
        assert found[0::2] == [IDS] * 25
        assert found[1::2] == [MEDIA] * 25
        assert pbx.stats.logins == 2
        assert pbx.stats.requests - pbx.stats.logins <= 1 + 2 * 50
        assert session.traffic.logins == 2


async def test_a_token_that_expires_again_and_again_while_media_come_costs_one_sign_in_each_time() -> None:
    """Row 4."""
    async with pair(
        Fault(on="media", action=ExpireToken(), after=5), Fault(on="media", action=ExpireToken(), after=30)
    ) as (
        pbx,
        session,
    ):
        assert await asyncio.gather(*(media(session, an_id) for an_id in IDS)) == [MEDIA] * 50
        assert pbx.stats.logins == 3


async def test_fifty_requests_at_once_sign_in_once() -> None:
    async with pair() as (pbx, session):
        await asyncio.gather(*(page(session) for _ in range(50)))
        assert pbx.stats.logins == 1


@pytest.mark.parametrize("kind", ["recordings", "media"])
async def test_a_pbx_that_refuses_every_fresh_token_ends_the_run_after_three_sign_ins(kind: Any) -> None:
    """Row 5."""
    async with pair(Fault(on=kind, action=Status(code=401), times=-1)) as (pbx, session):
        with pytest.raises(SignInRefused):
            await (page(session) if kind == "recordings" else media(session))
        assert pbx.stats.logins <= 3
        assert session.traffic.login_refusals == 1


async def test_one_recording_that_always_gets_401_does_not_end_the_run() -> None:
    async with pair(Fault(on="media", recording_id=IDS[3], action=Status(code=401), times=-1)) as (_, session):
        assert await media(session, IDS[0]) == MEDIA
        with pytest.raises(RequestRefused):
            await media(session, IDS[3])
        assert await media(session, IDS[1]) == MEDIA


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("kind", ["login", "recordings", "media"])
async def test_a_redirect_is_refused_and_the_other_server_never_hears_of_us(kind: Any, code: int) -> None:
    """Row 6."""
    async with Simulator(Corpus(RECORDINGS)) as other:
        redirect = Redirect(location=f"{other.base_url}/api/v2/login", code=code)
        async with pair(Fault(on=kind, action=redirect, times=-1)) as (_, session):
            with pytest.raises(SignInRefused if kind == "login" else RequestRefused, match=r"redirects to"):
                await (media(session) if kind == "media" else page(session))
        assert other.stats.requests == 0
        assert other.stats.connections_opened == 0


# Retries


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504, 408])
async def test_a_page_that_fails_twice_is_had_at_the_third_try(code: int) -> None:
    """Row 17 and api-facts: 429 and 5xx happen."""
    async with pair(Fault(on="recordings", action=Status(code=code), times=2)) as (pbx, session):
        assert await page(session) == IDS
        assert pbx.stats.recordings_pages == 3
        assert session.traffic.retries == 2
        assert session.traffic.refusals == (2 if code in {429, 503} else 0)
        assert session.traffic.login_refusals == 0


async def test_a_page_that_keeps_failing_is_given_up_with_the_status() -> None:
    async with pair(Fault(on="recordings", action=Status(code=503), times=-1)) as (pbx, session):
        with pytest.raises(PbxFailing) as caught:
            await page(session)
        assert caught.value.http_status == 503
        assert pbx.stats.recordings_pages == 3


@pytest.mark.parametrize("code", [400, 403, 404, 405, 451])
async def test_a_refused_page_is_not_repeated(code: int) -> None:
    async with pair(Fault(on="recordings", action=Status(code=code), times=-1)) as (pbx, session):
        with pytest.raises(RequestRefused):
            await page(session)
        assert pbx.stats.recordings_pages == 1


@pytest.mark.parametrize("code", [204, 206, 201])
async def test_a_success_that_is_no_200_is_no_answer(code: int) -> None:
    """Row 25."""
    async with pair(Fault(on="media", action=Status(code=code), times=-1)) as (_, session):
        with pytest.raises(BadAnswer):
            await media(session)


@pytest.mark.parametrize("code", [404, 410])
async def test_media_that_are_gone_are_not_there(code: int) -> None:
    """Row 25."""
    async with pair(Fault(on="media", action=Status(code=code), times=-1)) as (_, session):
        with pytest.raises(MediaNotThere):
            await media(session)


async def test_media_answered_304_or_a_redirect_are_an_error() -> None:
    """Row 25."""
    async with pair(Fault(on="media", action=Status(code=304), times=-1)) as (_, session):
        with pytest.raises(RequestRefused):
            await media(session)


NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("", None),
        ("soon", None),
        ("0", 0.0),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-5", 0.0),
        ("1000000000", 120.0),
        ("9" * 5000, None),
        ("1.5", None),
        ("NaN", None),
        ("inf", None),
        ("²", None),
        ("+-5", None),
        ("--5", None),
        ("٣", None),
        (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9.0),
        (format_datetime(NOW - timedelta(days=9), usegmt=True), 0.0),
        (format_datetime(NOW + timedelta(days=9), usegmt=True), 120.0),
        ("Wed, 06 May 2026 12:00:03", 3.0),
        ("Wed, 99 May 2026 12:00:03 GMT", None),
        ("Wed, 06 May 99999999 12:00:03 GMT", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_a_date_and_capped(text: str, wait_s: float | None) -> None:
    """Row 17."""
    assert foreign.retry_after_s(text, now=NOW) == wait_s


async def test_a_retry_after_is_waited_for_by_everyone() -> None:
    """Row 17."""
    busy = Status(code=429, headers={"Retry-After": "1"})
    async with pair(Fault(on="recordings", action=busy)) as (_, session):
        await media(session)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        first = asyncio.create_task(page(session))
        await asyncio.sleep(0.2)
        assert await media(session) == MEDIA
        assert loop.time() - begun >= 0.9
        assert await first == IDS


@pytest.mark.parametrize("text", ["-5", "soon", "9" * 300, "²", "--1"])
async def test_an_absurd_retry_after_neither_hangs_nor_stops_the_retries(text: str) -> None:
    """Row 17."""
    raw = f"HTTP/1.1 503 Busy\r\nRetry-After: {text}\r\nContent-Length: 0\r\n\r\n"
    async with pair(Fault(on="recordings", action=Raw(text=raw))) as (_, session):
        async with asyncio.timeout(5):
            assert await page(session) == IDS


# Media


@pytest.mark.parametrize("served", ["singular", "plural", "both"])
@pytest.mark.parametrize("asked", ["recording", "recordings"])
async def test_media_are_found_at_the_singular_and_the_plural_address(served: Any, asked: str) -> None:
    path = f"/api/v2/reports/{asked}/{{recording_id}}"
    async with pair(switches=Switches(media_path=served), recording_path=path) as (pbx, session):
        assert [await media(session, an_id) for an_id in IDS[:4]] == [MEDIA] * 4
        assert pbx.stats.media <= 5


async def test_a_session_with_the_memory_of_another_asks_for_media_at_the_address_that_worked() -> None:
    memory = PbxMemory()
    simulator = Simulator(
        Corpus(RECORDINGS), switches=Switches(media_path="plural"), credentials=Credentials(password=PASSWORD)
    )
    async with simulator as pbx:
        for an_id in IDS[:3]:
            async with PbxSession(access(pbx.base_url), memory=memory) as session:
                assert await media(session, an_id) == MEDIA
                assert session.media_url(an_id).endswith(f"/recordings/{an_id}")
        assert (pbx.stats.statuses[404], pbx.stats.logins) == (1, 1)


async def test_media_that_are_missing_at_both_addresses_are_not_there() -> None:
    async with pair() as (_, session):
        with pytest.raises(MediaNotThere):
            await media(session, "202405-unknown")


async def test_media_come_as_audio_because_audio_is_asked_for() -> None:
    switches = Switches(media_answer="json_unless_accept")
    async with pair(switches=switches) as (_, session), session.media(ACCOUNT, IDS[0]) as body:
        assert body.content_type == "audio/mpeg"
        assert body.content_length == len(MEDIA)
        assert body.framing is Framing.LENGTH


@pytest.mark.parametrize(
    ("framing", "known"),
    [("content_length", Framing.LENGTH), ("chunked", Framing.CHUNKED), ("close", Framing.EOF)],
)
async def test_the_framing_of_a_body_is_told(framing: Any, known: Framing) -> None:
    """Row 21: a body that ends with its connection is flagged."""
    async with pair(switches=Switches(media_framing=framing)) as (_, session), session.media(ACCOUNT, IDS[0]) as body:
        assert body.framing is known
        assert await whole(body) == MEDIA


@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["content_length", "chunked", "close", "gzip"])
async def test_media_cut_anywhere_never_end_cleanly_unless_the_framing_is_flagged_as_weak(
    framing: Any, how: Any
) -> None:
    """Row 20."""
    places = sorted({0, 1, len(MEDIA) - 1, *(len(MEDIA) * part // 16 for part in range(16))})
    for place in places:
        cut = Fault(on="media", action=Cut(after_bytes=place, how=how, framing=framing), times=-1)
        async with pair(cut, switches=Switches(media_path="singular")) as (_, session):
            got, told = b"", None
            try:
                async with session.media(ACCOUNT, IDS[0]) as body:
                    told = body.framing
                    while chunk := await body.read():
                        got += chunk
            except (BodyCut, PbxUnreachable, BadAnswer):
                pass
            else:
                assert told is Framing.EOF, place
                assert len(got) <= place < len(MEDIA)


async def test_a_connection_dropped_just_when_it_is_used_again_is_not_the_end_of_a_page() -> None:
    """Row 30."""
    async with pair(Fault(on="recordings", action=Drop(), after=1)) as (_, session):
        assert await page(session) == IDS
        assert await page(session) == IDS


async def test_media_left_early_cost_their_connection_and_nothing_else() -> None:
    async with pair() as (_, session):
        async with session.media(ACCOUNT, IDS[0]) as body:
            assert await body.read()
        assert await media(session, IDS[1]) == MEDIA


@pytest.mark.parametrize("name", ["gzip", "br", "deflate", "x-unknown", "GZIP"])
@pytest.mark.parametrize("kind", ["media", "recordings", "login"])
async def test_a_content_encoding_nobody_asked_for_is_refused(kind: Any, name: str) -> None:
    """Row 29; a gzip bomb (row 15) is never unpacked."""
    async with pair(Fault(on=kind, action=ContentEncoding(name=name), times=-1)) as (_, session):
        with pytest.raises(PbxKeptFailing if kind == "login" else BadAnswer, match="Content-Encoding"):
            await (media(session) if kind == "media" else page(session))


async def test_media_that_trickle_in_under_the_floor_are_too_slow() -> None:
    """Row 26."""
    async with Simulator(
        Corpus(RECORDINGS), faults=FaultScript([Fault(on="media", action=Drip(bytes=1, interval_s=0.05))])
    ) as pbx:
        told = access(pbx.base_url, password=Secret("simulator"), min_rate_bytes_per_s=1000.0)
        async with PbxSession(told, read_pause_s=0.2) as session:
            async with asyncio.timeout(5):
                with pytest.raises(TooSlow):
                    await media(session)
            assert await media(session) == MEDIA


async def test_media_that_stall_are_given_up_after_the_read_timeout() -> None:
    """Row 26."""
    async with pair(Fault(on="media", action=Stall(after_bytes=100, seconds=30)), read_timeout_s=0.3) as (_, session):
        async with asyncio.timeout(5):
            with pytest.raises(PbxUnreachable):
                await media(session)


@pytest.mark.parametrize("flood", [HeaderFlood(count=20_000, value_bytes=8), HeaderFlood(count=2, value_bytes=1 << 20)])
async def test_a_flood_of_headers_is_refused_or_survived(flood: HeaderFlood) -> None:
    async with pair(Fault(on="recordings", action=flood, times=1)) as (_, session):
        assert await page(session) == IDS


async def test_cookies_are_not_sent_back() -> None:
    async with pair(Fault(on="recordings", action=Headers(values={"Set-Cookie": "spy=1; Path=/"}))) as (_, session):
        assert await page(session) == IDS
        assert session._http is not None
        assert len(session._http.cookie_jar) == 0


async def test_a_page_larger_than_the_limit_is_given_up_without_reading_it_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 15: a 200 MB page."""
    monkeypatch.setattr("archiver.pbx.session._MOST_PAGE_BYTES", 10_000)
    async with pair(Fault(on="recordings", action=Body(data=b" " * (8 << 20)), times=-1), max_retries=0) as (
        pbx,
        session,
    ):
        with pytest.raises(BadAnswer, match="larger"):
            await page(session)
        assert pbx.stats.body_bytes < 8 << 20


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "\x00" * 50,
        "HTTP/9.9 200 OK\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
async def test_an_answer_that_is_no_http_is_one_of_our_errors(raw: str) -> None:
    async with pair(Fault(on="media", action=Raw(text=raw), times=-1)) as (_, session):
        with pytest.raises((BadAnswer, PbxUnreachable)):
            await media(session)


async def test_a_pbx_nobody_runs_is_unreachable() -> None:
    async with PbxSession(access("http://127.0.0.1:9", max_retries=1)) as session:
        with pytest.raises(PbxKeptFailing, match="kept failing"):
            await page(session)


# TLS


def tls(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("127.0.0.1", "localhost"))).configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return context, folder / "ca.pem"


@pytest.mark.parametrize("is_known_authority", [False, True])
async def test_a_certificate_nobody_vouches_for_or_for_another_host_is_refused_at_once(
    tmp_path: Path, *, is_known_authority: bool
) -> None:
    context, ca_file = tls(tmp_path, *(["other.example"] if is_known_authority else []))
    greeted: list[str] = []

    async def served(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeted.append("a request could follow")
        writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with PbxSession(access(url, ca_file=ca_file if is_known_authority else None)) as session:
        with pytest.raises(CertificateRefused):
            await page(session)
        assert session.traffic.requests == 1
    server.close()
    assert greeted == []


async def test_a_private_authority_from_ca_file_is_trusted(tmp_path: Path) -> None:
    context, ca_file = tls(tmp_path)
    credentials = Credentials(password=PASSWORD)
    async with Simulator(Corpus(RECORDINGS), tls=context, credentials=credentials) as pbx:
        session = PbxSession(access(pbx.base_url, ca_file=ca_file))
        async with session:
            assert await page(session) == IDS
            assert await media(session) == MEDIA


async def test_a_tls_connection_cut_without_a_goodbye_is_not_a_clean_end(tmp_path: Path) -> None:
    """Row 20."""
    context, ca_file = tls(tmp_path)
    credentials = Credentials(password=PASSWORD)
    for framing in ("content_length", "chunked"):
        cut = Cut(fraction=0.5, how="tls_no_close_notify", framing=framing)
        script = FaultScript([Fault(on="media", action=cut, times=-1)])
        async with Simulator(Corpus(RECORDINGS), tls=context, credentials=credentials, faults=script) as pbx:
            session = PbxSession(access(pbx.base_url, ca_file=ca_file))
            async with session:
                with pytest.raises((BodyCut, PbxUnreachable)):
                    await media(session)


@pytest.mark.parametrize(
    "text", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_a_ca_file_that_holds_no_certificate_is_a_setting_that_is_wrong(tmp_path: Path, text: str | None) -> None:
    ca_file = tmp_path / "ca.pem"
    if text is not None:
        ca_file.write_text(text)
    with pytest.raises(SettingsError, match=r"pbx\.ca_file"):
        async with PbxSession(access("https://127.0.0.1:9", ca_file=ca_file)):
            pass


async def test_plain_http_behind_an_https_address_is_told_apart_from_a_bad_certificate(tmp_path: Path) -> None:
    async with Simulator(Corpus(RECORDINGS)) as pbx:
        told = access(pbx.base_url.replace("http:", "https:"), max_retries=0, connect_timeout_s=0.3, read_timeout_s=0.3)
        async with PbxSession(told) as session:
            with pytest.raises(PbxKeptFailing):
                await page(session)


# The border to aiohttp


def foreign_errors() -> list[type[Exception]]:
    found = [*vars(client_exceptions).values(), *vars(http_exceptions).values()]
    kinds = {one for one in found if inspect.isclass(one) and issubclass(one, Exception)}
    # WS…: websockets, which nobody opens here.
    kinds = {one for one in kinds if one.__module__.startswith("aiohttp") and not one.__name__.startswith("WS")}
    return sorted(kinds, key=lambda one: one.__name__)


def blank(kind: type[Exception]) -> Exception:
    """An instance whose constructor did not run: only its type counts here."""
    return kind.__new__(kind)


@pytest.mark.parametrize("kind", foreign_errors())
def test_every_error_of_the_http_library_becomes_one_of_ours(kind: type[Exception]) -> None:
    found = foreign.ours(blank(kind))
    assert isinstance(found, PbxError)
    caught: Exception | None = None
    try:
        with foreign.Translated():
            raise blank(kind)
    except PbxError as error:
        caught = error
    assert caught is not None
    assert type(caught) is type(found)
    assert caught.__suppress_context__


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (aiohttp.ClientConnectorCertificateError, CertificateRefused),
        (ssl.SSLCertVerificationError, CertificateRefused),
        (aiohttp.ServerTimeoutError, PbxUnreachable),
        (aiohttp.ConnectionTimeoutError, PbxUnreachable),
        (aiohttp.ServerDisconnectedError, PbxUnreachable),
        (aiohttp.ClientConnectorDNSError, PbxUnreachable),
        (aiohttp.ClientConnectorSSLError, PbxUnreachable),
        (aiohttp.ClientOSError, PbxUnreachable),
        (ConnectionResetError, PbxUnreachable),
        (TimeoutError, PbxUnreachable),
        (aiohttp.ClientPayloadError, BodyCut),
        (aiohttp.ClientResponseError, BadAnswer),
        (aiohttp.ContentTypeError, BadAnswer),
        (ValueError, BadAnswer),
    ],
)
def test_the_errors_that_matter_become_the_right_ones(kind: type[Exception], expected: type[PbxError]) -> None:
    assert type(foreign.ours(blank(kind))) is expected


FAILURES: list[tuple[Any, Action]] = [
    ("login", Status(code=401, text="bad")),
    ("login", Status(code=500)),
    ("login", Drop(how="rst")),
    ("login", Body(kind="html")),
    ("recordings", Status(code=401)),
    ("recordings", Status(code=400)),
    ("recordings", Status(code=500)),
    ("recordings", Body(kind="html")),
    ("recordings", Drop(how="rst")),
    ("recordings", Redirect(location="http://elsewhere.example/")),
    ("recordings", Cut(fraction=0.5, how="rst")),
    ("recordings", Raw(text="HTTP/1.1 abc\r\n\r\n")),
    ("recordings", HeaderFlood(count=2, value_bytes=1 << 20)),
]


@pytest.mark.parametrize(("kind", "action"), FAILURES, ids=range(len(FAILURES)))
async def test_no_error_carries_a_password_or_a_token(kind: Any, action: Action) -> None:
    """Row 68."""
    caught: PbxError | None = None
    async with pair(Fault(on=kind, action=action, times=-1)) as (pbx, session):
        try:
            await page(session)
        except PbxError as error:
            caught = error
        assert caught is not None
        seen = traceback.TracebackException.from_exception(caught, capture_locals=False)
        told = "".join(seen.format()) + repr(caught) + repr(caught.args) + repr(vars(caught)) + repr(session._access)
        link: BaseException | None = caught
        while link is not None:
            told += repr(link) + repr(link.args)
            assert isinstance(link, PbxError)
            link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
        assert pbx.canaries
        for canary in pbx.canaries | {PASSWORD}:
            assert canary not in told


# Rate, pace and latency


async def test_a_body_tells_how_long_the_pbx_took_without_our_own_waits() -> None:
    async with pair(switches=Switches(media_think_time_s=0.1), requests_per_s=1.0) as (_, session):
        await session.sign_in()
        async with session.media(ACCOUNT, IDS[0]) as body:
            # The rate alone made it wait a second.
            assert 0.1 <= body.waited_s < 0.9
            await whole(body)


async def test_the_rate_can_be_changed_while_requests_wait_for_it() -> None:
    async with pair(requests_per_s=2.0) as (pbx, session):
        await session.sign_in()
        waiting = asyncio.gather(*(media(session, name) for name in IDS))
        await asyncio.sleep(0)
        session.set_rate(0)
        await asyncio.wait_for(waiting, 10)
        session.set_rate(100.0)
        begun_s = time.monotonic()
        await asyncio.gather(*(media(session, name) for name in IDS))
        # No second's allowance at once, as at the beginning.
        assert time.monotonic() - begun_s >= 0.35
        assert pbx.stats.requests_by_kind["media"] == 2 * len(IDS)


async def test_a_429_paces_whatever_comes_after_it() -> None:
    async with pair(switches=Switches(bucket=BucketRule(20, 50))) as (pbx, session):

        async def persistent(name: str) -> None:
            async for attempt in RetryPolicy(10, 0.05).attempts():
                with attempt:
                    await media(session, name)

        await asyncio.gather(*(persistent(name) for name in IDS))
        assert session._pace.per_s is not None
        assert pbx.stats.bucket_refusals < len(IDS)
