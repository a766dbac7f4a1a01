"""The settings: flags over environment over the TOML file over defaults, checked once, frozen from then on.

`load` is the only reader of `os.environ`. Every mistake ends in one `SettingsError` that names each key, where it came
from, what was given (never a secret) and what is allowed.
"""

import os
import re
import stat
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import (
    BaseModel,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from archiver.errors import SettingsError
from archiver.settings import checks
from archiver.settings import problems as setting_problems
from archiver.settings.sections import (
    ArchiveSettings,
    ClusterSettings,
    LedgerSettings,
    ListingSettings,
    MonitoringSettings,
    PbxSettings,
    RetentionSettings,
    StoreSettings,
    TransferSettings,
)

_PREFIX = "ARCHIVER_"
_PASSWORD_VARIABLE = "ARCHIVER_PBX__PASSWORD"  # noqa: S105  (a name, not a password)
_SECRET_KEYS = frozenset(
    {
        "pbx.password",
        "pbx.password_command",
        "ledger.url",
        "monitoring.heartbeat_url",
        "monitoring.notify_urls",
        # Its patterns may be people's numbers.
        "retention.rules",
    }
)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the values came from: the file with its permission bits, and the place that gave `pbx.password`."""

    file: str = "settings.toml"
    mode: int = 0
    password: str = "pbx.password"  # noqa: S105  (the key's name)


class Settings(BaseSettings):
    """All settings, frozen. Built directly it reads nothing but its arguments; `load` reads the file and environment."""

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True
    )

    pbx: PbxSettings = PbxSettings()
    listing: ListingSettings = ListingSettings()
    transfer: TransferSettings = TransferSettings()
    archive: ArchiveSettings = ArchiveSettings()
    store: StoreSettings = StoreSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    retention: RetentionSettings = RetentionSettings()
    ledger: LedgerSettings = LedgerSettings()
    cluster: ClusterSettings = ClusterSettings()
    _origin: _Origin = PrivateAttr(default_factory=_Origin)

    @classmethod
    def settings_customise_sources(  # the names are pydantic's
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments: `load` brings the sources together, so that its messages can name them."""
        return (init_settings,)

    @model_validator(mode="after")
    def _fits_together(self) -> "Settings":
        s3 = self.store.s3
        if self.archive.store == "s3" and not s3.bucket:
            raise ValueError("store.s3.bucket must name the bucket when archive.store is 's3'")
        if s3.object_lock_mode and not s3.retention_days:
            raise ValueError("store.s3.retention_days must be at least 1 when store.s3.object_lock_mode is set")
        return self

    def need_pbx(self) -> None:
        """Check that everything needed to talk to the PBX is given; no file is read and no command run.

        Raises:
            SettingsError: naming each key of `[pbx]` that is missing, or a `pbx.ca_file` that isn't there.
        """
        names = ("base_url", "username", "domain", "account_ids")
        missing = [f"pbx.{name}" for name in names if not getattr(self.pbx, name)]
        if not self.password_source():
            missing.append(f"a password (pbx.password_file, pbx.password_command or {_PASSWORD_VARIABLE})")
        if missing:
            raise SettingsError(f"{self._origin.file}: still missing: {', '.join(missing)}")
        if self.pbx.ca_file is not None and not self.pbx.ca_file.is_file():
            raise SettingsError(f"pbx.ca_file: {str(self.pbx.ca_file)!a} isn't there; it must be a PEM file, or ''")

    @property
    def source_file(self) -> str:
        """The settings file that was read."""
        return self._origin.file

    def ledger_url(self) -> str:
        """The ledger's address; without one in the settings, SQLite under the archive's `.archiver`."""
        root = self.store.local.root
        return self.ledger.url.get_secret_value() or f"sqlite:///{root / '.archiver' / 'ledger.sqlite3'}"

    def password(self) -> str:
        """The PBX password, read anew from its one source: the environment, a file, a command or the settings file.

        Raises:
            SettingsError: there is no source or more than one, a file that others can read, or a command that failed.
        """
        source = self.password_source()
        if not source:
            allowed = f"pbx.password_file, pbx.password_command or {_PASSWORD_VARIABLE}"
            raise SettingsError(f"{self._origin.file}: no password for the PBX; set one of {allowed}")
        if self.pbx.password_file is not None:
            password = checks.read_password(self.pbx.password_file)
        elif source == "pbx.password_command":
            password = checks.ask_command(self.pbx.password_command.get_secret_value())
        else:
            if source == "pbx.password" and self._origin.mode & checks.OTHERS:
                raise SettingsError(
                    f"pbx.password stands in {self._origin.file}, which others can read "
                    f"(mode {self._origin.mode:04o}): chmod 600 {self._origin.file}"
                )
            password = self.pbx.password.get_secret_value()
        if not password:
            raise SettingsError(f"{source} gave an empty password")
        return password

    def password_source(self) -> str:
        """Which key or variable gives the PBX password; '' when none does. SettingsError when more than one does."""
        given = {
            self._origin.password: self.pbx.password.get_secret_value(),
            "pbx.password_file": self.pbx.password_file,
            "pbx.password_command": self.pbx.password_command.get_secret_value(),
        }
        sources = [name for name, value in given.items() if value]
        if len(sources) > 1:
            raise SettingsError(f"more than one password for the PBX: {' and '.join(sources)}; keep only one")
        return "".join(sources)


def load(path: Path | None, *, overrides: Mapping[str, object] | None = None, only: Collection[str] = ()) -> Settings:
    """The settings from flags, environment, file and defaults, the first of these that gives a key.

    Args:
        path: the settings file; None for `$ARCHIVER_SETTINGS`, else `./settings.toml`.
        overrides: what flags gave, by dotted key (`transfer.concurrency`) or by section; None is a flag not given.
        only: read nothing but these sections, whatever stands in the others, so that they may be wrong; all when empty.

    Raises:
        SettingsError: the file isn't there, or any value or key is wrong; one message for all of them.
    """
    file = path or Path(os.environ.get("ARCHIVER_SETTINGS") or "settings.toml")
    table, mode = _read_file(file)
    variables, problems = _environment()
    if only:
        table = {name: value for name, value in table.items() if name in only}
        variables = {key: found for key, found in variables.items() if key.partition(".")[0] in only}
        problems = []
    flags = dict(_flat(overrides or {}))
    places = dict.fromkeys(flags, "the command line")
    places = {key: f"the environment ({name})" for key, (name, _) in variables.items()} | places
    for key, value in ({key: value for key, (_, value) in variables.items()} | flags).items():
        _put(table, key, value)
    private = [name for name in table if name.startswith("_")]  # pydantic-settings would take these for its own
    problems += [f"{file}: {setting_problems.unknown(name, _KEYS)}" for name in private]
    settings = Settings()
    try:
        settings = Settings(**{name: value for name, value in table.items() if name not in private})
    except ValidationError as error:
        problems += [_problem(dict(one), places, str(file)) for one in error.errors(include_url=False)]
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    given_by = variables.get("pbx.password", ("pbx.password", ""))[0]
    password = "the command line" if "pbx.password" in flags else given_by
    settings._origin = _Origin(str(file), mode, password)  # noqa: SLF001  (its own module)
    return settings


def _read_file(file: Path) -> tuple[dict[str, Any], int]:
    """The file's table and its permission bits, both of the same open file."""
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened), stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    except FileNotFoundError:
        raise SettingsError(f"the settings file {file} isn't there: cp settings.example.toml settings.toml") from None
    except OSError as error:
        raise SettingsError(f"the settings file {file} can't be read: {error.strerror}") from None
    except ValueError as error:  # not TOML, or not UTF-8: the place only, as the text may hold a password
        place = re.search(r"\(at .*\)\Z", str(error))
        raise SettingsError(f"the settings file {file} is not TOML {place[0] if place else '(not UTF-8)'}") from None


