"""From a command's options to what it is asked to do."""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.errors import SettingsError
from archiver.whole_files import write_whole
from archiver.window import Window, parse_age, parse_time

_LONGEST_TEXT = 500


def request(make: Any, settings: Any, since: str | None, until: str | None, account_ids: Any, **more: Any) -> Any:
    """The request of a command from its options.

    Raises:
        SettingsError: a time that is none, or an end without or before its beginning.
    """
    start, end = _times(settings, since, until)
    return make(since=start, until=end, account_ids=account_ids, **more)


def period(settings: Any, since: str | None, until: str | None) -> Window | None:
    """Likewise, as a window; None when everything is meant."""
    start, end = _times(settings, since, until)
    return None if start is None else Window(start, end or datetime.now(UTC))


def age(option: str, text: str) -> timedelta:
    """How long an age such as `26h` is.

    Raises:
        SettingsError: it is none.
    """
    try:
        return parse_age(text)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


def _times(settings: Any, since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    now = datetime.now(UTC).replace(microsecond=0)
    times: dict[str, datetime | None] = {"--since": None, "--until": None}
    for option, text in (("--since", since), ("--until", until)):
        if text is not None:
            try:
                times[option] = parse_time(text, now=now, timezone=settings.archive.zone)
            except ValueError as error:
                raise SettingsError(f"{option}: {error}") from None
    start, end = times["--since"], times["--until"]
    if end is not None and start is None:
        raise SettingsError("--until needs --since")
    if start is not None and start >= (end or now):
        raise SettingsError(
            f"--since {start:%Y-%m-%dT%H:%M:%SZ} is not before --until {(end or now):%Y-%m-%dT%H:%M:%SZ}"
        )
    return start, end


def check_result_file(option: str, path: Path) -> None:
    """See, before hours of work, that a result can be written there.

    Raises:
        SettingsError: it can't.
    """
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise SettingsError(f"{option} {str(path)!a}: must name a file in a folder that is there and can be written")


def write_result_file(option: str, path: Path, text: str) -> None:
    """Write a result, all or nothing, in place of what stands there; readable by its owner alone.

    Raises:
        SettingsError: it can't be written; what stood there before still does.
    """
    try:
        write_whole(path, text.encode(), durable=False)
    except OSError as error:
        raise SettingsError(f"{option} {str(path)!a}: {error.strerror or error}") from None


def later_time(option: str, settings: Any, text: str) -> datetime:
    """A time that may lie in the future.

    Raises:
        SettingsError: it is none.
    """
    try:
        return parse_time(text, now=datetime.now(UTC).replace(microsecond=0), timezone=settings.archive.zone)
    except ValueError as error:
        raise SettingsError(f"{option}: {error}") from None


def either_times(settings: Any, since: str | None, until: str | None) -> tuple[datetime | None, datetime | None]:
    """A period of which either end may be open.

    Raises:
        SettingsError: a time that is none, or an end before its beginning.
    """
    start = None if since is None else later_time("--since", settings, since)
    end = None if until is None else later_time("--until", settings, until)
    if start is not None and end is not None and start >= end:
        raise SettingsError(f"--since {start:%Y-%m-%dT%H:%M:%SZ} is not before --until {end:%Y-%m-%dT%H:%M:%SZ}")
    return start, end


def one_line(option: str, text: str) -> str:
    """A text for the record: not empty, one line, not too long.

    Raises:
        SettingsError: it is none.
    """
    text = text.strip()
    if not text or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise SettingsError(f"{option} must be one line of 1 to {_LONGEST_TEXT} printable characters")
    return text


def hold_name(name: str) -> str:
    """The name of a hold.

    Raises:
        SettingsError: it is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise SettingsError(f"a hold's name has up to 64 letters, digits, '_' and '-': {name[:64]!a} is none")
    return name


@contextmanager
def csv_file(option: str, path: Path) -> Iterator[Callable[[Iterable[str]], object]]:
    """What writes rows into a CSV file that takes its name at the end, all or nothing; readable by its owner alone.

    Raises:
        SettingsError: it can't be written; what stood there before still does.
    """
    check_result_file(option, path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                yield csv.writer(file).writerow
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink()
    except OSError as error:
        raise SettingsError(f"{option} {str(path)!a}: {error.strerror or error}") from None
