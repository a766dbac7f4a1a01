"""Logs keep secrets and numbers to themselves, and nobody who is called can write a line of ours."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from archiver.logs import Redaction, configure, to_stream

FORGED = "x\n2026-11-23T00:00:00Z [error] forged"


@pytest.fixture(autouse=True)
def structlog_as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def logged(
    log_format: str, event: str, *, secrets: tuple[str, ...] = (), level: str = "debug", **values: object
) -> str:
    stream = io.StringIO()
    configure(level=level, log_format=log_format, write=to_stream(stream)).hide(secrets)
    structlog.get_logger().info(event, **values)
    return stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_secret_never_reaches_a_line(log_format: str) -> None:
    line = logged(
        log_format, "with hunter2 inside", secrets=("hunter2", ""), url="https://a:hunter2@b", run_id="hunter2"
    )
    assert "hunter2" not in line
    assert line.count("[secret]") == 3


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("number", ["+34600123456", "5551234567", "0034600123456"])
def test_phone_numbers_are_left_out(log_format: str, number: str) -> None:
    line = logged(log_format, f"call from {number}.", detail=f"{number}@pbx.example", callee=number)
    assert number not in line
    assert line.count("[number]") == 3


def test_what_identifies_a_recording_stays_whole() -> None:
    names = {"account_id": "1234567890", "recording_id": "202611-1234567", "run_id": "20261123", "key": "1234567/x.mp3"}
    found = json.loads(logged("json", "archived", secrets=(), level="info", **names))
    assert {key: found[key] for key in names} == names


def test_short_numbers_and_ids_inside_a_text_stay_readable() -> None:
    text = "HTTP 503 after 120000 bytes of 202611-04f5aabb1234567"
    assert Redaction().clean(text) == text


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize(
    "nasty", [FORGED, "a\r\nb", "\x1b[2Jgone", "a\u2028b", "a\x85b", "\u202egnp.exe", "\x00", "\ud800"]
)
def test_control_characters_can_not_forge_or_hide_a_line(log_format: str, nasty: str) -> None:
    line = logged(log_format, nasty, recording_id=nasty, detail=nasty)
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    assert all(character.isprintable() for character in line[:-1])


@given(event=st.text(), value=st.text())
def test_json_is_one_object_a_line_whatever_it_says(event: str, value: str) -> None:
    line = logged("json", event, detail=value, count=3)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["count"] == 3
    assert found["level"] == "info"
    assert found["timestamp"].endswith("Z")


@given(st.text())
def test_text_is_one_line_whatever_it_says(text: str) -> None:
    assert len(logged("text", "event", recording_id=text, detail=text).splitlines()) == 1


def test_a_long_text_is_cut() -> None:
    cleaned = Redaction().clean("x" * 10_000)
    assert len(cleaned) < 1000
    assert cleaned.endswith("…")


def test_what_is_no_text_passes_as_it_is() -> None:
    assert Redaction().clean(5551234567) == 5551234567
    assert Redaction().clean(None) is None


@pytest.mark.parametrize(("level", "lines"), [("debug", 3), ("info", 2), ("warning", 1)])
def test_the_level_decides_what_is_logged(level: str, lines: int) -> None:
    stream = io.StringIO()
    configure(level=level, log_format="text", write=to_stream(stream))
    logger = structlog.get_logger()
    logger.debug("one")
    logger.info("two")
    logger.warning("three")
    assert len(stream.getvalue().splitlines()) == lines


def test_a_stream_that_is_closed_is_no_reason_to_fail() -> None:
    stream = io.StringIO()
    write = to_stream(stream)
    write("a line")
    assert stream.getvalue() == "a line\n"
    stream.close()
    write("another")
    assert stream.closed


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_keeps_the_secret_too(log_format: str) -> None:
    stream = io.StringIO()
    configure(level="info", log_format=log_format, write=to_stream(stream)).hide(["hunter2"])
    error = RuntimeError("the password hunter2 of 5551234567\n2026-11-23T00:00:00Z [error] forged")
    structlog.get_logger().error("a bug", exc_info=error)
    written = stream.getvalue()
    assert "RuntimeError" in written
    assert "hunter2" not in written
    assert "5551234567" not in written
    assert not any(line.startswith("2026-11-23T00") for line in written.splitlines())
    if log_format == "json":
        assert len(written.splitlines()) == 1
        assert json.loads(written)["event"] == "a bug"