def _environment() -> tuple[dict[str, tuple[str, str]], list[str]]:
    """The variables that are settings, by dotted key, and a problem for each that only looks like one."""
    known: dict[str, tuple[str, str]] = {}
    problems = []
    for name, value in os.environ.items():
        if name.upper().startswith(_PREFIX) and "__" in name:
            key = name[len(_PREFIX) :].lower().replace("__", ".")
            if key in _KEYS and name == _variable(key):
                known[key] = (name, value)
            else:
                near = [_variable(match) for match in setting_problems.near(key, _KEYS)]
                problems.append(f"the environment: {name!a} is not a setting{setting_problems.hint(near)}")
    return known, problems


def _variable(key: str) -> str:
    return _PREFIX + key.upper().replace(".", "__")


def _flat(table: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{name}.")
        elif value is not None:
            yield above + name, value


def _put(table: dict[str, Any], key: str, value: object) -> None:
    *sections, name = key.split(".")
    inner: Any = table
    for section in sections:
        inner = inner.setdefault(section, {})
        if not isinstance(inner, dict):  # validation will name this section
            return
    inner[name] = value


def _fields(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _fields(field.annotation, f"{above}{name}.")
        else:
            yield above + name, field


_KEYS: dict[str, FieldInfo] = dict(_fields(Settings))


def _problem(error: Mapping[str, Any], places: dict[str, str], file: str) -> str:
    """One wrong key, with where it came from."""
    key = ".".join(part for part in error["loc"] if isinstance(part, str))
    where, field = places.get(key, file), _KEYS.get(key)
    if error["type"] == "extra_forbidden":
        return f"{where}: {setting_problems.unknown(key, _KEYS)}"
    allowed = None if field is None else field.description or ""
    return f"{where}: {setting_problems.wrong(key, error, allowed, secret=key in _SECRET_KEYS)}"
