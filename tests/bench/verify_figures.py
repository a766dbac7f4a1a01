"""How fast an archive is verified: read whole against sha256sum, and by presence and size with flat memory."""

import os
import shlex
import statistics
import time
from pathlib import Path

from .bench import Bench, say
from .big_archive import make_archive
from .launching import Ended, launch
from .tables import MIB

_DROP = Path("/proc/sys/vm/drop_caches")
_TYPICAL_BYTES = 500_000
_TYPICAL_COUNT = 10_000
_TINY_BYTES = 16


def verify(bench: Bench) -> None:
    """Every figure of `archiver verify`."""
    verify_full(bench)
    verify_many(bench)


def verify_full(bench: Bench) -> None:
    """Every byte of 5 GB of typical recordings and their sidecars, against sha256sum in two processes."""
    count = max(1, round(_TYPICAL_COUNT * bench.chosen.scale))
    settings = _archive(bench, count, _TYPICAL_BYTES)
    root = settings.parent / "archive"
    total_bytes = count * _TYPICAL_BYTES
    find = f"find {shlex.quote(str(root / '0123456789abcdef0123456789abcdef'))} -type f -print0"
    summing = ["/bin/sh", "-c", f"{find} | xargs -0 -n 64 -P2 sha256sum >/dev/null"]
    ours: list[Ended] = []
    theirs: list[Ended] = []
    dropped = True
    for _ in range(bench.chosen.rounds):
        for name, command, measures in (
            ("archiver", _command(bench, settings, "full"), ours),
            ("sha256sum", summing, theirs),
        ):
            dropped = _drop_caches() and dropped
            time.sleep(bench.chosen.settle)
            measures.append(_measured(bench, "verifyfull", name, command, count, total_bytes))
    ratios = [other.wall_s / one.wall_s for one, other in zip(ours, theirs, strict=True)]
    cells = [f"{count:,} x {_TYPICAL_BYTES // 1000} kB and sidecars"]
    for measures in (ours, theirs):
        wall_s = statistics.median(one.wall_s for one in measures)
        cpu_s = statistics.median(one.user_s + one.system_s for one in measures)
        peak_bytes = max(one.peak_rss_bytes for one in measures)
        cells += [f"{wall_s:.2f}", f"{total_bytes / wall_s / 1e6:,.0f}", f"{cpu_s:.2f}", f"{peak_bytes / MIB:,.0f}"]
    cells += [" ".join(f"{ratio:.2f}" for ratio in ratios), f"**{statistics.median(ratios):.2f}**"]
    cached = "page cache dropped before each" if dropped else "page cache not dropped: from memory as far as it fits"
    about = (
        f"`archiver verify --level full` against `find … | xargs -P2 sha256sum` over the same files; medians of "
        f"{bench.chosen.rounds} alternating pairs, {cached}. A ratio above 1: we are faster."
    )
    sides = [f"{side}: {column}" for side in ("archiver", "sha256sum") for column in ("s", "MB/s", "CPU s", "peak MiB")]
    bench.publish("verifyfull", "Every byte", about, ["archive", *sides, "ratio by pair", "median ratio"], [cells])


def verify_many(bench: Bench) -> None:
    """Presence and size over archives of very many recordings, each with its sidecar."""
    rows = []
    for asked in bench.chosen.entries:
        count = max(1, round(asked * bench.chosen.scale))
        settings = _archive(bench, count, _TINY_BYTES)
        for level in ("presence", "size"):
            time.sleep(bench.chosen.settle)
            command = _command(bench, settings, level)
            measures = [
                _measured(bench, "verifymany", level, command, count, 0) for _ in range(min(3, bench.chosen.rounds))
            ]
            wall_s = statistics.median(one.wall_s for one in measures)
            cpu_s = statistics.median(one.user_s + one.system_s for one in measures)
            peak_bytes = max(one.peak_rss_bytes for one in measures)
            cells = [f"{count:,}", level, f"{wall_s:.2f}", f"**{count / wall_s:,.0f}**", f"{cpu_s:.2f}"]
            rows.append([*cells, f"{peak_bytes / MIB:,.0f}"])
    about = "One process, its start included; each recording has a sidecar; what was just made lies in the page cache."
    head = ["recordings", "level", "s", "recordings/s", "CPU s", "peak MiB"]
    bench.publish("verifymany", "Presence and size", about, head, rows)


def _archive(bench: Bench, count: int, size_bytes: int) -> Path:
    root = bench.chosen.work / f"archive-{count}-{size_bytes}"
    say(f"verify: {count} recordings of {size_bytes} bytes; makes the archive unless it is there")
    settings = make_archive(root, count, size_bytes)
    os.sync()
    return settings


def _command(bench: Bench, settings: Path, level: str) -> list[str]:
    return [bench.chosen.archiver, "--settings", str(settings), "verify", "--level", level, "--json"]


def _measured(bench: Bench, figure: str, name: str, command: list[str], count: int, total_bytes: int) -> Ended:
    """One run, which must have found nothing."""
    ended = launch(command, bench.chosen.work)
    if ended.exit_code:
        raise RuntimeError(f"{name} ended with {ended.exit_code}: {ended.told}")
    say(
        f"  {figure} {name:20} {ended.wall_s:8.2f} s {count / ended.wall_s:8.0f}/s "
        f"CPU {ended.user_s:.2f} + {ended.system_s:.2f} s  {ended.peak_rss_bytes / MIB:.0f} MiB"
    )
    raw = {"contender": name, "count": count, "total_bytes": total_bytes, "wall_s": ended.wall_s}
    raw |= {"user_s": ended.user_s, "system_s": ended.system_s, "peak_rss_bytes": ended.peak_rss_bytes}
    bench.write_down(figure, raw)
    return ended


def _drop_caches() -> bool:
    """Whether the page cache could be emptied, so that what comes next is read from the disk."""
    os.sync()
    try:
        _DROP.write_text("3\n", encoding="ascii")
    except OSError:
        return False
    return True
