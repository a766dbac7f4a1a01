"""The sections of the settings: each key with its default and what is allowed (contract, section 4)."""

from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from archiver.settings import checks
from archiver.settings.bandwidth import Bandwidth
from archiver.settings.retention import RetentionRule, retention_rules


def _whole(default: int, low: int, high: int) -> Any:
    return Field(default, ge=low, le=high, description=f"must be a whole number from {low} to {high}")


def _seconds(default: float, low: float, high: float) -> Any:
    allowed = f"must be a number of seconds from {low:g} to {high:g}"
    return Field(float(default), ge=low, le=high, allow_inf_nan=False, description=allowed)


_Line = Annotated[str, AfterValidator(checks.one_line), Field(max_length=1024)]
_Int = Annotated[int, BeforeValidator(checks.number)]
_Float = Annotated[float, BeforeValidator(checks.number)]
_Size = Annotated[int, BeforeValidator(checks.size)]
_OptionalFile = Annotated[Path | None, BeforeValidator(checks.optional_file)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, arbitrary_types_allowed=True)


class PbxSettings(_Section):
    """`[pbx]`: where the PBX is, who we are there, and how patient we are with it."""

    base_url: Annotated[_Line, AfterValidator(checks.base_url)] = ""
    username: _Line = ""
    domain: _Line = ""
    password: SecretStr = SecretStr("")
    password_file: _OptionalFile = None
    password_command: SecretStr = SecretStr("")
    account_ids: Annotated[tuple[str, ...], BeforeValidator(checks.listed), AfterValidator(checks.accounts)] = ()
    ca_file: _OptionalFile = None
    time_unit: Literal["s", "ms"] = "s"
    page_size: _Int = _whole(1000, 1, 10_000)
    recording_path: Annotated[_Line, AfterValidator(checks.recording_path)] = "/api/v2/reports/recording/{recording_id}"
    connect_timeout_s: _Float = _seconds(10, 0.1, 600)
    read_timeout_s: _Float = _seconds(60, 0.1, 3600)
    max_retries: _Int = _whole(6, 0, 100)
    retry_wait_s: _Float = _seconds(0.5, 0, 30)


class ListingSettings(_Section):
    """`[listing]`: how the listing is cut into windows and walked; `begin` is '' or an ISO date or date-time."""

    begin: Annotated[_Line, BeforeValidator(checks.begin)] = ""
    window_hours: _Int = _whole(24, 1, 672)
    overlap_hours: _Int = _whole(6, 0, 48)
    lookback_days: _Int = _whole(3, 0, 60)
    min_recording_s: _Int = _whole(0, 0, 3600)
    concurrency: _Int = _whole(2, 1, 64)


class TransferSettings(_Section):
    """`[transfer]`: how much at once and how fast; `min_rate` is bytes per second, `memory` bytes."""

    concurrency: _Int = _whole(8, 1, 1024)
    processes: _Int = _whole(1, 1, 64)
    queue_size: _Int = _whole(200, 1, 100_000)
    requests_per_s: _Float = Field(
        default=10.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="must be a number from 0 (no limit) to 1000000",
    )
    bandwidth: Annotated[Bandwidth, BeforeValidator(checks.bandwidth)] = Bandwidth()
    grace_s: _Float = _seconds(20, 0, 3600)
    min_rate: _Size = Field(default=2**10, ge=0, le=2**30, description="must be a size from '0B' (no floor) to '1GiB'")
    memory: _Size = Field(default=2**26, ge=2**20, le=2**40, description="must be a size from '1MiB' to '1024GiB'")


class ArchiveSettings(_Section):
    """`[archive]`: which store, and how objects are named in it."""

    store: Literal["local", "s3"] = "local"
    key_template: Annotated[_Line, AfterValidator(checks.template)] = (
        "{account_id}/{start:%Y/%m/%d}/{recording_id}.{extension}"
    )
    timezone: Annotated[_Line, AfterValidator(checks.zone_name)] = "UTC"
    sidecar: bool = True
    durable: bool = True

    @property
    def zone(self) -> ZoneInfo:
        """The time zone that dates in keys, and times without a zone, are read in."""
        return ZoneInfo(self.timezone)


class LocalStoreSettings(_Section):
    """`[store.local]`: the archive's folder; it holds `.archiver` with every store."""

    root: Annotated[Path, BeforeValidator(checks.folder)] = Path("/srv/recordings")


class S3StoreSettings(_Section):
    """`[store.s3]`: the bucket, and what each object in it gets."""

    bucket: Annotated[_Line, AfterValidator(checks.bucket)] = ""
    prefix: Annotated[_Line, AfterValidator(checks.prefix)] = ""
    region: _Line = ""
    endpoint_url: Annotated[_Line, AfterValidator(checks.endpoint_url)] = ""
    object_lock_mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    retention_days: _Int = _whole(0, 0, 36_500)
    storage_class: _Line = ""
    kms_key_id: _Line = ""
    encryption: Literal["", "AES256", "aws:kms"] = ""
    legal_hold: bool = False
    tags: _Line = ""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    checksum: Literal["sha256", "md5"] = "sha256"
    connect_timeout_s: _Float = _seconds(10, 0.1, 600)
    read_timeout_s: _Float = _seconds(60, 0.1, 3600)


class StoreSettings(_Section):
    """`[store]`: one section for each kind of store."""

    local: LocalStoreSettings = LocalStoreSettings()
    s3: S3StoreSettings = S3StoreSettings()


class MonitoringSettings(_Section):
    """`[monitoring]`: who hears of it when a night went well, or did not, and what can be measured."""

    heartbeat_url: Annotated[SecretStr, AfterValidator(checks.heartbeat_url)] = SecretStr("")
    notify_urls: Annotated[
        tuple[SecretStr, ...], BeforeValidator(checks.listed_addresses), AfterValidator(checks.addresses)
    ] = ()
    reports_kept: _Int = _whole(400, 0, 1_000_000)
    metrics_file: Annotated[Path | None, BeforeValidator(checks.metrics_file)] = None
    metrics_listen: Annotated[_Line, AfterValidator(checks.metrics_listen)] = ""

    @property
    def listening(self) -> tuple[str, int] | None:
        """Host and port of `metrics_listen`; None for ''."""
        return checks.listening(self.metrics_listen) if self.metrics_listen else None


class RetentionSettings(_Section):
    """`[retention]`: what may go, and when; without a rule nothing ever does."""

    rules: Annotated[tuple[RetentionRule, ...], BeforeValidator(retention_rules)] = ()


class LedgerSettings(_Section):
    """`[ledger]`: where the ledger is; the address may hold a password, so it is kept like one."""

    url: Annotated[SecretStr, AfterValidator(checks.ledger_url)] = SecretStr("")


class ClusterSettings(_Section):
    """`[cluster]`: the running scheduler that the work is handed to, if any."""

    scheduler: _Line = ""
