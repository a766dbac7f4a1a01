"""Making up a corpus: calls through the days with the shape of an office, from a seed and nothing else."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Final

from archiver.simulator.rows import GREGORIAN_OFFSET_S, SimulatedCdr, SimulatedRecording

if TYPE_CHECKING:
    from collections.abc import Iterator

_HOUR_WEIGHTS: Final = (1, 1, 1, 1, 1, 2, 6, 20, 60, 100, 110, 90, 55, 80, 105, 100, 80, 45, 15, 8, 5, 3, 2, 1)
_WEEKEND: Final = 5
_WEEKEND_SHARE: Final = 0.06
_SPREAD: Final = 1.1
_UNANSWERED_SHARE: Final = 0.15
_TRANSFERRED_SHARE: Final = 0.04
_DUPLICATED_SHARE: Final = 0.02
_ARRAY_SHARE: Final = 0.1
_UNANSWERED_CAUSES: Final = ("NO_ANSWER", "ORIGINATOR_CANCEL", "USER_BUSY", "CALL_REJECTED")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `Corpus.generate` was asked for, checked."""

    seed: int
    accounts: int
    recordings: int
    begin: datetime
    end: datetime
    median_duration_s: float
    max_duration_s: float
    time_zone: tzinfo

    def __post_init__(self) -> None:
        if self.accounts < 1 or self.recordings < 0:
            raise ValueError("a corpus needs at least one account and no negative number of recordings")
        if self.begin.tzinfo is None or self.end.tzinfo is None or self.begin >= self.end:
            raise ValueError("begin and end must be aware, and begin before end")
        if self.median_duration_s <= 0 or self.max_duration_s < 1:
            raise ValueError("median_duration_s must be positive and max_duration_s at least 1")

    @property
    def account_ids(self) -> tuple[str, ...]:
        """32 hex digits each."""
        rng = random.Random(f"accounts {self.seed}")
        return tuple(f"{rng.getrandbits(128):032x}" for _ in range(self.accounts))


def generate(plan: Plan) -> tuple[list[SimulatedRecording], list[SimulatedCdr]]:
    """The recordings and CDRs of a plan, in order of the calls' start."""
    rng = random.Random(plan.seed)
    account_ids = plan.account_ids
    starts = iter(_starts(plan, rng))
    recordings: list[SimulatedRecording] = []
    cdrs: list[SimulatedCdr] = []
    while len(recordings) < plan.recordings:
        call = _Call(plan, rng, rng.choice(account_ids), next(starts))
        if rng.random() < _UNANSWERED_SHARE:
            cdrs.append(call.unanswered())
            continue
        transferred = rng.random() < _TRANSFERRED_SHARE and plan.recordings - len(recordings) > 1
        recorded = call.recorded(2 if transferred else 1)
        recordings += recorded
        cdrs += call.legs(recorded)
    return recordings, cdrs


def _starts(plan: Plan, rng: random.Random) -> Iterator[int]:
    """Start times for ever, in Unix seconds, more of them when an office is open."""
    begin, end = int(plan.begin.timestamp()), math.ceil(plan.end.timestamp())
    hours = list(range(begin, end, 3600))
    weights = list(itertools.accumulate(_weight(datetime.fromtimestamp(hour, plan.time_zone)) for hour in hours))
    while True:
        (hour,) = rng.choices(hours, cum_weights=weights)
        yield rng.randrange(hour, min(hour + 3600, end))


def _weight(hour: datetime) -> float:
    return _HOUR_WEIGHTS[hour.hour] * (_WEEKEND_SHARE if hour.weekday() >= _WEEKEND else 1.0)


@dataclass(slots=True)
class _Call:
    plan: Plan
    rng: random.Random
    account_id: str
    start_unix_s: int

    def recorded(self, count: int) -> list[SimulatedRecording]:
        """The call's recordings one after another; a transferred call has a second one in the same interaction."""
        made: list[SimulatedRecording] = []
        begin = self.start_unix_s
        for _ in range(count):
            seconds = self.rng.lognormvariate(math.log(self.plan.median_duration_s), _SPREAD)
            duration_ms = int(1000 * min(max(seconds, 1.0), self.plan.max_duration_s))
            recording_id = f"{self._month(begin)}-{self.rng.getrandbits(128):032x}"
            shared = {"interaction_id": made[0].interaction_id} if made else None
            made.append(
                SimulatedRecording(
                    account_id=self.account_id,
                    recording_id=recording_id,
                    start_unix_s=begin,
                    duration_ms=duration_ms,
                    overrides=shared,
                )
            )
            begin = made[-1].created_unix_s + 2
        return made

    def legs(self, recorded: list[SimulatedRecording]) -> Iterator[SimulatedCdr]:
        """One to three CDRs of an answered call; the first names its recordings; now and then one comes twice."""
        ids = tuple(recording.recording_id for recording in recorded)
        ended = recorded[-1].created_unix_s
        for ordinal in range(self.rng.choices((1, 2, 3), (5, 4, 1))[0]):
            named = ordinal == 0 or self.rng.random() < 0.5  # noqa: PLR2004 -- an even chance
            value: str | tuple[str, ...] = ids if self.rng.random() < _ARRAY_SHARE else ",".join(ids)
            leg = SimulatedCdr(
                account_id=self.account_id,
                cdr_id=self._leg_id(),
                ended_unix_s=ended + ordinal,
                billing_s=ended - self.start_unix_s,
                interaction_id=recorded[0].interaction_id,
                media_recording_id=value if named else None,
            )
            yield leg
            if self.rng.random() < _DUPLICATED_SHARE:
                yield leg

    def unanswered(self) -> SimulatedCdr:
        """The one CDR of a call nobody took."""
        return SimulatedCdr(
            account_id=self.account_id,
            cdr_id=self._leg_id(),
            ended_unix_s=self.start_unix_s + self.rng.randrange(1, 40),
            billing_s=0,
            interaction_id=f"{self.start_unix_s + GREGORIAN_OFFSET_S}-{self.rng.getrandbits(32):08x}",
            hangup_cause=self.rng.choice(_UNANSWERED_CAUSES),
        )

    def _leg_id(self) -> str:
        host = f"192.0.2.{self.rng.randrange(1, 255)}"
        return f"{self._month(self.start_unix_s)}-{self.rng.randrange(1, 10)}-{self.rng.getrandbits(24)}@{host}"

    def _month(self, unix_s: int) -> str:
        return datetime.fromtimestamp(unix_s, self.plan.time_zone).strftime("%Y%m")
