"""Exports from the outside: what is selected, what lies in the bag, and what the bag says of what it lacks."""

import csv
import fcntl
import io
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import bagit
import pytest
from archive_rig import (
    ACCOUNTS,
    SINCE,
    UNTIL,
    Rig,
    Said,
    assert_private,
    cdr,
    key,
    media,
    recording,
    rig,
)

from archiver.cells import original
from archiver.proof.export.table import COLUMNS
from archiver.simulator import SimulatedRecording
from archiver.simulator.hostile import HOSTILE_TEXTS, hostile_recordings

PERIOD = ("--since", SINCE, "--until", UNTIL)


def called(ordinal: int, caller: str, callee: str, *, account: int = 0, **more: Any) -> SimulatedRecording:
    """A recording of a call between these two, with ids of its own."""
    said = {
        "caller_id_number": caller,
        "callee_id_number": callee,
        "caller_id_name": f"Caller {ordinal}",
        "from": f"{caller}@pbx.example",
        "to": f"{callee}@pbx.example",
        "owner_id": f"owner{ordinal}",
        "call_id": f"call-{ordinal}",
        "cdr_id": f"cdr-{ordinal}",
        "interaction_id": f"interaction-{ordinal // 2}",
    }
    return replace(recording(ordinal, account=account), overrides=said | more)


ROWS = [
    called(0, "+49301234", "1001"),
    called(1, "49305555", "1001", account=1),
    called(2, "1001", "49301234"),
    called(3, "1002", "+49305555", account=1),
]


def export(it: Rig, *arguments: str, case: str = "C-1", env: dict[str, str] | None = None) -> Said:
    """`export --json` into the folder `out`."""
    to = it.folder / "out"
    return it.command("export", "--case", case, "--to", str(to), "--json", *arguments, env=env)


def archived(it: Rig) -> None:
    assert it.run().code == 0


def bag_of(said: Said) -> Path:
    assert said.json["bag"], said
    return Path(said.json["bag"])


def table(bag: Path) -> list[dict[str, str]]:
    """The rows of `recordings.csv` as they were before their cells were made harmless."""
    text = (bag / "data" / "recordings.csv").read_bytes().decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    return [{name: original(cell) for name, cell in row.items()} for row in rows]


def ids(bag: Path) -> set[str]:
    return {row["recording_id"] for row in table(bag)}


def validate(bag: Path) -> None:
    """By the library's own command line, and by sha256sum alone."""
    tool = Path(sys.executable).with_name("bagit.py")
    checked = subprocess.run([tool, "--validate", bag], check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    plain = subprocess.run(
        ["sha256sum", "--strict", "-c", "manifest-sha256.txt"], cwd=bag, check=False, capture_output=True, text=True
    )
    assert plain.returncode == 0, plain.stdout
    listed = {line.partition("  ")[2] for line in (bag / "manifest-sha256.txt").read_text().splitlines()}
    assert listed == {path.relative_to(bag).as_posix() for path in (bag / "data").rglob("*") if path.is_file()}


def trail(it: Rig) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (it.root / ".archiver" / "audit.jsonl").read_bytes().splitlines()]


def tell_the_ledger(it: Rig, statement: str) -> None:
    """What another command did to the ledger."""
    with sqlite3.connect(it.root / ".archiver" / "ledger.sqlite3") as ledger:
        ledger.execute(statement)
    ledger.close()


def nothing_there(it: Rig) -> bool:
    """Whether no bag, nor anything of one, lies in the folder."""
    return not list((it.folder / "out").iterdir())


# What is selected


