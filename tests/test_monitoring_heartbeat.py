"""The heartbeat: a real server hears it after each good run, and never otherwise. And what its settings allow."""

import json
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from archive_rig import SINCE, UNTIL, Rig, recordings, rig, until
from listener import Listener, Reply, listener

from archiver.errors import SettingsError
from archiver.monitoring.heartbeat import beat
from archiver.monitoring.patience import Patience
from archiver.settings import load
from archiver.simulator import Corpus, Fault, Simulator, SimulatorThread, Status, Switches

TOKEN = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
QUICK = Patience(timeout_s=5, tries=3, pause_s=0)


@pytest.fixture
def ear() -> Iterator[Listener]:
    with listener() as it:
        yield it


def watched(it: Rig, ear: Listener, **pbx: object) -> None:
    it.configure(monitoring={"heartbeat_url": f"http://{ear.address}/ping/{TOKEN}"}, pbx=pbx)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_good_run_calls_the_heartbeat_once_and_shows_its_token_nowhere(
    tmp_path: Path, ear: Listener, processes: int
) -> None:
    with rig(tmp_path, recordings(4)) as it:
        url = f"http://{ear.address}/ping/{TOKEN}"
        it.configure(monitoring={"heartbeat_url": url}, transfer={"processes": processes})
        said = it.command("-v", "run", "--since", SINCE, "--until", UNTIL, "--json")
        assert (said.code, said.json["notes"]) == (0, [])
        assert [(heard.method, heard.path, heard.body) for heard in ear.heard] == [("GET", f"/ping/{TOKEN}", b"")]
        assert TOKEN not in said.out + said.err
        assert not [path for path in it.root.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


def test_a_night_in_which_the_pbx_is_down_is_silent(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(2)) as it:
        it.base_url = "http://127.0.0.1:1"
        watched(it, ear, max_retries=0)
        assert it.run().code == 8
        assert ear.heard == []


def test_a_night_that_leaves_something_pending_is_silent_and_the_next_good_one_is_heard(
    tmp_path: Path, ear: Listener
) -> None:
    rows = recordings(3)
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=503))
    with rig(tmp_path, rows, faults=[fault]) as it:
        watched(it, ear, max_retries=0)
        assert it.run().code == 3
        assert ear.heard == []
        assert it.run().code == 0
        assert len(ear.heard) == 1


def test_a_dry_run_a_verification_and_a_reconciliation_are_silent(tmp_path: Path, ear: Listener) -> None:
    with rig(tmp_path, recordings(2)) as it:
        assert it.run().code == 0
        watched(it, ear)
        assert it.run("--dry-run").code == 0
        assert it.command("verify").code == 0
        assert it.command("reconcile", "--since", SINCE, "--until", UNTIL).code in {0, 3}
        assert ear.heard == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_is_silent(tmp_path: Path, ear: Listener, number: signal.Signals, code: int) -> None:
    with rig(tmp_path, recordings(40), switches=Switches(media_think_time_s=0.15)) as it:
        watched(it, ear)
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: it.pbx.stats.media > 0)
        started.signal(number)
        said = started.wait()
        assert said.code == code
        assert ear.heard == []


def test_a_heartbeat_that_is_refused_is_a_warning_and_a_note_and_the_run_is_still_good(
    tmp_path: Path, ear: Listener
) -> None:
    ear.replies = [Reply(404)]
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        said = it.run()
        why = "heartbeat could not be delivered: the server answered 404"
        assert said.code == 0
        assert said.json["notes"] == [f"The {why}."]
        assert why in said.err
        assert len(ear.heard) == 1
        kept = it.root / ".archiver" / "reports" / f"{said.json['run_id']}.json"
        assert json.loads(kept.read_text()) == said.json
        assert TOKEN not in said.out + said.err


def test_a_signal_while_the_heartbeats_server_is_silent_ends_the_waiting_and_not_the_report(
    tmp_path: Path, ear: Listener
) -> None:
    ear.silent = True
    with rig(tmp_path, recordings(2)) as it:
        watched(it, ear)
        started = it.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        until(lambda: len(ear.heard) == 1)
        started.signal(signal.SIGTERM)
        said = started.wait()
        # Everything asked for was done before the signal came.
        assert (said.code, said.json["outcome"]) == (0, "complete")
        assert "given up" in said.json["notes"][0]
        assert len(ear.heard) == 1


