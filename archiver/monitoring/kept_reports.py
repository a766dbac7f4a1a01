"""The reports of the last commands, one JSON file each under `.archiver/reports`."""

import os
import re
from contextlib import suppress
from pathlib import Path

from archiver.monitoring.own_files import clear_left_behind, own_folder
from archiver.whole_files import write_whole

_FOLDER = "reports"
_OURS = re.compile(r"\d{8}T\d{6}Z-[0-9a-z-]{1,64}\.json\Z")
"""A run's id begins with its time, so that names sort by age."""


def keep_report(root: Path, run_id: str, report: bytes, *, most: int, durable: bool) -> Path:
    """Keep a report, in place of a former one of the same run; the oldest beyond `most` go, none when `most` is 0.

    Raises:
        OSError: it is not kept, or an old one could not be removed.
    """
    name = f"{run_id}.json"
    with own_folder(root, _FOLDER) as fd:
        write_whole(name, report + b"\n", folder_fd=fd, durable=durable)
        clear_left_behind(fd)
        if most:
            # Whatever the clock says, the one that was just written stays.
            names = os.listdir(fd)  # noqa: PTH208 - the folder that is open, wherever its name leads now
            others = sorted(found for found in names if _OURS.match(found) and found != name)
            for old in others[: max(0, len(others) - most + 1)]:
                with suppress(FileNotFoundError):
                    os.unlink(old, dir_fd=fd)
    return root / ".archiver" / _FOLDER / name
