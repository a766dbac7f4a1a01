"""`archiver report`, from the outside: it writes the page of a real archive, changes nothing, and gives nobody away."""

import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, SINCE, UNTIL, Rig, Said, key, recording, recordings, rig
from archive_rig import until as wait_until

from archiver.simulator import Delay, Fault

NUMBERS = ("+4930555123450", "0171555987654")
NAMES = ("Ngozi Okafor-Example", "Samir Müller-Example")


def talkative(ordinal: int, **more: Any) -> Any:
    """A recording whose metadata name two people."""
    named = {
        "caller_id_number": NUMBERS[0],
        "caller_id_name": NAMES[0],
        "callee_id_number": NUMBERS[1],
        "callee_id_name": NAMES[1],
        "from": f"{NUMBERS[0]}@pbx.example",
        "to": f"{NUMBERS[1]}@pbx.example",
    }
    return recording(ordinal, overrides=named, **more)


def report(the_rig: Rig, *arguments: str, name: str = "page.html") -> tuple[Said, str]:
    said = the_rig.command("report", "--html", str(the_rig.folder / name), "--json", *arguments)
    assert said.code == 0, said
    return said, (the_rig.folder / name).read_text("utf-8")


def test_the_page_of_an_archive_tells_what_the_command_says_it_does(tmp_path: Path) -> None:
    rows = recordings(12)
    with rig(tmp_path / "rig", rows) as the_rig:
        assert the_rig.run().code == 0
        assert the_rig.command("verify").code == 0
        before = {path: path.stat().st_mtime_ns for path in the_rig.root.rglob("*") if ".archiver" not in path.parts}
        said, html = report(the_rig, "--since", SINCE)
        found = said.json
        assert set(found) == {"path", "bytes", "figures"}
        assert found["path"] == str(the_rig.folder / "page.html")
        assert found["bytes"] == len(html.encode())
        figures = found["figures"]
        assert (figures["accounts"], figures["recordings"]["archived"], figures["findings"]) == (2, 12, 0)
        assert figures["since"] == SINCE
        assert figures["verdict"] == "act"  # the calls are years old, and nothing since was listed
        assert figures["sentence"] in html
        for account in ACCOUNTS:
            assert account in html
        assert "2 May" not in html
        assert "6 May 2024" in html
        assert stat.S_IMODE((the_rig.folder / "page.html").stat().st_mode) == 0o600
        after = {path: path.stat().st_mtime_ns for path in the_rig.root.rglob("*") if ".archiver" not in path.parts}
        assert after == before
        words = the_rig.command("report", "--html", str(the_rig.folder / "page.html"))
        assert words.out.splitlines()[1] == figures["sentence"]


