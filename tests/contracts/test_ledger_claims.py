"""Claims, held against every ledger: of several attempts at a partition only the last may write, and counts stay true."""

from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from ledgers import ACCOUNT, DAY, NOON, PROGRESS, LedgerKind, archived, failed, recording

from archiver.errors import ClaimLost
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Outcome, PageResult, Run, WindowState
from archiver.ledger.values_claims import Claim, ClaimState, DoneBefore, Recovered
from archiver.recording import Status

PARTITION = "1 2026-05-06T00:00:00Z/2026-05-07T00:00:00Z"


@pytest.fixture
async def late(kind: LedgerKind, tmp_path: Path, ledger: SqlLedger) -> AsyncIterator[SqlLedger]:
    """The same ledger as another worker has it open."""
    other = await kind.open(tmp_path)
    yield other
    # What it could not write it says again.
    with suppress(ClaimLost):
        await other.close()


async def held(ledger: SqlLedger) -> Run:
    return await ledger.begin_run("of many", started_at=NOON, holding=[ACCOUNT])


async def claimed(ledger: SqlLedger, run: Run, *, holder: str = "w1", partition: str = PARTITION) -> Claim:
    claim = await ledger.begin_claim(run, ACCOUNT, partition, holder=holder, at=NOON)
    assert isinstance(claim, Claim)
    ledger.work_under(claim)
    return claim


async def page(ledger: SqlLedger, run: Run, *ids: str) -> PageResult:
    return await ledger.record_page(run, ACCOUNT, DAY, [recording(each) for each in ids], PROGRESS, at=NOON)


async def test_an_attempt_that_was_lost_can_write_nothing_any_more(ledger: SqlLedger, late: SqlLedger) -> None:
    run = await held(ledger)
    await claimed(late, run)
    await page(late, run, "a")
    await claimed(ledger, run, holder="w2")
    with pytest.raises(ClaimLost):
        await late.finish_window(ACCOUNT, DAY, state=WindowState.COMPLETE, scanned_at=NOON)
    with pytest.raises(ClaimLost):
        await page(late, run, "b")
    assert await ledger.statuses(ACCOUNT, ["a", "b"]) == {"a": Status.PENDING}


