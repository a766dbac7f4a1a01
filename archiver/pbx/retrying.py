"""One retry policy for everything: exponential pauses with jitter, Retry-After honoured and capped (stamina)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import stamina

from archiver.errors import ArchiverError, Severity, TokenExpired
from archiver.pbx.base import Attempt

_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` tries after the first; pauses from `wait_s`, doubled each time, in seconds."""

    max_retries: int
    wait_s: float

    def attempts(self) -> AsyncIterator[Attempt]:
        """Attempts to loop over, each a context manager; what is not retryable, and the last failure, come through."""
        return _Attempts(self)

    def retries(self) -> AsyncIterator[stamina.Attempt]:
        """The policy as stamina carries it out."""
        return stamina.retry_context(
            on=pause_after,
            attempts=self.max_retries + 1,
            timeout=None,
            wait_initial=self.wait_s,
            wait_max=_LONGEST_PAUSE_S,
            wait_jitter=self.wait_s,
        )


def pause_after(error: Exception) -> bool | float:
    """Whether an error is worth another try, and how long the PBX asked us to wait before it, in seconds."""
    if not isinstance(error, ArchiverError) or error.severity is not Severity.RETRYABLE:
        return False
    if isinstance(error, TokenExpired):
        return False
    return True if error.retry_after_s is None else error.retry_after_s


class _First:
    """The first try. Nearly all go well, so stamina's machinery begins only when this one failed."""

    num = 1

    def __init__(self, *, may_fail: bool) -> None:
        self.error: ArchiverError | None = None
        self._may_fail = may_fail

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool:
        # A pause of 0 s that the PBX asked for is a pause all the same.
        if not self._may_fail or not isinstance(error, ArchiverError) or pause_after(error) is False:
            return False
        self.error = error
        return True


class _Attempts:
    """An iterator, not a generator: one that is left in the middle leaves nothing to be closed."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._first: _First | None = None
        self._more: AsyncIterator[stamina.Attempt] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Attempt:
        if self._first is None:
            self._first = _First(may_fail=self._policy.max_retries > 0)
            return self._first
        if self._more is None:
            if self._first.error is None:
                raise StopAsyncIteration
            self._more = aiter(self._policy.retries())
            with await anext(self._more):
                # stamina sees the first failure as its own, and pauses for it.
                raise self._first.error
        return await anext(self._more)
