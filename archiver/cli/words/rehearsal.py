"""The demo and the simulator, for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.cli.words.layout import SHOWN, size
from archiver.cli.words.run import run_words

if TYPE_CHECKING:
    # For their shape only: a command loads what it needs and nothing else.
    from archiver.commands.demo import DemoResult


def demo_words(found: "DemoResult", root: str) -> str:
    """The demo's summary."""
    report, verified = found.run.report, found.verified
    good = not verified.findings and report.outcome == "complete"
    lines = [
        "",
        f"  A simulated PBX with {found.accounts} accounts listed {report.listed:,} recordings of the last days.",
        "",
        f"  archived         {report.archived:>8,} now, {report.already_archived:,} before   {size(report.bytes_archived)}",
        f"  verified         {verified.objects:>8,} read back to the last byte   {size(verified.bytes)}",
        f"  findings         {len(verified.findings):>8,}",
        f"  windows          {report.windows_complete:>8,} complete, {report.windows_incomplete} incomplete",
        f"  requests         {report.requests:>8,}   {report.pages} pages, {report.logins} sign-in",
        f"  took             {found.took_s:>8.1f} s",
        "",
        f"  Look around: {root}/<account>/<year>/<month>/<day>/<recording>.mp3, with a .json beside each.",
        "  Next: cp settings.example.toml settings.toml, point it at your PBX, and try `archiver plan --since 7d`.",
    ]
    lines += [f"  ! {finding.kind}: {finding.key}" for finding in verified.findings[:SHOWN]]
    return "\n".join(
        [*lines, "", "  Nothing missing, nothing partial, nothing altered." if good else run_words(report)]
    )


@dataclass(frozen=True, slots=True)
class SimulatorAccess:
    """How to reach a simulator, and since when it has recordings."""

    base_url: str
    username: str
    domain: str
    password: str
    account_ids: Sequence[str]
    ca_file: Path | None
    begin: datetime
    recordings: int


def simulator_words(pbx: SimulatorAccess, root: Path) -> str:
    """Settings that a run can start with at once, as TOML up to the password, which stays out of the file."""
    pairs = {"base_url": pbx.base_url, "username": pbx.username, "domain": pbx.domain}
    pairs |= {"ca_file": str(pbx.ca_file)} if pbx.ca_file else {}
    lines = [
        f"# A simulated PBX is up, with {pbx.recordings:,} recordings; Ctrl-C ends it. Its settings.toml:",
        "",
        "[pbx]",
        *(f"{name} = {_toml(value)}" for name, value in pairs.items()),
        f"account_ids = [{', '.join(map(_toml, pbx.account_ids))}]",
        "",
        "[listing]",
        f"begin = {_toml(f'{pbx.begin:%Y-%m-%d}')}",
        "",
        "[store.local]",
        f"root = {_toml(str(root))}",
        "",
        "# The password goes into the environment:",
        f"export ARCHIVER_PBX__PASSWORD={pbx.password}",
    ]
    return "\n".join(lines)


def _toml(text: str) -> str:
    # TOML reads JSON's strings as they stand, but for characters that are not printed here.
    return json.dumps(text, ensure_ascii=False)
