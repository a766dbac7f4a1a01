"""docs/nightly.md word for word: its lines are pasted into a shell of another root, and a night is archived."""

import os
import re
import shlex
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, SINCE, key, media, recordings
from other_root import LIBRARIES, PATH, PYTHON, ROOT, OtherRoot, program
from test_schedules import CRON, cron_lines

from archiver.simulator import Corpus, Simulator, SimulatorThread

PAGE = (ROOT / "docs" / "nightly.md").read_text("utf-8")
VENV = "/opt/archiver/.venv"
SETTINGS = f"""
[pbx]
base_url = "{{base_url}}"
username = "archiver"
domain = "example"
account_ids = ["{ACCOUNTS[0]}", "{ACCOUNTS[1]}"]
[listing]
begin = "{SINCE}"
window_hours = 672
[transfer]
requests_per_s = 0
"""
# The two lines at which a person types something, as if they had.
TYPED = (
    (r"^editor (\S+).*$", r"cp /opt/settings.toml \1"),
    (r"^systemd-ask-password [^|]*\|", "printf simulator |"),
)


def blocks(heading: str) -> list[str]:
    """The shell lines under a heading of the page."""
    _, _, section = PAGE.partition(f"## {heading}\n")
    assert section
    return re.findall(r"^```sh\n(.*?)^```", section.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def pasted(lines: str) -> str:
    for typed, instead in TYPED:
        lines = re.sub(typed, instead, lines, flags=re.MULTILINE)
    return lines


def as_cron_does(command: str) -> str:
    """The same as cron starts it: the file's variables, its user, its shell, and nothing else."""
    variables = re.findall(r"^[A-Z_]+=\S*$", CRON, re.MULTILINE)
    user = ["setpriv", "--reuid=archiver", "--regid=archiver", "--init-groups", "env", "-i"]
    return shlex.join([*user, *variables, "/bin/sh", "-c", command])


def installed(root: OtherRoot, base_url: str, steps: list[str]) -> "tuple[str, list[str]]":
    """All the lines as one script, and what makes the machine's own Python usable for every user."""
    root.binds["/opt/repository"] = ROOT
    root.write("/opt/settings.toml", SETTINGS.format(base_url=base_url))
    setup = [f"echo {LIBRARIES} > etc/ld.so.conf.d/here.conf && chroot . ldconfig"]
    return "\n".join(["set -eux", "cd /opt/repository", *map(pasted, steps)]), setup


def archive_a_night(root: OtherRoot, steps: list[str], *, seconds: float = 120) -> None:
    program("systemd", "systemd-sysusers", "systemd")
    archive = root.share("/srv/recordings")
    rows = recordings(6)
    nightly, verification, _ = (command for _, _, command in cron_lines())
    steps = [*steps, *blocks("cron"), as_cron_does(nightly), as_cron_does(verification)]
    with SimulatorThread(Simulator(Corpus(rows, accounts=ACCOUNTS))) as pbx:
        script, setup = installed(root, pbx.base_url, steps)
        environment = {"PATH": f"{PYTHON}/bin:{PATH}", "LD_LIBRARY_PATH": ""}
        done = root.run(setup, ["sh", "-c", script], environment=environment, seconds=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A run can begin" in done.stdout
    found = {path.relative_to(archive).as_posix(): path.read_bytes() for path in archive.rglob("*.mp3")}
    assert found == {key(row): media(row) for row in rows}, done.stdout + done.stderr


def test_what_the_page_says_can_be_pasted_up_to_a_night_by_cron(tmp_path: Path) -> None:
    root = OtherRoot(tmp_path / "root")
    root.install(VENV)
    program_itself, *rest = blocks("Install the program")
    assert "pip install" in program_itself
    archive_a_night(root, ["install -d /etc/archiver", *rest])


@pytest.mark.campaign
@pytest.mark.timeout(600)
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="installs anew; `make campaign`")
def test_what_the_page_says_can_be_pasted_from_the_first_line(tmp_path: Path) -> None:
    archive_a_night(OtherRoot(tmp_path / "root"), blocks("Install the program"), seconds=500)
