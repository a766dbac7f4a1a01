"""Each scripted fault, seen on the wire with nothing between it and the socket."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from archiver.simulator import (
    Action,
    Body,
    BytesMedia,
    ContentEncoding,
    ContentLength,
    Corpus,
    Cut,
    Delay,
    Drip,
    Drop,
    ExpireToken,
    Extra,
    Fault,
    FaultScript,
    Frame,
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
from archiver.simulator.running import summary

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = "a" * 32
NOON = 1_714_996_800
MEDIA = bytes(range(256)) * 40
LENGTH = len(MEDIA)
SIGN_IN = json.dumps({"username": "archiver", "password": "simulator", "domain": "example"}).encode()
LOGIN = b"\r\n".join(
    (b"POST /api/v2/login HTTP/1.1", b"Connection: close", b"Content-Length: %d" % len(SIGN_IN), b"", SIGN_IN)
)


@dataclass
class Heard:
    """Everything that came until the connection ended or fell silent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    end: str = "open"
    seconds: float = 0.0

    @property
    def unchunked(self) -> tuple[bytes, bool]:
        """The body out of its chunks, and whether the last chunk came."""
        rest, body = self.body, b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            if size == b"0":
                return body, True
            body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return body, False


async def hear(pbx: Simulator, request: bytes, tls: ssl.SSLContext | None = None, patience_s: float = 0.3) -> Heard:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", pbx.port, ssl=tls, server_hostname="localhost" if tls else None
    )
    heard, data = Heard(), b""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    writer.write(request)
    try:
        async with asyncio.timeout(patience_s):
            while piece := await reader.read(65_536):
                data += piece
                heard.seconds = loop.time() - begun_at
        heard.end = "fin"
    except TimeoutError:
        pass
    except ConnectionResetError:
        heard.end = "rst"
    finally:
        writer.transport.abort()
    if data:
        head, _, heard.body = data.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        heard.status = int(line.split(" ")[1])
        heard.headers = dict(line.split(": ", 1) for line in lines)
    return heard


async def token(pbx: Simulator) -> str:
    return str(json.loads((await hear(pbx, LOGIN)).body)["access_token"])


async def request(pbx: Simulator, path: str, account: str = ACCOUNT) -> bytes:
    lines = [f"GET /api/v2/reports/{path} HTTP/1.1", f"Authorization: Bearer {await token(pbx)}"]
    lines += [f"X-Account-ID: {account}", "Accept: audio/mpeg", "", ""]
    return "\r\n".join(lines).encode()


def corpus() -> Corpus:
    def recording(name: str, data: bytes) -> SimulatedRecording:
        return SimulatedRecording(
            account_id=ACCOUNT, recording_id=name, start_unix_s=NOON, duration_ms=1000, media=BytesMedia(data)
        )

    return Corpus([recording("one", MEDIA), recording("two", b"other" * 100)])


async def with_fault(*action: Action, on: Any = "media", path: str = "recording/one", **switches: Any) -> Heard:
    script = FaultScript([Fault(on=on, action=action)])
    async with Simulator(corpus(), faults=script, switches=Switches(**switches)) as pbx:
        heard = await hear(pbx, await request(pbx, path))
        assert script.unhit() == []
        return heard


async def test_without_a_fault_all_is_well() -> None:
    async with Simulator(corpus()) as pbx:
        heard = await hear(pbx, await request(pbx, "recording/one"))
        assert (heard.status, heard.body, heard.end) == (200, MEDIA, "open")


async def test_a_status_comes_with_headers_and_text_in_place_of_the_answer() -> None:
    heard = await with_fault(Status(code=503, text="busy", headers={"Retry-After": "7"}))
    assert (heard.status, heard.body, heard.headers["Retry-After"], heard.end) == (503, b"busy", "7", "open")


async def test_a_faulty_login_hands_out_no_token() -> None:
    script = FaultScript([Fault(on="login", action=Status(code=500))])
    async with Simulator(corpus(), faults=script) as pbx:
        assert (await hear(pbx, LOGIN)).status == 500
        assert pbx.canaries == {"simulator"}


@pytest.mark.parametrize("after", [0, 1, 640, 5120, -1])
@pytest.mark.parametrize("framing", ["content_length", "chunked", "close", "gzip"])
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_ends_the_body_there_in_every_framing(after: int, framing: Any, how: Any) -> None:
    heard = await with_fault(Cut(after_bytes=after, how=how, framing=framing))
    whole = gzip.compress(MEDIA, mtime=0) if framing == "gzip" else MEDIA
    body, ended = heard.unchunked if framing == "chunked" else (heard.body, False)
    assert body == whole[:after]
    assert (heard.status, heard.end, ended) == (200, how, False)
    assert heard.headers.get("Content-Length") == (str(LENGTH) if framing == "content_length" else None)
    assert heard.headers.get("Content-Encoding") == ("gzip" if framing == "gzip" else None)


