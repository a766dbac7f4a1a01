"""One check for each kind of value in the settings: addresses, paths, names, lists, passwords.

Each gives the value back, perhaps in its final form, or raises a ValueError that says what is allowed. `settings.py`
builds on them.
"""

import ipaddress
import json
import os
import re
import shlex
import signal
import stat
import subprocess
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from archiver.errors import InvalidKey, SettingsError
from archiver.keys import KeyTemplate, check_key
from archiver.settings.bandwidth import Bandwidth, parse_size

_COMMAND_TIMEOUT_S = 30.0
_LONGEST_PASSWORD = 4096
OTHERS = stat.S_IRWXG | stat.S_IRWXO
"""The permission bits that a file with a password must not have."""
_ROOT_UID = 0
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ACCOUNT = re.compile(r"[^\s\x00-\x20\x7f-\x9f\ud800-\udfff]{1,128}\Z")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]\Z")
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def one_line(text: str) -> str:
    """A text without control characters or outer blanks."""
    if _UNPRINTABLE.search(text) or text != text.strip():
        raise ValueError("must be one line without control characters or outer blanks")
    return text


def number(value: object) -> object:
    """Anything but true and false, which Python counts as numbers."""
    if isinstance(value, bool):
        raise ValueError("must be a number, not true or false")  # noqa: TRY004  (pydantic wants a ValueError)
    return value


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    return any(address in network for network in _LOOPBACK)


def _origin_url(text: str) -> tuple[str, str, str]:
    """The address without a trailing slash, its scheme and its host; ValueError when it is more than an origin."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in {"http", "https"} or not host or re.search(r"[\s\\]", text):
        raise ValueError("must be an address such as 'https://pbx.example.com:9443'")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; they have keys of their own")
    if parts.path.strip("/") or "?" in text or "#" in text:
        raise ValueError("must be scheme, host and port only, without a path or a query")
    return f"{parts.scheme}://{parts.netloc}", parts.scheme, host


def base_url(text: str) -> str:
    """The PBX's address without a trailing slash: https, or http for loopback."""
    if not text:
        return text
    url, scheme, host = _origin_url(text)
    if scheme == "http" and not _loopback(host):
        raise ValueError("must begin with https://; http:// is for loopback only (127.0.0.0/8, ::1, localhost)")
    return url


def endpoint_url(text: str) -> str:
    """The address of an S3 service, or ''."""
    return _origin_url(text)[0] if text else text


def heartbeat_url(url: SecretStr) -> SecretStr:
    """The address that a good run calls, or '': https, or http for loopback."""
    text = url.get_secret_value()
    if text and not _is_callable(text):
        raise ValueError("must be an https:// address (http:// for loopback only), or ''")
    return url


def _is_callable(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if not host or re.search(r"[\s\\]", text) or _UNPRINTABLE.search(text):
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and _loopback(host))


def listed_addresses(value: object) -> object:
    """A list of addresses as the environment writes it: JSON, or separated by blanks, since addresses hold commas."""
    return listed(value) if not isinstance(value, str) or value.lstrip().startswith("[") else value.split()


