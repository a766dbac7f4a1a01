"""`doctor --write-profile`: what was learnt of a PBX is kept, compared with by the next doctor, and a hint for runs."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_rig import Rig, rig
from hypothesis import given
from hypothesis import strategies as st
from test_doctor_behaviours import NOW, calls, checks, folder, look, many, pbx_with

from archiver.proof.examination.behaviours import Behaviour, Name
from archiver.proof.examination.profile import changes, hints_of, read_profile, written_profile
from archiver.simulator import Switches

__all__ = ["folder"]
URL = "https://pbx.example"


def profile_of(it: Rig) -> Path:
    return it.root / ".archiver" / "pbx-profile.json"


def test_a_profile_holds_what_was_seen_and_is_private(folder: Path) -> None:
    with pbx_with(folder, calls(), switches=Switches(media_path="plural")) as it:
        report = look(it, write_profile=True)
        kept = json.loads(profile_of(it).read_text())
        assert stat.S_IMODE(profile_of(it).stat().st_mode) == 0o600
        assert (kept["schema"], kept["base_url"]) == (1, it.base_url)
        assert datetime.fromisoformat(kept["learned_at"]) == NOW
        seen = {line.name: line.seen for line in report.behaviours if line.seen}
        assert {name: one["seen"] for name, one in kept["behaviours"].items()} == {
            name: word for name, word in seen.items() if name not in {"speed", "rate_limit"}
        }
        assert checks(report)["profile"].state == "ok"
        assert [path.name for path in profile_of(it).parent.iterdir() if "profile" in path.name] == ["pbx-profile.json"]


def test_without_the_option_nothing_is_kept(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        assert "profile" not in checks(look(it))
        assert not profile_of(it).exists()


def test_the_next_doctor_says_that_nothing_changed_or_what_did(folder: Path) -> None:
    rows = many(450)
    with pbx_with(folder, rows, switches=Switches(page_cap=400)) as it:
        look(it, write_profile=True)
        same = checks(look(it))["profile"]
        assert (same.state, same.found) == ("ok", "the PBX behaves as on 2024-06-01")
        before = profile_of(it).read_bytes()
        url, port = it.base_url, it.pbx.base_url.rpartition(":")[2]
    upgraded = Switches(page_cap=150, media_path="plural")
    with pbx_with(folder, rows, switches=upgraded) as it:
        # The same PBX to whoever compares: the port is another one.
        profile_of(it).write_bytes(before.replace(url.encode(), it.base_url.encode()))
        assert port in url
        report = look(it)
        changed = checks(report)["profile"]
        assert (changed.state, report.outcome, report.exit_code) == ("weak", "weak", 0)
        assert "page_cap was 400, now 150" in changed.found
        assert "media_path was both, now plural" in changed.found
        assert "--write-profile" in changed.advice
        again = checks(look(it, write_profile=True))["profile"]
        assert "page_cap was 400, now 150" in again.found
        assert checks(look(it))["profile"].state == "ok"


def test_what_could_not_be_told_this_time_stays_as_it_was_told_before(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        look(it, write_profile=True)
        # Two months later nobody calls any more.
        later = NOW + timedelta(days=60)
        report = look(it, write_profile=True, now=later)
        assert checks(report)["profile"].state == "ok"
        kept = json.loads(profile_of(it).read_text())["behaviours"]
        assert kept["cursor"]["seen"] == "inclusive"
        assert datetime.fromisoformat(kept["cursor"]["at"]) == NOW
        assert datetime.fromisoformat(kept["empty_page"]["at"]) == later


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "can't be read"),
        ("[]", "can't be read"),
        ("{", "can't be read"),
        ("\x00" * 5000, "can't be read"),
        ("[" * 100_000, "can't be read"),
        ('{"schema": 2, "learned_at": "2026-01-01T00:00:00Z", "base_url": "x", "behaviours": {}}', "schema 2"),
        ('{"schema": 1, "learned_at": "2026-01-01T00:00:00Z", "base_url": "x", "behaviours": {}}', "another PBX"),
    ],
    ids=["empty", "array", "cut", "zeros", "nested", "newer", "other PBX"],
)
def test_a_damaged_or_foreign_profile_is_passed_over_with_a_note(folder: Path, text: str, words: str) -> None:
    with pbx_with(folder, calls()) as it:
        look(it)
        profile_of(it).write_text(text)
        report = look(it)
        note = checks(report)["profile"]
        assert (note.state, report.exit_code) == ("weak", 0)
        assert words in note.found
        said = it.run()
        assert said.code == 0
        assert any(words in one for one in said.json["notes"]), said
        assert checks(look(it, write_profile=True))["profile"].state == "weak"
        assert checks(look(it))["profile"].state == "ok"


def test_a_profile_that_is_a_link_or_a_folder_is_passed_over(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        look(it)
        (folder / "elsewhere").write_text("{}")
        profile_of(it).symlink_to(folder / "elsewhere")
        said = it.run()
        assert (said.code, len(said.json["notes"])) == (0, 1)
        profile_of(it).unlink()
        profile_of(it).mkdir()
        said = it.run()
        assert (said.code, len(said.json["notes"])) == (0, 1)
        assert checks(look(it))["profile"].state == "weak"


def test_a_profile_that_can_not_be_written_fails(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        look(it)
        profile_of(it).mkdir()
        (profile_of(it) / "full").touch()
        report = look(it, write_profile=True)
        assert (checks(report)["profile"].state, report.exit_code) == ("failed", 5)
        assert sorted(path.name for path in profile_of(it).parent.iterdir()) == ["lock", "pbx-profile.json", "tmp"]


def test_without_a_pbx_to_look_at_no_profile_is_written(folder: Path) -> None:
    with pbx_with(folder, calls()) as it:
        it.configure(pbx={"username": "stranger"})
        report = look(it, write_profile=True)
        assert (report.exit_code, checks(report)["profile"].state) == (4, "weak")
        assert not profile_of(it).exists()


# A run's hints


def test_a_run_begins_with_the_address_that_worked_and_loses_no_request(folder: Path) -> None:
    rows = calls()
    with pbx_with(folder, rows, switches=Switches(media_path="plural")) as it:
        look(it, write_profile=True)
        before = dict(it.pbx.stats.media_gets)
        said = it.command("run", "--since", "2024-05-31", "--until", "2024-06-01", "--json")
        assert (said.code, said.json["archived"], said.json["notes"]) == (0, len(rows), [])
        gets = {key: count - before.get(key, 0) for key, count in it.pbx.stats.media_gets.items()}
        assert sum(gets.values()) == len(rows)


def test_a_run_with_a_profile_that_is_wrong_archives_all_the_same(folder: Path) -> None:
    rows = calls()
    with pbx_with(folder, rows, switches=Switches(media_path="singular")) as it:
        look(it, write_profile=True)
        kept = json.loads(profile_of(it).read_text())
        kept["behaviours"] |= {
            "media_path": {"seen": "plural", "at": "2026-01-01T00:00:00Z"},
            "page_cap": {"seen": "2", "at": "2026-01-01T00:00:00Z"},
        }
        profile_of(it).write_text(json.dumps(kept))
        said = it.command("run", "--since", "2024-05-31", "--until", "2024-06-01", "--json")
        assert (said.code, said.json["archived"], said.json["windows_incomplete"]) == (0, len(rows), 0)


def test_a_run_asks_for_pages_as_large_as_the_pbx_gives(folder: Path) -> None:
    rows = many(40)
    with pbx_with(folder, rows, switches=Switches(page_cap=16, over_cap="refuse"), cdrs=False) as it:
        it.configure(pbx={"page_size": 100})
        report = look(it, write_profile=True)
        assert report.exit_code == 8
        said = it.command("run", "--since", "2024-05-31", "--until", "2024-06-01", "--json")
        assert (said.code, said.json["archived"]) == (0, 40), said


def test_a_hint_is_a_form_of_the_address_or_a_smaller_page_and_nothing_else() -> None:
    def hints(**seen: str) -> Any:
        told = [Behaviour(Name(name), word, "") for name, word in seen.items()]
        data = written_profile(None, told, base_url=URL, learned_at=NOW)
        return hints_of(read_profile(data, base_url=URL)[0])

    singular, plural = "/api/v2/reports/recording/{recording_id}", "/api/v2/reports/recordings/{recording_id}"
    for seen, given_path, wanted in (
        ("plural", singular, plural),
        ("plural", plural, plural),
        ("singular", plural, singular),
        ("both", singular, singular),
        ("/etc/{recording_id}", singular, singular),
        ("plural", "/media/{recording_id}", "/media/{recording_id}"),
    ):
        assert hints(media_path=seen).recording_path(given_path) == wanted
    for cap, size in (("500", 500), ("5000", 1000), ("0", 1000), ("-1", 1000), ("²", 1000), ("9" * 50, 1000)):
        assert hints(page_cap=cap).page_size(1000) == size


@given(st.binary(max_size=200))
def test_no_bytes_make_reading_a_profile_fail(data: bytes) -> None:
    profile, note = read_profile(data, base_url=URL)
    assert profile is None
    assert note


def test_what_passes_by_itself_is_no_change() -> None:
    def told(word: str) -> list[Behaviour]:
        return [Behaviour(name, word, "") for name in Name]

    data = written_profile(None, told("a"), base_url=URL, learned_at=datetime(2026, 1, 1, tzinfo=UTC))
    former, _ = read_profile(data, base_url=URL)
    assert former is not None
    assert changes(former, told("a")) == changes(former, told("")) == []
    assert len(changes(former, told("b"))) == len(Name) - 4


def test_the_real_command_writes_a_profile(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        said = it.command("doctor", "--write-profile", "--json")
        assert said.code == 0, said
        assert "empty_page" in json.loads(profile_of(it).read_text())["behaviours"]