@pytest.mark.parametrize("how", ["fin", "rst"])
def test_a_cut_is_the_same_on_uvloop(how: Any) -> None:
    heard = uvloop.run(with_fault(Cut(after_bytes=5120, how=how, framing="close")))
    assert (heard.body, heard.end) == (MEDIA[:5120], how)


async def test_a_cut_can_be_a_share_of_a_page() -> None:
    heard = await with_fault(
        Cut(fraction=0.5), on="recordings", path=f"recordings?startDate={NOON - 9}&endDate={NOON + 9}"
    )
    assert len(heard.body) == int(heard.headers["Content-Length"]) // 2


async def test_a_body_without_framing_can_be_whole_and_still_end_with_the_connection() -> None:
    heard = await with_fault(Frame(framing="close"))
    assert (heard.body, heard.end, "Content-Length" in heard.headers) == (MEDIA, "fin", False)


async def test_a_stall_keeps_the_rest_back_for_a_while() -> None:
    heard = await with_fault(Stall(after_bytes=5000, seconds=60))
    assert (heard.body, heard.end) == (MEDIA[:5000], "open")
    heard = await with_fault(Stall(after_bytes=5000, seconds=0.1))
    assert heard.body == MEDIA
    assert heard.seconds >= 0.1


async def test_a_drip_sends_a_few_bytes_at_a_time() -> None:
    heard = await with_fault(Drip(bytes=1, interval_s=0.05))
    assert 2 <= len(heard.body) <= 7
    assert MEDIA.startswith(heard.body)


@pytest.mark.parametrize(
    ("body", "begin"),
    [
        (Body(kind="html", right_length=True), b"<!DOCTYPE html>"),
        (Body(kind="json_metadata", right_length=True), b'{"recordings":[{"_id":"one"'),
        (Body(kind="wav", right_length=True), b"RIFF"),
        (Body(kind="other_recording", right_length=True), b"otherother"),
        (Body(text="né", right_length=True), "né   ".encode()),
    ],
)
async def test_another_body_of_the_right_length_takes_its_place(body: Body, begin: bytes) -> None:
    heard = await with_fault(body)
    assert (heard.status, heard.headers["Content-Type"], len(heard.body)) == (200, "audio/mpeg", LENGTH)
    assert heard.body.startswith(begin)


async def test_another_body_comes_with_its_own_length_otherwise() -> None:
    for body, wanted in (
        (Body(kind="empty"), b""),
        (Body(kind="other_recording"), b"other" * 100),
        (Body(data=b"\x00\xff"), b"\x00\xff"),
    ):
        heard = await with_fault(body)
        assert (heard.body, heard.headers["Content-Length"]) == (wanted, str(len(wanted)))


async def test_extra_bytes_are_announced_or_not() -> None:
    heard = await with_fault(Extra(bytes=100_000))
    assert heard.headers["Content-Length"] == str(LENGTH + 100_000)
    assert heard.body == MEDIA + bytes(100_000)
    heard = await with_fault(Extra(bytes=1, announced=False))
    assert (heard.headers["Content-Length"], heard.body) == (str(LENGTH), MEDIA + b"\x00")


async def test_another_length_can_be_announced() -> None:
    heard = await with_fault(ContentLength(plus=1))
    assert (heard.headers["Content-Length"], heard.body, heard.end) == (str(LENGTH + 1), MEDIA, "fin")
    heard = await with_fault(ContentLength(bytes=7))
    assert heard.headers["Content-Length"] == "7"


async def test_a_content_encoding_is_real_for_gzip_and_a_name_otherwise() -> None:
    heard = await with_fault(ContentEncoding(name="gzip"))
    assert (heard.headers["Content-Encoding"], gzip.decompress(heard.body)) == ("gzip", MEDIA)
    heard = await with_fault(ContentEncoding(name="br"))
    assert (heard.headers["Content-Encoding"], heard.body) == ("br", MEDIA)


async def test_a_redirect_names_another_place() -> None:
    heard = await with_fault(Redirect(location="http://127.0.0.2/x", code=308))
    assert (heard.status, heard.headers["Location"], heard.body) == (308, "http://127.0.0.2/x", b"")


