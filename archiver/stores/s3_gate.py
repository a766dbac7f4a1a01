"""How many requests go to the store at once: halved when it says that it is too much, slowly raised while it is not."""

import threading
import time
from collections.abc import Callable
from types import TracebackType

_PAUSE_S = 1.0
"""One burst of refusals is one message: what was under way then says nothing about the new limit."""
_CALM = 8
"""So many successes for each request allowed, before one more is."""


class Gate:
    """A context manager around each request; safe for threads. Never closes altogether.

    `most` is the upper bound. `busy` is called when the store asks to slow down.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._limit = most
        self._inside = 0
        self._calm = 0
        self._quiet_until_s = float("-inf")
        self._clock = clock
        self._changed = threading.Condition()

    @property
    def limit(self) -> int:
        """How many may be inside now."""
        return self._limit

    def __enter__(self) -> None:
        with self._changed:
            while self._inside >= self._limit:
                self._changed.wait()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._inside -= 1
            if error is None and self._limit < self._most:
                self._calm += 1
                if self._calm >= _CALM * self._limit:
                    self._limit += 1
                    self._calm = 0
            self._changed.notify_all()

    def busy(self) -> None:
        """Halve the limit, at most once a second."""
        with self._changed:
            self._calm = 0
            if self._clock() >= self._quiet_until_s:
                self._limit = max(1, self._limit // 2)
                self._quiet_until_s = self._clock() + _PAUSE_S


class KeyLocks:
    """One writer per key in this process: for stores that would let the second of two writers win."""

    def __init__(self) -> None:
        self._held: set[str] = set()
        self._changed = threading.Condition()

    def hold(self, key: str) -> "Held":
        """A context manager that has the key to itself."""
        return Held(self._held, self._changed, key)


class Held:
    """A key while its block lasts."""

    def __init__(self, held: set[str], changed: threading.Condition, key: str) -> None:
        self._held = held
        self._changed = changed
        self._key = key

    def __enter__(self) -> None:
        with self._changed:
            while self._key in self._held:
                self._changed.wait()
            self._held.add(self._key)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._held.discard(self._key)
            self._changed.notify_all()
