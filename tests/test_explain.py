"""`archiver explain`: the whole history of one recording."""

from hashlib import sha256
from pathlib import Path

from archive_rig import SINCE, UNTIL, key, media, recording, recordings, rig

from archiver.simulator import Fault, Status


def test_a_recordings_history_is_told_from_the_first_failed_try_to_the_object(tmp_path: Path) -> None:
    rows = recordings(3)
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=500), times=2)
    with rig(tmp_path / "work", rows, faults=[fault]) as it:
        assert it.run().code == 0
        said = it.command("explain", rows[0].recording_id, "--json")
        (found,) = said.json["found"]
        assert (found["status"], found["attempts"]) == ("archived", 3)
        assert [tried["reason"] for tried in found["failed_attempts"]] == ["server_error"] * 2
        (version,) = found["versions"]
        assert (version["key"], version["size_bytes"], version["in_store"]) == (
            key(rows[0]),
            len(media(rows[0])),
            "present",
        )
        assert version["run_id"] == found["last_run_id"] != ""
        shown = it.command("explain", rows[0].recording_id)
        assert shown.code == 0
        for word in ("archived", "server_error", version["sha256"], "present in the store"):
            assert word in shown.out


def test_what_changed_at_the_source_is_kept_beside_the_old_and_told(tmp_path: Path) -> None:
    old, new = recording(0), recording(0, duration_ms=4000)
    with rig(tmp_path / "work", [old]) as it:
        assert it.run().json["changed_at_source"] == 0
        it.pbx.call(lambda: it.pbx.simulator.corpus.replace(new))
        said = it.command("run", "--since", SINCE, "--until", UNTIL)
        assert said.code == 0
        assert "changed at source            1   new versions beside the old" in said.out
        assert f"{old.recording_id}: changed_at_source: archived as version 2 beside the former" in said.out
        shown = it.command("explain", old.recording_id).out
        first, second = shown.index("version 1"), shown.index("version 2")
        assert sha256(media(old)).hexdigest() in shown[first:second]
        assert sha256(media(new)).hexdigest() in shown[second:]
        assert shown.count("present in the store") == 2


def test_what_is_gone_from_the_store_is_said(tmp_path: Path) -> None:
    rows = recordings(1)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
        (it.root / key(rows[0])).unlink()
        (found,) = it.command("explain", rows[0].recording_id, "--json").json["found"]
        assert found["versions"][0]["in_store"] == "gone"


def test_a_recording_that_was_never_listed_is_told_as_such(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        assert it.run().code == 0
        said = it.command("explain", "202405-nobody")
        assert said.code == 2
        assert "was ever listed" in said.err


def test_a_recording_that_is_not_there_yet_says_when_it_is_tried_again(tmp_path: Path) -> None:
    rows = recordings(1)
    fault = Fault(on="media", recording_id=rows[0].recording_id, action=Status(code=404), times=-1)
    with rig(tmp_path / "work", rows, faults=[fault]) as it:
        assert it.command("run", "--since", SINCE, "--until", UNTIL).code == 3
        said = it.command("explain", rows[0].recording_id)
        assert "pending" in said.out
        assert "not_there" in said.out
        assert "next try" in said.out
