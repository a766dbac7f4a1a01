"""The simulator as a program and as a thread, with TLS of its own making."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import trustme

from archiver.simulator import (
    Corpus,
    Fault,
    SimulatedRecording,
    Simulator,
    SimulatorThread,
    Status,
    Switches,
    make_certificate,
)
from archiver.simulator.faultfile import ACTIONS

ACCOUNT = "a" * 32
PROGRAM = """
from pathlib import Path
from archiver.simulator import Corpus, Drop, Fault, FaultScript, Simulator, serve
pbx = Simulator(Corpus(), faults=FaultScript([Fault(on="cdrs", action=Drop(), name="never asked for")]))
print(serve(pbx, lambda url: print(url, flush=True)))
"""


DOCUMENT = Path(__file__).parent.parent / "docs" / "simulator.md"


def log_in(base_url: str, context: ssl.SSLContext | None = None) -> int:
    body = json.dumps({"username": "archiver", "password": "simulator", "domain": "example"}).encode()
    with urllib.request.urlopen(f"{base_url}/api/v2/login", body, timeout=5, context=context) as answer:
        return int(answer.status)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_then_sums_up(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-W", "error", "-c", PROGRAM], stdout=-1, stderr=-1, text=True) as program:
        assert program.stdout is not None
        assert log_in(program.stdout.readline().strip()) == 200
        program.send_signal(number)
        out, err = program.communicate(timeout=5)
    assert (program.returncode, err) == (0, "")
    assert "1 requests on 1 connections" in out
    assert "1 x 200" in out
    assert out.endswith("0 of 1 scripted faults were hit\nnever hit: never asked for\n")


def test_it_runs_in_a_thread_and_can_be_changed_from_outside() -> None:
    corpus = Corpus()
    with SimulatorThread(Simulator(corpus)) as pbx:
        assert log_in(pbx.base_url) == 200
        pbx.add_fault(Fault(on="login", action=Status(code=503)))
        with pytest.raises(urllib.error.HTTPError, match="503") as caught:
            log_in(pbx.base_url)
        caught.value.close()
        pbx.call(
            lambda: corpus.add(SimulatedRecording(account_id=ACCOUNT, recording_id="x", start_unix_s=0, duration_ms=1))
        )
        assert corpus.account_ids == (ACCOUNT,)
        assert pbx.stats.statuses == {200: 1, 503: 1}
        with pytest.raises(KeyError):
            pbx.call(lambda: corpus.remove(ACCOUNT, "y"))
    assert not any(thread.name == "pbx-simulator" for thread in threading.enumerate())


def test_a_port_that_is_taken_is_told_to_the_caller() -> None:
    with SimulatorThread(Simulator(Corpus())) as pbx:
        second = SimulatorThread(Simulator(Corpus(), port=pbx.simulator.port))
        with pytest.raises(OSError, match="address already in use"), second:
            pass


def test_it_speaks_tls_with_a_certificate_it_made(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    assert made.key.stat().st_mode & 0o077 == 0
    with SimulatorThread(Simulator(Corpus(), tls=made.server_context())) as pbx:
        assert pbx.base_url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=made.certificate)
        assert log_in(pbx.base_url, trusting) == 200
        assert log_in(pbx.base_url.replace("127.0.0.1", "localhost"), trusting) == 200


def test_a_client_that_does_not_trust_it_does_no_harm() -> None:
    authority, server = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with SimulatorThread(Simulator(Corpus(), tls=server)) as pbx:
        with pytest.raises(urllib.error.URLError, match="certificate verify failed"):
            log_in(pbx.base_url, ssl.create_default_context())
        with pytest.raises(OSError):
            log_in(pbx.base_url.replace("https", "http"))
        assert log_in(pbx.base_url, trusting) == 200
        assert pbx.stats.requests == 1


def test_without_openssl_the_error_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="needs the openssl program"):
        make_certificate(tmp_path)


def test_openssl_that_fails_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"could not make a certificate: .*absent"):
        make_certificate(tmp_path / "absent")


def test_every_switch_and_every_action_is_in_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = [field.name for field in dataclasses.fields(Switches)] + list(ACTIONS)
    names += [field.name for action in ACTIONS.values() for field in dataclasses.fields(action)]  # type: ignore[arg-type]
    assert [name for name in names if f"`{name}`" not in text] == []


async def test_a_refused_certificate_does_not_keep_the_simulator_from_ending() -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    async with asyncio.timeout(10), Simulator(Corpus(), tls=tls) as pbx:
        with pytest.raises(ssl.SSLError):
            await asyncio.open_connection("127.0.0.1", pbx.port, ssl=ssl.create_default_context())
    assert pbx.stats.requests == 0