async def test_an_attempt_that_goes_on_after_its_run_has_ended_can_write_nothing_any_more(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    run = await held(ledger)
    await claimed(late, run)
    await page(late, run, "a")
    await ledger.end_run(run, outcome=Outcome.INTERRUPTED, ended_at=NOON, report=b"{}")
    assert [row.state for row in await ledger.claims(run)] == [ClaimState.LOST]
    with pytest.raises(ClaimLost):
        await page(late, run, "b")
    assert await ledger.statuses(ACCOUNT, ["a", "b"]) == {"a": Status.PENDING}


async def test_an_outcome_that_comes_too_late_is_not_written_and_spoils_no_count(
    ledger: SqlLedger, late: SqlLedger, kind: LedgerKind, tmp_path: Path
) -> None:
    run = await held(ledger)
    await claimed(late, run)
    (task,) = (await page(late, run, "a")).tasks
    await claimed(ledger, run, holder="w2")
    await late.settle(run, archived(task))
    with pytest.raises(ClaimLost):
        await late.flush()
    assert await ledger.statuses(ACCOUNT, ["a"]) == {"a": Status.PENDING}
    assert kind.counted(tmp_path) == kind.tallied(tmp_path)


async def test_what_a_lost_attempt_had_claimed_is_a_task_of_the_next(ledger: SqlLedger, late: SqlLedger) -> None:
    run = await held(ledger)
    await claimed(late, run)
    await page(late, run, "a", "b")
    await claimed(ledger, run, holder="w2")
    found = await page(ledger, run, "a", "b", "c")
    assert [task.recording.recording_id for task in found.tasks] == ["a", "b", "c"]
    assert [task.was_known for task in found.tasks] == [True, True, False]
    # Windows overlap: what this attempt has claimed is nobody's again.
    assert list((await page(ledger, run, "a", "b", "c")).tasks) == []


async def test_what_an_attempt_of_another_partition_has_claimed_stays_its_own(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    run = await held(ledger)
    await claimed(late, run)
    await page(late, run, "a")
    await claimed(ledger, run, holder="w2", partition="2 next")
    assert list((await page(ledger, run, "a")).tasks) == []
    (task,) = (await page(late, run, "z")).tasks
    await late.settle(run, archived(task))
    await late.flush()


async def test_what_a_lost_attempt_has_settled_is_counted_by_the_next_and_not_done_again(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    run = await held(ledger)
    await claimed(late, run)
    first, second, third, _ = (await page(late, run, "a", "b", "c", "d")).tasks
    await late.settle(run, archived(first))
    await late.settle(run, failed(second, Status.MISSING))
    await late.settle(run, failed(third, Status.PENDING, next_attempt_at=NOON + timedelta(hours=1)))
    await late.flush()
    await claimed(ledger, run, holder="w2")
    found = await page(ledger, run, "a", "b", "c", "d")
    assert found.recovered == Recovered(archived=1, bytes_archived=1000, missing_ids=("b",))
    assert sum(found.settled.values()) == 0
    assert [task.recording.recording_id for task in found.tasks] == ["c", "d"]
    assert (await page(ledger, run, "a", "b", "c", "d")).recovered == Recovered()


async def test_what_was_archived_before_the_run_is_no_work_of_the_lost_attempt(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    before = await held(ledger)
    await claimed(ledger, before)
    (task,) = (await page(ledger, before, "a")).tasks
    await ledger.settle(before, archived(task))
    run = await held(ledger)
    await claimed(late, run)
    assert (await page(late, run, "a")).settled == {Status.ARCHIVED: 1}
    await claimed(ledger, run, holder="w2")
    found = await page(ledger, run, "a")
    assert (found.settled[Status.ARCHIVED], found.recovered) == (1, Recovered())


async def test_what_is_due_and_was_claimed_by_a_lost_attempt_is_claimed_again(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    before = await held(ledger)
    await claimed(ledger, before)
    await page(ledger, before, "a", "b")
    run = await held(ledger)
    await claimed(late, run, partition="due")
    first, second = await late.claim_due(run, ACCOUNT, at=NOON, limit=10)
    await late.settle(run, archived(first, size_bytes=9))
    await late.flush()
    await claimed(ledger, run, holder="w2", partition="due")
    assert await ledger.recover(run, ACCOUNT) == Recovered(archived=1, bytes_archived=9)
    assert await ledger.recover(run, ACCOUNT) == Recovered()
    assert [task.entry_id for task in await ledger.claim_due(run, ACCOUNT, at=NOON, limit=10)] == [second.entry_id]


async def test_a_partition_that_was_done_is_not_claimed_again_but_its_report_is_given(ledger: SqlLedger) -> None:
    run = await held(ledger)
    claim = await claimed(ledger, run)
    await ledger.end_claim(claim, ClaimState.DONE, at=NOON, report=b'{"n": 1}')
    assert await ledger.begin_claim(run, ACCOUNT, PARTITION, holder="w2", at=NOON) == DoneBefore(b'{"n": 1}')
    assert isinstance(await ledger.begin_claim(run, ACCOUNT, "2 next", holder="w2", at=NOON), Claim)


async def test_a_partition_that_was_left_is_claimed_again_and_the_ledger_shows_all_attempts(
    ledger: SqlLedger, late: SqlLedger
) -> None:
    run = await held(ledger)
    first = await claimed(late, run)
    await late.end_claim(first, ClaimState.LEFT, at=NOON, report=b"{}")
    await claimed(late, run, holder="w2")
    third = await claimed(ledger, run, holder="w3")
    await ledger.end_claim(third, ClaimState.DONE, at=NOON, report=b"{}")
    found = await ledger.claims(run)
    assert [(row.holder, row.state, row.partition) for row in found] == [
        ("w1", ClaimState.LEFT, PARTITION),
        ("w2", ClaimState.LOST, PARTITION),
        ("w3", ClaimState.DONE, PARTITION),
    ]
    assert third.lost == {row.claim_no for row in found[:2]}


async def test_an_attempt_that_was_lost_can_not_say_that_it_is_done(ledger: SqlLedger, late: SqlLedger) -> None:
    run = await held(ledger)
    claim = await claimed(late, run)
    await claimed(ledger, run, holder="w2")
    with pytest.raises(ClaimLost):
        await late.end_claim(claim, ClaimState.DONE, at=NOON, report=b"{}")
    assert [row.state for row in await ledger.claims(run)] == [ClaimState.LOST, ClaimState.HELD]


async def test_attempts_of_a_run_end_when_another_run_has_the_account(ledger: SqlLedger, late: SqlLedger) -> None:
    run = await held(ledger)
    await claimed(late, run)
    await page(late, run, "a")
    await held(ledger)
    with pytest.raises(ClaimLost):
        await page(late, run, "b")
    with pytest.raises(ClaimLost):
        await ledger.begin_claim(run, ACCOUNT, "2 next", holder="w2", at=NOON)


async def test_a_run_that_does_not_hold_the_account_can_not_claim_its_partitions(ledger: SqlLedger, run: Run) -> None:
    with pytest.raises(ClaimLost):
        await ledger.begin_claim(run, ACCOUNT, PARTITION, holder="w1", at=NOON)
