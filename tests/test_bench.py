"""The benchmarks at a tiny scale: every mode against a live PBX works, and what a peer loses is seen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bench.contenders import Contest
from bench.corpus import Frozen, Workload, frozen
from bench.frozen_pbx import FrozenPbx, find_nginx
from bench.launching import launch
from bench.live_pbx import Seen
from bench.peers import PEERS
from bench.plot import ratios
from bench.targets import Targets
from postgres_server import programs

PROJECT = Path(__file__).parent.parent
QUICK = ["--rounds", "1", "--settle", "0", "--rest", "0"]


def bench(work: Path, *arguments: str) -> list[list[str]]:
    """Run it; the cells of all its tables' rows, heads included."""
    command = [sys.executable, "-m", "tests.bench", *arguments, *QUICK, "--work", str(work)]
    ended = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    rows = [line for line in ended.stdout.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


@pytest.fixture
def corpus(tmp_path: Path) -> Frozen:
    return frozen(Workload("tiny", 3, 200), tmp_path, page_size=10, digest=False)


def test_a_slow_pbx(tmp_path: Path) -> None:
    head, row = bench(tmp_path, "latency", "--think-time", "0.05", "--concurrency", "4", "--scale", "0.05")
    cells = dict(zip(head, row, strict=True))
    assert cells["bound, rec/s"] == "80.0"
    assert 0 < float(cells["share of the bound"].strip("*")) <= 1
    assert 0 < float(cells["with start and end"]) <= float(cells["bare client's share"]) <= 1
    raw = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [one["contender"] for one in raw] == ["archiver", "bare client"]


def test_a_pbx_that_limits(tmp_path: Path) -> None:
    head, unpaced, paced = bench(tmp_path, "limit", "--bucket", "20", "20", "--seconds", "2")
    assert [row[head.index("requests_per_s")] for row in (unpaced, paced)] == ["0", "20"]
    assert [row[head.index("archived")] for row in (unpaced, paced)] == ["60", "60"]
    assert paced[head.index("refused")] == "0"


def test_the_parts_of_the_work_beside_the_whole(tmp_path: Path) -> None:
    try:
        find_nginx()
    except RuntimeError as missing:
        pytest.skip(str(missing))
    head, *rows = bench(tmp_path, "bound", "--workload", "small", "--scheme", "https", "--scale", "0.002")
    parts = {row[head.index("contender")]: row for row in rows}
    assert {"archiver", "aiohttp alone"} <= parts.keys()
    assert ("curl to nowhere" in parts) == bool(PEERS["curl"].found)
    assert all(float(row[head.index("CPU s per 1,000")]) > 0 for row in rows)


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="runs behind `make campaign`")
def test_verify_against_sha256sum_and_by_presence_and_size(tmp_path: Path) -> None:
    full, ours, many, *levels = bench(tmp_path, "verify", "--scale", "0.002", "--entries", "5000", "20000")
    assert float(ours[full.index("median ratio")].strip("*")) > 0
    assert [(row[many.index("recordings")], row[many.index("level")]) for row in levels] == [
        (count, level) for count in ("10", "40") for level in ("presence", "size")
    ]


def test_a_rebuild(tmp_path: Path) -> None:
    head, row = bench(tmp_path, "rebuild", "--scale", "0.0005")
    cells = dict(zip(head, row, strict=True))
    assert cells["sidecars"] == "100"
    assert float(cells["sidecars/s"].replace(",", "")) > 0


def test_peers(tmp_path: Path) -> None:
    try:
        find_nginx()
    except RuntimeError as missing:
        pytest.skip(str(missing))
    head, *rows = bench(tmp_path, "peers", "--workload", "small", "--scale", "0.002")
    contenders = ["archiver", *(peer.name for peer in PEERS.values() if peer.found)]
    assert [row[head.index("contender")] for row in rows] == 2 * contenders
    assert {(row[head.index("lost")], row[head.index("wrong")]) for row in rows} == {("0", "0")}


def test_what_a_peer_lost_or_spoiled_is_counted(tmp_path: Path, corpus: Frozen) -> None:
    targets = Targets(tmp_path, 0, lambda _: None)
    contest = Contest(FrozenPbx(corpus, {}, Path()), "http", tmp_path, "archiver", targets, 10, 0)
    saved = targets.fresh()
    right, spoiled, lost = corpus.sizes
    for name in (right, spoiled):
        (saved / name).write_bytes(corpus.media_file(name).read_bytes())
    with (saved / spoiled).open("r+b") as file:
        file.write(b"other")
    (saved / "too much").touch()
    names = {name: name for name in corpus.sizes}
    assert contest.compared(saved, names, with_sidecars=False) == ([lost], sorted([spoiled, "too much"]))
    with pytest.raises(RuntimeError, match="1 files lost, 2 wrong"):
        contest.check_files(saved, names, with_sidecars=False)


def test_all_processes_count(tmp_path: Path) -> None:
    holds = "import time; held = bytearray(40 << 20); time.sleep(1.5)"
    starts = f"import subprocess, sys; [subprocess.Popen([sys.executable, '-c', {holds!r}]) for _ in range(2)]"
    ended = launch([sys.executable, "-c", starts], tmp_path, crowd=True)
    assert ended.exit_code == 0
    assert ended.peak_rss_bytes > 80 << 20


def test_a_command_is_ended_after_its_time(tmp_path: Path) -> None:
    ended = launch([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, at_most_s=0.5)
    assert (ended.exit_code, ended.wall_s < 30) == (-15, True)


def test_the_rate_does_not_depend_on_where_bursts_fall() -> None:
    begins = [float(turn) for turn in range(20) for _ in range(8)]
    seen = Seen(begins=begins, ends=[begun + 1 for begun in begins])
    assert seen.rate(0.1, 0.9) == pytest.approx(8)
    assert seen.rate(0.13, 0.77) == pytest.approx(8)


def test_idle_time_counts_in_the_rate() -> None:
    begins = [2.0 * turn for turn in range(20) for _ in range(8)]
    seen = Seen(begins=begins, ends=[begun + 1 for begun in begins])
    assert seen.rate(0.1, 0.9) == pytest.approx(4, rel=0.05)


def test_the_plot_shows_what_the_table_says() -> None:
    rows = [
        ["small: 20,000 x 48 kB, https", "archiver", "1,000", "50", "", ""],
        ["small: 20,000 x 48 kB, https", "curl", "4,000", "200", "**0.25**", "0.25"],
        ["small: 20,000 x 48 kB, https", "wget2", "0", "0", "**inf**", "inf"],
    ]
    assert ratios(rows) == {"curl": {"small\nhttps": 0.25}}


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="runs behind `make campaign`")
def test_a_ledger_in_postgresql(tmp_path: Path) -> None:
    if programs() is None:
        pytest.skip("no PostgreSQL server here")
    rows = bench(tmp_path, "scale", "--rows", "20000", "--write-seconds", "0.3")
    tables = {row[0]: row for row in rows}
    assert float(tables["all"][2]) > 1
    assert "`entries_due`" in tables["`claim_due`"][5]
    assert int(tables["4"][2].replace(",", "")) > 0
    assert float(tables["size"][4]) > 0
    assert tables["100"][4] in {"the workers", "the ledger"}
