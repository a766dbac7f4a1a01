"""`archiver rebuild --adopt`: what another tool saved comes into the archive without a download, or says why not."""

import asyncio
import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, assert_holds_all, key, media, recording, recordings, rig
from hypothesis import given
from hypothesis import strategies as st
from in_process import PERIOD, Silent, archived, made

from archiver.commands.adopting import run_adopt
from archiver.commands.inspection import VerifyRequest, run_explain, run_verify
from archiver.proof.restoration.found_files import ids_in
from archiver.reports.adopt_report import AdoptReport
from archiver.reports.run_report import RunReport
from archiver.simulator import DELETE, BytesMedia, SimulatedRecording

THEN = datetime(2024, 5, 9, tzinfo=UTC)


def saved(folder: Path, rows: Sequence[SimulatedRecording]) -> Path:
    """What another tool left: other names, other folders."""
    folder.mkdir(exist_ok=True)
    for ordinal, row in enumerate(rows):
        place = folder / f"day {ordinal % 3}"
        place.mkdir(exist_ok=True)
        (place / f"call_{row.recording_id}_out.MP3").write_bytes(media(row))
    return folder


def adopted(it: Rig, folder: Path) -> AdoptReport:
    settings = made(it.pbx.base_url, it.root)
    work = run_adopt(settings, PERIOD, folder, stop=asyncio.Event(), watcher=Silent(), now=lambda: THEN)
    return asyncio.run(work)


def ran(it: Rig) -> RunReport:
    return asyncio.run(archived(made(it.pbx.base_url, it.root), now=lambda: THEN)).report


def findings(it: Rig) -> list[object]:
    report = asyncio.run(run_verify(made(it.pbx.base_url, it.root), VerifyRequest(), stop=asyncio.Event()))
    return list(report.findings)


def fetched(it: Rig) -> int:
    return it.pbx.stats.media_gets.total()


def why(report: AdoptReport) -> dict[str, str]:
    return {misfit.path: misfit.reason for misfit in report.misfits}


def test_what_another_tool_saved_is_taken_over_without_a_download(tmp_path: Path) -> None:
    rows = recordings(12)
    with rig(tmp_path / "work", rows) as it:
        folder = saved(tmp_path / "old", rows)
        before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.MP3")}
        said = it.command("rebuild", "--adopt", str(folder), "--since", SINCE, "--until", UNTIL, "--json")
        assert said.code == 0, said
        assert (said.json["files"], said.json["adopted"], said.json["misfits"]) == (12, 12, [])
        assert (said.json["bytes_adopted"], said.json["pending"]) == (sum(len(media(row)) for row in rows), 0)
        assert_holds_all(it, rows)
        assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.MP3")} == before
        report = ran(it)
        assert (report.already_archived, report.archived, fetched(it)) == (12, 0, 0)
        assert findings(it) == []
        (found,) = asyncio.run(run_explain(made(it.pbx.base_url, it.root), rows[0].recording_id)).found
        assert found.flags == ["adopted"]
        sidecar = json.loads((it.root / key(rows[0])).with_suffix(".json").read_bytes())
        assert sidecar["source"] == f"adopted from the file day 0/call_{rows[0].recording_id}_out.MP3"


def test_what_is_not_among_the_files_stays_for_the_next_run(tmp_path: Path) -> None:
    rows = recordings(9)
    with rig(tmp_path / "work", rows) as it:
        report = adopted(it, saved(tmp_path / "old", rows[:4]))
        assert (report.outcome, report.exit_code, report.adopted, report.pending) == ("complete", 0, 4, 5)
        after = ran(it)
        assert (after.archived, after.already_archived, fetched(it)) == (5, 4, 5)
        assert_holds_all(it, rows)


