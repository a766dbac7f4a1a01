"""From settings to a store: what the keys of `[store.s3]` become, memory bounds, and COMPLIANCE that is asked for once."""

from pathlib import Path
from typing import Any

import pytest
from s3_kinds import credentials

from archiver.destination import accept_compliance, access_of, attributes_of, open_destination
from archiver.errors import SettingsError
from archiver.settings import Settings
from archiver.stores.s3 import S3Store
from archiver.stores.s3_lock import LockPolicy


def settings(root: Path, *, transfer: dict[str, Any] | None = None, **s3: Any) -> Settings:
    return Settings.model_validate(
        {
            "archive": {"store": "s3"},
            "transfer": transfer or {},
            "store": {"local": {"root": str(root)}, "s3": {"bucket": "recordings"} | s3},
        }
    )


def test_every_key_of_the_section_reaches_the_store(tmp_path: Path) -> None:
    s3 = settings(
        tmp_path, prefix="calls", region="eu-south-2", endpoint_url="https://s3.example.com", addressing="virtual",
        object_lock_mode="GOVERNANCE", retention_days=30, legal_hold=True, storage_class="STANDARD_IA",
        encryption="aws:kms", kms_key_id="alias/calls", tags="team=voice, case=7", checksum="md5",
    ).store.s3  # fmt: skip
    access, attributes = access_of(s3, 9), attributes_of(s3)
    assert (access.bucket, access.prefix, access.region) == ("recordings", "calls", "eu-south-2")
    assert (access.endpoint_url, access.addressing, access.threads) == ("https://s3.example.com", "virtual", 9)
    assert attributes.lock == LockPolicy("GOVERNANCE", 30, legal_hold=True)
    assert attributes.checksum == "md5"
    assert attributes.params() == {
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "alias/calls",
        "Tagging": "team=voice&case=7",
    }


@pytest.mark.parametrize("tags", ["team", "=x", "a=1,b", ",".join(f"t{n}=x" for n in range(11))])
def test_tags_that_are_none_are_refused(tags: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"store\.s3\.tags"):
        attributes_of(settings(tmp_path, tags=tags).store.s3)


@pytest.mark.parametrize(("concurrency", "expected"), [(1, 16 << 20), (4, 16 << 20), (32, 2 << 20)])
def test_uploads_from_memory_stay_within_the_budget(concurrency: int, expected: int, tmp_path: Path) -> None:
    with credentials():
        opened = open_destination(settings(tmp_path, transfer={"concurrency": concurrency}), durable=False)
        assert isinstance(opened.store, S3Store)
        assert opened.store.writer.memory_bytes == expected
        assert opened.store.connection.gate.limit == concurrency
        opened.close()


def test_compliance_asks_for_its_flag_once(tmp_path: Path) -> None:
    wanted = settings(tmp_path, object_lock_mode="COMPLIANCE", retention_days=30)
    (tmp_path / ".archiver").mkdir()
    with pytest.raises(SettingsError, match="--i-understand-compliance-is-final"):
        accept_compliance(wanted, accepted=False)
    accept_compliance(wanted, accepted=True)
    accept_compliance(wanted, accepted=False)


def test_other_locks_ask_for_no_flag(tmp_path: Path) -> None:
    accept_compliance(settings(tmp_path, object_lock_mode="GOVERNANCE", retention_days=30), accepted=False)
    assert not list(tmp_path.rglob("*accepted*"))