async def test_a_delay_comes_before_the_first_byte() -> None:
    assert (await with_fault(Delay(seconds=60))).status == 0
    heard = await with_fault(Delay(seconds=0.1))
    assert (heard.body, heard.seconds >= 0.1) == (MEDIA, True)


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_drop_ends_a_kept_connection_without_a_byte(how: Any) -> None:
    script = FaultScript([Fault(on="media", action=Drop(how=how), after=1)])
    async with Simulator(corpus(), faults=script) as pbx:
        asked = await request(pbx, "recording/one")
        heard = await hear(pbx, asked + asked)
        assert (heard.body, heard.end) == (MEDIA, how)


async def test_headers_can_be_added_and_flood() -> None:
    heard = await with_fault(Headers(values={"X-Odd": "1"}), HeaderFlood(count=2000))
    assert heard.headers["X-Odd"] == "1"
    assert len(heard.headers) > 1000
    assert "Set-Cookie" in heard.headers


async def test_any_bytes_can_be_the_whole_answer() -> None:
    heard = await with_fault(Raw(text="HTTP/1.1 299 \xff\r\nA: 1\r\n\r\nrest"))
    assert (heard.status, heard.headers, heard.body, heard.end) == (299, {"A": "1"}, b"rest", "fin")


async def test_expired_tokens_are_refused_until_the_next_sign_in() -> None:
    script = FaultScript([Fault(on="media", action=ExpireToken())])
    async with Simulator(corpus(), faults=script) as pbx:
        old = await request(pbx, "recording/one")
        assert [(await hear(pbx, old)).status for _ in range(2)] == [401, 401]
        assert (await hear(pbx, await request(pbx, "recording/one"))).status == 200


async def test_faults_play_in_order_and_only_as_often_as_they_say() -> None:
    script = FaultScript(
        [
            Fault(on="media", action=Status(code=503), after=1, times=2),
            Fault(on="any", action=Status(code=404), recording_id="one", times=1),
            Fault(on="media", action=Status(code=418), recording_id="two", times=-1),
        ]
    )
    async with Simulator(corpus(), faults=script) as pbx:
        one, two = await request(pbx, "recording/one"), await request(pbx, "recording/two")
        assert [(await hear(pbx, one, patience_s=0.05)).status for _ in range(5)] == [404, 503, 503, 200, 200]
        assert [(await hear(pbx, two, patience_s=0.05)).status for _ in range(3)] == [418, 418, 418]
        assert [count for _, count in script.hits()] == [2, 1, 3]


async def test_a_fault_can_wait_for_a_page_or_a_cursor_or_an_account() -> None:
    script = FaultScript(
        [
            Fault(on="recordings", action=Status(code=501), page=2),
            Fault(on="recordings", action=Status(code=502), start_key="", after=1),
            Fault(on="recordings", action=Status(code=503), account_id="b" * 32),
        ]
    )
    window = f"recordings?startDate={NOON - 9}&endDate={NOON + 9}&pageSize=1"
    async with Simulator(corpus(), faults=script, switches=Switches(cursor="exact")) as pbx:
        first = await request(pbx, window)
        heard = await hear(pbx, first)
        second = await request(pbx, f"{window}&startKey={json.loads(heard.body)['next_start_key']}")
        statuses = [heard.status]
        statuses += [(await hear(pbx, page, patience_s=0.05)).status for page in (second, second, first)]
        assert statuses == [200, 501, 200, 502]
        assert [fault.account_id for fault in script.unhit()] == ["b" * 32]


async def test_faults_added_in_the_middle_count_and_those_never_hit_are_named() -> None:
    async with Simulator(corpus()) as pbx:
        asked = await request(pbx, "recording/one")
        pbx.faults.add(Fault(on="media", action=Status(code=410)))
        pbx.faults.add(Fault(on="cdrs", action=Drop(), name="CDRs are gone"))
        assert (await hear(pbx, asked)).status == 410
        assert [str(fault) for fault in pbx.faults.unhit()] == ["CDRs are gone"]
        assert "1 of 2 scripted faults were hit\nnever hit: CDRs are gone" in summary(pbx)
        pbx.faults.clear()
        assert "never hit" not in summary(pbx)


@pytest.fixture
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


def spoken(pbx: Simulator, asked: bytes, client: ssl.SSLContext) -> tuple[bytes, str]:
    """What a blocking TLS socket hears, and how it ends: asyncio does not tell the two ends apart."""

    with socket.create_connection(("127.0.0.1", pbx.port), timeout=5) as plain:
        stream = client.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
        with stream:
            stream.sendall(asked)
            data = b""
            try:
                while piece := stream.recv(65_536):
                    data += piece
            except ssl.SSLEOFError:
                return data, "no close_notify"
            return data, "close_notify"


