"""Notices that the PBX is gone, so that a run does not try each of a million recordings in vain."""

from archiver.errors import ArchiverError, PbxKeptFailing, PbxUnreachable
from archiver.pbx.base import Pbx


class Breaker:
    """Ends a run whose PBX is gone: so many whole retry policies in a row without one success in between."""

    def __init__(self, pbx: Pbx, limit: int) -> None:
        self._pbx = pbx
        self._limit = limit
        self._in_a_row = 0
        self._successes = pbx.traffic.successes

    def look(self, failed: ArchiverError | str | None) -> None:
        """Count one finished piece of work; `failed` is its error or reason, None when it went well.

        Raises:
            PbxKeptFailing: the limit is reached.
        """
        if self._pbx.traffic.successes != self._successes or failed is None:
            self._successes = self._pbx.traffic.successes
            self._in_a_row = 0
        if failed in {"unreachable", "server_error"} or isinstance(failed, PbxUnreachable):
            self._in_a_row += 1
            if self._in_a_row >= self._limit:
                raise PbxKeptFailing(
                    f"{self._in_a_row} times in a row every retry failed: is the PBX up and reachable?"
                )
