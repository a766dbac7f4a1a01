"""The systemd units as they stand, run by systemd itself, and held to its own linters."""

import re
import subprocess
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, SINCE, key, media, recordings, until
from other_root import ROOT, OtherRoot, program
from test_schedules import COMING

from archiver.simulator import Corpus, Simulator, SimulatorThread

SCHEDULES = ROOT / "docs" / "schedules"
SERVICES = sorted(path.name for path in SCHEDULES.glob("*.service"))
TIMERS = sorted(path.name for path in SCHEDULES.glob("*.timer"))
VENV = "/opt/archiver/.venv"
NIGHT = (
    "probe.service",
    "archiver.service",
    "archiver-verify.service",
    *(() if COMING else ("archiver-status.service",)),
)
EXPOSURE = 15
"""Tenths of systemd's own measure: 15 is 1.5 of 10, where a unit without any hardening has 9.6."""

SETTINGS = f"""
[pbx]
base_url = "{{base_url}}"
username = "archiver"
domain = "example"
account_ids = ["{ACCOUNTS[0]}", "{ACCOUNTS[1]}"]
retry_wait_s = 0.01
[listing]
begin = "{SINCE}"
window_hours = 672
[transfer]
requests_per_s = 0
processes = 2
"""
# Units of the machine that the test has no use for are not started; the service itself stays as it is.
BARE = "[Unit]\nDefaultDependencies=no\n"
OBSERVED = """[Unit]
DefaultDependencies=no
{after}
[Service]
StandardOutput=append:/out/{name}
StandardError=append:/out/{name}
Environment=LD_LIBRARY_PATH=/opt/python/lib
"""
END = """[Unit]
DefaultDependencies=no
Wants={names}
After={names}
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'systemctl show -p Result -p ExecMainStatus {names} > /out/part; mv /out/part /out/ended'
"""
PROBE = """#!/bin/sh
try() { if "$@" > /dev/null 2>&1; then echo "can: $*"; else echo "can't: $*"; fi; }
try cat /etc/archiver/pbx-password
try touch /etc/probe /opt/probe
try ls /home
try touch /srv/recordings/probe
try rm /srv/recordings/probe
try touch /tmp/probe
cat "$ARCHIVER_PBX__PASSWORD_FILE"
grep -E "^(CapBnd|CapEff|NoNewPrivs|Seccomp):" /proc/self/status | tr "\\t" " "
umask
"""
SEEN = """\
can't: cat /etc/archiver/pbx-password
can't: touch /etc/probe /opt/probe
can't: ls /home
can: touch /srv/recordings/probe
can: rm /srv/recordings/probe
can: touch /tmp/probe
simulator
CapEff: 0000000000000000
CapBnd: 0000000000000000
NoNewPrivs: 1
Seccomp: 2
0077
"""
TARGET = "[Unit]\nDefaultDependencies=no\nAllowIsolate=yes\nWants=end.service\nAfter=end.service\n"


def values(unit: str) -> dict[str, dict[str, list[str]]]:
    """A unit's sections; each key with all its values."""
    found: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (SCHEDULES / unit).read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(section, {}).setdefault(name, []).append(value)
    return found


def analyzed(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [program("systemd", "systemd-analyze", "systemd"), *arguments], check=False, capture_output=True, text=True
    )


def here(folder: Path) -> list[str]:
    """Copies of all units whose program is there."""
    stand_in = folder / "archiver"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    for unit in (*SERVICES, *TIMERS):
        text = (SCHEDULES / unit).read_text("utf-8")
        (folder / unit).write_text(text.replace(f"{VENV}/bin/archiver", str(stand_in)))
    return [str(folder / unit) for unit in (*SERVICES, *TIMERS)]


def test_there_is_a_timer_for_each_service() -> None:
    assert {name.removesuffix(".service") for name in SERVICES} == {name.removesuffix(".timer") for name in TIMERS}
    assert "archiver.service" in SERVICES