async def test_what_passes_is_tried_again_and_a_refusal_is_not(ear: Listener) -> None:
    ear.replies = [Reply(503), Reply(429), Reply(200)]
    assert await beat(f"http://{ear.address}/a", QUICK) == ""
    assert len(ear.heard) == 3
    ear.replies, ear.heard = [Reply(500)], []
    assert await beat(f"http://{ear.address}/a", QUICK) == "the server answered 500"
    assert len(ear.heard) == 3
    ear.replies, ear.heard = [Reply(410)], []
    assert await beat(f"http://{ear.address}/a", QUICK) == "the server answered 410"
    assert len(ear.heard) == 1


async def test_a_redirect_is_followed_within_its_origin_only(ear: Listener) -> None:
    ear.replies = [Reply(301, "/there"), Reply(200)]
    assert await beat(f"http://{ear.address}/{TOKEN}", QUICK) == ""
    assert [heard.path for heard in ear.heard] == [f"/{TOKEN}", "/there"]
    with listener() as other:
        ear.replies, ear.heard = [Reply(302, f"http://{other.address}/{TOKEN}")], []
        assert "another origin" in await beat(f"http://{ear.address}/{TOKEN}", QUICK)
        assert (len(ear.heard), other.heard) == (1, [])
    ear.replies, ear.heard = [Reply(307, "/round")], []
    assert "again and again" in await beat(f"http://{ear.address}/round", QUICK)
    ear.replies = [Reply(302, "http://[")]
    assert "no address" in await beat(f"http://{ear.address}/a", QUICK)


async def test_a_server_that_is_not_there_or_says_nothing_is_told_without_the_address(ear: Listener) -> None:
    gone = await beat(f"http://127.0.0.1:1/{TOKEN}", QUICK)
    assert gone.startswith("no connection")
    ear.silent = True
    silent = await beat(f"http://{ear.address}/{TOKEN}", Patience(timeout_s=0.05, tries=2, pause_s=0))
    assert silent == "no answer within 0.05 s"
    assert len(ear.heard) == 2
    assert TOKEN not in gone + silent


async def test_a_server_whose_certificate_nobody_vouches_for_gets_no_heartbeat() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with SimulatorThread(Simulator(Corpus([], [], accounts=("a" * 32,)), tls=context)) as server:
        said = await beat(f"{server.base_url}/{TOKEN}", QUICK)
        assert server.base_url.startswith("https://")
        assert said == "the server's certificate can't be trusted"
        assert server.stats.requests == 0


@pytest.mark.parametrize(
    "url",
    [
        f"http://hc.example.com/{TOKEN}",
        f"ftp://127.0.0.1/{TOKEN}",
        f"https:///{TOKEN}",
        f"https://hc.example.com:x/{TOKEN}",
        f"https://hc.example.com/a b{TOKEN}",
        TOKEN,
    ],
)
def test_an_address_that_must_not_be_called_is_refused_without_being_shown(tmp_path: Path, url: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f'[monitoring]\nheartbeat_url = "{url}"\n')
    with pytest.raises(SettingsError, match=r"monitoring\.heartbeat_url must be an https") as caught:
        load(file)
    assert TOKEN not in str(caught.value)


def test_addresses_in_the_environment_are_json_or_separated_by_blanks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("")
    for text in ('["json://a/?to=x,y", "json://b"]', "json://a/?to=x,y json://b"):
        monkeypatch.setenv("ARCHIVER_MONITORING__NOTIFY_URLS", text)
        found = [url.get_secret_value() for url in load(file).monitoring.notify_urls]
        assert found == ["json://a/?to=x,y", "json://b"]
    for text in (f"json://a json://a {TOKEN}", TOKEN, f"json://{TOKEN} json://{TOKEN}", f'["json://{TOKEN}", 1]'):
        monkeypatch.setenv("ARCHIVER_MONITORING__NOTIFY_URLS", text)
        with pytest.raises(SettingsError, match=r"monitoring\.notify_urls") as caught:
            load(file)
        assert TOKEN not in str(caught.value)
