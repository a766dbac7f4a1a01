"""A worker's tools, as promises: what it fetches with, where it spools, stores and quarantines, and its limits."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from archiver.keys import KeyTemplate
from archiver.ledger.values import Task
from archiver.pbx.base import Pbx, Retries
from archiver.pipeline.checks import ReceivedMedia
from archiver.pipeline.feed import Budget
from archiver.pipeline.limiter import Limiter
from archiver.pipeline.threads import Threads
from archiver.pipeline.throttle import Throttle
from archiver.stores.base import Store


class Spooling(Protocol):
    """A spool that takes one body (see `stores.spool`)."""

    @property
    def size_bytes(self) -> int:
        """Taken so far."""
        ...

    def write(self, chunks: Sequence[bytes]) -> bool:
        """Take a batch; False when the body is too long."""
        ...

    def finish(self) -> ReceivedMedia:
        """The body as media."""
        ...

    def discard(self) -> None:
        """Give it up."""
        ...


class KeepsQuarantine(Protocol):
    """Keeps bytes that contradict the metadata (see `stores.quarantine`)."""

    def keep(self, *, account_id: str, recording_id: str, media: ReceivedMedia, extension: str, reason: bytes) -> str:
        """Keep them; returns where."""
        ...


@dataclass(frozen=True, slots=True)
class Bench:
    """A worker's tools; all workers share one.

    Small bodies are concluded by `quick_threads`, all other disk work is done by `threads`.
    """

    pbx: Pbx
    store: Store
    quarantine: KeepsQuarantine
    threads: Threads
    quick_threads: Threads
    spool: Callable[[int, bool], Spooling]
    budget: Budget
    retries: Retries
    keys: KeyTemplate
    sidecars: bool
    run_id: str
    now: Callable[[], datetime]
    throttle: Throttle
    limiter: Limiter
    on_bytes: Callable[[int], None]

    def key(self, task: Task) -> str:
        """Where a task's recording belongs."""
        recording = task.recording
        return self.keys.key(
            account_id=recording.account_id,
            recording_id=recording.recording_id,
            dated_at=recording.dated_at,
            extension=recording.extension,
            version=task.version,
        )


def finished(spool: Spooling, batch: Sequence[bytes]) -> ReceivedMedia:
    """The body as media, after its last batch."""
    spool.write(batch)
    return spool.finish()