def test_all_is_well_when_the_listing_reaches_up_to_now_and_everything_was_read(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", []) as the_rig:
        assert the_rig.command("run", "--since", "2d").code == 0
        said, html = report(the_rig)
        assert said.json["figures"]["verdict"] == "fine"
        assert "Everything is fine: every call up to" in html
        assert "has left nothing undone" in html


def test_rules_and_holds_stand_on_the_page(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", recordings(12)) as the_rig:
        assert the_rig.run().code == 0
        rule = {"name": "quarter", "keep": "90d", "account_ids": [ACCOUNTS[0]]}
        env = {"ARCHIVER_RETENTION__RULES": json.dumps([rule])}
        _, html = report(the_rig)
        assert "No retention rules are set" in html
        what = ("--reason", "dispute", "--reference", "7 O 12", "--by", "Ann", "--id", recording(0).recording_id)
        assert the_rig.command("hold", "add", "case-7", *what).code == 0
        said = the_rig.command("report", "--html", str(the_rig.folder / "page.html"), env=env)
        assert said.code == 0, said
        html = (the_rig.folder / "page.html").read_text("utf-8")
        assert "6 recordings would expire now" in html
        assert "90 days" in html
        assert "case-7" in html
        plan = the_rig.command("retention", "plan", "--json", env=env).json
        assert (plan["expire"], plan["keep"]) == (5, 7), plan


def test_nobody_is_named_unless_asked_for(tmp_path: Path) -> None:
    rows = [talkative(1), talkative(2, account=1)]
    with rig(tmp_path / "rig", rows) as the_rig:
        assert the_rig.run().code == 0
        damage(the_rig, key(rows[0]))
        assert the_rig.command("verify").code == 7
        waiting(the_rig, rows[1].recording_id)
        _, without = report(the_rig)
        for secret in (*NUMBERS, *(number.lstrip("+0") for number in NUMBERS), *NAMES, "Okafor", "Müller"):
            assert secret not in without
        assert rows[1].recording_id in without
        _, with_parties = report(the_rig, "--with-parties", name="named.html")
        # Of the damaged recording from its sidecar, of the other from what was listed, and in a detail.
        assert with_parties.count(NAMES[0]) == with_parties.count(NUMBERS[1]) == 2
        assert with_parties.count(NUMBERS[0]) == 3


def damage(the_rig: Rig, name: str) -> None:
    path = the_rig.root / name
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def waiting(the_rig: Rig, recording_id: str) -> None:
    """Put a recording back to where it was before it was archived, with what was listed of it."""
    sidecar = next(path for path in the_rig.root.rglob(f"{recording_id}.json"))
    metadata = json.dumps(json.loads(sidecar.read_text())["recording"]).encode()
    ledger = sqlite3.connect(the_rig.root / ".archiver" / "ledger.sqlite3")
    with ledger:
        (number,) = ledger.execute("SELECT entry_id FROM entries WHERE recording_id = ?", [recording_id]).fetchone()
        ledger.execute(
            "UPDATE entries SET status = 'quarantined', reason = 'length', detail = ? WHERE entry_id = ?",
            [f"said by {NUMBERS[0]}", number],
        )
        ledger.execute("INSERT INTO listed_metadata VALUES (?, ?)", [number, metadata])
    ledger.close()


def test_what_a_verification_found_and_what_is_not_archived_stand_on_the_page(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "rig", rows) as the_rig:
        assert the_rig.run().code == 0
        damage(the_rig, key(rows[0]))
        (the_rig.root / "notes.txt").write_text("x")
        assert the_rig.command("verify").code == 7
        said, html = report(the_rig)
        assert said.json["figures"]["findings"] == 2
        assert key(rows[0]) in html
        assert "1 archived recording holds other bytes now" in html
        assert "notes.txt" in html
        assert the_rig.command("verify", "--repair").code == 7
        said, html = report(the_rig)
        assert said.json["figures"]["findings"] == 1
        assert "holds other bytes" not in html


def test_the_page_can_be_made_while_a_run_is_active(tmp_path: Path) -> None:
    rows = recordings(6)
    slow = Fault(on="media", recording_id=rows[0].recording_id, action=Delay(seconds=10))
    with rig(tmp_path / "rig", rows, faults=[slow]) as the_rig:
        running = the_rig.start("run", "--since", SINCE, "--until", UNTIL, "--json")
        wait_until(lambda: len(the_rig.media()) == 5 if the_rig.root.exists() else False)
        said, html = report(the_rig)
        assert running.process.poll() is None
        assert said.json["figures"]["recordings"]["pending"] >= 1
        assert "unfinished" in html
        assert running.wait().code == 0


def test_an_archive_that_nobody_ran_yet_has_a_page_and_nothing_is_made_for_it(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", []) as the_rig:
        said, html = report(the_rig)
        assert said.json["figures"]["verdict"] == "act"
        assert "Nothing has been archived yet" in html
        assert not the_rig.root.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ((), "--html FILE"),
        (("--html", "no/such/folder/page.html"), "--html"),
        (("--html", "page.html", "--max-age", "soon"), "--max-age"),
        (("--html", "page.html", "--until", "1d"), "--until needs --since"),
    ],
)
def test_what_it_was_asked_wrongly_is_named_and_nothing_is_written(
    arguments: tuple[str, ...], word: str, tmp_path: Path
) -> None:
    with rig(tmp_path / "rig", []) as the_rig:
        said = the_rig.command("report", *arguments)
        assert (said.code, said.out) == (2, "")
        assert word in said.err
        assert not list(the_rig.folder.glob("*.html"))


def test_a_page_that_is_there_is_replaced_whole(tmp_path: Path) -> None:
    with rig(tmp_path / "rig", []) as the_rig:
        page = the_rig.folder / "page.html"
        page.write_text("old")
        page.chmod(0o644)
        report(the_rig)
        assert page.read_text("utf-8").endswith("</html>")
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert [path.name for path in the_rig.folder.iterdir() if ".part" in path.name] == []