@pytest.mark.parametrize(
    ("how", "end"), [("fin", "close_notify"), ("tls_no_close_notify", "no close_notify"), ("rst", "reset")]
)
async def test_tls_ends_with_or_without_close_notify_or_with_a_reset(
    how: Any, end: str, tls: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    server, client = tls
    media = b"x" * 3_000_000
    made = Corpus(
        [
            SimulatedRecording(
                account_id=ACCOUNT, recording_id="r", start_unix_s=NOON, duration_ms=1, media=BytesMedia(media)
            )
        ]
    )
    script = FaultScript([Fault(on="media", action=Cut(after_bytes=2_000_000, how=how, framing="close"))])
    async with Simulator(made, faults=script, tls=server) as pbx:
        heard = await hear(pbx, LOGIN, client)
        lines = ["GET /api/v2/reports/recording/r HTTP/1.1", f"X-Account-ID: {ACCOUNT}", "Accept: audio/mpeg"]
        lines += [f"Authorization: Bearer {json.loads(heard.body)['access_token']}", "", ""]
        asked = "\r\n".join(lines).encode()
        if how == "rst":
            assert (await hear(pbx, asked, client)).end == "rst"
            return
        data, found = await asyncio.to_thread(spoken, pbx, asked, client)
        assert found == end
        assert len(data.partition(b"\r\n\r\n")[2]) == 2_000_000


FILES = {
    "faults.json": json.dumps(
        {
            "faults": [
                {"on": "media", "times": -1, "cut": {"fraction": 1, "how": "rst"}},
                {
                    "on": "login",
                    "name": "slow",
                    "status": {"code": 500, "headers": {"Retry-After": "1"}},
                    "delay": {"seconds": 2},
                },
                {"on": "cdrs", "body": {"data": "AP8="}},
            ]
        }
    ),
    "faults.toml": """
[[faults]]
on = "media"
times = -1
cut = { fraction = 1, how = "rst" }
[[faults]]
on = "login"
name = "slow"
status = { code = 500, headers = { Retry-After = "1" } }
delay = { seconds = 2 }
[[faults]]
on = "cdrs"
body = { data = "AP8=" }
""",
}


@pytest.mark.parametrize("name", FILES)
def test_faults_are_read_from_json_and_toml(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert FaultScript.load(tmp_path / name).unhit() == [
        Fault(on="media", times=-1, action=(Cut(fraction=1.0, how="rst"),)),
        Fault(on="login", name="slow", action=(Status(code=500, headers={"Retry-After": "1"}), Delay(seconds=2.0))),
        Fault(on="cdrs", action=(Body(data=b"\x00\xff"),)),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "faults.json: Expecting"),
        ('{"fault": []}', "expected a list of faults"),
        ("[7]", "fault 1: expected a table, not 7"),
        ('[{"on": "media", "drop": {}}, {"on": "media"}]', "fault 2: no action; one of status"),
        ('[{"drop": {}}]', "fault 1: field 'on' is missing"),
        ('[{"on": "medium", "drop": {}}]', "fault 1: on: 'medium' is none of login, recordings"),
        ('[{"on": "media", "drop": {}, "tiems": 2}]', "fault 1: unknown field 'tiems'; allowed are on, "),
        ('[{"on": "media", "drop": {}, "times": "2"}]', "fault 1: times: expected int, not '2'"),
        ('[{"on": "media", "drop": {}, "times": true}]', "fault 1: times: expected int, not True"),
        ('[{"on": "media", "cut": 7}]', "fault 1: cut: expected a table of the action's fields, not 7"),
        ('[{"on": "media", "cut": {"hwo": "fin"}}]', "fault 1: cut.hwo: unknown field; allowed are after_bytes"),
        ('[{"on": "media", "cut": {"how": "gently"}}]', "fault 1: cut.how: 'gently' is none of fin, rst"),
        ('[{"on": "media", "stall": {"seconds": 1}}]', "fault 1: stall.after_bytes: missing"),
        ('[{"on": "media", "body": {"data": "%"}}]', "fault 1: body.data: expected base64"),
        ('[{"on": "media", "headers": {"values": {"A": 1}}}]', "fault 1: headers.values.A: expected str, not 1"),
        ('[{"on": "media", "headers": {"values": 1}}]', "fault 1: headers.values: expected a table, not 1"),
        ('[{"on": "media", "expire_token": {"now": 1}}]', "fault 1: expire_token.now: unknown field; allowed are none"),
    ],
)
def test_a_wrong_fault_file_names_the_entry_and_the_field(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(text)
    with pytest.raises(ValueError) as caught:
        FaultScript.load(path)
    assert complaint in str(caught.value)
