"""One retry policy for everything: exponential pauses with jitter, Retry-After honoured and capped (stamina)."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import stamina

from archiver.errors import ArchiverError, Severity, TokenExpired

_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`max_retries` tries after the first; pauses from `wait_s`, doubled each time, in seconds."""

    max_retries: int
    wait_s: float

    def attempts(self) -> AsyncIterator[stamina.Attempt]:
        """Attempts to loop over, each a context manager; what is not retryable, and the last failure, come through."""
        return stamina.retry_context(
            on=self._pause,
            attempts=self.max_retries + 1,
            timeout=None,
            wait_initial=self.wait_s,
            wait_max=_LONGEST_PAUSE_S,
            wait_jitter=self.wait_s,
        )

    @staticmethod
    def _pause(error: Exception) -> bool | float:
        if not isinstance(error, ArchiverError) or error.severity is not Severity.RETRYABLE:
            return False
        if isinstance(error, TokenExpired):
            return False
        return True if error.retry_after_s is None else error.retry_after_s
