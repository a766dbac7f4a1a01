"""docs/scaling.md against Dask, the program and the wire: what it tells operators to type exists, and TLS works as told."""

import ast
import asyncio
import re
import shlex
import tomllib
from pathlib import Path

import click
import dask.config
import kubernetes_validate
import pytest
import trustme
import yaml
from archive_rig import assert_holds_all, recordings, rig
from bench.scale_model import Costs, Job, Part, estimate
from cluster_rig import dask_cluster, on_cluster
from distributed.cli import dask_scheduler, dask_ssh, dask_worker
from other_root import ROOT
from postgres_server import postgres

from archiver.cli import cli
from archiver.commands.crew import check_cluster
from archiver.ledger.ledger import open_ledger
from archiver.settings import load

PAGE = (ROOT / "docs" / "scaling.md").read_text("utf-8")
DASK: dict[str, click.Command] = {
    "scheduler": dask_scheduler.main,
    "worker": dask_worker.main,
    "ssh": dask_ssh.main,
}


def blocks(language: str) -> list[str]:
    """The page's blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def tls_as_told(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """The page's variables, in the environment of everybody."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        issued = authority.issue_cert("127.0.0.1")
        for name, what in (("CERT", issued.cert_chain_pems[0]), ("KEY", issued.private_key_pem)):
            path = folder / f"{role}-{name}.pem"
            what.write_to_path(str(path))
            monkeypatch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{role}__{name}", str(path))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", str(folder / "ca.pem"))
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION", "True")


def test_a_run_over_tls_archives_and_who_has_no_certificate_is_not_let_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tls_as_told(monkeypatch, tmp_path)
    rows = recordings(20)
    with rig(tmp_path / "rig", rows) as it, dask_cluster(tmp_path / "dask", "one", scheme="tls") as cluster:
        on_cluster(it, cluster, "over_tls")
        said = it.run()
        assert (said.code, said.json["archived"]) == (0, 20), said
        assert_holds_all(it, rows)
        for name in ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY"):
            monkeypatch.delenv(f"DASK_DISTRIBUTED__COMM__TLS__{name}")
        without = it.run()
        assert without.code == 2, without
        assert "TLS settings" in without.out
        assert without.err == ""


def test_the_pages_shell_commands_name_options_that_dask_and_the_program_have() -> None:
    checked = 0
    for line in "\n".join(blocks("sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[:1] == ["dask"]:
            known = {option for param in DASK[words[1]].params for option in (*param.opts, *param.secondary_opts)}
        elif words[:1] == ["archiver"]:
            known = {option for param in cli.commands[words[1]].params for option in param.opts}
        else:
            assert words[:1] == ["export"], line
            continue
        given = {word for word in words if word.startswith("--")}
        assert given <= known, line
        checked += 1
    assert checked >= 4


def test_the_pages_variables_name_settings_that_dask_has() -> None:
    named = set(re.findall(r"\bDASK_DISTRIBUTED__[A-Z_]+\b", PAGE))
    assert len(named) >= 10
    for name in named:
        parts = name.removeprefix("DASK_").lower().replace("_", "-").split("--")
        # Raises KeyError for one that is not known.
        dask.config.get(".".join(parts))
    (settings,) = (yaml.safe_load(text) for text in blocks("yaml") if text.startswith("distributed:"))
    for name in settings["distributed"]["scheduler"]:
        dask.config.get(f"distributed.scheduler.{name}")


def test_dasks_defaults_are_those_that_the_page_tells() -> None:
    assert dask.config.get("distributed.scheduler.worker-ttl") == "5 minutes"
    assert dask.config.get("distributed.scheduler.allowed-failures") == 3
    assert dask.config.get("distributed.worker.memory.pause") == 0.8
    assert dask.config.get("distributed.worker.memory.terminate") == 0.95


def test_the_pages_settings_are_the_programs(tmp_path: Path) -> None:
    (text,) = blocks("toml")
    given = tomllib.loads(text)
    known = tomllib.loads((ROOT / "settings.example.toml").read_text("utf-8"))
    for section, values in given.items():
        assert values.keys() <= known[section].keys()
    file = tmp_path / "settings.toml"
    file.write_text(text)
    file.chmod(0o600)
    assert check_cluster(load(file))


def test_the_pages_kubernetes_resource_holds_sound_pods_and_what_they_start_exists() -> None:
    (cluster,) = (yaml.safe_load(text) for text in blocks("yaml") if text.startswith("apiVersion:"))
    assert (cluster["apiVersion"], cluster["kind"]) == ("kubernetes.dask.org/v1", "DaskCluster")
    for role in ("worker", "scheduler"):
        pod = cluster["spec"][role]["spec"]
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": role}, "spec": pod}
        kubernetes_validate.validate(manifest, "1.34", strict=True)
        (container,) = pod["containers"]
        assert [*container["command"], container["args"][0]] == ["dask", role]
        known = {option for param in DASK[role].params for option in (*param.opts, *param.secondary_opts)}
        assert {word for word in container["args"] if word.startswith("--")} <= known
        mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": cluster["spec"]["scheduler"]["service"],
    }
    kubernetes_validate.validate(service, "1.34", strict=True)


def test_the_pages_programs_can_be_read() -> None:
    for text in blocks("python"):
        ast.parse(text)


def test_the_pages_table_of_claims_can_be_asked(tmp_path: Path) -> None:
    asyncio.run(_made(postgres().url("asked")))
    (query,) = blocks("sql")
    assert postgres().ask("asked", query) == []


async def _made(url: str) -> None:
    await (await open_ledger(url)).close()


def test_on_paper_the_slowest_part_is_the_limit() -> None:
    costs = Costs(worker_per_s=80, ledger_per_s=4000, ledger_bytes_each=500)
    slow, few, many = (
        estimate(Job(100_000_000, 146_000, workers, rate), costs) for workers, rate in ((10, 10), (10, 0), (100, 0))
    )
    assert [each.limit for each in (slow, few, many)] == [Part.PBX, Part.WORKERS, Part.LEDGER]
    assert slow.per_s < 10
    assert (round(few.per_s), round(few.hours)) == (800, 35)
    assert many.per_s == 4000
    assert (few.puts, round(few.puts_usd), few.ledger_gb) == (200_000_000, 1000, 50.0)
    assert few.requests == 100_000_000 + 146_000 + 10
