"""Claims: which attempt at a partition may write, when partitions are worked on far from whoever leads the run."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ClaimState(StrEnum):
    """Where an attempt at a partition stands."""

    HELD = "held"
    """Its holder may write."""
    DONE = "done"
    """It came to its end; the partition is not worked on again by this run."""
    LEFT = "left"
    """Its holder was asked to stop, and said so."""
    LOST = "lost"
    """The partition was given to somebody else; whatever its holder still writes is refused."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to write as one attempt at a partition of a run; each attempt has a number of its own.

    `lost` are the run's attempts at this account's partitions that did not come to their end: what they had claimed
    may be claimed again, and what they settled is counted by whoever finds it.
    """

    claim_no: int
    run_no: int
    account_id: str
    lost: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class DoneBefore:
    """There is nothing to claim: an attempt at this partition came to its end, with this report."""

    report: bytes


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """An attempt as the ledger remembers it; `holder` names the worker."""

    claim_no: int
    account_id: str
    partition: str
    holder: str
    state: ClaimState
    begun_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """What attempts that were lost have settled in this run: it counts, although their own counts are gone."""

    archived: int = 0
    bytes_archived: int = 0
    missing_ids: tuple[str, ...] = ()
