"""Schedules ready to paste: cron, Kubernetes and the Dockerfile, held to real parsers and to the program."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml
from archive_rig import SINCE, recordings, rig
from cronsim import CronSim
from dockerfile import parsed
from other_root import ROOT

from archiver.cli import cli
from archiver.errors import ExitCode
from archiver.settings import Settings, load

SCHEDULES = ROOT / "docs" / "schedules"
CRON = (SCHEDULES / "archiver.cron").read_text("utf-8")
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((SCHEDULES / "cronjob.yaml").read_text("utf-8")))
JOBS = {manifest["metadata"]["name"]: manifest for manifest in MANIFESTS if manifest["kind"] == "CronJob"}
STAGES = parsed(SCHEDULES / "Dockerfile")
HADOLINT = str(Path(sys.executable).parent / "hadolint")
COMING = frozenset({"--max-age"}).difference(*(param.opts for param in cli.commands["status"].params))
"""What `status` does not take yet, and the schedules use already."""


def cron_lines() -> Iterator[tuple[str, str, str]]:
    """Each line's times, user and command."""
    for line in CRON.splitlines():
        if match := re.match(r"((?:[\d*]\S*\s+){5})(\S+)\s+(\S.*)", line):
            yield match[1].strip(), match[2], match[3]


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def container(job: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(job)["containers"]
    assert isinstance(found, dict)
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of the program in the schedules, with the file it stands in."""
    for service in sorted(SCHEDULES.glob("*.service")):
        for line in re.findall(r"^ExecStart=\S+/archiver (.*)$", service.read_text("utf-8"), re.MULTILINE):
            yield service.name, shlex.split(line)
    for _, _, command in cron_lines():
        for line in re.findall(r"archiver ([^)>]*?) 2>&1", command):
            yield "archiver.cron", shlex.split(line)
    for name, job in JOBS.items():
        yield f"cronjob.yaml: {name}", container(job)["args"]
    yield "Dockerfile", STAGES[-1].command


COMMANDS = list(commands())


def test_every_schedule_has_its_commands() -> None:
    files = {name.partition(":")[0] for name, _ in COMMANDS}
    assert {"archiver.service", "archiver-verify.service", "archiver.cron", "cronjob.yaml", "Dockerfile"} <= files
    assert len([name for name, _ in COMMANDS if name == "archiver.cron"]) == len(list(cron_lines())) == 3


@pytest.mark.parametrize(("file", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_of_the_schedules_is_one_that_the_program_takes(file: str, words: list[str]) -> None:
    if COMING.intersection(words):
        words = words[: min(words.index(option) for option in COMING.intersection(words))]
    with cli.make_context("archiver", list(words)) as outer:
        assert outer.params["quiet"], "a schedule is silent when all is well"
        name, command, rest = cli.resolve_command(outer, [*outer._protected_args, *outer.args])
        assert name in {"run", "verify", "status"}
        assert isinstance(command, click.Command)
        command.make_context(name, list(rest), parent=outer)


@pytest.mark.parametrize(("times", "user", "command"), list(cron_lines()))
def test_cron_knows_the_times_and_runs_nothing_as_root(times: str, user: str, command: str) -> None:
    first = next(CronSim(times, datetime(2026, 11, 23, tzinfo=UTC)))
    assert first > datetime(2026, 11, 23, tzinfo=UTC)
    assert user == "archiver"
    assert "%" not in command  # cron would end the command there


def test_cron_takes_the_file_as_it_stands() -> None:
    """Every line is a comment, a variable, or a job; the last one ends, or cron would pass over it."""
    assert CRON.endswith("\n")
    jobs = {line for line in CRON.splitlines() if line and not line.startswith("#") and not re.match(r"[A-Z_]+=", line)}
    assert len(jobs) == len(list(cron_lines()))
    assert re.search(r"/etc/cron\.d/archiver\s", CRON)


def test_cron_mails_nothing_of_a_good_night_and_the_report_of_a_bad_one(tmp_path: Path) -> None:
    nightly = next(command for _, _, command in cron_lines() if " run " in command)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "archiver"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m archiver "$@"\n')
    program.chmod(0o755)
    rows = recordings(4)
    with rig(tmp_path / "rig", rows) as it:
        it.configure(listing={"begin": SINCE, "window_hours": 672}, pbx={"max_retries": 0})

        def cron() -> "subprocess.CompletedProcess[str]":
            environment = it.environment(PATH=f"{tmp_path}/bin:/usr/bin:/bin", ARCHIVER_SETTINGS=str(it.settings_file))
            return subprocess.run(
                ["/bin/sh", "-c", nightly], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )

        good = cron()
        assert (good.stdout, good.stderr) == ("", "")
        assert len(it.media()) == len(rows)
        it.base_url = "http://127.0.0.1:1"
        it.configure(listing={"begin": SINCE, "window_hours": 672}, pbx={"max_retries": 0})
        assert "Connection refused" in cron().stdout


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}")
def test_kubernetes_knows_every_field_of_the_manifests(manifest: dict[str, Any]) -> None:
    for version in ("1.31", kubernetes_validate.latest_version()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_kubernetes_schema_does_say_what_is_wrong() -> None:
    wrong = {**JOBS["archiver"], "spec": {**JOBS["archiver"]["spec"], "concurencyPolicy": "Forbid"}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31", strict=True)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_confined_and_never_beside_itself(name: str) -> None:
    job, inside = JOBS[name], container(JOBS[name])
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    next(CronSim(job["spec"]["schedule"], datetime(2026, 11, 23, tzinfo=UTC)))
    assert pod(job)["terminationGracePeriodSeconds"] > Settings().transfer.grace_s
    assert pod(job)["securityContext"]["runAsNonRoot"]
    user = pod(job)["securityContext"]["runAsUser"]
    assert f"{user}:{pod(job)['securityContext']['fsGroup']}" == STAGES[-1].user
    assert inside["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = {mount["name"] for mount in inside["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod(job)["volumes"]}
    named = {manifest["metadata"]["name"] for manifest in MANIFESTS if manifest["kind"] != "CronJob"}
    for volume in pod(job)["volumes"]:
        for kind, field in (("configMap", "name"), ("persistentVolumeClaim", "claimName")):
            if kind in volume:
                assert volume[kind][field] in named


def test_a_job_gives_up_at_once_when_trying_again_helps_nothing() -> None:
    for job in JOBS.values():
        rules = job["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
        (codes,) = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailJob"]
        kept = {ExitCode.DONE, ExitCode.BUG, ExitCode.PBX, ExitCode.SIGINT, ExitCode.SIGTERM}
        assert set(codes) == set(ExitCode) - kept


def test_the_settings_in_the_config_map_are_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = [manifest["data"]["settings.toml"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap"]
    for name in ("ARCHIVER_SETTINGS", "ARCHIVER_PBX__PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "settings.toml").write_text(text)
    found = load(tmp_path / "settings.toml")
    found.need_pbx()
    mounts = {mount["mountPath"] for mount in container(JOBS["archiver"])["volumeMounts"]}
    assert str(found.pbx.password_file.parent) in mounts if found.pbx.password_file else False
    assert any(found.store.local.root.is_relative_to(mount) for mount in mounts)
    assert found.archive.store == "local"


def test_every_variable_that_the_schedules_set_is_one_that_the_program_reads() -> None:
    example = tomllib.loads((ROOT / "settings.example.toml").read_text("utf-8"))
    texts = [file.read_text("utf-8") for file in (*SCHEDULES.iterdir(), ROOT / "docs" / "nightly.md")]
    names = {name for text in texts for name in re.findall(r"\bARCHIVER_[A-Z_]+", text)}
    assert "ARCHIVER_PBX__PASSWORD_FILE" in names
    for name in names - {"ARCHIVER_SETTINGS"}:
        section, key = name.removeprefix("ARCHIVER_").lower().split("__")
        assert key in example[section], name


def test_every_exit_code_of_the_schedules_exists() -> None:
    codes = set[int]()
    for service in SCHEDULES.glob("*.service"):
        for line in re.findall(r"^SuccessExitStatus=(.*)$", service.read_text("utf-8"), re.MULTILINE):
            codes |= {int(code) for code in line.split()}
    assert codes == {ExitCode.LEFT, ExitCode.SIGTERM}


def test_hadolint_finds_nothing_to_say_about_the_dockerfile() -> None:
    done = subprocess.run([HADOLINT, str(SCHEDULES / "Dockerfile")], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_does_say_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text((SCHEDULES / "Dockerfile").read_text("utf-8").replace(":3.13-slim", ":latest"))
    done = subprocess.run([HADOLINT, str(tmp_path / "Dockerfile")], check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert "DL3007" in done.stdout


def test_the_dockerfile_copies_what_there_is_and_what_its_context_lets_through() -> None:
    ignored = (SCHEDULES / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for step in STAGES[0].steps:
        if step.kind == "COPY":
            for source in step.words[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored


def test_the_image_ends_as_a_user_without_rights_and_stops_on_the_signal_that_a_run_hears() -> None:
    last = STAGES[-1]
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", last.user)
    assert (last.entrypoint, last.others["STOPSIGNAL"]) == (["archiver"], "SIGTERM")
    assert last.environment["ARCHIVER_SETTINGS"] == "/etc/archiver/settings.toml"
    assert last.others["VOLUME"] == str(Settings().store.local.root)


def test_the_image_has_a_python_that_the_program_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    for stage in STAGES:
        match = re.fullmatch(r"python:(\d+\.\d+)-slim", stage.base)
        assert match
        assert f"Programming Language :: Python :: {match[1]}" in project["classifiers"]
