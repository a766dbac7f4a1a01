"""What goes to a worker on another machine, and what comes back. Pickled: both ends are the same, which is checked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from archiver.engine.cluster.shares import Portion
from archiver.engine.counting import CountingSeat
from archiver.engine.wire import News
from archiver.errors import ArchiverError, Severity
from archiver.pipeline.producer import Partition
from archiver.pipeline.run import Ended, Failure

Work = Callable[[Any, Any, CountingSeat], Awaitable[Any]]
"""Does a parcel's work with what everybody shares; a function of a module, so that a worker finds it."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """Partitions of one account that follow one another and go to a worker together; each of a run has another `name`.

    With `due` what is due of the account is taken along, after the listing.
    """

    name: str
    account_id: str
    partitions: tuple[Partition, ...] = ()
    due: bool = False


@dataclass(frozen=True, slots=True)
class Errand:
    """A parcel on its way; `portion` is its share of the run's limits when it sets out, and names no other parcel."""

    side: str
    work: Work
    share: Any
    parcel: Any
    portion: Portion


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an errand: its result, or what it failed of, and the last news; `stopped` when it was told to stop."""

    result: Any
    error: ArchiverError | None
    stopped: bool
    news: News

    @property
    def failure(self) -> Failure | None:
        """What it failed of, if it did; a run's share tells that in its result."""
        if self.error is not None:
            return Failure.of(self.error)
        return self.result.error if isinstance(self.result, Ended) else None

    @property
    def passes(self) -> bool:
        """Whether it could not be done just then, and may be a while later."""
        return self.error is not None and self.error.severity is Severity.RETRYABLE


@dataclass(frozen=True, slots=True)
class FarNews:
    """News of the errand of this key, which goes by the portion of this number and fetches `held` recordings just now."""

    key: str
    news: News
    number: int
    held: int