SELECTIONS: dict[str, tuple[Sequence[str], set[int]]] = {
    "a period": (("--since", "2024-05-06T09:01", "--until", "2024-05-06T09:03"), {1, 2}),
    "an account": (("--account", ACCOUNTS[1]), {1, 3}),
    "two accounts": (("--account", ACCOUNTS[0], "--account", ACCOUNTS[1]), {0, 1, 2, 3}),
    "a party that called or was called": (("--party", "+49301234"), {0, 2}),
    "a party without its plus": (("--party", "49305555"), {1, 3}),
    "two parties": (("--party", "1001", "--party", "1002"), {0, 1, 2, 3}),
    "a pattern": (("--party", "caller [13]"), {1, 3}),
    "a name in other letters": (("--party", "CALLER 2"), {2}),
    "an owner": (("--party", "owner3"), {3}),
    "an address": (("--party", "1002@pbx.example"), {3}),
    "a leg of a call": (("--call-id", "call-2"), {2}),
    "a whole call": (("--call-id", "interaction-1"), {2, 3}),
    "call records": (("--call-id", "cdr-0", "--call-id", "cdr-3"), {0, 3}),
    "recordings": (("--id", ROWS[0].recording_id, "--id", ROWS[3].recording_id), {0, 3}),
    "an account and a party": (("--account", ACCOUNTS[0], "--party", "1001"), {0, 2}),
    "a party and a call": (("--party", "1001", "--call-id", "interaction-0"), {0, 1}),
    "everything at once": (
        (*PERIOD, "--account", ACCOUNTS[1], "--party", "*5555", "--call-id", "call-1", "--id", ROWS[1].recording_id),
        {1},
    ),
}


