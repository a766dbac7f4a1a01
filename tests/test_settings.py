"""Settings: who wins, what is refused, what a message says and what it never says (contract, section 4)."""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

import archiver.settings.checks as values
from archiver.errors import ExitCode, SettingsError
from archiver.settings import Settings, load
from archiver.settings import loading as module
from archiver.settings.bandwidth import Bandwidth, parse_size
from archiver.settings.sections import PbxSettings

EXAMPLE = Path(__file__).parent.parent / "settings.example.toml"
SECRET = "hunter2-Very-Secret"
PBX = """
[pbx]
base_url = "https://pbx.example.com:9443/"
username = "archiver"
domain = "example"
account_ids = ["0123456789abcdef0123456789abcdef"]
"""
Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("ARCHIVER_"):
            monkeypatch.delenv(name)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str, name: str = "settings.toml", mode: int = 0o600) -> Path:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return written


def refusal(path: Path | None, overrides: Mapping[str, object] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        load(path, overrides=overrides)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.__cause__ is None
    return str(caught.value)


def leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield above + name, value


def test_the_example_holds_every_key_and_no_other() -> None:
    assert [key for key, _ in leaves(tomllib.loads(EXAMPLE.read_text()))] == list(module._KEYS)


def test_the_example_loads_and_equals_the_defaults_of_the_code() -> None:
    assert load(EXAMPLE).model_dump() == Settings().model_dump()


def test_each_default_in_a_comment_of_the_example_is_the_value_below_it() -> None:
    found = re.findall(r"Default: (.+)\n(\w+) = (.+)\n", EXAMPLE.read_text())
    assert len(found) == len(module._KEYS)
    for documented, key, value in found:
        assert documented == value, key


def test_flags_win_over_environment_over_file_over_defaults(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("[transfer]\nconcurrency = 2\nprocesses = 3\nqueue_size = 4\n")
    monkeypatch.setenv("ARCHIVER_TRANSFER__CONCURRENCY", "20")
    monkeypatch.setenv("ARCHIVER_TRANSFER__PROCESSES", "30")
    monkeypatch.setenv("ARCHIVER_STORE__LOCAL__ROOT", "/from/environment")
    flags = {"transfer.concurrency": 200, "listing": {"begin": "2024-01-01"}, "archive.store": None}
    settings = load(path, overrides=flags)
    assert settings.transfer.concurrency == 200
    assert settings.transfer.processes == 30
    assert settings.transfer.queue_size == 4
    assert settings.pbx.page_size == 1000
    assert settings.store.local.root == Path("/from/environment")
    assert settings.listing.begin == "2024-01-01"
    assert settings.archive.store == "local"


def test_settings_built_directly_do_not_read_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_TRANSFER__CONCURRENCY", "20")
    monkeypatch.setenv("PBX", '{"username": "somebody"}')
    assert Settings().model_dump() == Settings(pbx=PbxSettings()).model_dump()
    assert Settings().transfer.concurrency == 8


@pytest.mark.parametrize("text", ['["a", "b"]', "a,b", "a, b"])
def test_a_list_in_the_environment_is_json_or_separated_by_commas(
    text: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVER_PBX__ACCOUNT_IDS", text)
    assert load(write(PBX)).pbx.account_ids == ("a", "b")


def test_the_file_is_named_by_argument_else_by_environment_else_it_is_settings_toml_here(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("named.toml", 1), ("environment.toml", 2), ("settings.toml", 3)):
        write(f"[pbx]\npage_size = {size}\n", name)
    monkeypatch.chdir(tmp_path)
    assert load(None).pbx.page_size == 3
    monkeypatch.setenv("ARCHIVER_SETTINGS", str(tmp_path / "environment.toml"))
    assert load(None).pbx.page_size == 2
    assert load(tmp_path / "named.toml").pbx.page_size == 1


def test_a_missing_file_is_named_with_the_command_that_makes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "gone.toml", None):
        message = refusal(path)
        assert ".toml isn't there" in message
        assert "cp settings.example.toml settings.toml" in message
    assert "gone.toml" in refusal(tmp_path / "gone.toml")
    assert "can't be read" in refusal(tmp_path)


def test_a_file_that_is_not_toml_is_named_with_the_place_and_without_its_text(write: Write) -> None:
    message = refusal(write(f"[pbx]\npassword = {SECRET}\n"))
    assert "settings.toml is not TOML (at line 2" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    ("text", "slip", "meant"),
    [
        ("[transfer]\nconcurency = 4\n", "transfer.concurency", "transfer.concurrency"),
        ("[pbx]\nbaseurl = 'https://x'\n", "pbx.baseurl", "pbx.base_url"),
        ("[transfer]\nwindow_hours = 4\n", "transfer.window_hours", "listing.window_hours"),
        ("[store.s3]\nbuckett = 'x'\n", "store.s3.buckett", "store.s3.bucket"),
        ("_env_file = 'x'\n", "_env_file", "settings.example.toml"),
        ("[elephants]\nx = 4\n", "elephants", "settings.example.toml"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(text: str, slip: str, meant: str, write: Write) -> None:
    path = write(text)
    message = refusal(path)
    assert str(path) in message
    assert f"'{slip}' is not a setting" in message
    assert meant in message


def test_an_unknown_variable_is_refused_with_a_suggestion_and_without_its_value(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVER_PBX__PASSWROD", SECRET)
    monkeypatch.setenv("ARCHIVER_HOME", "not a setting, and no business of ours")
    message = refusal(write(PBX))
    assert "'ARCHIVER_PBX__PASSWROD' is not a setting; did you mean ARCHIVER_PBX__PASSWORD?" in message
    assert SECRET not in message
    assert "ARCHIVER_HOME" not in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("transfer.concurrency", "eight", "a whole number from 1 to 1024"),
        ("transfer.concurrency", True, "a number, not true or false"),
        ("transfer.concurrency", 1025, "a whole number from 1 to 1024"),
        ("transfer.processes", 65, "from 1 to 64"),
        ("transfer.queue_size", 0, "from 1 to 100000"),
        ("transfer.requests_per_s", -1, "0 (no limit)"),
        ("transfer.requests_per_s", float("nan"), "0 (no limit)"),
        ("transfer.memory", "64", "a number with a unit"),
        ("transfer.memory", "1B", "'1MiB'"),
        ("transfer.bandwidth", "fast", "a number with a unit"),
        ("transfer.bandwidth", "8,20MiB", "a timetable such as"),
        ("pbx.page_size", 0, "from 1 to 10000"),
        ("pbx.time_unit", "min", "'s' or 'ms'"),
        ("pbx.username", 12, "a valid string"),
        ("pbx.username", "a\nb", "control characters"),
        ("pbx.recording_path", "/api/recording", "{recording_id}"),
        ("pbx.recording_path", "api/{recording_id}", "begin with '/'"),
        ("pbx.account_ids", ["a", "a"], "each account once"),
        ("pbx.account_ids", [""], "1 to 128 characters"),
        ("pbx.account_ids", ["a b"], "without blanks"),
        ("pbx.account_ids", ["a" * 129], "1 to 128 characters"),
        ("pbx.account_ids", "[a", "a JSON list"),
        ("listing.window_hours", 673, "from 1 to 672"),
        ("listing.overlap_hours", 49, "from 0 to 48"),
        ("listing.lookback_days", 61, "from 0 to 60"),
        ("listing.begin", "yesterday", "an ISO date"),
        ("archive.store", "tape", "'local' or 's3'"),
        ("archive.timezone", "Europe/Atlantis", "the name of a time zone"),
        ("archive.timezone", "../../etc/passwd", "the name of a time zone"),
        ("archive.key_template", "{recording_id}.{extension}", "must end in"),
        ("archive.sidecar", "perhaps", "a valid boolean"),
        ("store.local.root", "relative", "full path"),
        ("store.s3.prefix", "/abs", "without a leading '/'"),
        ("store.s3.bucket", "a/b", "bucket's name"),
        ("store.s3.object_lock_mode", "FOREVER", "'GOVERNANCE' or 'COMPLIANCE'"),
        ("store.s3.retention_days", -1, "from 0"),
    ],
)
def test_a_wrong_value_is_refused_with_key_place_value_and_what_is_allowed(
    key: str, value: object, allowed: str, write: Write
) -> None:
    message = refusal(write(PBX), {key: value})
    assert message.startswith(f"the command line: {key} = ")
    assert allowed in message
    assert "\n" not in message


def test_one_message_names_every_wrong_key_and_where_each_came_from(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("[transfer]\nconcurrency = 0\n[listing]\nwindow_hours = 'x'\n")
    monkeypatch.setenv("ARCHIVER_TRANSFER__PROCESSES", "many")
    lines = refusal(path, {"pbx.page_size": 0}).splitlines()
    assert len(lines) == 4
    assert f"{path}: transfer.concurrency = 0: must be a whole number from 1 to 1024" in lines
    assert any(line.startswith(f"{path}: listing.window_hours = 'x'") for line in lines)
    assert any("ARCHIVER_TRANSFER__PROCESSES" in line and "transfer.processes = 'many'" in line for line in lines)


def test_a_value_where_a_section_belongs_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_PBX__PAGE_SIZE", "5")
    message = refusal(write(f"pbx = '{SECRET}'\n"))
    assert "pbx must be a section" in message
    assert SECRET not in message


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://127.9.9.9", "http://localhost:1", "http://[::1]:8000", "https://pbx"]
)
def test_http_is_for_loopback_and_a_trailing_slash_goes(url: str, write: Write) -> None:
    assert load(write(PBX), overrides={"pbx.base_url": url + "/"}).pbx.base_url == url


@pytest.mark.parametrize(
    "url",
    [
        "http://pbx.example.com", "http://127.0.0.1.example.com", "http://128.0.0.1", "http://localhost.example.com",
        "http://[::2]", "ftp://127.0.0.1", "https://", "pbx.example.com", "https://pbx/api", "https://pbx?x=1",
        "https://pbx#x", "https://pbx:port", "https://p bx", f"https://me:{SECRET}@pbx", "http://[::1",
    ],
)  # fmt: skip
def test_any_other_address_is_refused(url: str, write: Write) -> None:
    message = refusal(write(PBX), {"pbx.base_url": url})
    assert "pbx.base_url" in message
    assert SECRET not in message


def test_s3_needs_a_bucket_and_a_lock_needs_days(write: Write) -> None:
    assert "store.s3.bucket" in refusal(write(PBX), {"archive.store": "s3"})
    lock = {"archive.store": "s3", "store.s3.bucket": "b-1", "store.s3.object_lock_mode": "GOVERNANCE"}
    assert "store.s3.retention_days" in refusal(write(PBX), lock)
    assert load(write(PBX), overrides=lock | {"store.s3.retention_days": 1}).store.s3.bucket == "b-1"


def test_values_come_in_their_final_form(write: Write) -> None:
    given_values = {
        "transfer.memory": "2MiB", "transfer.min_rate": "0B", "archive.timezone": "Europe/Madrid",
        "listing.begin": date(2022, 5, 6), "store.s3.prefix": "calls/", "pbx.ca_file": "/etc/ca.pem",
        "store.s3.endpoint_url": "http://ceph:8080/",
    }  # fmt: skip
    settings = load(write(PBX), overrides=given_values)
    assert settings.transfer.memory == 2**21
    assert settings.transfer.min_rate == 0
    assert settings.archive.zone == ZoneInfo("Europe/Madrid")
    assert settings.listing.begin == "2022-05-06"
    assert settings.store.s3.prefix == "calls"
    assert settings.pbx.ca_file == Path("/etc/ca.pem")
    assert settings.store.s3.endpoint_url == "http://ceph:8080"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().pbx.page_size = 5


def test_the_ledger_is_sqlite_in_the_archive_unless_it_is_named(write: Write) -> None:
    assert Settings().ledger_url() == "sqlite:////srv/recordings/.archiver/ledger.sqlite3"
    for url in ("sqlite:////var/l.sqlite3", "postgresql://me:pw@db/ledger", "postgresql+psycopg://db/ledger"):
        assert load(write(PBX), overrides={"ledger.url": url}).ledger_url() == url
    for url in ("sqlite:///relative", "sqlite://", f"mysql://me:{SECRET}@db/x", "sqlite:////"):
        message = refusal(write(PBX), {"ledger.url": url})
        assert "ledger.url must be" in message
        assert SECRET not in message


def test_everything_missing_for_the_pbx_is_named_at_once(write: Write) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write("")).need_pbx()
    for key in ("pbx.base_url", "pbx.username", "pbx.domain", "pbx.account_ids", "pbx.password_file"):
        assert key in str(caught.value)
    complete = load(write(PBX), overrides={"pbx.password": SECRET})
    complete.need_pbx()
    with pytest.raises(SettingsError, match=r"pbx\.ca_file"):
        load(write(PBX), overrides={"pbx.password": SECRET, "pbx.ca_file": "/nowhere.pem"}).need_pbx()


def test_the_password_comes_from_the_environment(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_PBX__PASSWORD", SECRET)
    assert load(write(PBX, mode=0o644)).password() == SECRET


@pytest.mark.parametrize(
    ("text", "expected"), [("x\n", "x"), ("x", "x"), ("x\n\n", "x\n"), ("x\r\n", "x"), (" x ", " x ")]
)
def test_a_password_file_loses_one_newline_at_its_end(text: str, expected: str, write: Write, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(text.encode())
    secret.chmod(0o400)
    assert load(write(PBX), overrides={"pbx.password_file": str(secret)}).password() == expected


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o444])
def test_a_password_file_that_others_can_touch_is_refused(mode: int, write: Write) -> None:
    secret = write(SECRET, "secret", mode)
    with pytest.raises(SettingsError, match="chmod 600") as caught:
        load(write(PBX), overrides={"pbx.password_file": str(secret)}).password()
    assert str(secret) in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["gone", "."])
def test_a_password_file_that_is_not_there_is_named(name: str, write: Write, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pbx\.password_file .*(isn't there|can't be read)"):
        load(write(PBX), overrides={"pbx.password_file": str(tmp_path / name)}).password()


def test_a_password_in_the_settings_file_needs_a_private_file(write: Write) -> None:
    text = PBX + f'password = "{SECRET}"\n'
    assert load(write(text)).password() == SECRET
    for mode in (0o644, 0o640, 0o604):
        path = write(text, mode=mode)
        with pytest.raises(SettingsError, match=f"chmod 600 {path}") as caught:
            load(path).password()
        assert SECRET not in str(caught.value)


def test_a_password_command_runs_without_a_shell(write: Write) -> None:
    command = f"printf '%s\\n' '{SECRET} $HOME; x'"
    assert load(write(PBX), overrides={"pbx.password_command": command}).password() == f"{SECRET} $HOME; x"


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (f"sh -c 'echo {SECRET} >&2; exit 3'", "exit code 3"),
        (f"/nowhere/{SECRET}", "can't be run"),
        (f"echo '{SECRET}", "balanced quotes"),
        ("true", "empty password"),
        (" ", "can't be run"),
        ("printf '\\377'", "UTF-8"),
        ("head -c 5000 /dev/zero", "at most 4096"),
    ],
)
def test_a_password_command_that_fails_says_why_without_its_words(
    command: str, reason: str, write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        load(write(PBX), overrides={"pbx.password_command": command}).password()
    assert "pbx.password_command" in str(caught.value)
    assert SECRET not in str(caught.value) + "".join(capfd.readouterr())


def test_a_password_command_that_hangs_is_ended_with_its_children(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_COMMAND_TIMEOUT_S", 0.2)
    with pytest.raises(SettingsError, match=r"longer than 0\.2 s"):
        load(write(PBX), overrides={"pbx.password_command": "sh -c 'sleep 60 & wait'"}).password()


def test_two_sources_of_a_password_are_both_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVER_PBX__PASSWORD", SECRET)
    settings = load(write(PBX), overrides={"pbx.password_file": "/run/secrets/pbx"})
    for ask in (settings.password, settings.need_pbx):
        with pytest.raises(SettingsError, match=r"ARCHIVER_PBX__PASSWORD and pbx\.password_file") as caught:
            ask()
        assert SECRET not in str(caught.value)


def test_no_source_of_a_password_is_an_error() -> None:
    with pytest.raises(SettingsError, match="no password"):
        Settings().password()


def test_secrets_show_neither_in_repr_nor_in_str_nor_in_messages(write: Write) -> None:
    secret = {
        "pbx.password": SECRET,
        "pbx.password_command": f"echo {SECRET}",
        "ledger.url": f"postgresql://me:{SECRET}@db/ledger",
    }
    settings = load(write(PBX), overrides=secret)
    shown = f"{settings!r} {settings} {settings.pbx!r} {settings.model_dump()} {settings.model_dump_json()}"
    assert SECRET not in shown
    wrong = {"pbx.password": [SECRET], "pbx.password_command": [SECRET], "ledger.url": [SECRET], "pbx.passwd": SECRET}
    message = refusal(write(PBX), wrong)
    assert all(key in message for key in wrong)
    assert SECRET not in message


def test_a_password_given_in_code_is_given_back() -> None:
    assert Settings(pbx=PbxSettings(password=SecretStr(SECRET))).password() == SECRET


UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
CLOCKS = st.builds(time, st.integers(0, 23), st.integers(0, 59))
RATES = st.one_of(st.none(), st.integers(1024, 2**40))


@given(st.integers(0, 10**9), st.sampled_from(sorted(UNITS)))
def test_a_size_is_its_number_times_its_unit(number: int, unit: str) -> None:
    assert parse_size(f"{number}{unit}") == number * UNITS[unit]
    assert parse_size(f"{number}.5{unit}") == number * UNITS[unit] + UNITS[unit] // 2


@given(st.dictionaries(CLOCKS, RATES, min_size=1, max_size=6), CLOCKS)
def test_a_timetable_holds_each_rate_until_the_next_and_past_midnight(table: dict[time, int | None], at: time) -> None:
    bandwidth = Bandwidth.parse(" ".join(f"{t:%H:%M},{'off' if r is None else f'{r}B'}" for t, r in table.items()))
    begun = [start for start in table if start <= at]
    assert bandwidth.at(at) == table[max(begun or table)]
    assert Bandwidth.parse(str(bandwidth)) == bandwidth


@given(RATES, CLOCKS)
def test_one_rate_holds_all_day(rate: int | None, at: time) -> None:
    assert Bandwidth.parse("off" if rate is None else f"{rate}B").at(at) == rate


@given(st.one_of(st.text(max_size=30), st.text("0123456789:,. offMGKkiB", max_size=30)))
def test_any_text_is_a_bandwidth_or_a_value_error(text: str) -> None:
    try:
        bandwidth = Bandwidth.parse(text)
    except ValueError as error:
        assert "must" in str(error)  # noqa: PT017
    else:
        assert Bandwidth.parse(str(bandwidth)) == bandwidth


@pytest.mark.parametrize(
    "text", ["50", "50 mb", "-1MiB", "1e3MiB", "٣MiB", "0MiB", "08:00,1MiB 08:00,off", "24:00,off"]
)
def test_a_rate_without_a_unit_or_a_clock_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        Bandwidth.parse(text)


def test_the_timetable_of_the_contract_reads_as_written() -> None:
    bandwidth = Bandwidth.parse("08:00,20MiB 19:00,off")
    assert [bandwidth.at(time(hour)) for hour in (0, 8, 18, 19)] == [None, 20 * 2**20, 20 * 2**20, None]
    assert Bandwidth.parse("").at(time(12)) is None
