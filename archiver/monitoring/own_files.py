"""Folders of ours under `.archiver` for small files.

`.archiver` itself is never made here: where it is not, no archive is, and an empty mount point must not look like one.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archiver.whole_files import BESIDE

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LEFT_BEHIND_S = 3600.0


@contextmanager
def own_folder(root: Path, name: str, *, make: bool = True) -> Iterator[int]:
    """A descriptor of `.archiver/<name>` under the root; no symlink is followed below the root.

    The folder is made when it is missing, unless not `make`.

    Raises:
        OSError: there is no archive, or its folder can't be used.
    """
    above = [os.open(root, _FOLDER)]
    try:
        above.append(os.open(".archiver", _FOLDER | os.O_NOFOLLOW, dir_fd=above[-1]))
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above[-1])
        above.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above[-1]))
        yield above[-1]
    finally:
        for fd in reversed(above):
            os.close(fd)


def clear_left_behind(folder_fd: int) -> None:
    """Remove what a process that was killed left half written, an hour ago or more.

    Raises:
        OSError.
    """
    for name in os.listdir(folder_fd):
        if name.endswith(BESIDE):
            with suppress(FileNotFoundError):
                if time.time() - os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mtime > _LEFT_BEHIND_S:
                    os.unlink(name, dir_fd=folder_fd)
