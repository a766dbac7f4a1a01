"""Retention with `archive.store = "s3"`: tombstones and holds outlive the machine that the archiver ran on."""

import json
import shutil
from pathlib import Path

from archive_rig import key, recordings, rig
from s3_kinds import CREDENTIALS, bucket, prefixed
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
