"""That the processes most tests start (`warm_start`) do what `python -m archiver` does when it starts by itself."""

import os
import re
import signal
from pathlib import Path

import pytest
import warm_start
from archive_rig import SINCE, UNTIL, Rig, Said, recordings, rig

PERIOD = ("--since", SINCE, "--until", UNTIL)
COMMANDS = (
    ("run", *PERIOD),
    ("run", *PERIOD, "--json"),
    ("run", *PERIOD, "--dry-run"),
    ("status",),
    ("status", "--max-age", "1d"),
    ("plan", *PERIOD),
    ("doctor",),
    ("verify",),
    ("reconcile", *PERIOD),
    ("explain", recordings(1)[0].recording_id),
    ("rebuild",),
    ("retention", "plan"),
    ("hold", "list"),
    ("audit", "check"),
    ("export", "--to", "exported", *PERIOD),
    ("report", "--out", "report.html"),
    ("--help",),
    ("--version",),
    ("-v", "status"),
    ("nonsense",),
    ("status", "--nonsense"),
)


def once(folder: Path, command: tuple[str, ...], *, cold: bool) -> tuple[Said, set[str]]:
    """What the command said after a first run, without times and numbers, and the files it left."""
    with rig(folder, recordings(2)) as it:
        assert it.run().code == 0
        it.cold = cold
        said = it.command(*command)
        names = {_plain(path.relative_to(folder).as_posix(), folder) for path in folder.rglob("*") if path.is_file()}
        return Said(said.code, _plain(said.out, folder), _plain(said.err, folder)), names


def _plain(text: str, folder: Path) -> str:
    return re.sub(r"[^\s\"/]*\d[^\s\"/]*", "#", text.replace(str(folder), "FOLDER"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_does_the_same_whether_it_starts_warm_or_by_itself(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "warm").mkdir()
    (tmp_path / "cold").mkdir()
    assert once(tmp_path / "warm", command, cold=False) == once(tmp_path / "cold", command, cold=True)


def test_a_warm_process_is_a_child_of_the_tests_own_and_says_which_signal_ended_it(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        started = it.start("simulator", "--port", "0")
        stat = Path(f"/proc/{started.process.pid}/stat")
        assert int(stat.read_text().rpartition(")")[2].split()[1]) == os.getpid()
        started.signal(signal.SIGKILL)
        assert started.wait().code == -signal.SIGKILL
        assert not stat.exists()


def test_nothing_of_one_command_reaches_the_next_warm_one(tmp_path: Path) -> None:
    with rig(tmp_path, recordings(2)) as it:
        first = it.command("status", "--json", env={"ARCHIVER_LEDGER__URL": "nonsense"})
        second = it.command("status", "--json")
        (tmp_path / "elsewhere").mkdir()
        other = Rig(tmp_path / "elsewhere", it.pbx)
        other.settings_file.unlink()
        third = other.command("status", "--json")
    assert (first.code, second.code, third.code) == (2, 0, 2), (first, second, third)
    assert "ledger.url" in first.err
    assert "settings.toml" in third.err


def test_an_environment_that_python_itself_reads_is_left_to_a_start_of_its_own() -> None:
    assert warm_start.fits({**os.environ, "ARCHIVER_PBX__PASSWORD": "x", "AWS_REGION": "y"})
    assert not warm_start.fits({**os.environ, "LC_ALL": "C"})
    assert not warm_start.fits({name: value for name, value in os.environ.items() if name != "PATH"})
