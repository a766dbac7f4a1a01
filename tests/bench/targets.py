"""Fresh folders to write into, none of which is deleted while something is measured.

ext4 walks over inodes freed in the last minutes one by one when it makes a file (they stay unused for up to five
minutes), up to 0.5 ms per file after a large deletion. So the targets of earlier runs stay until the disk needs their
room or the bench ends, and after a deletion that counts the bench rests, also when it was an earlier bench's.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Fewer freed inodes than this cost nothing that could be measured.
FEW_FILES = 2_000
SPARE_BYTES = 4 << 30


@dataclass
class Targets:
    """The folders under `work/out`, numbered; `rest_s` is how long after a deletion nothing may be measured."""

    work: Path
    rest_s: float
    say: Callable[[str], None]
    _made: int = 0

    @property
    def folder(self) -> Path:
        return self.work / "out"

    @property
    def _deleted(self) -> Path:
        return self.work / "deleted"

    def prepare(self, needed_bytes: int) -> None:
        """Make room for what is going to be written, if there is too little, and rest if that, or a bench before, deleted.

        Raises:
            RuntimeError: the disk is too small.
        """
        if self._made == 0 or shutil.disk_usage(self.work).free < needed_bytes + SPARE_BYTES:
            self.delete()
        free_bytes = shutil.disk_usage(self.work).free
        if free_bytes < needed_bytes + SPARE_BYTES:
            raise RuntimeError(
                f"{self.work} has {free_bytes / 1e9:.0f} GB free and needs {needed_bytes / 1e9:.0f} GB more"
            )
        if self._deleted.exists():
            left_s = self._deleted.stat().st_mtime + self.rest_s - time.time()
            if left_s > 0:
                self.say(f"rests {left_s:.0f} s: the file system is slow after deletions")
                time.sleep(left_s)

    def fresh(self) -> Path:
        """A new, empty folder."""
        self._made += 1
        target = self.folder / str(self._made)
        target.mkdir(parents=True, mode=0o700)
        return target

    def delete(self) -> None:
        """Delete all targets, and remember when, if there were many files."""
        if not self.folder.exists():
            return
        count = sum(1 for path in self.folder.rglob("*") if path.is_file())
        self.say(f"deletes {count} files of earlier runs")
        shutil.rmtree(self.folder)
        if count > FEW_FILES:
            self._deleted.touch()