def test_each_misfit_is_listed_with_its_reason_and_nothing_of_it_is_archived(tmp_path: Path) -> None:
    rows = recordings(9)
    rows[7] = recording(7, account=1, duration_ms=4000, media=BytesMedia(b"<html>" * 500))
    rows[8] = recording(8, overrides={"_attachments": DELETE})
    folder = tmp_path / "old"
    with rig(tmp_path / "work", rows) as it:
        folder.mkdir()
        names = [f"{row.recording_id}.mp3" for row in rows]
        (folder / names[0]).write_bytes(media(rows[0]))
        (folder / f"copy of {names[0]}").write_bytes(media(rows[0]))
        (folder / names[1]).write_bytes(media(rows[1])[:-1])
        data = bytearray(media(rows[2]))
        data[0:4] = b"<htm"
        (folder / names[2]).write_bytes(data)
        (folder / names[7]).write_bytes(media(rows[7]))
        (folder / names[8]).write_bytes(media(rows[8]))
        (folder / f"202405-{'f' * 32}.mp3").write_bytes(media(rows[3]))
        (folder / "readme.txt").write_bytes(b"hello")
        (folder / f"{rows[3].recording_id} and {rows[4].recording_id}.mp3").write_bytes(media(rows[3]))
        (folder / names[5]).symlink_to(folder / names[0])
        os.mkfifo(folder / "pipe")
        report = adopted(it, folder)
        assert (report.exit_code, report.outcome, report.adopted, report.files) == (3, "incomplete", 1, 11)
        assert why(report) == {
            f"copy of {names[0]}": "duplicate",
            names[1]: "other_size",
            names[2]: "not_audio",
            names[7]: "not_audio",
            names[8]: "no_length",
            f"202405-{'f' * 32}.mp3": "not_listed",
            "readme.txt": "no_id",
            f"{rows[3].recording_id} and {rows[4].recording_id}.mp3": "several_ids",
            names[5]: "unreadable",
            "pipe": "unreadable",
        }
        assert all(misfit.detail for misfit in report.misfits)
        assert report.files == report.adopted + report.already_archived + report.misfits_total
        assert it.media() == {key(rows[0]): media(rows[0])}
        assert fetched(it) == 0
        shown = it.command("rebuild", "--adopt", str(folder), "--since", SINCE, "--until", UNTIL)
        assert shown.code == 3
        assert "no_id: readme.txt" in shown.out


def test_a_second_adoption_finds_everything_archived_and_other_bytes_are_told(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        folder = saved(tmp_path / "old", rows)
        assert adopted(it, folder).adopted == 4
        spoiled = next(folder.rglob(f"*{rows[1].recording_id}*"))
        spoiled.write_bytes(media(rows[2]))
        report = adopted(it, folder)
        assert (report.adopted, report.already_archived, list(why(report).values())) == (0, 3, ["other_bytes"])
        assert (it.root / key(rows[1])).read_bytes() == media(rows[1])


def test_files_inside_the_archives_folder_are_taken_over_and_its_own_are_not(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows) as it:
        assert ran(it).archived == 4
        assert adopted(it, it.folder).files == 1  # the settings; the archive below is passed over
        assert it.command("rebuild", "--adopt", str(it.root), "--since", SINCE).code == 2
        assert it.command("rebuild", "--adopt", str(tmp_path / "nowhere"), "--since", SINCE).code == 2
        assert it.command("rebuild", "--adopt", str(tmp_path)).code == 2


def test_names_that_are_no_text_are_shown_all_the_same(tmp_path: Path) -> None:
    with rig(tmp_path / "work", recordings(1)) as it:
        folder = tmp_path / "old"
        folder.mkdir()
        (Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.mp3"))).write_bytes(b"x")
        said = it.command("rebuild", "--adopt", str(folder), "--since", SINCE, "--until", UNTIL, "--json")
        assert (said.code, said.json["misfits"][0]["path"]) == (3, "\\xff\\xfe.mp3")
        assert "! no_id: " in it.command("rebuild", "--adopt", str(folder), "--since", SINCE, "--until", UNTIL).out


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("202405-0123456789abcdef0123456789abcdef.mp3", ("202405-0123456789abcdef0123456789abcdef",)),
        ("call_0123456789abcdef01234567_49301234567.wav", ("0123456789abcdef01234567",)),
        ("2024-05-06 0123456789ABCDEF0123456789ABCDEF.mp3", ("0123456789ABCDEF0123456789ABCDEF",)),
        ("any-id.mp3", ("any-id",)),
        ("noending", ("noending",)),
    ],
)
def test_ids_are_found_in_names(name: str, ids: tuple[str, ...]) -> None:
    assert ids_in(name)[0] == ids


@given(st.text())
def test_any_name_has_an_id_of_some_kind(name: str) -> None:
    assert ids_in(name)[0]


def test_a_file_is_read_whole_into_the_archive_however_large(tmp_path: Path) -> None:
    large = recording(0, duration_ms=400_000)
    with rig(tmp_path / "work", [large]) as it:
        assert len(media(large)) > 3 << 20
        assert adopted(it, saved(tmp_path / "old", [large])).adopted == 1
        assert sha256((it.root / key(large)).read_bytes()).digest() == sha256(media(large)).digest()
        assert it.temporaries() == []
