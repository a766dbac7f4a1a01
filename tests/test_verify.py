"""`archiver verify`: every kind of damage is found, at its level, and nothing is invented."""

from pathlib import Path

import pytest
from archive_rig import SINCE, UNTIL, Rig, Said, key, media, recordings, rig
from damages import DAMAGES, Damage, deleted, foreign, grown, stale_temporary, truncated, without_sidecar

RECORDINGS = 8


def verified(it: Rig, *arguments: str) -> Said:
    return it.command("verify", "--json", *arguments)


def kinds(said: Said) -> list[tuple[str, str]]:
    return [(finding["kind"], finding["key"]) for finding in said.json["findings"]]


@pytest.fixture(name="it")
def archive(tmp_path: Path) -> Rig:
    rows = recordings(RECORDINGS)
    with rig(tmp_path / "work", rows) as it:
        assert it.run().code == 0
    return it


def paths(it: Rig) -> tuple[Path, Path]:
    rows = recordings(RECORDINGS)
    return it.root / key(rows[0]), it.root / key(rows[1])


@pytest.mark.parametrize("level", ["presence", "size", "full"])
def test_an_archive_that_is_whole_has_no_findings(it: Rig, level: str) -> None:
    said = verified(it, "--level", level)
    assert (said.code, said.json["findings"], said.json["objects"]) == (0, [], RECORDINGS)
    assert said.json["bytes"] == sum(len(media(row)) for row in recordings(RECORDINGS))
    assert "nothing else lies there" in it.command("verify", "--level", level).out


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_full_verification_finds_each_kind_of_damage_and_nothing_else(it: Rig, damage: str) -> None:
    expected = DAMAGES[damage](it, *paths(it))
    said = verified(it)
    assert (said.code, kinds(said)) == (7, expected)
    shown = it.command("verify")
    assert shown.code == 7
    assert expected[0][1] in shown.out


@pytest.mark.parametrize("damage", [truncated, grown])
def test_a_size_is_compared_without_reading_anything(it: Rig, damage: Damage) -> None:
    expected = damage(it, *paths(it))
    for path in paths(it):
        path.chmod(0)
    assert kinds(verified(it, "--level", "size")) == expected
    assert verified(it, "--level", "presence").code == 0


@pytest.mark.parametrize("damage", [deleted, without_sidecar, foreign, stale_temporary])
@pytest.mark.parametrize("level", ["presence", "size"])
def test_what_is_there_or_not_is_found_at_every_level(it: Rig, damage: Damage, level: str) -> None:
    expected = damage(it, *paths(it))
    said = verified(it, "--level", level)
    assert (said.code, kinds(said)) == (7, expected)


def test_only_the_period_asked_for_is_looked_at(it: Rig) -> None:
    deleted(it, *paths(it))
    assert verified(it, "--since", SINCE, "--until", UNTIL).code == 7
    said = verified(it, "--since", "2024-05-07", "--until", UNTIL)
    assert (said.code, said.json["objects"]) == (0, 0)


def test_samples_cover_everything_once_and_then_begin_anew(it: Rig) -> None:
    for path in it.root.rglob("*.mp3"):
        path.unlink()
    seen: list[str] = []
    for _ in range(4):
        seen += [key for kind, key in kinds(verified(it, "--sample", "25"))]
    assert sorted(seen) == sorted(key(row) for row in recordings(RECORDINGS))
    assert {key for _, key in kinds(verified(it, "--sample", "100"))} == set(seen)


def test_an_archive_that_was_never_made_is_told_as_such(tmp_path: Path) -> None:
    with rig(tmp_path / "work", []) as it:
        said = it.command("verify")
        assert said.code == 5
        assert "Traceback" not in said.err
