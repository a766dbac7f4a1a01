"""What the ledger tells a repair; part of the promise in `base`."""

from dataclasses import dataclass

from archiver.recording import Recording


@dataclass(frozen=True, slots=True)
class Repairable:
    """An archived object as far as a repair needs it.

    `recording` is as it was listed last, without metadata; `attempts` counts the tries of all runs so far; `run_id` is
    the run that archived it, empty when nobody knows.
    """

    recording: Recording
    attempts: int
    run_id: str
