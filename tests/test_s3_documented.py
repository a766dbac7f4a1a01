"""`docs/s3.md` can be pasted: its JSON is JSON, its policies allow what we call, and one of two alone may remove."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

from archiver.keys import EVIDENCE_PREFIXES
from archiver.settings.sections import S3StoreSettings
from archiver.stores.s3_connection import Operation

PAGE = (Path(__file__).parent.parent / "docs" / "s3.md").read_text("utf-8")
REMOVING = {"list_object_versions", "delete_object"}
LOOKS = "s3:GetBucketVersioning"
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for kind in ("json", "toml")}


def test_every_block_is_what_it_says() -> None:
    assert len(BLOCKS["json"]) == 4
    for block in BLOCKS["json"]:
        assert json.loads(block)
    for block in BLOCKS["toml"]:
        S3StoreSettings.model_validate(tomllib.loads(block)["store"]["s3"])


def statements(sid: str, effect: str) -> list[dict[str, Any]]:
    """The statements of that effect in the policy that has this one."""
    policy = next(json.loads(block) for block in BLOCKS["json"] if sid in block)
    return [statement for statement in policy["Statement"] if statement["Effect"] == effect]


def allowed_by(sid: str) -> set[str]:
    return {action for statement in statements(sid, "Allow") for action in statement["Action"]}


def needed() -> dict[str, set[str]]:
    """The permissions of each call, by the table."""
    rows = re.findall(r"^\| (`[a-z_0-9`, ]+) \| (.*) \|$", PAGE, re.MULTILINE)
    return {
        call: set(re.findall(r"(?:s3|kms):\w+", needs))
        for calls, needs in rows
        for call in re.findall(r"`(\w+)`", calls)
    }


def test_every_call_has_its_row_and_its_permission_is_in_the_policy() -> None:
    allowed, needs = allowed_by("WriteAndReadBack"), needed()
    assert set(get_args(Operation)) <= set(needs)
    for call in get_args(Operation):
        assert needs[call]
        assert (needs[call] <= allowed) == (call not in REMOVING), call
    assert not [
        action for action in allowed if re.search(r"Delete|Bypass|Version|\*|Acl|PutBucket", action) and action != LOOKS
    ]


def test_the_role_of_retention_may_do_every_call_and_nothing_that_hides_or_gets_around_a_lock() -> None:
    allowed, needs = allowed_by("RemoveForGood"), needed()
    assert all(needs[call] <= allowed for call in get_args(Operation))
    assert allowed - allowed_by("WriteAndReadBack") == set().union(*(needs[call] for call in REMOVING))
    assert not [action for action in allowed if re.search(r"Bypass|\*|Acl|PutBucket", action)]
    evidence, never = statements("RemoveForGood", "Deny")
    assert {"s3:BypassGovernanceRetention", "s3:DeleteObject"} <= set(never["Action"])
    assert evidence["Action"] == "s3:DeleteObject*"
    assert all(prefix.startswith(".archiver/") for prefix in EVIDENCE_PREFIXES)
    assert evidence["Resource"].endswith("/.archiver/*")


def test_every_setting_that_the_table_of_services_names_exists() -> None:
    table = PAGE[PAGE.index("## Settings for") : PAGE.index("## When the store refuses")]
    named = set(re.findall(r"`(\w+)(?: = [^`]*)?`", table)) - {"bucket"}
    assert named <= set(S3StoreSettings.model_fields)
    assert {"endpoint_url", "region", "addressing", "checksum"} <= named
