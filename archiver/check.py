"""What `doctor` says of one thing that it looked at; the stores, the ledger and the PBX are examined in these words."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from archiver.errors import ArchiverError, ExitCode

State = Literal["ok", "weak", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: `ok`; `weak`, the archive works without it; `failed`, a run would end with `exit_code`.

    `found` says what was seen and `advice` what to set; without an `exit_code` a failure has that of its section.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    exit_code: ExitCode | None = None


def failed(name: str, error: ArchiverError) -> Check:
    """The check that this error ended; our errors say themselves what to do."""
    return Check(name, "failed", str(error), exit_code=error.exit_code)


def guarded(name: str, look: Callable[[], Check]) -> Check:
    """What `look` finds, or how it failed."""
    try:
        return look()
    except ArchiverError as error:
        return failed(name, error)
