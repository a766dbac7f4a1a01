"""Corruptions of all kinds, many at once: all are found, none is invented, and all are repaired to the last byte.

By default a seeded sample; `make campaign` injects 10,000. The seed is printed; ARCHIVER_SEED repeats it.
"""

import hashlib
import json
import os
import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from archive_rig import Rig, Said, key, media, recording, rig
from damages import DAMAGES, TWICE, Damage

from archiver.simulator import SimulatedRecording

LEFT_ALONE = {"foreign_object", "stale_temporary"}
PERIOD = ("--since", "2024-05-06", "--until", "2024-06-01")
EVERY = DAMAGES | TWICE
PATIENCE_S = 3600.0


def command(it: Rig, *arguments: str) -> Said:
    return it.start(*arguments, "--json").wait(PATIENCE_S)


def spoil(it: Rig, rows: Sequence[SimulatedRecording], count: int, chance: random.Random) -> list[tuple[str, str]]:
    """So many corruptions, each kind at least once, each of recordings of its own; what must be found."""
    chosen: list[tuple[str, Damage]] = list(EVERY.items())
    chosen += chance.choices(list(EVERY.items()), k=max(0, count - len(chosen)))
    chance.shuffle(chosen)
    waiting = list(rows)
    chance.shuffle(waiting)
    expected: list[tuple[str, str]] = []
    for label, damage in chosen[:count]:
        one = waiting.pop()
        two = waiting.pop() if label == "swapped" else one
        expected += damage(it, it.root / key(one), it.root / key(two))
    return expected


def findings(said: Said, *, repaired: bool | None = None) -> Counter[tuple[str, str]]:
    return Counter(
        (each["kind"], each["key"])
        for each in said.json["findings"]
        if repaired is None or each["repaired"] is repaired
    )


def assert_the_ledger_names_the_sources_bytes(it: Rig, rows: Sequence[SimulatedRecording]) -> None:
    with sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3") as connection:
        entries = {
            (row[0], row[1]): row[2:]
            for row in connection.execute(
                "SELECT account_id, recording_id, key, sha256, sidecar_sha256, status "
                "FROM entries JOIN accounts USING (account_no)"
            )
        }
    connection.close()
    assert len(entries) == len(rows)
    for row in rows:
        where, sha256, sidecar_sha256, status = entries[row.account_id, row.recording_id]
        data, beside = (it.root / where).read_bytes(), (it.root / where).with_suffix(".json").read_bytes()
        assert (data, status) == (media(row), "archived")
        assert (hashlib.sha256(data).digest(), hashlib.sha256(beside).digest()) == (sha256, sidecar_sha256)
        said = json.loads(beside)
        assert (said["key"], said["sha256"], said["recording"]["_id"]) == (where, sha256.hex(), row.recording_id)


def campaign(folder: Path, *, count: int, spare: int) -> None:
    seed = int(os.environ.get("ARCHIVER_SEED") or random.SystemRandom().randrange(2**32))
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    # Swapping takes two.
    rows = [recording(n, account=n % 2, duration_ms=400) for n in range(count + count // 10 + spare)]
    with rig(folder, rows) as it:
        it.configure(archive={"durable": False}, pbx={"page_size": 1000})
        assert command(it, "run", *PERIOD).code == 0
        expected = spoil(it, rows, count, chance)
        before = it.files()
        said = command(it, "verify")
        assert (said.code, findings(said)) == (7, Counter(expected))
        said = command(it, "verify", "--repair")
        assert said.code == 7
        strays = [("foreign_object", each["found"]) for each in said.json["findings"] if each["kind"] == "renamed"]
        left = Counter([*(each for each in expected if each[0] in LEFT_ALONE), *strays])
        assert findings(said, repaired=False) == left
        assert findings(said, repaired=True) == Counter(each for each in expected if each[0] not in LEFT_ALONE)
        after = it.files()
        assert {name: after[name] for name in before} == before
        assert findings(command(it, "verify")) == left
        # What no entry named comes back into the ledger with the next run; temporaries go.
        again = command(it, "run", *PERIOD)
        lost = sum(kind == "foreign_object" and name.endswith(".json") for kind, name in expected)
        assert (again.code, again.json["archived"], again.json["changed_at_source"]) == (0, lost, 0)
        assert_the_ledger_names_the_sources_bytes(it, rows)
        assert {Path(name).name.partition("-")[0] for _, name in findings(command(it, "verify"))} <= {
            "other",
            "stranger",
        }
        assert it.temporaries() == []


def test_a_sample_of_corruptions_is_found_whole_and_repaired_to_the_last_byte(tmp_path: Path) -> None:
    campaign(tmp_path / "work", count=60, spare=20)


@pytest.mark.campaign
@pytest.mark.skipif("ARCHIVER_CAMPAIGN" not in os.environ, reason="minutes long; runs behind `make campaign`")
def test_ten_thousand_corruptions_are_found_whole_and_repaired_to_the_last_byte(tmp_path: Path) -> None:
    campaign(tmp_path / "work", count=10_000, spare=500)
