"""Retention with `archive.store = "s3"`: tombstones and holds outlive the machine that the archiver ran on."""

import json
import shutil
from pathlib import Path

import pytest
from archive_rig import key, recordings, rig
from s3_kinds import CREDENTIALS, bucket, opened, prefixed
from test_s3_end_to_end import every_server, objects, use

GO = {"ARCHIVER_RETENTION__RULES": json.dumps([{"name": "short", "keep_days": 30}])} | CREDENTIALS
RUN = ("run", "--since", "2024-05-06", "--until", "2024-05-08", "--json")


@every_server
def test_what_is_gone_from_a_bucket_stays_gone_and_what_is_held_stays_held(server: str, tmp_path: Path) -> None:
    rows = recordings(3)
    access = prefixed(bucket(server), tmp_path)
    with rig(tmp_path, rows) as it:
        use(it, access)
        assert it.command(*RUN, env=CREDENTIALS).code == 0
        hold = (
            "hold",
            "add",
            "case",
            "--reason",
            "why",
            "--reference",
            "r",
            "--by",
            "ann",
            "--id",
            rows[0].recording_id,
        )
        assert it.command(*hold, env=CREDENTIALS).code == 0
        said = it.command("retention", "apply", "--json", env=GO)
        assert (said.code, said.json["expired"], said.json["held"]) == (0, 2, 1), said
        stay = {key(rows[0]), key(rows[0]).replace(".mp3", ".json")}
        dead = {key(row).replace(".mp3", ".tombstone.json") for row in rows[1:]}
        assert set(objects(access)) == stay | dead
        assert it.command("verify", "--json", env=CREDENTIALS).json["findings"] == []
        # Another machine: nothing of the local folder is left.
        shutil.rmtree(it.root)
        it.root.mkdir(mode=0o700)
        rebuilt = it.command("rebuild", "--json", env=CREDENTIALS)
        assert (rebuilt.json["tombstones"], rebuilt.json["entered"], rebuilt.code) == (2, 1, 0), rebuilt
        said = it.command("retention", "apply", "--json", env=GO)
        assert (said.json["expired"], said.json["held"]) == (0, 1), said
        again = it.command(*RUN, env=CREDENTIALS)
        assert (again.json["archived"], again.json["already_archived"]) == (0, 1)
        assert set(objects(access)) == stay | dead
        assert it.command("verify", "--json", env=CREDENTIALS).json["findings"] == []


@pytest.mark.parametrize("server", ["ceph", "moto"])
def test_what_the_bucket_locks_is_skipped_with_its_date_and_only_its_lock_can_be_made_longer(
    server: str, tmp_path: Path
) -> None:
    rows = recordings(2)
    access = prefixed(bucket(server, locked=True), tmp_path)
    years = {"ARCHIVER_RETENTION__RULES": json.dumps([{"name": "long", "keep": "30y"}])} | CREDENTIALS
    with rig(tmp_path, rows) as it:
        # Calls of May 2024, locked for 20 years from then on.
        use(it, access, object_lock_mode="GOVERNANCE", retention_days=20 * 365)
        assert it.command(*RUN, env=CREDENTIALS).code == 0
        plan = it.command("retention", "plan", "--json", env=GO).json
        assert (plan["expire"], plan["keep"]) == (0, 2), plan
        said = it.command("retention", "apply", "--json", env=GO)
        assert (said.code, said.json["expired"], said.json["locked"]) == (3, 0, 2), said
        asked = it.command("retention", "erase", rows[0].recording_id, "--by", "bob", "--reference", "9", env=GO)
        assert asked.code == 3, asked
        assert "2044-05" in asked.out
        longer = it.command("retention", "extend", "--json", env=years)
        assert (longer.code, longer.json["objects"], longer.json["extended"]) == (0, 4, 4), longer
        with opened(access) as store:
            dates = {store.locked_until(head.key).until_at for head in store.list()}
        assert {date.year for date in dates if date} == {2054}
        # The shorter rule does not shorten it.
        again = it.command("retention", "extend", "--json", env=years)
        assert (again.code, again.json["extended"]) == (0, 0), again
        assert len(objects(access)) == 4
        assert it.command("verify", "--json", env=CREDENTIALS).json["findings"] == []
