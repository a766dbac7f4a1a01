"""The progress bar and the log lines of a run: tqdm on a terminal, silent elsewhere (contract, section 2)."""

import time
from collections.abc import Callable
from typing import Any

import structlog

from archiver.cli.words.layout import size
from archiver.pipeline.tally import Tally
from archiver.recording import Status

_REFRESH_S = 0.2
_LOG_EVERY_S = 60.0


class Progress:
    """Shows recordings and bytes, rate and time left; logs what did not go well, and where a long run stands."""

    def __init__(self, *, quiet: bool) -> None:
        from tqdm import tqdm  # most commands have no bar

        self._bar: tqdm[Any] = tqdm(
            total=0, unit="rec", disable=True if quiet else None, dynamic_ncols=True, smoothing=0.1, leave=False
        )
        self._tally = Tally()
        self._bytes = 0
        self._drawn_at_s = 0.0
        self._logged_at_s = time.monotonic()
        self._log: Any = structlog.get_logger()

    def begin(self, tally: Tally, traffic: object) -> None:  # noqa: ARG002 - the bar shows recordings
        """The run begins; both stay live."""
        self._tally = tally

    def bytes_came(self, size_bytes: int) -> None:
        """Media came in."""
        self._bytes += size_bytes

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        """A recording has its outcome."""
        if status != Status.ARCHIVED:
            self._log.warning(
                "recording not archived", account_id=account_id, recording_id=recording_id, status=status, reason=reason
            )
        self.moved()

    def moved(self) -> None:
        """The tally has changed."""
        now_s = time.monotonic()
        if now_s - self._drawn_at_s >= _REFRESH_S:
            self._drawn_at_s = now_s
            self._draw()
        if now_s - self._logged_at_s >= _LOG_EVERY_S:
            self._logged_at_s = now_s
            tally = self._tally
            self._log.info("under way", listed=tally.listed, archived=tally.archived, bytes=self._bytes)

    def close(self) -> None:
        """Take the bar away."""
        self._draw()
        self._bar.close()

    def write(self, plain: Callable[[str], None]) -> Callable[[str], None]:
        """A writer of log lines that does not tear the bar."""

        def line(text: str) -> None:
            with self._bar.external_write_mode():
                plain(text)

        return line

    def _draw(self) -> None:
        if self._bar.disable:
            return
        self._bar.total = max(self._tally.claimed, self._tally.settled)
        self._bar.n = self._tally.settled
        self._bar.set_postfix_str(size(self._bytes), refresh=False)
        self._bar.refresh()