def addresses(urls: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """Addresses that look like some, each named once; what they mean is for whoever sends."""
    texts = [url.get_secret_value() for url in urls]
    if any(_UNPRINTABLE.search(text) or not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", text) for text in texts):
        raise ValueError("must be a list of addresses such as 'mailtos://user:password@example.com'")
    if len(set(texts)) < len(texts):
        raise ValueError("must name each address once")
    return urls


def listed(value: object) -> object:
    """A list as the environment writes it: JSON, or separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("must be a JSON list of texts, or texts separated by commas") from error
    return [item.strip() for item in value.split(",")] if value.strip() else []


def accounts(ids: tuple[str, ...]) -> tuple[str, ...]:
    """Account ids that are plain and named once."""
    if not all(_ACCOUNT.match(an_id) for an_id in ids):
        raise ValueError("must be a list of ids of 1 to 128 characters, without blanks or control characters")
    if len(set(ids)) < len(ids):
        raise ValueError("must name each account once")
    return ids


def recording_path(path: str) -> str:
    """A path that holds `{recording_id}` once."""
    rest = path.replace("{recording_id}", "", 1)
    if not path.startswith("/") or rest == path or re.search(r"[\s{}?#\\]|//|/\.\.?(/|$)", rest):
        raise ValueError("must begin with '/' and hold {recording_id} once, without blanks, a query or a fragment")
    return path


def begin(value: object) -> object:
    """An ISO date or date-time as text, or ''."""
    if isinstance(value, date):  # TOML has dates of its own
        return value.isoformat()
    if isinstance(value, str) and value:
        try:
            datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("must be an ISO date or date-time such as '2022-05-06', or ''") from error
    return value


def size(value: object) -> object:
    """Bytes, from a size with its unit."""
    return parse_size(value) if isinstance(value, str) else number(value)


def bandwidth(value: object) -> object:
    """A `Bandwidth`, from its text."""
    return Bandwidth.parse(value) if isinstance(value, str) else value


def zone_name(name: str) -> str:
    """The name of a time zone that this machine knows."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("must be the name of a time zone such as 'UTC' or 'Europe/Madrid'") from error
    return name


def template(template: str) -> str:
    """A key template that `KeyTemplate` accepts."""
    try:
        KeyTemplate(template, UTC)
    except SettingsError as error:
        raise ValueError(str(error).removeprefix("archive.key_template").lstrip(": ")) from error
    return template


def bucket(name: str) -> str:
    """A bucket's name, or ''."""
    if name and not _BUCKET.match(name):
        raise ValueError("must be a bucket's name: 3 to 255 letters, digits, '.', '_' and '-'")
    return name


def prefix(prefix: str) -> str:
    """A key prefix without a trailing slash, or ''."""
    prefix = prefix.removesuffix("/")
    try:
        return check_key(prefix) if prefix else prefix
    except InvalidKey as error:
        raise ValueError("must be folders of letters, digits, - _ = and . without a leading '/', or ''") from error


def folder(value: object) -> object:
    """The full path of a folder."""
    path = Path(value) if isinstance(value, str) else value
    if not isinstance(path, Path) or not path.is_absolute() or _UNPRINTABLE.search(str(path)):
        raise ValueError("must be the full path of a folder, beginning with '/'")
    return path


def optional_file(value: object) -> object:
    """None for ''."""
    return None if value == "" else value


def metrics_file(value: object) -> object:
    """The full path of a file whose name ends in .prom, which is what node_exporter reads; None for ''."""
    if value == "":
        return None
    path = Path(value) if isinstance(value, str) else value
    if (
        not isinstance(path, Path)
        or not path.is_absolute()
        or path.suffix != ".prom"
        or path.stem.startswith(".")
        or _UNPRINTABLE.search(str(path))
    ):
        raise ValueError("must be '' or the full path of a file whose name ends in .prom")
    return path


def listening(text: str) -> tuple[str, int]:
    """Host and port of an address to listen on; ValueError unless it is on loopback."""
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    if not host or not port or parts.netloc != text or "@" in text or not _loopback(host):
        raise ValueError("must be '' or a loopback address and a port from 1 to 65535, such as '127.0.0.1:9464'")
    return host, port


def metrics_listen(text: str) -> str:
    """An address on loopback, or ''."""
    if text:
        listening(text)
    return text


def ledger_url(url: SecretStr) -> SecretStr:
    """The ledger's address, or ''."""
    text = url.get_secret_value()
    sqlite = text.startswith("sqlite:////") and len(text) > len("sqlite:////")
    if text and not sqlite and not re.match(r"postgresql(\+[a-z0-9]+)?://.", text):
        raise ValueError("must be '', sqlite:/// and a full path (sqlite:////srv/ledger.sqlite3), or postgresql://…")
    return url


def _text_password(raw: bytes, source: str) -> str:
    """The password in these bytes, less one newline at the end."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise SettingsError(f"{source} must give UTF-8 text") from None
    if len(text) > _LONGEST_PASSWORD:
        raise SettingsError(f"{source} must give at most {_LONGEST_PASSWORD} characters")
    return text.removesuffix("\n").removesuffix("\r")


def read_password(path: Path) -> str:
    """The password in a file that only its owner can read; SettingsError when there is none, or others can read it.

    A file of root's may be readable by its group, too, when we are not root: so a secret is handed to a process that
    does not own it (systemd's credentials with an access list, Kubernetes' secrets with `fsGroup`).
    """
    source = f"pbx.password_file {str(path)!a}"
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            raw = file.read(4 * _LONGEST_PASSWORD + 2)
    except FileNotFoundError:
        raise SettingsError(f"{source} isn't there; it must be a file that holds the password") from None
    except OSError as error:
        raise SettingsError(f"{source} can't be read: {error.strerror}") from None
    mode = stat.S_IMODE(found.st_mode)
    handed_over = found.st_uid == _ROOT_UID != os.geteuid()
    if mode & (OTHERS & ~stat.S_IRGRP if handed_over else OTHERS):
        raise SettingsError(f"{source} can be read by others (mode {mode:04o}): chmod 600 {path}")
    return _text_password(raw, source)


def ask_command(command: str) -> str:
    """The password that a command prints; SettingsError when it fails.

    Neither the command nor its stderr shows in a message, as both may hold secrets.
    """
    source = "pbx.password_command"
    try:
        with subprocess.Popen(  # noqa: S603  (the administrator's own command, without a shell)
            shlex.split(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                raw, _ = process.communicate(timeout=_COMMAND_TIMEOUT_S)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # the children too, which may hold the pipe
                raise
    except subprocess.TimeoutExpired:
        raise SettingsError(f"{source} took longer than {_COMMAND_TIMEOUT_S:g} s") from None
    except ValueError:
        raise SettingsError(f"{source} must be a command line with balanced quotes") from None
    except (OSError, IndexError) as error:
        raise SettingsError(f"{source} can't be run: {getattr(error, 'strerror', None) or 'it is empty'}") from None
    if process.returncode:
        raise SettingsError(f"{source} failed with exit code {process.returncode}")
    return _text_password(raw, source)
