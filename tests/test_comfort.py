"""What makes the command line good to use: words for people, settings that run at once, readers who leave early."""

import io
import os
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest
from archive_rig import SINCE, UNTIL, rig

from archiver.cli import context
from archiver.cli.words.run import plan_words
from archiver.reports.plan import PlanReport, Volume

PROGRAM = [sys.executable, "-m", "archiver"]


def test_a_pbx_that_is_not_there_is_described_in_words(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with rig(tmp_path, []) as it:
            it.base_url = f"http://127.0.0.1:{taken.getsockname()[1]}"
            it.configure(pbx={"max_retries": 0})
            said = it.command("run", "--since", SINCE, "--until", UNTIL)
            assert said.code == 8
            assert "Connection refused" in said.out + said.err
            assert "Error" not in said.out + said.err


@pytest.mark.parametrize(
    ("hours", "words"),
    [
        (0.0, "less than a minute"),
        (0.02, "at least 1 minute "),
        (0.5, "at least 30 minutes"),
        (3.25, "at least 3.2 hours"),
    ],
)
def test_a_plan_counts_in_minutes_under_an_hour(hours: float, words: str) -> None:
    report = PlanReport(
        accounts=[],
        total=Volume(),
        months={},
        already_archived=0,
        to_archive=0,
        pages=0,
        requests=0,
        windows_complete=0,
        windows_incomplete=0,
        problems=[],
        hours=hours,
        hours_limited_by="transfer.requests_per_s",
        free_bytes=None,
    )
    assert words in plan_words(report)


def test_a_run_tells_its_period(tmp_path: Path) -> None:
    with rig(tmp_path, []) as it:
        said = it.command("run", "--since", SINCE, "--until", UNTIL)
        assert f"{SINCE}T00:00:00Z to {UNTIL}T00:00:00Z" in said.out


@pytest.mark.parametrize("tls", [False, True])
def test_the_settings_that_the_simulator_prints_run_as_they_stand(tmp_path: Path, *, tls: bool) -> None:
    arguments = ["simulator", "--port", "0", "--recordings", "6", *(["--tls"] if tls else [])]
    with subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, stdout=-1, text=True) as simulator:
        assert simulator.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("export "):
            lines.append(simulator.stdout.readline())
        (tmp_path / "settings.toml").write_text("".join(lines[:-1]))
        assert tomllib.loads("".join(lines[:-1])).keys() == {"pbx", "listing", "store"}
        name, _, value = lines[-1].removeprefix("export ").strip().partition("=")
        environment = {key: text for key, text in os.environ.items() if not key.startswith("ARCHIVER_")}
        done = subprocess.run(
            [*PROGRAM, "run", "--json"],
            cwd=tmp_path,
            env=environment | {name: value},
            capture_output=True,
            text=True,
            check=False,
        )
        simulator.send_signal(signal.SIGINT)
        simulator.communicate(timeout=20)
    assert done.returncode == 0, done
    assert '"archived":6' in done.stdout
    assert len(list((tmp_path / "simulator-archive").rglob("*.mp3"))) == 6


def test_a_simulator_whose_reader_has_left_serves_on_and_ends_well(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with subprocess.Popen(
        [*PROGRAM, "simulator", "--port", "0", "--recordings", "2"], cwd=tmp_path, stdout=writer, stderr=-1, text=True
    ) as simulator:
        os.close(writer)
        with pytest.raises(subprocess.TimeoutExpired):
            simulator.wait(3)
        simulator.send_signal(signal.SIGINT)
        _, err = simulator.communicate(timeout=20)
    assert (simulator.returncode, err) == (0, "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_demo_whose_reader_has_left_is_no_failure(tmp_path: Path, *, as_json: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = ["-q", "demo", "--recordings", "4", *(["--json"] if as_json else [])]
    with subprocess.Popen([*PROGRAM, *arguments], cwd=tmp_path, stdout=writer, stderr=-1, text=True) as demo:
        os.close(writer)
        _, err = demo.communicate(timeout=60)
    assert (demo.returncode, err) == (0, "")
    assert len(list((tmp_path / "demo-archive").rglob("*.mp3"))) == 4


class Pipe(io.RawIOBase):
    """A stream that takes a little at a time, as a pipe does when its reader is slow."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:1000])
        return min(len(data), 1000)


def test_a_long_result_is_printed_whole_through_a_pipe_that_takes_little_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipe = Pipe()
    # As PYTHONUNBUFFERED makes it.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(cast("BinaryIO", pipe), "utf-8", write_through=True))
    context.tell("é" * 5000)
    assert pipe.taken.decode() == "é" * 5000 + "\n"