def test_each_condition_selects_what_it_says_and_kinds_of_conditions_must_all_hold(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        for words, (arguments, expected) in SELECTIONS.items():
            said = export(it, *arguments)
            assert (said.code, said.json["outcome"]) == (0, "complete"), (words, said)
            bag = bag_of(said)
            wanted = {ROWS[n].recording_id for n in expected}
            assert ids(bag) == wanted, words
            assert (said.json["recordings"], said.json["exported"]) == (len(wanted), len(wanted))
            assert len(list((bag / "data" / "media").rglob("*.mp3"))) == len(wanted)


def test_ids_come_from_a_file_and_what_is_not_found_is_told_with_exit_code_3(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        file = it.folder / "ids.txt"
        file.write_bytes(f"\ufeff{ROWS[0].recording_id}\r\n\r\n{ROWS[1].recording_id}  \nnobody-s\n".encode())
        said = export(
            it, "--ids-file", str(file), "--account", ACCOUNTS[0], "--call-id", "call-0", "--call-id", "no-call"
        )
        assert (said.code, said.json["outcome"]) == (3, "incomplete")
        # The second is in another account.
        missed = sorted(["nobody-s", "no-call", ROWS[1].recording_id])
        assert (said.json["not_found"], said.json["not_found_total"]) == (missed, 3)
        bag = bag_of(said)
        assert ids(bag) == {ROWS[0].recording_id}
        letter = (bag / "data" / "README.txt").read_text()
        assert all(each in letter for each in missed)
        assert "Nothing is missing" not in letter


def test_nothing_that_fits_leaves_no_bag_with_exit_code_3_and_is_in_the_audit_trail(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        said = export(it, "--party", "nobody")
        assert (said.code, said.json["outcome"], said.json["bag"]) == (3, "nothing", "")
        assert nothing_there(it)
        last = trail(it)[-1]
        assert (last["what"], last["result"], last["details"]["case"]) == ("exported", "nothing", "C-1")
        words = it.command("export", "--case", "C", "--to", str(it.folder / "out"), "--party", "nobody")
        assert "there is no bag" in words.out


WRONG: dict[str, tuple[Sequence[str], str]] = {
    "no condition": ((), "at least one of --since"),
    "a case that is a path": (("--case", "../x", "--id", "a"), "--case"),
    "a case that is hidden": (("--case", ".x", "--id", "a"), "--case"),
    "a case that is an option": (("--case", "-x", "--id", "a"), "--case"),
    "an empty party": (("--party", ""), "--party"),
    "a reference of two lines": (("--id", "a", "--reference", "x\nBagging-Date: 1970-01-01"), "--reference"),
    "somebody of two lines": (("--id", "a", "--by", "x\x1b[2J"), "--by"),
    "an account that was never archived": (("--account", "c" * 32), "--account"),
    "an end without a beginning": (("--until", SINCE), "--since"),
    "a file that is not there": (("--ids-file", "/nowhere/ids"), "--ids-file"),
    "a file without ids": (("--ids-file", "/dev/null"), "--ids-file"),
}


def test_a_request_that_makes_no_sense_is_refused_with_what_is_allowed(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS[:1]) as it:
        archived(it)
        before = trail(it)
        for words, (arguments, named) in WRONG.items():
            said = export(it, *arguments)
            assert (said.code, said.out) == (2, ""), (words, said)
            assert named in said.err, words
        assert trail(it) == before
        assert not (it.folder / "out").exists() or nothing_there(it)


@pytest.mark.parametrize("place", ["", "a" * 32, ".archiver", "new", "../link"])
def test_a_folder_in_the_archive_is_refused(place: str, tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS[:1]) as it:
        archived(it)
        (it.root.parent / "link").symlink_to(it.root / "a")
        before = {path for path in it.root.rglob("*") if ".archiver" not in path.parts}
        said = it.command("export", "--case", "C", "--to", str(it.root / place), "--since", SINCE)
        assert (said.code, "--to" in said.err) == (2, True), said
        assert {path for path in it.root.rglob("*") if ".archiver" not in path.parts} == before


def test_a_folder_whose_parent_is_not_there_or_that_is_a_file_is_refused(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS[:1]) as it:
        archived(it)
        (it.folder / "file").write_text("")
        for to in ("no/where", "file"):
            said = it.command("export", "--case", "C", "--to", str(it.folder / to), "--since", SINCE)
            assert (said.code, "--to" in said.err) == (2, True), said


# What lies in the bag


def test_the_bag_is_valid_private_and_holds_media_and_metadata_byte_for_byte(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        said = export(it, *PERIOD, "--reference", "AZ 12/34", "--by", "Zoë Müller")
        bag = bag_of(said)
        validate(bag)
        assert_private(bag)
        assert [path.name for path in (it.folder / "out").iterdir()] == [bag.name]
        assert bag.name.startswith("C-1-2")
        for row in ROWS:
            assert (bag / "data" / "media" / key(row)).read_bytes() == media(row)
            name = key(row).replace(".mp3", ".json")
            assert (bag / "data" / "metadata" / name).read_bytes() == (it.root / name).read_bytes()
        info = bagit.Bag(str(bag)).info
        assert (info["External-Identifier"], info["Internal-Sender-Identifier"]) == ("C-1", "AZ 12/34")
        assert info["Contact-Name"] == "Zoë Müller"
        files = [path for path in (bag / "data").rglob("*") if path.is_file()]
        assert info["Payload-Oxum"] == f"{sum(path.stat().st_size for path in files)}.{len(files)}"
        letter = (bag / "data" / "README.txt").read_text()
        assert "Nothing is missing" in letter
        assert all(text in letter for text in ("AZ 12/34", "Zoë Müller", "sha256sum", "bagit.py --validate", *COLUMNS))
        assert said.json["manifest_sha256"] == sha256((bag / "manifest-sha256.txt").read_bytes()).hexdigest()


def test_an_empty_folder_of_the_same_name_and_a_second_export_in_the_same_second_are_left_alone(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        both = [it.start("export", "--case", "C", "--to", str(it.folder / "out"), "--json", *PERIOD) for _ in range(2)]
        bags = [bag_of(started.wait()) for started in both]
        assert len(set(bags)) == 2
        for bag in bags:
            validate(bag)
        assert it.command("audit", "check").code == 0


def test_the_table_says_what_is_known_of_each_recording(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        it.configure(archive={"timezone": "America/New_York"})
        archived(it)
        rows = table(bag_of(export(it, *PERIOD)))
        assert [list(row) for row in rows] == [list(COLUMNS)] * 4
        first = next(row for row in rows if row["recording_id"] == ROWS[0].recording_id)
        expected = {
            "account_id": ACCOUNTS[0],
            "version": "1",
            "status": "archived",
            "problem": "",
            "start_utc": "2024-05-06T09:00:00Z",
            "start_local": "2024-05-06T05:00:00-04:00",
            "duration_s": "2",
            "caller_number": "+49301234",
            "caller_name": "Caller 0",
            "callee_number": "1001",
            "from": "+49301234@pbx.example",
            "owner_id": "owner0",
            "call_id": "call-0",
            "size_bytes": str(len(media(ROWS[0]))),
            "sha256": sha256(media(ROWS[0])).hexdigest(),
            "path": f"data/media/{key(ROWS[0])}",
            "metadata_path": f"data/metadata/{key(ROWS[0]).replace('.mp3', '.json')}",
            "flags": "",
        }
        assert {name: first[name] for name in expected} == expected


def test_only_the_call_records_of_these_calls_come_along_and_unchanged(tmp_path: Path) -> None:
    other_leg = replace(cdr(ROWS[0]), cdr_id="other-leg", media_recording_id=None)
    legs = [*map(cdr, ROWS), other_leg]
    with rig(tmp_path / "work", ROWS, cdrs=legs) as it:
        archived(it)
        assert it.command("reconcile", *PERIOD).code == 0
        said = export(it, "--id", ROWS[0].recording_id)
        (file,) = (bag_of(said) / "data" / "cdrs").rglob("*.jsonl")
        lines = [json.loads(line) for line in file.read_bytes().splitlines()]
        assert {line["id"] for line in lines} == {cdr(ROWS[0]).cdr_id, "other-leg"}
        assert said.json["cdrs"] == 2
        archive = it.root / ACCOUNTS[0] / "2024/05/06/cdrs.jsonl.gz"
        whole = subprocess.run(["gzip", "-dc", str(archive)], check=True, capture_output=True).stdout
        assert set(file.read_bytes().splitlines()) <= set(whole.splitlines())
        changed = bytearray(archive.read_bytes())
        changed[-1] ^= 1
        archive.write_bytes(bytes(changed))
        damaged = export(it, "--id", ROWS[0].recording_id)
        assert (damaged.code, damaged.json["cdrs"]) == (7, 0)
        assert [each["kind"] for each in damaged.json["findings"]] == ["digest"]
        validate(bag_of(damaged))


def test_the_audit_trails_lines_about_these_recordings_come_along_unchanged(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        assert it.command("verify").code == 0
        said = export(it, "--id", ROWS[0].recording_id)
        kept = (bag_of(said) / "data" / "audit.jsonl").read_bytes().splitlines()
        whole = (it.root / ".archiver" / "audit.jsonl").read_bytes().splitlines()
        assert [line for line in whole if line in set(kept)] == kept
        found = [json.loads(line) for line in kept]
        assert [each["what"] for each in found] == ["run_began", "manifest", "run_ended", "verified"]
        assert found[1]["subject"] == f".archiver/manifests/{ACCOUNTS[0]}/2024-05-06.sha256"
        assert said.json["audit_records"] == 4


def test_the_export_itself_is_in_the_audit_trail_and_tells_no_later_reader_of_another_case(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        said = export(it, "--party", "+49301234", "--reference", "AZ 1", "--by", "Jim", case="First")
        header, *each = [record for record in trail(it) if record["what"] == "exported"]
        assert (header["subject"], header["result"]) == (bag_of(said).name, "handed_out")
        told = {"case": "First", "reference": "AZ 1", "by": "Jim", "sha256": said.json["manifest_sha256"], "objects": 2}
        assert {name: header["details"][name] for name in told} == told
        assert {record["subject"] for record in each} == {key(ROWS[0]), key(ROWS[2])}
        assert {record["details"]["sha256"] for record in each} == {said.json["manifest_sha256"]}
        text = (it.root / ".archiver" / "audit.jsonl").read_text()
        assert "49301234" not in text
        second = bag_of(export(it, "--id", ROWS[0].recording_id, case="Second")) / "data" / "audit.jsonl"
        assert key(ROWS[0]) in second.read_text()
        assert "First" not in second.read_text()
        assert it.command("audit", "check").code == 0


def test_an_export_works_beside_a_run_and_takes_no_lock(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        with (it.root / ".archiver" / "lock").open("r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert export(it, *PERIOD).code == 0


# What is not in the bag


def test_recordings_that_are_not_archived_are_in_the_table_with_their_status(tmp_path: Path) -> None:
    rows = [*ROWS, replace(called(4, "1001", "1002"), available_at=float("inf"))]
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 3
        for row, status in ((ROWS[0], "expired"), (ROWS[1], "missing"), (ROWS[2], "quarantined")):
            tell_the_ledger(it, f"UPDATE entries SET status = '{status}' WHERE recording_id = '{row.recording_id}'")
        said = export(it, *PERIOD)
        assert (said.code, said.json["outcome"]) == (3, "incomplete")
        assert (said.json["recordings"], said.json["exported"], said.json["not_archived_total"]) == (5, 1, 4)
        named = {each["recording_id"]: each["status"] for each in said.json["not_archived"]}
        bag = bag_of(said)
        validate(bag)
        assert {row["recording_id"]: row["status"] for row in table(bag) if not row["path"]} == named
        assert named == {
            ROWS[0].recording_id: "expired",
            ROWS[1].recording_id: "missing",
            ROWS[2].recording_id: "quarantined",
            rows[4].recording_id: "pending",
        }
        letter = " ".join((bag / "data" / "README.txt").read_text().split())
        assert all(f"1 {status}" in letter for status in named.values())
        words = it.command("export", "--case", "W", "--to", str(it.folder / "out"), *PERIOD)
        assert (words.code, "not archived" in words.out, "pending" in words.out) == (3, True, True)


def test_what_is_pending_is_selected_by_its_party_and_what_expired_can_not_be_told(tmp_path: Path) -> None:
    rows = [*ROWS, replace(called(4, "1001", "9999"), available_at=float("inf"))]
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 3
        tell_the_ledger(it, f"UPDATE entries SET status = 'expired' WHERE recording_id = '{ROWS[3].recording_id}'")
        said = export(it, "--party", "1001")
        assert (said.code, said.json["recordings"], said.json["exported"], said.json["undecided"]) == (3, 4, 3, 1)
        assert ids(bag_of(said)) == {rows[n].recording_id for n in (0, 1, 2, 4)}
        assert "can't be told" in " ".join((bag_of(said) / "data" / "README.txt").read_text().split())


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], None]] = {"digest": flipped, "size": cut, "missing_object": Path.unlink}


@pytest.mark.parametrize("kind", sorted(DAMAGES))
def test_damaged_media_are_left_out_and_told_with_exit_code_7(kind: str, tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        DAMAGES[kind](it.root / key(ROWS[1]))
        said = export(it, *PERIOD)
        assert (said.code, said.json["outcome"], said.json["exported"]) == (7, "incomplete", 3)
        assert [(each["kind"], each["key"]) for each in said.json["findings"]] == [(kind, key(ROWS[1]))]
        bag = bag_of(said)
        validate(bag)
        assert not (bag / "data" / "media" / key(ROWS[1])).exists()
        row = next(row for row in table(bag) if row["recording_id"] == ROWS[1].recording_id)
        assert (row["problem"], row["path"], row["caller_number"]) == (kind, "", "49305555")
        assert f"{kind}: {key(ROWS[1])}" in (bag / "data" / "README.txt").read_text()
        assert [record["subject"] for record in trail(it) if record.get("result") == kind] == [key(ROWS[1])]


@pytest.mark.parametrize("kind", ["sidecar", "missing_sidecar"])
def test_a_damaged_sidecar_is_left_out_and_nobody_is_selected_by_it(kind: str, tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        path = it.root / key(ROWS[1]).replace(".mp3", ".json")
        if kind == "sidecar":
            path.write_bytes(path.read_bytes().replace(b"49305555", b"49306666"))
        else:
            path.unlink()
        said = export(it, *PERIOD)
        assert (said.code, [each["kind"] for each in said.json["findings"]]) == (7, [kind])
        bag = bag_of(said)
        validate(bag)
        assert (bag / "data" / "media" / key(ROWS[1])).read_bytes() == media(ROWS[1])
        row = next(row for row in table(bag) if row["recording_id"] == ROWS[1].recording_id)
        assert (row["problem"], row["metadata_path"], row["caller_number"]) == (kind, "", "")
        by_party = export(it, "--party", "4930*")
        assert (by_party.code, by_party.json["undecided"]) == (7, 1)
        # The first and the last say +4930…, and only plain numbers are found with or without a plus.
        assert ids(bag_of(by_party)) == {ROWS[2].recording_id}


def test_an_archive_without_sidecars_is_exported_without_names_and_by_nobody_s_name(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        it.configure(archive={"sidecar": False})
        archived(it)
        said = export(it, *PERIOD)
        assert (said.code, said.json["exported"], said.json["findings"]) == (0, 4, [])
        bag = bag_of(said)
        validate(bag)
        assert {(row["caller_number"], row["metadata_path"]) for row in table(bag)} == {("", "")}
        by_party = export(it, "--party", "1001")
        assert (by_party.code, by_party.json["outcome"], by_party.json["undecided"]) == (3, "nothing", 4)


def test_every_version_of_a_recording_that_changed_at_the_source_comes_along(tmp_path: Path) -> None:
    first = recording(0)
    with rig(tmp_path / "one", [first]) as it:
        archived(it)
        root = it.root
    with rig(tmp_path / "two", [recording(0, duration_ms=3000)]) as it:
        shutil.copytree(root, it.root)
        archived(it)
        bag = bag_of(export(it, *PERIOD))
        validate(bag)
        rows = table(bag)
        assert [row["version"] for row in rows] == ["1", "2"]
        assert [sha256((bag / row["path"]).read_bytes()).hexdigest() for row in rows] == [row["sha256"] for row in rows]


# What strangers wrote


def test_hostile_metadata_reach_no_path_no_formula_and_no_line_of_their_own(tmp_path: Path) -> None:
    texts = list(HOSTILE_TEXTS.values())
    fields = ("caller_id_number", "callee_id_number", "caller_id_name", "direction", "cdr_id", "from", "to")
    rows = [replace(recording(n), overrides=dict.fromkeys(fields, text)) for n, text in enumerate(texts)]
    with rig(tmp_path / "work", rows) as it:
        archived(it)
        said = export(it, *PERIOD)
        assert said.code == 0, said
        bag = bag_of(said)
        validate(bag)
        found = {row["recording_id"]: row for row in table(bag)}
        for row, text in zip(rows, texts, strict=True):
            assert found[row.recording_id]["caller_name"] == text
            assert found[row.recording_id]["from"] == text
        lines = (bag / "data" / "recordings.csv").read_bytes().split(b"\r\n")
        assert len(lines) == len(rows) + 2
        for line in lines[1:]:
            for cell in next(csv.reader([line.decode()]), []):
                assert not cell.lstrip().startswith(("=", "+", "-", "@", "\t", "\r"))


def test_hostile_ids_and_documents_are_exported_under_safe_names(tmp_path: Path) -> None:
    rows = [row for row in hostile_recordings(ACCOUNTS[0], 1_714_986_000) if "\ud800" not in row.recording_id]
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code in {0, 3}
        said = export(it, "--account", ACCOUNTS[0])
        assert (said.code, said.json["findings_total"]) == (3 if said.json["not_archived_total"] else 0, 0), said
        bag = bag_of(said)
        validate(bag)
        assert all(path.resolve().is_relative_to(bag) for path in bag.rglob("*"))
        folder = bag / "data" / "media"
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*.mp3")} == {
            name for name in it.media() if name.endswith(".mp3")
        }


def test_people_read_where_the_bag_is_and_what_is_in_it(tmp_path: Path) -> None:
    with rig(tmp_path / "work", ROWS) as it:
        archived(it)
        said = it.command("export", "--case", "C-1", "--to", str(it.folder / "out"), *PERIOD)
        (bag,) = (it.folder / "out").iterdir()
        assert (said.code, said.err) == (0, "")
        assert str(bag) in said.out
        assert "4 recordings" in said.out
