"""What the commands of proof leave for one another: repairs, adoptions and reconciliations are evidence, too."""

import json
import subprocess
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, cdr, key, media, recordings, rig

PERIOD = ("--since", SINCE, "--until", UNTIL)


def trail(it: Rig) -> list[tuple[str, str]]:
    """What was done, with which result."""
    lines = (it.root / ".archiver" / "audit.jsonl").read_bytes().splitlines()
    records = [json.loads(line) for line in lines]
    return [(record["what"], record.get("result", "")) for record in records if record["what"] != "manifest"]


def unnamed(it: Rig) -> set[str]:
    """The objects that no manifest names; whatever a manifest names is as it says, or the test fails."""
    manifests = sorted((it.root / ".archiver" / "manifests").rglob("*.sha256"))
    checked = subprocess.run(
        ["sha256sum", "--quiet", "-c", *map(str, manifests)], check=False, cwd=it.root, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    named = [line.split("  ", 1)[1] for path in manifests for line in path.read_text().splitlines()]
    assert len(named) == len(set(named)), "each object is named once"
    return set(it.files()) - set(named)


def test_a_repair_is_in_the_trail_and_what_it_put_is_in_a_manifest(tmp_path: Path) -> None:
    rows = recordings(3)
    with rig(tmp_path, rows) as it:
        assert it.run().code == 0
        (it.root / key(rows[0])).unlink()
        said = it.command("verify", "--repair", "--json")
        assert (said.code, said.json["repaired"]) == (0, 1), said
        assert unnamed(it) == set()
        done = trail(it)[2:]
        assert done == [("verified", "damage"), ("finding", "missing_object"), ("repaired", "repaired")]
        assert it.command("audit", "check").code == 0
        assert it.command("verify").code == 0


def test_damage_that_was_replaced_by_a_new_version_stays_named_by_its_old_manifest_alone(tmp_path: Path) -> None:
    rows = recordings(2)
    with rig(tmp_path, rows) as it:
        assert it.run().code == 0
        path = it.root / key(rows[0])
        path.write_bytes(path.read_bytes()[::-1])
        assert it.command("verify", "--repair").code == 0
        assert it.command("verify").code == 0
        second = it.root / ".archiver" / "manifests" / rows[0].account_id / "2024-05-06.2.sha256"
        assert f"{path.stem}.v2.mp3" in second.read_text()
        assert path.name not in second.read_text()


def test_cdrs_are_in_a_manifest_and_come_back_with_a_rebuild(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path, rows, cdrs=[cdr(row) for row in rows]) as it:
        assert it.run().code == 0
        assert it.command("reconcile", *PERIOD).code == 0
        assert unnamed(it) == set()
        assert trail(it)[-1] == ("reconciled", "complete")
        (it.root / ".archiver" / "ledger.sqlite3").unlink()
        said = it.command("rebuild", "--json")
        assert (said.code, said.json["problems"], said.json["entered"]) == (0, [], 4), said
        assert trail(it)[-1] == ("rebuilt", "replaced")
        verified = it.command("verify", "--json")
        assert (verified.code, verified.json["findings"]) == (0, [])
        again = it.command("reconcile", *PERIOD, "--json")
        assert (again.code, again.json["fetched"]) == (0, 0)
        assert it.run().code == 0
        assert unnamed(it) == set()
        assert it.pbx.stats.media == 4


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_damaged_cdrs_are_told_as_not_repairable_and_come_again_with_a_reconciliation(
    tmp_path: Path, damage: str
) -> None:
    rows = recordings(2)
    with rig(tmp_path, rows, cdrs=[cdr(row) for row in rows]) as it:
        assert it.run().code == 0
        assert it.command("reconcile", *PERIOD).code == 0
        (path,) = it.root.joinpath(rows[0].account_id).rglob("cdrs.jsonl.gz")
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])
        said = it.command("verify", "--repair", "--json")
        (finding,) = said.json["findings"]
        assert (said.code, finding["repaired"]) == (7, False)
        assert "archiver reconcile" in finding["repair"]


def test_what_was_adopted_is_in_the_trail_and_in_a_manifest(tmp_path: Path) -> None:
    rows = recordings(3)
    with rig(tmp_path, rows) as it:
        old = tmp_path / "old"
        old.mkdir()
        for row in rows:
            (old / f"{row.recording_id}.mp3").write_bytes(media(row))
        said = it.command("rebuild", "--adopt", str(old), *PERIOD, "--json")
        assert (said.code, said.json["adopted"]) == (0, 3), said
        assert unnamed(it) == set()
        assert trail(it)[-1] == ("adopted", "adopted")
        assert it.command("verify").code == 0
        assert it.pbx.stats.media == 0
