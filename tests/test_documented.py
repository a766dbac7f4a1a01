"""What the program can do is written down, and what is written down the program can do."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import archiver
from archiver.cli import cli
from archiver.errors import ExitCode
from archiver.pipeline import worker
from archiver.proof.evidence.audit import What
from archiver.proof.retention.decide import Reason
from archiver.proof.verification.findings import Kind
from archiver.recording import Status
from archiver.reports.doctor import FIRST
from archiver.reports.metrics_shapes import Name
from archiver.reports.status import AlarmReason

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
DOCS = {file.name: file.read_text("utf-8") for file in sorted((ROOT / "docs").glob("*.md"))}
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
EVERYTHING = "\n".join([README, *DOCS.values()])
PAGES = {"README.md": README, "CHANGELOG.md": CHANGELOG} | {f"docs/{name}": text for name, text in DOCS.items()}


def options(command: click.Command) -> set[str]:
    return {
        option for param in command.params if isinstance(param, click.Option) for option in param.opts if option != "-h"
    }


def below(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        yield command
        if isinstance(command, click.Group):
            yield from below(command)


OPTIONS = sorted(options(cli).union(*(options(command) for command in below(cli))))


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_has_its_row_in_the_readme(command: str) -> None:
    assert re.search(rf"^\| `{command}[ `]", README, re.MULTILINE)


def test_every_command_of_a_group_has_its_row_in_the_readme() -> None:
    for name, command in cli.commands.items():
        if isinstance(command, click.Group):
            for inner in command.commands:
                assert re.search(rf"^\| `{name} {inner}[ `]", README, re.MULTILINE), inner


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_is_documented(option: str) -> None:
    assert re.search(rf"(?<![\w-]){option}(?![\w-])", README)


def test_every_option_in_the_readmes_commands_exists() -> None:
    lines = re.findall(r"(?:bin/|`)archiver ([^`\n#>]+)", README)
    assert lines
    for line in lines:
        for option in re.findall(r"(?<!\S)--?[a-z][\w-]*", line):
            assert option in {*OPTIONS, "-h"}, line
        words = [word for word in line.split() if word in cli.commands]
        assert words or line.startswith("[--settings"), line


@pytest.mark.parametrize("code", list(ExitCode))
def test_every_exit_code_is_explained(code: ExitCode) -> None:
    assert re.search(rf"^\| {code.value} \| \S", README, re.MULTILINE)
    assert re.search(rf"^\| {code.value} \| `{code.name}` \| \S", DOCS["exit-codes.md"], re.MULTILINE)


def test_no_exit_code_is_explained_that_does_not_exist() -> None:
    explained = {int(code) for code in re.findall(r"^\| (\d+) \| `", DOCS["exit-codes.md"], re.MULTILINE)}
    assert explained == {code.value for code in ExitCode}


def test_the_order_of_the_doctors_codes_is_that_of_the_page() -> None:
    page = DOCS["exit-codes.md"]
    section = page[page.index("## `doctor`") :]
    assert [int(code) for code in re.findall(r"^\d\. \*\*(\d+)\*\*", section, re.MULTILINE)] == list(FIRST)


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_finding_is_explained(kind: Kind) -> None:
    assert re.search(rf"^\| .*`{kind.value}`.* \| \S", README, re.MULTILINE)


@pytest.mark.parametrize("what", list(What))
def test_every_kind_of_audit_record_is_explained(what: What) -> None:
    assert re.search(rf"^\| .*`{what.value}`.* \| \S", DOCS["evidence.md"], re.MULTILINE)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_explained(status: Status) -> None:
    assert f"`{status.value}`" in README or f"──▶ {status.value}" in README


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_of_a_retention_plan_is_explained(reason: Reason) -> None:
    assert re.search(rf"^\| `{reason.value}` \| \S", DOCS["retention.md"], re.MULTILINE)


def test_every_make_target_that_is_named_exists_and_the_other_way_round() -> None:
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)(?= *#|`|\n)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= targets
    assert targets - named <= {"lock"}


def test_every_setting_that_the_pages_name_exists() -> None:
    known = tomllib.loads((ROOT / "settings.example.toml").read_text("utf-8"))
    sections = "pbx|listing|transfer|archive|store|monitoring|retention|ledger|cluster"
    for page, text in PAGES.items():
        for name in re.findall(rf"`((?:{sections})\.[a-z_0-9.]+)(?= =|`)", text):
            if name in {
                "pbx.base",
                "stores.base",
                "ledger.base",
                "ledger.base_repair",
                "ledger.base_retention",
                "pbx.listing",
                "pbx.payloads",
                "pbx.probe",
                "pbx.probing",
                "ledger.ledger_doctor",
            }:
                continue
            found: object = known
            for part in name.split("."):
                assert isinstance(found, dict), f"{page}: {name}"
                assert part in found, f"{page}: {name}"
                found = found[part]


def test_defaults_in_the_readme_are_the_defaults() -> None:
    known = tomllib.loads((ROOT / "settings.example.toml").read_text("utf-8"))
    rows = re.findall(r"^\| `(\w+)\.(\w+)` \| (\d+) \|", README, re.MULTILINE)
    assert rows
    for section, key, default in rows:
        assert known[section][key] == float(default), f"{section}.{key}"


def test_every_reason_of_a_contradiction_is_explained() -> None:
    source = "".join((Path(worker.__file__).parent / name).read_text("utf-8") for name in ("checks.py", "worker.py"))
    for kind in re.findall(r'kind="(\w+)"', source):
        assert re.search(rf"^\| `{kind}` \|", DOCS["architecture.md"], re.MULTILINE), kind


def test_the_changelog_begins_with_this_version() -> None:
    versions = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    assert versions[0] == archiver.__version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"] == archiver.__version__


def test_every_metric_is_in_the_table_and_no_other() -> None:
    named = re.findall(r"^\| `(archiver_\w+)` \|[^|]*\| \S", DOCS["monitoring.md"], re.MULTILINE)
    assert named == [name.value for name in Name]


def test_the_rules_for_alerts_name_metrics_that_exist() -> None:
    page = DOCS["monitoring.md"]
    for name in re.findall(r"archiver_\w+", page):
        assert name in set(Name), name


def test_every_reason_of_an_alarm_is_explained() -> None:
    page = DOCS["monitoring.md"]
    section = page[page.index("## `status --max-age`") : page.index("## Metrics")]
    named = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert named == [reason.value for reason in AlarmReason]


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)", PAGES[page]):
        if not target.startswith("https://"):
            assert ((ROOT / page).parent / target).is_file(), target
    for target in re.findall(r"`((?:docs|tests)/[\w./-]+\.\w+)`", PAGES[page]):
        assert (ROOT / target).is_file(), target


def test_the_documentation_names_every_table_of_the_ledger() -> None:
    from archiver.ledger.tables import ledger_metadata

    for table in ledger_metadata.tables:
        assert f"| `{table}` |" in EVERYTHING
