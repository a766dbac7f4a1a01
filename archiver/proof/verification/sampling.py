"""Which share of an archive a sampled verification takes: each the next one, so that after some all was looked at."""

import json
from contextlib import suppress
from pathlib import Path

from archiver.proof.verification.verify import SHARES

_FILE = "verify-sample.json"


class SampleTurn:
    """The share that is next: `share` of 10,000 from `share_from` on; all of it where no percentage is given.

    Where the last one ended is kept in a file of the archive's own folder; without it, it begins anew.
    """

    def __init__(self, own_folder: Path, percent: float | None) -> None:
        self._file = own_folder / _FILE
        self.share = SHARES if percent is None else max(1, min(SHARES, round(percent * SHARES / 100)))
        self.share_from = 0 if self.share == SHARES else self._remembered()

    def done(self) -> None:
        """It was looked at; the next turn begins behind it."""
        if self.share == SHARES:
            return
        beside = self._file.with_suffix(".new")
        beside.write_text(json.dumps({"next": (self.share_from + self.share) % SHARES}))
        beside.replace(self._file)

    def _remembered(self) -> int:
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._file.read_text())["next"]) % SHARES
        return 0
