"""From a command's options to what it is asked to do."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from archiver.errors import SettingsError
from archiver.whole_files import write_whole
from archiver.window import Window, parse_age, parse_time


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