def test_systemd_finds_nothing_to_say_about_the_units(tmp_path: Path) -> None:
    done = analyzed("verify", "--man=no", "--recursive-errors=no", *here(tmp_path))
    ours = [line for line in done.stderr.splitlines() if "archiver" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_systemd_does_say_what_is_wrong_with_a_unit(tmp_path: Path) -> None:
    service = next(path for path in map(Path, here(tmp_path)) if path.name == "archiver.service")
    service.write_text(service.read_text().replace("ProtectHome=yes", "ProtectHoem=yes"))
    assert "ProtectHoem" in analyzed("verify", "--man=no", str(service)).stderr


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_exposed_little(service: str, tmp_path: Path) -> None:
    here(tmp_path)
    measure = ("security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE}")
    done = analyzed(*measure, str(tmp_path / service))
    assert done.returncode == 0, done.stdout
    (tmp_path / "plain.service").write_text(f"[Service]\nType=oneshot\nExecStart={tmp_path}/archiver\n")
    assert analyzed(*measure, str(tmp_path / "plain.service")).returncode != 0


@pytest.mark.parametrize("timer", TIMERS)
def test_a_timer_elapses_again_and_again(timer: str) -> None:
    for calendar in values(timer)["Timer"]["OnCalendar"]:
        done = analyzed("calendar", "--iterations=3", calendar)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(r"Next elapse:|Iter\. #", done.stdout)) == 3, done.stdout


def test_the_timers_can_be_enabled(tmp_path: Path) -> None:
    systemctl = program("systemd", "systemctl", "systemd")
    units = tmp_path / "etc/systemd/system"
    units.mkdir(parents=True)
    for unit in (*SERVICES, *TIMERS):
        (units / unit).write_bytes((SCHEDULES / unit).read_bytes())
    done = subprocess.run(
        [systemctl, f"--root={tmp_path}", "enable", *TIMERS], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (units / "timers.target.wants").iterdir()} == set(TIMERS)


def test_a_service_is_given_longer_to_stop_than_a_run_takes_for_it() -> None:
    from archiver.settings import Settings

    for service in SERVICES:
        for seconds in values(service)["Service"].get("TimeoutStopSec", []):
            assert int(seconds) > Settings().transfer.grace_s


def machine(root: OtherRoot, base_url: str) -> list[str]:
    """The files as docs/nightly.md installs them, and a target that runs the services; the lines that set them up."""
    units = "/etc/systemd/system"
    after = ""
    root.write("/opt/probe.sh", PROBE, 0o755)
    for name in NIGHT:
        text = (SCHEDULES / name.replace("probe", "archiver")).read_text("utf-8")
        if name == "probe.service":  # the nightly service, with another program in it
            text = re.sub(r"^ExecStart=.*$", "ExecStart=/opt/probe.sh", text, flags=re.MULTILINE)
        root.write(f"{units}/{name}", text)
        root.write(f"{units}/{name}.d/here.conf", OBSERVED.format(name=name, after=after))
        after = f"After={name}"
    root.write(f"{units}/network-online.target", BARE)
    root.write(f"{units}/end.service", END.format(names=" ".join(NIGHT)))
    root.write(f"{units}/night.target", TARGET)
    root.write("/etc/sysusers.d/archiver.conf", (SCHEDULES / "archiver.sysusers.conf").read_text("utf-8"))
    root.write("/etc/archiver/settings.toml", SETTINGS.format(base_url=base_url.replace("127.0.0.1", "localhost")))
    root.write("/etc/archiver/pbx-password", "simulator\n", 0o600)
    root.write("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    return [
        "chroot . systemd-sysusers archiver.conf",
        "chroot . install -d -m 0700 -o archiver -g archiver /srv/recordings",
    ]


def test_systemd_runs_a_night_and_a_verification_with_a_user_and_a_password_of_their_own(tmp_path: Path) -> None:
    """The units, the user's line and the credential as they are given, under a real systemd, confined as they say."""
    program("systemd", "systemd-sysusers", "systemd")
    rows = recordings(6)
    root = OtherRoot(tmp_path / "root")
    root.install(VENV)
    out, archive = root.share("/out"), root.share("/srv/recordings")
    init = ["/lib/systemd/systemd", "--unit=night.target", "--log-target=null", "--show-status=no"]
    pbx = SimulatorThread(Simulator(Corpus(rows, accounts=ACCOUNTS)))
    with pbx, root.booted(machine(root, pbx.base_url), init) as systemd:
        until(lambda: (out / "ended").exists() or systemd.poll() is not None)
    said = "".join(path.read_text("utf-8") for path in sorted(out.iterdir()))
    assert re.findall(r"^(\w+)=(.*)$", said, re.MULTILINE) == [("Result", "success"), ("ExecMainStatus", "0")] * len(
        NIGHT
    ), said
    assert (out / "probe.service").read_text("utf-8") == SEEN
    found = {path.relative_to(archive).as_posix(): path.read_bytes() for path in archive.rglob("*.mp3")}
    assert found == {key(row): media(row) for row in rows}, said
    owners = {path.stat().st_uid for path in (archive, *archive.rglob("*"))}
    assert len(owners) == 1, said
    assert owners.isdisjoint({0, 65534}), said
