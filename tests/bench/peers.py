"""The raw downloaders beside which the archiver is measured: each fetches the same media into a fresh folder.

A peer that loses or spoils files is not stopped for it: what is wrong is counted, and its speed is that of what is right.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from s3_servers import RCLONE

from .contenders import CONCURRENCY, Contest, Measure
from .frozen_pbx import HEADERS
from .launching import launch

MANY = str(CONCURRENCY)


@dataclass(frozen=True)
class Order:
    """What a peer is to do: fetch these `keys` (paths by recording id) over this scheme into this folder."""

    contest: Contest
    keys: dict[str, str]

    @property
    def folder(self) -> Path:
        return self.contest.target

    def url(self, recording_id: str) -> str:
        return self.contest.pbx.media_url(self.contest.scheme, recording_id)

    @property
    def ca_file(self) -> Path | None:
        return self.contest.pbx.ca_file if self.contest.scheme == "https" else None

    def written(self, name: str, lines: list[str]) -> Path:
        path = self.contest.work / name
        path.write_text("\n".join(lines) + "\n", encoding="ascii")
        return path


@dataclass(frozen=True)
class Peer:
    """A program that downloads.

    Attributes:
        name: what it is called.
        package: what Debian calls it, for who lacks it.
        said: how it is called, in a few words.
        arguments: its command line, the program left out.
        keeps_folders: whether it can be told each file's path; else all lie in one folder, named by recording id.
        program: where it is, if not on the PATH.
        dialect: the option that makes it tell its version.
    """

    name: str
    package: str
    said: str
    arguments: Callable[[Order], list[str]]
    keeps_folders: bool = False
    program: Path | None = None
    dialect: str = "--version"

    @property
    def found(self) -> str | None:
        return shutil.which(self.program or self.name)

    @property
    def version(self) -> str:
        """As in `aria2 1.36.0`."""
        said = subprocess.run([self.found or "", self.dialect], check=True, capture_output=True, text=True).stdout
        numbers = [word for word in said.split() if word.lstrip("vV")[:1].isdigit()]
        return f"{self.name} {numbers[0].lstrip('vV') if numbers else ''}".strip()

    def fetch(self, contest: Contest) -> Measure:
        """Fetch all media into a fresh folder, and count what is missing and what is wrong."""
        contest.target = contest.targets.fresh()
        keys = contest.corpus.keys if self.keeps_folders else {name: name for name in contest.corpus.sizes}
        order = Order(contest, keys)
        command = [self.found or "", *self.arguments(order)]
        contest.settle()
        before = contest.pbx.served()
        ended = launch(command, contest.work, {"RCLONE_CONFIG": os.devnull})
        lost, wrong = contest.compared(contest.target, keys, with_sidecars=False)
        told = {"exit_code": ended.exit_code, "said": ended.told if ended.exit_code else ""}
        return contest.measure(ended, before, lost=len(lost), wrong=len(wrong), report=told)


def _curl(order: Order) -> list[str]:
    lines = ["silent", "show-error", "fail", "create-dirs"]
    lines += [f'header = "{name}: {value}"' for name, value in HEADERS.items()]
    lines += [f'cacert = "{order.ca_file}"'] if order.ca_file else []
    for recording_id, key in order.keys.items():
        lines += [f'url = "{order.url(recording_id)}"', f'output = "{order.folder / key}"']
    return ["--disable", "--parallel", "--parallel-max", MANY, "-K", str(order.written("curl.conf", lines))]


def _rclone(order: Order) -> list[str]:
    many = ["--transfers", MANY, "--checkers", MANY]
    source = ["--http-url", order.contest.pbx.plain_url(order.contest.scheme), "--http-no-head", "--inplace"]
    trust = ["--ca-cert", str(order.ca_file)] if order.ca_file else []
    return ["copy", *many, *source, *trust, ":http:", str(order.folder)]


def _aria2c(order: Order) -> list[str]:
    lines = []
    for recording_id, key in order.keys.items():
        lines += [order.url(recording_id), f"  out={key}"]
    given = ["--no-conf", "--quiet", "--input-file", str(order.written("aria2.txt", lines)), "--deferred-input"]
    given += ["--dir", str(order.folder), "--max-concurrent-downloads", MANY, "--split=1"]
    given += [
        "--file-allocation=none",
        "--allow-overwrite=true",
        "--auto-file-renaming=false",
        "--max-download-result=0",
    ]
    given += [f"--header={name}: {value}" for name, value in HEADERS.items()]
    return [*given, f"--ca-certificate={order.ca_file}"] if order.ca_file else given


def _wget2(order: Order) -> list[str]:
    urls = order.written("urls.txt", [order.url(recording_id) for recording_id in order.keys])
    given = ["--no-config", "--quiet", "--no-hsts", "--no-ocsp", "--no-xattr", "--no-directories"]
    given += ["--input-file", str(urls), "--max-threads", MANY, "--directory-prefix", str(order.folder)]
    given += [f"--header={name}: {value}" for name, value in HEADERS.items()]
    return [*given, f"--ca-certificate={order.ca_file}"] if order.ca_file else given


PEERS = {
    peer.name: peer
    for peer in (
        Peer("curl", "curl", f"`curl --parallel --parallel-max {MANY}`", _curl, keeps_folders=True),
        Peer(
            "rclone",
            "rclone",
            f"`rclone copy --transfers {MANY} --checkers {MANY} --http-no-head --inplace` from the web server's index",
            _rclone,
            program=RCLONE,
            dialect="version",
        ),
        Peer(
            "aria2c",
            "aria2",
            f"`aria2c --max-concurrent-downloads {MANY} --split=1 --auto-save-interval=0`",
            _aria2c,
            keeps_folders=True,
        ),
        Peer("wget2", "wget2", f"`wget2 --max-threads {MANY}`", _wget2),
    )
}
