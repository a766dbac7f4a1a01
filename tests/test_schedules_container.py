"""The program as the Dockerfile runs it: another user without a home or a name, and a root that can't be written."""

import os
import shlex
from pathlib import Path

import pytest
from archive_rig import ACCOUNTS, DEADLINE_S, SINCE, assert_private, key, media, recordings
from dockerfile import Stage, parsed
from other_root import ROOT, OtherRoot

from archiver.simulator import Corpus, Simulator, SimulatorThread

NOBODY = 10001
RECORDINGS = recordings(6)
VENV = "/opt/archiver"
SETTINGS = f"""
[pbx]
base_url = "{{base_url}}"
username = "archiver"
domain = "example"
password_file = "/run/secrets/pbx/password"
max_retries = 0
account_ids = ["{ACCOUNTS[0]}", "{ACCOUNTS[1]}"]
[listing]
begin = "{SINCE}"
window_hours = 672
[transfer]
requests_per_s = 0
[store.local]
root = "/srv/recordings/archive"
"""
# As `docker run --read-only --tmpfs /tmp` and Kubernetes do: no capability, nothing to gain, only /tmp and the volume.
CONFINED = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={NOBODY}", "--no-new-privs"]
CONFINED += ["--bounding-set=-all", "--inh-caps=-all"]
READ_ONLY = ["mount -o remount,ro,bind run", "mount -o remount,ro ."]


def container(root: OtherRoot, base_url: str) -> list[str]:
    """Settings, a secret as Kubernetes hands it to `fsGroup`, and a volume; the lines that set them up."""
    root.write("/etc/archiver/settings.toml", SETTINGS.format(base_url=base_url))
    root.share("/srv/recordings").chmod(0o2770)
    return [
        f"chown 0:{NOBODY} srv/recordings",
        "mkdir -p run/secrets/pbx && printf simulator > run/secrets/pbx/password",
        f"chown 0:{NOBODY} run/secrets/pbx/password && chmod 0440 run/secrets/pbx/password",
        *READ_ONLY,
    ]


def final_environment(stages: list[Stage]) -> dict[str, str]:
    """What the image sets, over the path of its base."""
    found = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    for name, value in stages[-1].environment.items():
        found[name] = value.replace("$PATH", found["PATH"])
    return found


def assert_all_archived(root: Path) -> None:
    assert {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*.mp3")} == {
        key(row): media(row) for row in RECORDINGS
    }
    for path in (root, *root.rglob("*")):
        assert path.stat().st_uid == NOBODY
    assert (root.stat().st_mode & 0o777) == 0o700
    assert_private(root)


def run_as_the_image_does(root: OtherRoot, stages: list[Stage], setup: list[str], *arguments: str) -> tuple[int, str]:
    last = stages[-1]
    assert last.user == f"{NOBODY}:{NOBODY}"
    command = [*CONFINED, *last.entrypoint, *(arguments or last.command)]
    done = root.run(setup, command, environment=final_environment(stages), seconds=DEADLINE_S * 2)
    return done.returncode, done.stdout + done.stderr


def test_the_image_archives_with_nothing_to_write_but_the_volume(tmp_path: Path) -> None:
    stages = parsed(ROOT / "docs/schedules/Dockerfile")
    root = OtherRoot(tmp_path / "root")
    root.install(VENV)
    with SimulatorThread(Simulator(Corpus(RECORDINGS, accounts=ACCOUNTS))) as pbx:
        setup = container(root, pbx.base_url)
        # Not even a folder for temporary files.
        code, said = run_as_the_image_does(root, stages, ["mount -o remount,ro tmp", *setup])
        assert code == 0, said
        assert_all_archived(root.binds["/srv/recordings"] / "archive")
        code, said = run_as_the_image_does(root, stages, setup, "-q", "verify")
        assert code == 0, said
        code, said = run_as_the_image_does(root, stages, setup, "doctor")
        assert code == 0, said
        assert "weak  " not in said.partition("PBX: ")[0], said


def test_the_demo_works_without_a_home_where_only_one_folder_can_be_written(tmp_path: Path) -> None:
    root = OtherRoot(tmp_path / "root")
    root.install(VENV)
    setup = container(root, "http://127.0.0.1:1")
    demo = ["-q", "demo", "--recordings", "5", "--to", "/srv/recordings/demo"]
    code, said = run_as_the_image_does(root, parsed(ROOT / "docs/schedules/Dockerfile"), setup, *demo)
    assert code == 0, said
    assert len(list((root.binds["/srv/recordings"] / "demo").rglob("*.mp3"))) == 5


@pytest.mark.parametrize(
    ("owner", "mode", "accepted"),
    [
        (
            f"0:{NOBODY}",
            "0440",
            True,
        ),  # Kubernetes' secrets with fsGroup, and systemd's credentials with an access list
        (f"0:{NOBODY}", "0640", True),
        (f"0:{NOBODY}", "0460", False),
        (f"0:{NOBODY}", "0450", False),
        (f"0:{NOBODY}", "0444", False),
        (f"{NOBODY}:{NOBODY}", "0440", False),
        (f"{NOBODY}:{NOBODY}", "0400", True),
    ],
)
def test_a_password_that_root_hands_to_our_group_alone_is_taken(
    tmp_path: Path, owner: str, mode: str, *, accepted: bool
) -> None:
    root = OtherRoot(tmp_path / "root")
    root.install(VENV)
    setup = container(root, "http://127.0.0.1:1")
    secret = "run/secrets/pbx/password"
    setup.insert(-len(READ_ONLY), f"chown {owner} {secret} && chmod {mode} {secret}")
    code, said = run_as_the_image_does(root, parsed(ROOT / "docs/schedules/Dockerfile"), setup, "-q", "run")
    # Nothing listens at that address: 8 comes after the password was read.
    assert (code, "can be read by others" in said) == ((8, False) if accepted else (2, True)), said


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="installs anew; runs behind `make campaign`")
@pytest.mark.timeout(900)
def test_what_the_dockerfile_builds_is_what_it_runs(tmp_path: Path) -> None:
    """Each of its steps in order, on this machine's Python instead of the image's, from an empty folder."""
    stages = parsed(ROOT / "docs/schedules/Dockerfile")
    build, last = stages
    root = OtherRoot(tmp_path / "root", binds={"/opt/context": ROOT})
    steps = ["set -eu", f"mkdir -p {VENV}"]
    for step in build.steps:
        steps.append(f"mkdir -p {build.folder} && cd {build.folder}")
        if step.kind == "COPY":
            *sources, target = step.words
            steps += [f"cp -r /opt/context/{shlex.quote(source)} {shlex.quote(target)}" for source in sources]
        else:
            steps.append(step.text)
    steps += [step.text for step in last.steps if step.kind == "RUN"]
    assert [step.words for step in last.steps if step.kind == "COPY"] == [["--from=build", VENV, VENV]]
    steps.append("cp -a /opt/archiver /opt/kept/")
    kept = root.share("/opt/kept")
    environment = {"PATH": f"{VENV}/bin:/opt/python/bin:/usr/bin:/bin", "PIP_NO_CACHE_DIR": "1"}
    built = root.run([], ["sh", "-c", "\n".join(steps)], environment=environment, seconds=800)
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]

    image = OtherRoot(tmp_path / "image", binds={VENV: kept / "archiver"})
    with SimulatorThread(Simulator(Corpus(RECORDINGS, accounts=ACCOUNTS))) as pbx:
        code, said = run_as_the_image_does(image, stages, container(image, pbx.base_url))
    assert code == 0, said
    assert_all_archived(image.binds["/srv/recordings"] / "archive")
