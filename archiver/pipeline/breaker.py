"""Notices that the PBX or the store is gone, so that a run does not try each of a million recordings in vain."""

from archiver.errors import ArchiverError, PbxKeptFailing, PbxUnreachable, StoreKeptFailing
from archiver.pbx.base import Pbx

_PBX_IS_GONE = frozenset({"unreachable", "server_error"})
_STORE_IS_GONE = frozenset({"store_unavailable", "store_busy"})


class Breaker:
    """Ends a run whose PBX or store is gone: so many whole retry policies in a row without one success in between."""

    def __init__(self, pbx: Pbx, limit: int) -> None:
        self._pbx = pbx
        self._limit = limit
        self._pbx_in_a_row = 0
        self._store_in_a_row = 0
        self._successes = pbx.traffic.successes

    def look(self, failed: ArchiverError | str | None, detail: str = "") -> None:
        """Count one finished piece of work; `failed` is its error or reason, None when it went well.

        Raises:
            PbxKeptFailing, StoreKeptFailing: the limit is reached.
        """
        if failed is None:
            self._store_in_a_row = 0
        if self._pbx.traffic.successes != self._successes or failed is None:
            self._successes = self._pbx.traffic.successes
            self._pbx_in_a_row = 0
        if failed in _PBX_IS_GONE or isinstance(failed, PbxUnreachable):
            self._pbx_in_a_row += 1
            if self._pbx_in_a_row >= self._limit:
                raise PbxKeptFailing(
                    f"{self._pbx_in_a_row} times in a row every retry failed: is the PBX up and reachable?"
                )
        if failed in _STORE_IS_GONE:
            self._store_in_a_row += 1
            if self._store_in_a_row >= self._limit:
                raise StoreKeptFailing(
                    f"{self._store_in_a_row} recordings in a row could not be stored, whatever was retried: {detail}"
                )
