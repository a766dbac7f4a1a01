"""The documents of a simulated PBX, by account, sorted the way a listing walks them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from operator import itemgetter
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

from archiver.simulator.generation import Plan, generate
from archiver.simulator.rows import SimulatedCdr, SimulatedRecording

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TimeField = Literal["pvt_created", "start"]
Row = TypeVar("Row", SimulatedRecording, SimulatedCdr)


@dataclass(frozen=True, slots=True)
class Index(Generic[Row]):
    """Rows in ascending order of their Unix second, ties by id; `keys[i]` is the second of `rows[i]`."""

    keys: Sequence[int]
    rows: Sequence[Row]


class Corpus:
    """What the PBX has. May be changed in the middle of a run, from the simulator's own thread.

    Args:
        recordings: at most one per account and id.
        cdrs: duplicates allowed.
        accounts: known accounts beyond those that have rows.
        time_zone: the server's local time, which names the month a document lives in.

    Raises:
        ValueError: an id is given twice for one account.
    """

    def __init__(
        self,
        recordings: Iterable[SimulatedRecording] = (),
        cdrs: Iterable[SimulatedCdr] = (),
        *,
        accounts: Iterable[str] = (),
        time_zone: tzinfo = UTC,
    ) -> None:
        self.time_zone = time_zone
        self._recordings: dict[str, dict[str, SimulatedRecording]] = {account: {} for account in accounts}
        self._cdrs: dict[str, list[SimulatedCdr]] = {account: [] for account in self._recordings}
        self._by_time: dict[tuple[str, TimeField], Index[SimulatedRecording]] = {}
        self._cdrs_by_time: dict[str, Index[SimulatedCdr]] = {}
        for recording in recordings:
            self.add(recording)
        for cdr in cdrs:
            self.add_cdr(cdr)

    @classmethod
    def generate(
        cls,
        *,
        seed: int,
        accounts: int,
        recordings: int,
        begin: datetime,
        end: datetime,
        median_duration_s: float = 120.0,
        max_duration_s: float = 3600.0,
        time_zone: tzinfo = UTC,
    ) -> Corpus:
        """A made-up corpus that depends on nothing but the arguments.

        Args:
            seed: the same seed gives the same bytes.
            accounts: how many accounts share the recordings.
            recordings: how many recordings in all; CDRs come on top.
            begin: the first moment a call may start; aware.
            end: calls start before it; aware.
            median_duration_s: the middle of the log-normal spread of lengths, in seconds.
            max_duration_s: no recording is longer, in seconds.
            time_zone: the server's local time.

        Raises:
            ValueError: fewer than one account, a negative count, a naive or empty time range, or a duration of zero.
        """
        plan = Plan(
            seed=seed,
            accounts=accounts,
            recordings=recordings,
            begin=begin,
            end=end,
            median_duration_s=median_duration_s,
            max_duration_s=max_duration_s,
            time_zone=time_zone,
        )
        made, cdrs = generate(plan)
        return cls(made, cdrs, accounts=plan.account_ids, time_zone=time_zone)

    @property
    def account_ids(self) -> tuple[str, ...]:
        """The ids of all known accounts."""
        return tuple(self._recordings)

    @property
    def recordings(self) -> tuple[SimulatedRecording, ...]:
        """All recordings of all accounts."""
        return tuple(row for rows in self._recordings.values() for row in rows.values())

    @property
    def cdrs(self) -> tuple[SimulatedCdr, ...]:
        """All CDRs of all accounts, duplicates included."""
        return tuple(row for rows in self._cdrs.values() for row in rows)

    def add(self, recording: SimulatedRecording) -> None:
        """Take in a recording.

        Raises:
            ValueError: the account has one with that id.
        """
        rows = self._account(recording.account_id)
        if recording.recording_id in rows:
            raise ValueError(f"account {recording.account_id} already has a recording {recording.recording_id!r}")
        rows[recording.recording_id] = recording
        self._forget_order(recording.account_id)

    def replace(self, recording: SimulatedRecording) -> None:
        """Put a recording in place of the one with the same account and id.

        Raises:
            KeyError: there is none.
        """
        self.remove(recording.account_id, recording.recording_id)
        self.add(recording)

    def remove(self, account_id: str, recording_id: str) -> SimulatedRecording:
        """Take a recording out, metadata and media, and return it.

        Raises:
            KeyError: there is none.
        """
        self._forget_order(account_id)
        return self._recordings[account_id].pop(recording_id)

    def knows(self, account_id: str) -> bool:
        """Whether there is such an account."""
        return account_id in self._recordings

    def find(self, account_id: str, recording_id: str) -> SimulatedRecording | None:
        """The account's recording of that id."""
        return self._recordings.get(account_id, {}).get(recording_id)

    def add_cdr(self, cdr: SimulatedCdr) -> None:
        """Take in a CDR."""
        self._account(cdr.account_id)
        self._cdrs[cdr.account_id].append(cdr)
        self._cdrs_by_time.pop(cdr.account_id, None)

    def remove_cdr(self, cdr: SimulatedCdr) -> None:
        """Take out one CDR equal to this one.

        Raises:
            ValueError: there is none.
        """
        self._cdrs.get(cdr.account_id, []).remove(cdr)
        self._cdrs_by_time.pop(cdr.account_id, None)

    def by_time(self, account_id: str, field: TimeField) -> Index[SimulatedRecording]:
        """The account's recordings in order of `field`; empty for an unknown account."""
        index = self._by_time.get((account_id, field))
        if index is None:
            rows = self._recordings.get(account_id, {}).values()
            index = _ordered(
                (row.start_unix_s if field == "start" else row.created_unix_s, row.recording_id, row) for row in rows
            )
            self._by_time[account_id, field] = index
        return index

    def cdrs_by_time(self, account_id: str) -> Index[SimulatedCdr]:
        """The account's CDRs in order of the leg's end; empty for an unknown account."""
        index = self._cdrs_by_time.get(account_id)
        if index is None:
            index = _ordered((row.ended_unix_s, row.cdr_id, row) for row in self._cdrs.get(account_id, ()))
            self._cdrs_by_time[account_id] = index
        return index

    def _account(self, account_id: str) -> dict[str, SimulatedRecording]:
        self._cdrs.setdefault(account_id, [])
        return self._recordings.setdefault(account_id, {})

    def _forget_order(self, account_id: str) -> None:
        self._by_time.pop((account_id, "pvt_created"), None)
        self._by_time.pop((account_id, "start"), None)


def _ordered(keyed: Iterable[tuple[int, str, Row]]) -> Index[Row]:
    order = sorted(keyed, key=itemgetter(0, 1))
    return Index([second for second, _, _ in order], [row for _, _, row in order])
