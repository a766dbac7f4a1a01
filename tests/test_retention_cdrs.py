"""Archived CDRs under retention: a day's file goes with the longest rule for its calls, never under a hold."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, SINCE, cdr, recordings, rig
from ledgers import ACCOUNT, NOON, SHA
from test_retention_apply import GO, STAY, command, invoked, rules, run, trail, whole

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values_reconciling import CdrFile
from archiver.ledger.values_retention import Hold
from archiver.proof.retention.cdrs import decide_cdrs
from archiver.proof.retention.decide import Policy, Reason, Verdict
from archiver.proof.retention.rules import Keep, Rule
from archiver.recording import Fixity

FILE = CdrFile(ACCOUNT, date(2024, 5, 6), 1, f"{ACCOUNT}/2024/05/06/cdrs.jsonl.gz", Fixity(9, SHA), 3, NOON)
DAY_AFTER = datetime(2024, 5, 7, tzinfo=UTC)
SHORT = Rule("short", Keep(days=30))
HOLD = Hold("case", "why", "ref", "ann", NOON)


@pytest.mark.parametrize(
    ("rules_of", "until"),
    [
        ((SHORT,), DAY_AFTER + timedelta(days=30)),
        ((SHORT, Rule("some", Keep(days=90), direction="inbound")), DAY_AFTER + timedelta(days=90)),
        ((SHORT, Rule("others", Keep(days=90), account_ids=("other",))), DAY_AFTER + timedelta(days=30)),
    ],
)
def test_a_days_cdrs_stay_until_the_longest_rule_for_its_last_call(rules_of: tuple[Rule, ...], until: datetime) -> None:
    policy = Policy(rules_of, (), UTC)
    assert decide_cdrs(FILE, policy, until).verdict is Verdict.EXPIRE
    assert decide_cdrs(FILE, policy, until - timedelta(seconds=1)).verdict is Verdict.KEEP
    assert decide_cdrs(FILE, Policy((), (), UTC), until).reason is Reason.NO_RULE
    only_some = Policy((Rule("some", Keep(), direction="inbound"),), (), UTC)
    assert decide_cdrs(FILE, only_some, until).reason is Reason.UNREADABLE


@pytest.mark.parametrize(
    ("conditions", "covered"),
    [
        ({}, True),
        ({"account_id": ACCOUNT}, True),
        ({"account_id": "other"}, False),
        ({"since_at": DAY_AFTER - timedelta(hours=2), "until_at": DAY_AFTER - timedelta(hours=1)}, True),
        ({"since_at": DAY_AFTER}, False),
        ({"until_at": DAY_AFTER - timedelta(days=1)}, False),
        ({"recording_ids": ("x",)}, True),
        ({"users": ("x",)}, True),
        ({"released_at": NOON}, False),
    ],
)
def test_any_hold_that_touches_the_day_covers_its_cdrs(conditions: dict[str, Any], covered: bool) -> None:
    policy = Policy((SHORT,), (replace(HOLD, **conditions),), UTC)
    found = decide_cdrs(FILE, policy, NOON)
    assert (found.reason is Reason.HELD, found.verdict is Verdict.EXPIRE) == (covered, not covered)


async def test_the_ledger_forgets_a_file_in_two_steps_and_not_past_a_hold(ledger: SqlLedger) -> None:
    await ledger.record_cdr_file(FILE)
    await ledger.add_hold(HOLD)
    assert not await ledger.expire_cdr_files([FILE], at=NOON, holds_through=0)
    assert await ledger.expiring_cdr_files() == []
    assert await ledger.expire_cdr_files([FILE], at=NOON, holds_through=1)
    assert (await ledger.cdr_files(), await ledger.expiring_cdr_files()) == ([], [FILE])
    assert await ledger.unfinished_keys() == {FILE.key}
    assert await ledger.unsealed(9) == []
    await ledger.record_cdr_file(FILE)
    assert (await ledger.cdr_files(), await ledger.expiring_cdr_files()) == ([FILE], [])
    await ledger.expire_cdr_files([FILE], at=NOON, holds_through=1)
    await ledger.forget_cdr_files([FILE])
    assert (await ledger.cdr_files(), await ledger.expiring_cdr_files()) == ([], [])
    await ledger.forget_cdr_files([FILE])
    await ledger.record_cdr_file(FILE)


def test_the_cdrs_of_a_day_go_with_its_recordings(tmp_path: Path) -> None:
    rows = recordings(4)
    with rig(tmp_path / "work", rows, cdrs=[cdr(row) for row in rows]) as it:
        assert run(it).code == 0
        assert invoked(it, "reconcile", "--since", SINCE, "--until", "2024-05-08").code == 0
        files = sorted(name for name in it.files() if name.endswith(".gz"))
        assert len(files) >= 2
        plan = command(it, "retention", "plan", env=GO)
        assert (plan["cdr_files"], plan["cdr_files_expire"], plan["recordings"]) == (len(files), len(files), 4)
        assert command(it, "retention", "plan", env=STAY)["cdr_files_expire"] == 0
        hold = ("hold", "add", "x", "--reason", "y", "--reference", "z", "--by", "ann", "--account", ACCOUNTS[0])
        assert invoked(it, *hold).code == 0
        held = [name for name in files if name.startswith(ACCOUNTS[0])]
        report = command(it, "retention", "apply", env=GO)
        assert report["cdr_files"] == len(files) - len(held)
        assert sorted(name for name in it.files() if name.endswith(".gz")) == held
        whole(it)
        assert invoked(it, "hold", "release", "x", "--by", "bob", "--reason", "over").code == 0
        other = rules({"name": "b", "keep_days": 1, "account_ids": [ACCOUNTS[1]]})
        assert command(it, "retention", "apply", env=other)["cdr_files"] == 0
        assert command(it, "retention", "apply", env=GO)["cdr_files"] == len(held)
        assert [name for name in it.files() if not name.endswith(".tombstone.json")] == []
        told = [record["subject"] for record in trail(it, "expired") if record["details"].get("kind") == "cdrs"]
        assert sorted(told) == files
        whole(it)
        (it.root / ".archiver/ledger.sqlite3").write_bytes(b"damaged")
        assert command(it, "rebuild")["problems"] == []
        whole(it)
