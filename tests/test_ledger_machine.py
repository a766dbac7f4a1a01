"""A ledger against a plain model of it, through any order of pages, outcomes, claims, runs and reopenings."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from archiver.ledger.values import Task
from archiver.recording import Recording, Status

sys.path.insert(0, str(Path(__file__).parent / "contracts"))

from ledgers import ACCOUNT, DAY, NOON, POSTGRESQL, PROGRESS, SQLITE, archived, failed, recording

pages = st.lists(
    st.builds(
        recording,
        st.sampled_from(["a", "b", "c", "\ud800"]),
        length_bytes=st.sampled_from([None, 100, 200]),
        digest_md5=st.sampled_from([None, b"1" * 16, b"2" * 16]),
        metadata=st.sampled_from([b"", b"{}", b'{"x": 1}']),
        doubt=st.sampled_from(["", "odd"]),
    ),
    max_size=5,
)
minutes = st.integers(-2, 4)


@dataclass
class Entry:
    """What the model knows of a recording."""

    facts: Recording
    claimed: int
    due: int | None
    status: Status = Status.PENDING
    version: int = 1
    size_bytes: int | None = None
    retries: int = 0
    attempts: int = 0
    formers: int = 0


class LedgerMachine(RuleBasedStateMachine):
    """Each rule does the same to the ledger and to the model; the model's clock counts minutes from noon."""

    kind = SQLITE

    def __init__(self) -> None:
        super().__init__()
        self.temporary = TemporaryDirectory()
        self.folder = Path(self.temporary.name)
        self.loop = asyncio.Runner()
        self.ledger = self.loop.run(self.kind.open(self.folder))
        self.model: dict[str, Entry] = {}
        self.tasks: dict[str, Task] = {}
        self.minute = 0

    @initialize()
    def first_run(self) -> None:
        self.begin_run()

    @rule()
    def begin_run(self) -> None:
        self.run = self.loop.run(self.ledger.begin_run("r", started_at=NOON))
        self.tasks = {}

    @rule(count=st.integers(0, 6))
    def wait(self, count: int) -> None:
        self.minute += count

    @rule()
    def reopen(self) -> None:
        self.loop.run(self.ledger.close())
        self.ledger = self.loop.run(self.kind.open(self.folder))

    @rule(rows=pages, retry_missing=st.booleans())
    def page(self, rows: list[Recording], retry_missing: bool) -> None:
        at = NOON + timedelta(minutes=self.minute)
        classified = self.loop.run(self.ledger.classify_page(ACCOUNT, rows))
        found = self.loop.run(
            self.ledger.record_page(self.run, ACCOUNT, DAY, rows, PROGRESS, at=at, retry_missing=retry_missing)
        )
        work, settled, changed = set(), dict.fromkeys(Status, 0), 0
        listed = {row.recording_id: row for row in rows}
        assert sum(classified.values()) == len(listed)
        for name, row in listed.items():
            verdict = self._listed(name, row, retry_missing)
            changed += verdict == "changed"
            if verdict in {"work", "changed"}:
                work.add(name)
            elif isinstance(verdict, Status):
                settled[verdict] += 1
        assert {task.recording.recording_id for task in found.tasks} == work
        assert dict.fromkeys(Status, 0) | dict(found.settled) == settled
        assert found.changed == changed
        self._take(found.tasks)

    def _listed(self, name: str, row: Recording, retry_missing: bool) -> str | Status:
        entry = self.model.get(name)
        if entry is None:
            self.model[name] = Entry(row, self.run.run_no, self.minute)
            return "work"
        if entry.claimed == self.run.run_no:
            return "seen"
        entry.claimed = self.run.run_no
        bare = not row.metadata
        before = entry.facts
        same = (row.length_bytes, row.digest_md5, row.doubt) == (before.length_bytes, before.digest_md5, before.doubt)
        verdict: str | Status = entry.status
        if entry.status is Status.ARCHIVED and not bare:
            longer = row.length_bytes is not None and row.length_bytes != entry.size_bytes
            other = None not in {row.digest_md5, before.digest_md5} and row.digest_md5 != before.digest_md5
            if longer or other:
                entry.version, entry.formers, entry.size_bytes = entry.version + 1, entry.formers + 1, None
                entry.status, entry.due, entry.retries, verdict = Status.PENDING, self.minute, 0, "changed"
        elif entry.status is Status.MISSING and ((not bare and not same) or retry_missing):
            if not bare and not same:
                entry.retries = 0
            entry.status, entry.due, verdict = Status.PENDING, self.minute, "work"
        elif entry.status in {Status.PENDING, Status.QUARANTINED}:
            verdict = "work"
        if not bare and verdict in {"work", "changed"}:
            entry.facts = row
        return verdict

    @rule(limit=st.integers(1, 3))
    def claim(self, limit: int) -> None:
        at = NOON + timedelta(minutes=self.minute)
        due = self.loop.run(self.ledger.claim_due(self.run, ACCOUNT, at=at, limit=limit))
        ready = {
            name: entry.due
            for name, entry in self.model.items()
            if entry.due is not None and entry.due <= self.minute and entry.claimed != self.run.run_no
        }
        found = [ready.pop(task.recording.recording_id) for task in due]
        assert found == sorted(found)
        assert len(found) == limit or not ready
        assert not found or all(left >= found[-1] for left in ready.values())
        for task in due:
            self.model[task.recording.recording_id].claimed = self.run.run_no
        self._take(due)

    @rule(
        data=st.data(),
        status=st.sampled_from(list(Status)),
        pause=st.none() | minutes,
        size=st.sampled_from([100, 200]),
    )
    def settle(self, data: st.DataObject, status: Status, pause: int | None, size: int) -> None:
        if not self.tasks:
            return
        name = data.draw(st.sampled_from(sorted(self.tasks)))
        task, entry = self.tasks.pop(name), self.model[name]
        if status is Status.ARCHIVED:
            outcome = archived(task, size_bytes=size)
            entry.size_bytes, entry.retries = size, 0
        else:
            at = None if pause is None else NOON + timedelta(minutes=self.minute + pause)
            outcome = failed(task, status, next_attempt_at=at, retries_used=task.retries_used + 1)
            entry.retries = task.retries_used + 1
        entry.status, entry.attempts = status, task.attempts + 1
        waits = status in {Status.PENDING, Status.QUARANTINED} and pause is not None
        entry.due = self.minute + (pause or 0) if waits else None
        self.loop.run(self.ledger.settle(self.run, outcome))

    def _take(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            entry = self.model[task.recording.recording_id]
            assert (task.version, task.retries_used, task.attempts) == (entry.version, entry.retries, entry.attempts)
            assert task.due == (entry.due is None or entry.due <= self.minute)
            self.tasks[task.recording.recording_id] = task

    @invariant()
    def tallies_are_the_real_counts(self) -> None:
        self.loop.run(self.ledger.flush())
        expected: dict[tuple[str, str], tuple[int, int]] = {}
        for entry in self.model.values():
            count, size = expected.get((ACCOUNT, entry.status.value), (0, 0))
            weight = entry.size_bytes if entry.size_bytes is not None else entry.facts.length_bytes or 0
            expected[ACCOUNT, entry.status.value] = (count + 1, size + weight)
        assert self.kind.counted(self.folder) == expected
        assert self.kind.tallied(self.folder) == expected

    @invariant()
    def reads_agree_with_the_model(self) -> None:
        statuses = self.loop.run(self.ledger.statuses(ACCOUNT, list(self.model)))
        assert statuses == {name: entry.status for name, entry in self.model.items()}
        objects = sum(
            entry.formers + (entry.status is Status.ARCHIVED)
            for entry in self.model.values()
            if entry.status is not Status.EXPIRED
        )
        assert self.loop.run(self._objects()) == objects

    async def _objects(self) -> int:
        return len([entry async for entry in self.ledger.objects()])

    def teardown(self) -> None:
        self.loop.run(self.ledger.close())
        self.loop.close()
        self.temporary.cleanup()


TestLedgerMachine = LedgerMachine.TestCase
TestLedgerMachine.settings = settings(max_examples=15, stateful_step_count=25, deadline=None)


class PostgresMachine(LedgerMachine):
    """The same over a server."""

    kind = POSTGRESQL


TestPostgresMachine = PostgresMachine.TestCase
TestPostgresMachine.settings = settings(max_examples=4, stateful_step_count=25, deadline=None)
