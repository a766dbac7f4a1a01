"""Object Lock: what an object shall have, as headers of its write, and whether a head shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

_TOO_LATE = timedelta(minutes=1)
"""S3 refuses a date in the past; one that would pass while the request is under way is no protection either."""
ROUNDING = timedelta(seconds=1)
"""Some servers keep whole seconds."""


def whole_seconds(at: datetime) -> datetime:
    """A time in UTC, rounded up to whole seconds, so that what is read back can be compared."""
    whole = at.astimezone(UTC).replace(microsecond=0)
    return whole + ROUNDING if at.microsecond else whole


@dataclass(frozen=True, slots=True)
class Lock:
    """The lock of one object; `until_at` is aware UTC, None without retention."""

    mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    until_at: datetime | None = None
    legal_hold: bool = False

    def params(self) -> dict[str, Any]:
        """The arguments of `put_object`; empty for an object without a lock."""
        found: dict[str, Any] = {}
        if self.until_at is not None:
            found |= {"ObjectLockMode": self.mode, "ObjectLockRetainUntilDate": self.until_at}
        if self.legal_hold:
            found["ObjectLockLegalHoldStatus"] = "ON"
        return found

    def lacks_retention(self, head: Mapping[str, Any]) -> bool:
        """Whether a head shows less retention than this: none, a shorter one, or GOVERNANCE where COMPLIANCE belongs."""
        if self.until_at is None:
            return False
        mode, until_at = head.get("ObjectLockMode"), head.get("ObjectLockRetainUntilDate")
        if mode not in {self.mode, "COMPLIANCE"} or not isinstance(until_at, datetime):
            return True
        return until_at < self.until_at - ROUNDING

    def lacks_hold(self, head: Mapping[str, Any]) -> bool:
        """Whether a head shows no legal hold where one belongs."""
        return self.legal_hold and head.get("ObjectLockLegalHoldStatus") != "ON"


@dataclass(frozen=True, slots=True)
class LockPolicy:
    """Object Lock as the settings want it: retention of `retention_days` from the call's date, and a legal hold."""

    mode: Literal["", "GOVERNANCE", "COMPLIANCE"] = ""
    retention_days: int = 0
    legal_hold: bool = False

    @property
    def wanted(self) -> bool:
        """Whether objects are to be locked at all."""
        return bool(self.mode) or self.legal_hold

    def lock(self, dated_at: datetime | None, *, now: datetime) -> Lock:
        """The lock of an object of that date; without a date it counts from now, which is never too short.

        Retention that is over, or ends within a minute, is left out: a store refuses a date in the past.
        """
        if not self.mode:
            return Lock(legal_hold=self.legal_hold)
        # Whole seconds, rounded up, so that what is read back can be compared.
        begin_at = (dated_at or now).astimezone(UTC).replace(microsecond=0) + ROUNDING
        until_at = begin_at + timedelta(days=self.retention_days)
        if until_at < now + _TOO_LATE:
            return Lock(legal_hold=self.legal_hold)
        return Lock(self.mode, until_at, self.legal_hold)


def described(head: Mapping[str, Any]) -> str:
    """The lock that a head shows, for a person."""
    mode, until_at = head.get("ObjectLockMode") or "no retention", head.get("ObjectLockRetainUntilDate")
    until = f" until {until_at:%Y-%m-%dT%H:%M:%SZ}" if isinstance(until_at, datetime) else ""
    hold = ", legal hold" if head.get("ObjectLockLegalHoldStatus") == "ON" else ""
    return f"{mode}{until}{hold}"
