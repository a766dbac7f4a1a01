"""`[[retention.rules]]`: what is taken, what is refused, and that each message names its rule."""

import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from archiver.errors import SettingsError
from archiver.settings import load
from archiver.settings.retention import RetentionRule

EXAMPLE = Path(__file__).parent.parent / "settings.example.toml"
KEEP = {"name": "calls", "keep": "7y"}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ARCHIVER_"):
            monkeypatch.delenv(name)


def rules_in(tmp_path: Path, text: str) -> tuple[RetentionRule, ...]:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return load(path).retention.rules


def test_rules_come_in_their_order_with_years_months_and_days(tmp_path: Path) -> None:
    text = """
[[retention.rules]]
name = "everything"
keep = "7y"
[[retention.rules]]
name = "hotline"
keep_days = 90
account_ids = ["a", "b"]
direction = "inbound"
users = [" 1655 ", "+49*"]
[[retention.rules]]
name = "half"
keep = "18m"
[[retention.rules]]
name = "days"
keep = "0d"
"""
    assert rules_in(tmp_path, text) == (
        RetentionRule("everything", 84, 0),
        RetentionRule("hotline", 0, 90, ("a", "b"), "inbound", ("1655", "+49*")),
        RetentionRule("half", 18, 0),
        RetentionRule("days", 0, 0),
    )
    assert rules_in(tmp_path, "") == ()


def test_the_example_in_the_comment_is_one_that_is_taken(tmp_path: Path) -> None:
    text = EXAMPLE.read_text()
    shown = [line[1:].strip() for line in text[text.index("[retention]") :].splitlines() if line.startswith("#   ")]
    assert "[[retention.rules]]" in shown
    found = rules_in(tmp_path, "\n".join(line for line in shown if not line.startswith("#")))
    assert [rule.name for rule in found] == ["everything", "hotline"]
    assert tomllib.loads(text)["retention"] == {"rules": []}


def test_the_environment_gives_rules_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_RETENTION__RULES", json.dumps([KEEP]))
    assert rules_in(tmp_path, '[[retention.rules]]\nname = "other"\nkeep = "1y"\n') == (RetentionRule("calls", 84, 0),)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"keep": "7y"}, "rule 1: needs a name"),
        ({"name": "a b", "keep": "7y"}, "rule 1: needs a name"),
        ({"name": "calls"}, "rule 'calls': needs either keep"),
        (KEEP | {"keep_days": 5}, "rule 'calls': needs either keep"),
        (KEEP | {"keep": "7 years"}, "rule 'calls': keep must be '7y'"),
        (KEEP | {"keep": "101y"}, "rule 'calls': keep must be '7y'"),
        (KEEP | {"keep": "36526d"}, "rule 'calls': keep must be '7y'"),
        (KEEP | {"keep": 7}, "rule 'calls': keep must be '7y'"),
        ({"name": "calls", "keep_days": -1}, "rule 'calls': keep_days must be a whole number from 0 to 36525"),
        ({"name": "calls", "keep_days": True}, "rule 'calls': keep_days must be"),
        (KEEP | {"user": ["x"]}, "rule 'calls': 'user' is none of name, keep"),
        (KEEP | {"users": "+4930123456"}, "rule 'calls': users must be a list of texts"),
        (KEEP | {"users": [""]}, "rule 'calls': users must be a list of texts"),
        (KEEP | {"account_ids": [1]}, "rule 'calls': account_ids must be a list of texts"),
        (KEEP | {"direction": 1}, "rule 'calls': direction must be a text"),
    ],
)
def test_what_is_wrong_is_named_with_its_rule_and_no_number_is_shown(
    rule: Mapping[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVER_RETENTION__RULES", json.dumps([rule]))
    with pytest.raises(SettingsError) as caught:
        rules_in(tmp_path, "")
    assert f"the environment (ARCHIVER_RETENTION__RULES): retention.rules {said}" in str(caught.value)
    assert "4930123456" not in str(caught.value)


def test_a_name_is_given_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_RETENTION__RULES", json.dumps([KEEP, KEEP | {"name": "CALLS"}]))
    with pytest.raises(SettingsError, match="rule 'CALLS': another rule has this name"):
        rules_in(tmp_path, "")
    for wrong in ("5", '"x"', "[5]", "[["):
        monkeypatch.setenv("ARCHIVER_RETENTION__RULES", wrong)
        with pytest.raises(SettingsError, match=r"retention\.rules"):
            rules_in(tmp_path, "")
