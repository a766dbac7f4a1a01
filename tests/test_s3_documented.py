"""`docs/s3.md` can be pasted: its JSON is JSON, its policy allows what we call and nothing that removes."""

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

from archiver.settings.sections import S3StoreSettings
from archiver.stores.s3_connection import Operation

PAGE = (Path(__file__).parent.parent / "docs" / "s3.md").read_text("utf-8")
BLOCKS = {kind: re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for kind in ("json", "toml")}


def test_every_block_is_what_it_says() -> None:
    assert len(BLOCKS["json"]) == 3
    for block in BLOCKS["json"]:
        assert json.loads(block)
    for block in BLOCKS["toml"]:
        S3StoreSettings.model_validate(tomllib.loads(block)["store"]["s3"])


def test_every_call_has_its_row_and_its_permission_is_in_the_policy() -> None:
    policy = next(json.loads(block) for block in BLOCKS["json"] if "WriteAndReadBack" in block)
    allowed = {
        action for statement in policy["Statement"] if statement["Effect"] == "Allow" for action in statement["Action"]
    }
    rows = re.findall(r"^\| (`[a-z_0-9`, ]+) \| (.*) \|$", PAGE, re.MULTILINE)
    documented = {call: needs for calls, needs in rows for call in re.findall(r"`(\w+)`", calls)}
    assert set(get_args(Operation)) <= set(documented)
    for call in get_args(Operation):
        needs = set(re.findall(r"(?:s3|kms):\w+", documented[call]))
        assert needs
        assert (needs <= allowed) == (call != "delete_object"), call
    assert not [action for action in allowed if re.search(r"Delete|Bypass|\*|Acl|PutBucket", action)]


def test_every_setting_that_the_table_of_services_names_exists() -> None:
    table = PAGE[PAGE.index("## Settings for") : PAGE.index("## When the store refuses")]
    named = set(re.findall(r"`(\w+)(?: = [^`]*)?`", table)) - {"bucket"}
    assert named <= set(S3StoreSettings.model_fields)
    assert {"endpoint_url", "region", "addressing", "checksum"} <= named
