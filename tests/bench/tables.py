"""Figures as Markdown tables, printed and kept in marked sections of a page."""

import os
import platform
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from .contenders import Measure

MIB = 1 << 20
_ROW = re.compile(r"^\|(?! ?-)", re.MULTILINE)


def median(measures: Sequence[Measure], value: Callable[[Measure], float]) -> float:
    return statistics.median(value(measure) for measure in measures)


def pair_row(workload: str, scheme: str, left: list[Measure], right: list[Measure]) -> list[str]:
    """A row that compares two contenders by pairs; the ratio is left over right, in recordings per second."""
    ratios = [one.per_s / other.per_s for one, other in zip(left, right, strict=True)]
    cells = [workload, scheme]
    for measures in (left, right):
        cells += [
            f"{median(measures, lambda one: one.wall_s):.2f}",
            f"{median(measures, lambda one: one.per_s):,.0f}",
            f"{median(measures, lambda one: one.total_bytes / one.wall_s / 1e6):,.0f}",
            f"{median(measures, lambda one: one.user_s):.2f} + {median(measures, lambda one: one.system_s):.2f}",
            f"{median(measures, lambda one: one.peak_rss_bytes / MIB):,.0f}",
        ]
    return [*cells, " ".join(f"{ratio:.2f}" for ratio in ratios), f"**{statistics.median(ratios):.2f}**"]


def pair_head(left: str, right: str) -> list[str]:
    columns = ("s", "rec/s", "MB/s", "CPU s (user + system)", "peak MiB")
    sides = [f"{side}: {column}" for side in (left, right) for column in columns]
    return ["workload", "scheme", *sides, "ratio by pair", "median ratio"]


def section(name: str, title: str, about: str, head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"<!-- bench:{name} -->\n### {title}\n\n{about}\n\n{table}\n<!-- /bench:{name} -->\n"


def keep(page: Path, name: str, text: str) -> None:
    """Put a section into a page in place of the one of that name; rows measured earlier and not now stay."""
    whole = page.read_text(encoding="utf-8") if page.exists() else "# Performance\n"
    found = re.search(rf"<!-- bench:{name} -->\n.*?<!-- /bench:{name} -->\n", whole, re.DOTALL)
    if found is None:
        page.write_text(f"{whole.rstrip()}\n\n{text}", encoding="utf-8")
        return
    old, new = _rows(found[0]), _rows(text)
    if old[:1] == new[:1]:  # the same columns
        have = {_key(row) for row in new}
        kept = [row for row in old[1:] if _key(row) not in have]
        merged = [*kept, *new[1:]]
        text = text.replace("\n".join(new[1:]), "\n".join(merged))
    page.write_text(whole[: found.start()] + text + whole[found.end() :], encoding="utf-8")


def kept_rows(page: Path, name: str) -> list[list[str]]:
    """The cells of a section's rows, its head left out."""
    found = re.search(
        rf"<!-- bench:{name} -->\n.*?<!-- /bench:{name} -->\n", page.read_text(encoding="utf-8"), re.DOTALL
    )
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in _rows(found[0] if found else "")[1:]]


def section_names(page: Path) -> list[str]:
    """The sections that a page holds."""
    return re.findall(r"^<!-- bench:(\S+) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if _ROW.match(line)]


def _key(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|")[1:3])


def stamp() -> str:
    """When a row was measured, and of which commit."""
    changed = "+" if _said(["git", "--no-optional-locks", "status", "--porcelain", "archiver"]) else ""
    return f"{datetime.now(UTC):%Y-%m-%d} {_said(['git', 'rev-parse', '--short', 'HEAD']) or 'no commit'}{changed}"


def surroundings(nginx: str | None) -> str:
    """One sentence: on what machine, with which programs; nginx if it served."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in _text("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    programs = [f"Python {platform.python_version()}", " ".join(_said(["curl", "--version"]).split()[:2])]
    programs += [_said([nginx, "-v"]).removeprefix("nginx version: ")] if nginx else []
    return (
        f"Measured on {os.cpu_count()} cores of {model}, {memory_gib:.0f} GiB, "
        f"Linux {platform.release()}, {', '.join(filter(None, programs))}; server and client share the cores."
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _said(command: list[str]) -> str:
    if shutil.which(command[0]) is None:
        return ""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    return (ended.stdout or ended.stderr).strip() if ended.returncode == 0 else ""
