"""Random schedules of workers that are stopped for longer than their lease: nothing comes twice, nothing is overwritten.

By default a few seeds; `make campaign` plays many. A failing seed is printed; ARCHIVER_SEED repeats its choices, though
not what the machine's threads made of them.
"""

import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
from cluster_schedules import POINTS, play
from postgres_server import schema_of

SEEDS = (1, 2, 3, 4, 5)
CAMPAIGN_SEEDS = 1000


@pytest.mark.parametrize("seed", SEEDS)
async def test_whoever_wakes_late_on_a_cluster_doubles_nothing_and_overwrites_nothing(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = schema_of(tmp_path_factory.getbasetemp() / "schedules")
    await play(tmp_path, schema, int(os.environ.get("ARCHIVER_SEED", seed)), monkeypatch, Counter())


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="many minutes; runs behind `make campaign`")
async def test_many_schedules_double_nothing_and_overwrite_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = int(os.environ.get("ARCHIVER_SEED", random.SystemRandom().randrange(2**31)))
    met: Counter[str] = Counter()
    for seed in range(first, first + int(os.environ.get("ARCHIVER_SEEDS", CAMPAIGN_SEEDS))):
        sys.stderr.write(f"ARCHIVER_SEED={seed}\n")
        await play(tmp_path, schema_of(tmp_path), seed, monkeypatch, met)
        shutil.rmtree(tmp_path / f"archive-{seed}")
    sys.stderr.write(f"{dict(met)}\n")
    assert {"repeated", "left", "claim_lost", "cancelled", "woken when all was done"} <= met.keys()
    assert {f"paused at {point}" for point in POINTS} <= met.keys()
