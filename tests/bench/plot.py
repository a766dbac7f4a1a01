"""The one plot: how fast the archiver is beside each raw downloader, drawn from the tables that the page holds."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .tables import kept_rows, section_names

WORKLOAD, CONTENDER, RATIO = 0, 1, 4
MISSING = "no plot without matplotlib: .venv/bin/pip install --require-hashes -r tests/bench/requirements.lock"

Ratios = dict[str, dict[str, float]]


def can_draw() -> bool:
    """Whether the library for it is there, which is too heavy for the tests' own lock."""
    return find_spec("matplotlib") is not None


def picture(page: Path) -> Path:
    """Where the plot of a page lies."""
    return page.with_suffix(".png")


def draw_ratios(page: Path) -> None:
    """Draw the ratios in the page's tables of peers, one panel for each, into a PNG beside it."""
    names = [name for name in section_names(page) if re.fullmatch(r"peers(-\d+)?", name)]
    # Without types of its own wherever it is not installed, so it is told to be of any.
    figure: Any = import_module("matplotlib.figure")
    canvas = figure.Figure(figsize=(9, 3.8 * len(names)), layout="constrained")
    for name, axes in zip(names, canvas.subplots(len(names), squeeze=False)[:, 0], strict=True):
        _bars(axes, ratios(kept_rows(page, name)))
        several = name.partition("-")[2]
        axes.set_title(f"The archiver{f' with {several} processes' if several else ''} beside raw downloaders")
    canvas.savefig(picture(page), dpi=110, metadata={"Software": None})


def ratios(rows: list[list[str]]) -> Ratios:
    """By peer and workload, from a table's rows."""
    found: Ratios = {}
    for row in rows:
        told = re.fullmatch(r"\*\*([\d.]+)\*\*", row[RATIO])
        if told:
            workload, _, rest = row[WORKLOAD].partition(":")
            found.setdefault(row[CONTENDER], {})[f"{workload}\n{rest.rpartition(', ')[2]}"] = float(told[1])
    return found


def _bars(axes: Any, found: Ratios) -> None:
    workloads = list(dict.fromkeys(name for by_workload in found.values() for name in by_workload))
    width = 0.8 / max(1, len(found))
    for place, (peer, by_workload) in enumerate(found.items()):
        shown = [(n, by_workload[name]) for n, name in enumerate(workloads) if name in by_workload]
        at = [n - 0.4 + width * (place + 0.5) for n, _ in shown]
        bars = axes.bar(at, [height for _, height in shown], width, label=peer)
        axes.bar_label(bars, fmt="%.2f", fontsize=7)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(workloads)), workloads)
    axes.set_ylabel("recordings/s over the peer's")
    axes.legend(title="1 is as fast as")
