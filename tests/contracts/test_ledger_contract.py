"""The ledger's promise, held against every ledger in `ledgers.KINDS`."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ledgers import (
    ACCOUNT,
    DAY,
    NOON,
    PROGRESS,
    SHA,
    LedgerKind,
    archived,
    failed,
    list_page,
    recording,
)

from archiver.errors import LedgerError
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Attempt, Former, Outcome, Run, Settlement, WindowProgress, WindowState
from archiver.ledger.values_sealing import Sealable, Sealed, TrailMark, TrailMarkName
from archiver.recording import Fixity, Status
from archiver.window import Window

HOUR = timedelta(hours=1)


async def next_run(ledger: SqlLedger) -> Run:
    return await ledger.begin_run("next", started_at=NOON + HOUR)


def hours(start: float, end: float) -> Window:
    return Window(DAY.start_at + start * HOUR, DAY.start_at + end * HOUR)


# Pages: what a listed row comes to.


async def test_a_new_recording_becomes_a_task(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    assert (task.version, task.was_known, task.retries_used, task.due, task.attempts) == (1, False, 0, True, 0)
    assert task.recording == recording()
    assert await ledger.statuses(ACCOUNT, ["202605-a", "unknown"]) == {"202605-a": Status.PENDING}


async def test_tasks_come_in_the_order_of_the_page(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording("b"))
    again = await next_run(ledger)
    tasks = await list_page(ledger, again, recording("c"), recording("b"), recording("a"))
    assert [task.recording.recording_id for task in tasks] == ["c", "b", "a"]
    assert [task.was_known for task in tasks] == [False, True, False]


async def test_a_page_without_rows_is_fine(ledger: SqlLedger, run: Run) -> None:
    page = await ledger.record_page(run, ACCOUNT, DAY, [], PROGRESS, at=NOON)
    assert (list(page.tasks), page.settled, page.changed) == ([], {}, 0)


async def test_an_id_twice_in_a_page_counts_once_and_the_last_wins(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording(length_bytes=1), recording(length_bytes=2))
    assert task.recording.length_bytes == 2


async def test_a_row_that_this_run_has_claimed_is_in_no_count(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording())
    page = await ledger.record_page(run, ACCOUNT, DAY, [recording()], PROGRESS, at=NOON)
    assert (list(page.tasks), page.settled, page.changed) == ([], {}, 0)


async def test_overlapping_windows_count_an_archived_recording_once(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    again = await next_run(ledger)
    pages = [await ledger.record_page(again, ACCOUNT, DAY, [recording()], PROGRESS, at=NOON) for _ in range(2)]
    assert [page.settled for page in pages] == [{Status.ARCHIVED: 1}, {}]


async def test_work_of_a_run_that_died_falls_to_the_next(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording())
    (task,) = await list_page(ledger, await next_run(ledger), recording())
    assert (task.was_known, task.due, task.version) == (True, True, 1)


async def test_accounts_do_not_mix(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording())
    page = await ledger.record_page(run, "other", DAY, [recording(account_id="other")], PROGRESS, at=NOON)
    assert len(page.tasks) == 1
    assert [found.account_id for found in await ledger.summaries()] == [ACCOUNT, "other"]


@pytest.mark.parametrize("length_bytes", [None, 0, 1000])
async def test_an_archived_recording_without_a_change_needs_no_work(
    ledger: SqlLedger, run: Run, length_bytes: int | None
) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    row = recording(length_bytes=length_bytes, start_at=None, metadata=b"other")
    page = await ledger.record_page(await next_run(ledger), ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    assert (list(page.tasks), page.settled, page.changed) == ([], {Status.ARCHIVED: 1}, 0)


@pytest.mark.parametrize(
    ("length_bytes", "digest_md5"), [(2000, b"1" * 16), (2000, None), (1000, b"2" * 16), (None, b"2" * 16)]
)
async def test_other_media_at_the_source_are_a_new_version_beside_the_old(
    ledger: SqlLedger, run: Run, length_bytes: int | None, digest_md5: bytes | None
) -> None:
    row = recording(digest_md5=b"1" * 16)
    (task,) = await list_page(ledger, run, row)
    await ledger.settle(run, archived(task))
    again = await next_run(ledger)
    row = replace(row, length_bytes=length_bytes, digest_md5=digest_md5)
    page = await ledger.record_page(again, ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    (task,) = page.tasks
    assert (page.changed, page.settled, task.version, task.due, task.was_known) == (1, {}, 2, True, True)
    assert [(entry.version, entry.key) async for entry in ledger.objects()] == [(1, "202605-a.v1.mp3")]
    await ledger.settle(again, archived(task, size_bytes=2000))
    found = [(entry.version, entry.key, entry.fixity.size_bytes) async for entry in ledger.objects()]
    assert found == [(1, "202605-a.v1.mp3", 1000), (2, "202605-a.v2.mp3", 2000)]


async def test_a_digest_that_only_one_side_has_is_no_change(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording(digest_md5=None))
    await ledger.settle(run, archived(task))
    row = recording(digest_md5=b"2" * 16)
    page = await ledger.record_page(await next_run(ledger), ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    assert (page.changed, page.settled) == (0, {Status.ARCHIVED: 1})


async def test_a_new_version_that_is_quarantined_is_not_counted_up_again(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    again = await next_run(ledger)
    (task,) = await list_page(ledger, again, recording(length_bytes=2000))
    await ledger.settle(again, failed(task, Status.QUARANTINED))
    for _ in range(2):
        page = await ledger.record_page(
            await next_run(ledger), ACCOUNT, DAY, [recording(length_bytes=2000)], PROGRESS, at=NOON
        )
        assert ([task.version for task in page.tasks], page.changed) == ([2], 0)


async def test_a_quarantined_recording_is_claimed_with_the_digest_of_what_lies_there(
    ledger: SqlLedger, run: Run
) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.QUARANTINED, next_attempt_at=NOON + HOUR))
    (task,) = await list_page(ledger, await next_run(ledger), recording())
    assert (task.quarantined_sha256, task.due, task.attempts, task.retries_used) == (SHA, False, 1, 1)


async def test_once_archived_nothing_is_known_of_a_former_quarantine(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.QUARANTINED))
    await ledger.settle(run, archived(task))
    await ledger.settle(run, failed(task, Status.PENDING, next_attempt_at=NOON))
    (task,) = await ledger.claim_due(await next_run(ledger), ACCOUNT, at=NOON, limit=1)
    assert task.quarantined_sha256 is None


async def test_a_pending_recording_is_claimed_whether_due_or_not(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, recording("a"), recording("b"), recording("c"))
    for task, pause in zip(tasks, [HOUR, -HOUR, None], strict=True):
        next_attempt_at = None if pause is None else NOON + pause
        await ledger.settle(run, failed(task, Status.PENDING, next_attempt_at=next_attempt_at))
    tasks = await list_page(ledger, await next_run(ledger), *(recording(name) for name in "abc"))
    assert [task.due for task in tasks] == [False, True, True]


async def test_what_the_source_says_anew_of_a_pending_recording_is_kept(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording(length_bytes=None, metadata=b"old"))
    await ledger.settle(run, failed(task, Status.PENDING, next_attempt_at=NOON))
    newer = recording(length_bytes=5, digest_md5=b"d" * 16, metadata=b"new", start_at=NOON + HOUR, doubt="odd")
    again = await next_run(ledger)
    (task,) = await list_page(ledger, again, newer)
    await ledger.settle(again, failed(task, Status.PENDING, next_attempt_at=NOON))
    (task,) = await ledger.claim_due(await next_run(ledger), ACCOUNT, at=NOON, limit=9)
    assert task.recording == newer


async def test_a_cdr_without_metadata_takes_nothing_from_what_is_known(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording())
    bare = recording(start_at=None, length_bytes=None, metadata=b"", duration_ms=None)
    (task,) = await list_page(ledger, await next_run(ledger), bare)
    assert task.recording == recording()


async def test_a_missing_recording_stays_missing_while_nothing_changes(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.MISSING, retries_used=6))
    page = await ledger.record_page(await next_run(ledger), ACCOUNT, DAY, [recording()], PROGRESS, at=NOON)
    assert (list(page.tasks), page.settled) == ([], {Status.MISSING: 1})


async def test_a_missing_recording_that_only_a_cdr_names_stays_missing(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.MISSING, retries_used=6))
    row = recording(metadata=b"", length_bytes=None, start_at=None)
    page = await ledger.record_page(await next_run(ledger), ACCOUNT, DAY, [row], PROGRESS, at=NOON)
    assert (list(page.tasks), page.settled) == ([], {Status.MISSING: 1})


async def test_a_missing_recording_that_changed_starts_the_ladder_anew(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.MISSING, retries_used=6))
    (task,) = await list_page(ledger, await next_run(ledger), recording(length_bytes=4))
    assert (task.retries_used, task.due, task.attempts, task.version) == (0, True, 1, 1)
    assert await ledger.statuses(ACCOUNT, ["202605-a"]) == {"202605-a": Status.PENDING}


async def test_a_missing_recording_is_tried_once_more_on_request(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.MISSING, retries_used=6))
    (task,) = await list_page(ledger, await next_run(ledger), recording(), retry_missing=True)
    assert (task.retries_used, task.due) == (6, True)


async def test_an_expired_recording_is_left_alone(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    await ledger.settle(run, Settlement(task.entry_id, Status.EXPIRED, attempts=1, reason="retention"))
    row = recording(length_bytes=9)
    page = await ledger.record_page(await next_run(ledger), ACCOUNT, DAY, [row], PROGRESS, at=NOON, retry_missing=True)
    assert (list(page.tasks), page.settled) == ([], {Status.EXPIRED: 1})
    assert [entry async for entry in ledger.objects()] == []


@pytest.mark.parametrize("awkward", ["\ud800", "\udfff\ud800", "a\x00b", "\\ud800", "\\", "é😀", "../../x", "x" * 3000])
async def test_ids_of_any_text_come_back_as_they_were(ledger: SqlLedger, run: Run, awkward: str) -> None:
    row = recording(awkward, doubt=awkward)
    (task,) = await list_page(ledger, run, row)
    await ledger.settle(
        run, replace(failed(task, Status.PENDING, next_attempt_at=NOON), reason=awkward, flags=[awkward])
    )
    again = await next_run(ledger)
    (task,) = await ledger.claim_due(again, ACCOUNT, at=NOON, limit=9)
    assert task.recording == row
    await ledger.settle(again, replace(archived(task), key=f"k/{awkward}"))
    assert await ledger.statuses(ACCOUNT, [awkward]) == {awkward: Status.ARCHIVED}
    assert [(entry.recording_id, entry.key) async for entry in ledger.objects()] == [(awkward, f"k/{awkward}")]


async def test_ids_that_look_like_each_other_escaped_stay_apart(ledger: SqlLedger, run: Run) -> None:
    names = ["\ud800", "\\ud800", "\\\\ud800", "\x00", "\\u0000"]
    assert len(await list_page(ledger, run, *map(recording, names))) == len(names)
    assert set(await ledger.statuses(ACCOUNT, names)) == set(names)


async def test_numbers_beyond_64_bits_stop_no_page(ledger: SqlLedger, run: Run) -> None:
    rows = [recording("a", length_bytes=2**63, duration_ms=-(2**70)), recording("b")]
    assert len(await list_page(ledger, run, *rows)) == 2
    tasks = await ledger.claim_due(await next_run(ledger), ACCOUNT, at=NOON, limit=1)
    assert [(task.recording.length_bytes, task.recording.duration_ms) for task in tasks] == [(None, None)]


async def test_a_page_of_thousands_of_rows_is_one_page(ledger: SqlLedger, run: Run) -> None:
    rows = [recording(f"202605-{number}") for number in range(2345)]
    assert len(await list_page(ledger, run, *rows)) == 2345
    assert len(await ledger.statuses(ACCOUNT, [row.recording_id for row in rows])) == 2345


async def test_classifying_a_page_says_what_recording_it_would_find_and_writes_nothing(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    tasks = await list_page(ledger, run, *(recording(name) for name in "abcdef"))
    await ledger.settle(run, archived(tasks[0]))
    await ledger.settle(run, archived(tasks[1]))
    await ledger.settle(run, failed(tasks[2], Status.QUARANTINED))
    await ledger.settle(run, failed(tasks[3], Status.MISSING))
    await ledger.settle(run, failed(tasks[4], Status.MISSING))
    await ledger.flush()
    before = kind.ask(tmp_path, "SELECT * FROM entries")
    rows = [recording(name) for name in "acdfxx"] + [recording(name, length_bytes=3) for name in "be"]
    assert await ledger.classify_page(ACCOUNT, rows) == {
        Status.ARCHIVED: 1,
        Status.QUARANTINED: 1,
        Status.MISSING: 1,
        Status.PENDING: 4,
    }
    assert await ledger.classify_page("unknown", rows) == {Status.PENDING: 7}
    assert kind.ask(tmp_path, "SELECT * FROM entries") == before


# Outcomes.


@pytest.mark.parametrize("together", [True, False])
async def test_versions_that_a_killed_run_left_whole_come_with_the_settlement_of_the_one_after_them(
    ledger: SqlLedger, run: Run, together: bool
) -> None:
    (task,) = await list_page(ledger, run, recording())
    formers = [Former(n, f"left.v{n}.mp3", Fixity(n, SHA), SHA, NOON) for n in (1, 2)]
    if together:
        await ledger.settle(run, replace(archived(replace(task, version=3)), formers=formers))
    else:
        # The first of them is told when the next version's download fails, and once more by a later run.
        await ledger.settle(run, replace(failed(task, Status.PENDING), formers=formers[:1]))
        await ledger.flush()
        (again,) = await list_page(ledger, await next_run(ledger), recording())
        assert again.version == 2
        await ledger.settle(run, replace(archived(replace(again, version=3)), formers=formers))
    await ledger.flush()
    found = {entry.key: (entry.version, entry.fixity.size_bytes) async for entry in ledger.objects()}
    assert found == {"left.v1.mp3": (1, 1), "left.v2.mp3": (2, 2), "202605-a.v3.mp3": (3, 1000)}
    (summary,) = await ledger.summaries([ACCOUNT])
    assert (summary.recordings[Status.ARCHIVED], summary.recordings[Status.PENDING]) == (1, 0)


async def test_what_was_settled_is_there_after_reopening(kind: LedgerKind, tmp_path: Path) -> None:
    ledger = await kind.open(tmp_path)
    run = await ledger.begin_run("r", started_at=NOON)
    (task,) = await list_page(ledger, run, recording())
    at = NOON + timedelta(milliseconds=250)
    await ledger.settle(run, replace(archived(task), archived_at=at, adopted=True, flags=["weak_framing"]))
    await ledger.close()
    ledger = await kind.open(tmp_path)
    (entry,) = [entry async for entry in ledger.objects()]
    assert (entry.recording_id, entry.version, entry.key) == ("202605-a", 1, "202605-a.v1.mp3")
    assert (entry.fixity, entry.archived_at, entry.entry_id) == (Fixity(1000, SHA), at, task.entry_id)
    assert kind.ask(tmp_path, "SELECT flags, archived_run_no FROM entries") == [("weak_framing adopted", run.run_no)]
    await ledger.close()


async def test_reads_see_what_was_handed_over_before_them(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, archived(task))
    assert await ledger.statuses(ACCOUNT, ["202605-a"]) == {"202605-a": Status.ARCHIVED}


async def test_failed_tries_are_kept_with_their_reasons(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    (task,) = await list_page(ledger, run, recording())
    tries = [Attempt(number, NOON, "reset", f"try {number}") for number in (1, 2)]
    await ledger.settle(run, replace(archived(task), attempts=3, failures=tries))
    await ledger.flush()
    found = kind.ask(tmp_path, "SELECT entry_id, number, run_no, reason, detail FROM attempts ORDER BY number")
    assert found == [(task.entry_id, number, run.run_no, "reset", f"try {number}") for number in (1, 2)]


async def test_of_two_outcomes_of_one_recording_the_last_holds(ledger: SqlLedger, run: Run) -> None:
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, failed(task, Status.PENDING, next_attempt_at=NOON))
    await ledger.settle(run, archived(task))
    (summary,) = await ledger.summaries()
    assert (summary.recordings[Status.ARCHIVED], summary.recordings[Status.PENDING]) == (1, 0)
    assert summary.next_attempt_at is None


async def test_metadata_are_kept_only_until_the_recording_is_archived(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    tasks = await list_page(ledger, run, recording("a"), recording("b"))
    await ledger.settle(run, archived(tasks[0]))
    await ledger.settle(run, failed(tasks[1], Status.MISSING))
    await ledger.flush()
    assert kind.ask(tmp_path, "SELECT entry_id FROM listed_metadata") == [(tasks[1].entry_id,)]


@pytest.mark.parametrize("missing", [{"key": ""}, {"fixity": None}, {"archived_at": None}, {"fixity": Fixity(1, b"")}])
async def test_archived_without_proof_is_refused_and_harms_nothing(
    ledger: SqlLedger, run: Run, missing: dict[str, object]
) -> None:
    (task,) = await list_page(ledger, run, recording())
    broken = archived(task)
    with pytest.raises(ValueError, match=r"."):
        await ledger.settle(run, replace(broken, **missing))  # type: ignore[arg-type]
    await ledger.flush()
    assert await ledger.statuses(ACCOUNT, ["202605-a"]) == {"202605-a": Status.PENDING}


async def test_an_outcome_of_an_unknown_entry_is_an_error_of_every_later_call(kind: LedgerKind, tmp_path: Path) -> None:
    ledger = await kind.open(tmp_path)
    run = await ledger.begin_run("r", started_at=NOON)
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, replace(archived(task), entry_id=task.entry_id + 1))
    for call in (ledger.flush, ledger.last_run, ledger.summaries, ledger.close):
        with pytest.raises(LedgerError, match="no entry"):
            await call()


async def test_a_closed_ledger_says_so(kind: LedgerKind, tmp_path: Path) -> None:
    ledger = await kind.open(tmp_path)
    await ledger.close()
    await ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        await ledger.flush()
    with pytest.raises(LedgerError, match="closed"):
        _ = [entry async for entry in ledger.objects()]


async def test_a_cancelled_page_is_written_whole_or_not_at_all(ledger: SqlLedger, run: Run) -> None:
    rows = [recording(f"202605-{number}") for number in range(300)]
    for pause_s in (0, 0.0001, 0.001, 0.005):
        task = asyncio.ensure_future(list_page(ledger, run, *rows))
        await asyncio.sleep(pause_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert len(await ledger.statuses(ACCOUNT, [row.recording_id for row in rows])) in {0, 300}
    assert len(await list_page(ledger, await next_run(ledger), *rows)) == 300


# What is due.


async def test_due_recordings_come_longest_due_first_and_once_per_run(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, *(recording(name) for name in "abcd"))
    for task, minutes in zip(tasks, [-1, -5, 1, 0], strict=True):
        pause = timedelta(minutes=minutes)
        await ledger.settle(run, failed(task, Status.PENDING, next_attempt_at=NOON + pause))
    assert list(await ledger.claim_due(run, ACCOUNT, at=NOON, limit=9)) == []
    again = await next_run(ledger)
    due = [
        *await ledger.claim_due(again, ACCOUNT, at=NOON, limit=2),
        *await ledger.claim_due(again, ACCOUNT, at=NOON, limit=2),
    ]
    assert [task.recording.recording_id for task in due] == ["b", "a", "d"]
    assert all(task.due and task.was_known and task.attempts == 1 and task.retries_used == 1 for task in due)
    assert list(await ledger.claim_due(again, ACCOUNT, at=NOON, limit=9)) == []
    assert await list_page(ledger, again, recording("a")) == []


async def test_a_due_recording_comes_with_its_metadata(ledger: SqlLedger, run: Run) -> None:
    row = recording(digest_md5=b"d" * 16, metadata=b'{"\xff": 1}', doubt="negative length")
    (task,) = await list_page(ledger, run, row)
    await ledger.settle(run, failed(task, Status.QUARANTINED, next_attempt_at=NOON))
    (task,) = await ledger.claim_due(await next_run(ledger), ACCOUNT, at=NOON, limit=1)
    assert (task.recording, task.quarantined_sha256) == (row, SHA)


@pytest.mark.parametrize("status", [Status.ARCHIVED, Status.MISSING, Status.EXPIRED])
async def test_what_is_done_with_is_never_due(ledger: SqlLedger, run: Run, status: Status) -> None:
    (task,) = await list_page(ledger, run, recording())
    outcome = replace(archived(task), status=status, next_attempt_at=NOON)
    await ledger.settle(run, outcome)
    assert list(await ledger.claim_due(await next_run(ledger), ACCOUNT, at=NOON + HOUR, limit=9)) == []
    (summary,) = await ledger.summaries()
    assert summary.next_attempt_at is None


async def test_nothing_is_due_in_an_unknown_account(ledger: SqlLedger, run: Run) -> None:
    assert list(await ledger.claim_due(run, "unknown", at=NOON, limit=9)) == []


# The calendar.


async def test_what_is_asked_for_is_incomplete_until_listed(ledger: SqlLedger) -> None:
    await ledger.ask_for(ACCOUNT, [hours(0, 2), hours(1, 4)])
    pieces = await ledger.calendar(ACCOUNT)
    assert [(piece.window, piece.state, piece.scanned_at) for piece in pieces] == [
        (hours(0, 2), WindowState.INCOMPLETE, None),
        (hours(2, 4), WindowState.INCOMPLETE, None),
    ]
    assert {piece.reason for piece in pieces} == {"not listed yet"}
    assert list(await ledger.calendar("unknown")) == []


async def test_a_finished_window_replaces_what_the_calendar_held(ledger: SqlLedger) -> None:
    await ledger.finish_window(ACCOUNT, hours(0, 10), state=WindowState.COMPLETE, scanned_at=NOON)
    later = NOON + HOUR
    await ledger.finish_window(ACCOUNT, hours(4, 6), state=WindowState.INCOMPLETE, scanned_at=later, reason="cut")
    await ledger.ask_for(ACCOUNT, [hours(0, 11)])
    found = [(piece.window, piece.state.value, piece.scanned_at) for piece in await ledger.calendar(ACCOUNT)]
    assert found == [
        (hours(0, 4), "complete", NOON),
        (hours(4, 6), "incomplete", later),
        (hours(6, 10), "complete", NOON),
        (hours(10, 11), "incomplete", None),
    ]


async def test_a_pages_rows_and_its_windows_progress_are_written_together(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    await ledger.ask_for(ACCOUNT, [DAY])
    await ledger.record_page(run, ACCOUNT, DAY, [recording()], WindowProgress(2, 30, "c\ud800"), at=NOON)
    found = kind.ask(tmp_path, "SELECT pages, rows, cursor, run_no FROM calendar")
    assert found == [(2, 30, "c\\ud800", run.run_no)]
    await ledger.finish_window(ACCOUNT, DAY, state=WindowState.COMPLETE, scanned_at=NOON)
    assert kind.ask(tmp_path, "SELECT pages, rows FROM calendar") == [(2, 30)]


@pytest.mark.parametrize(
    ("complete", "incomplete", "expected"),
    [
        ([], [], None),
        ([hours(0, 4)], [], 4),
        ([hours(0, 4)], [hours(4, 6)], 4),
        ([], [hours(0, 4)], None),
        ([hours(2, 4)], [hours(0, 2)], None),
        ([hours(0, 2), hours(3, 9)], [hours(5, 6)], 5),
        ([hours(0, 2), hours(3, 9)], [], 9),
    ],
)
async def test_coverage_ends_where_the_first_incomplete_piece_begins(
    ledger: SqlLedger, complete: list[Window], incomplete: list[Window], expected: int | None
) -> None:
    await ledger.ask_for(ACCOUNT, [])
    for window in complete:
        await ledger.finish_window(ACCOUNT, window, state=WindowState.COMPLETE, scanned_at=NOON)
    for window in incomplete:
        await ledger.finish_window(ACCOUNT, window, state=WindowState.INCOMPLETE, scanned_at=NOON, reason="cut")
    (summary,) = await ledger.summaries([ACCOUNT])
    assert summary.covered_through == (None if expected is None else DAY.start_at + expected * HOUR)
    assert [piece.window for piece in summary.incomplete] == incomplete


# Runs and summaries.


async def test_runs_are_numbered_upwards_and_the_last_is_known(ledger: SqlLedger) -> None:
    assert await ledger.last_run() is None
    first = await ledger.begin_run("one", started_at=NOON)
    assert await ledger.last_run() == first
    await ledger.end_run(first, outcome=Outcome.INTERRUPTED, ended_at=NOON + HOUR, report=b'{"listed": 1}')
    ended = replace(first, outcome=Outcome.INTERRUPTED, ended_at=NOON + HOUR, report=b'{"listed": 1}')
    assert await ledger.last_run() == ended
    second = await ledger.begin_run("two", started_at=NOON)
    assert second.run_no > first.run_no
    assert await ledger.last_run() == second


async def test_runs_that_ended_in_one_of_some_ways_come_latest_first(ledger: SqlLedger) -> None:
    ways = [Outcome.COMPLETE, Outcome.FAILED, Outcome.INCOMPLETE] * 12
    made = []
    for number, outcome in enumerate(ways):
        begun = await ledger.begin_run(f"run-{number}", started_at=NOON + number * HOUR)
        ended_at, report = NOON + (number + 1) * HOUR, b'{"listed": %d}' % number
        await ledger.end_run(begun, outcome=outcome, ended_at=ended_at, report=report)
        made.append(replace(begun, outcome=outcome, ended_at=ended_at, report=report))
    await ledger.begin_run("goes on", started_at=NOON)
    wanted = {Outcome.COMPLETE, Outcome.INCOMPLETE}
    assert [run async for run in ledger.ended_runs(wanted)] == [run for run in reversed(made) if run.outcome in wanted]
    assert [run async for run in ledger.ended_runs({Outcome.INTERRUPTED})] == []


async def test_a_run_that_the_ledger_never_began_cannot_end(kind: LedgerKind, tmp_path: Path) -> None:
    ledger = await kind.open(tmp_path)
    with pytest.raises(LedgerError, match="no run 7"):
        await ledger.end_run(Run(7, "x", NOON, None, None), outcome=Outcome.COMPLETE, ended_at=NOON, report=b"")
    with pytest.raises(LedgerError, match="no run 7"):
        await ledger.close()


async def test_summaries_tell_since_when_the_longest_known_pending_recording_is_known(
    ledger: SqlLedger, run: Run
) -> None:
    # The call that was listed last is the oldest.
    (first,) = await list_page(ledger, run, recording("a", start_at=NOON), at=NOON)
    (second,) = await list_page(ledger, run, recording("b", start_at=NOON - 9 * HOUR), at=NOON + HOUR)
    again = await list_page(ledger, run, recording("a"), recording("b"), at=NOON + 2 * HOUR)
    assert list(again) == []
    (summary,) = await ledger.summaries()
    assert summary.pending_since == NOON
    await ledger.settle(run, archived(first))
    (summary,) = await ledger.summaries()
    assert (summary.pending_since, summary.oldest_pending_at) == (NOON + HOUR, NOON - 9 * HOUR)
    await ledger.settle(run, archived(second))
    (summary,) = await ledger.summaries()
    assert summary.pending_since is None


async def test_summaries_show_recordings_bytes_and_what_waits(ledger: SqlLedger, run: Run) -> None:
    old, new = NOON - 9 * HOUR, NOON
    rows = [recording("a", start_at=new), recording("b", start_at=old, length_bytes=7), recording("c", start_at=None)]
    tasks = await list_page(ledger, run, *rows)
    (summary,) = await ledger.summaries([ACCOUNT])
    assert summary.recordings == dict.fromkeys(Status, 0) | {Status.PENDING: 3}
    assert summary.bytes == dict.fromkeys(Status, 0) | {Status.PENDING: 2007}
    assert (summary.oldest_pending_at, summary.next_attempt_at) == (old, NOON)
    for task, pause in zip(tasks, (None, None, HOUR), strict=True):
        at: datetime | None = None if pause is None else NOON + pause
        outcome = archived(task, size_bytes=10) if at is None else failed(task, Status.PENDING, next_attempt_at=at)
        await ledger.settle(run, outcome)
    (summary,) = await ledger.summaries()
    assert (summary.recordings[Status.ARCHIVED], summary.bytes[Status.ARCHIVED]) == (2, 20)
    assert (summary.oldest_pending_at, summary.next_attempt_at) == (None, NOON + HOUR)
    assert list(await ledger.summaries(["unknown"])) == []


async def test_all_archived_objects_are_read_whatever_their_number(ledger: SqlLedger, run: Run) -> None:
    names = {f"202605-{number:05d}" for number in range(4001)}
    for task in await list_page(ledger, run, *map(recording, names)):
        await ledger.settle(run, archived(task))
    found = [entry.recording_id async for entry in ledger.objects()]
    assert found == sorted(names)


async def test_a_reader_that_stops_early_holds_up_nobody(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, *(recording(str(number)) for number in range(10)))
    for task in tasks:
        await ledger.settle(run, archived(task))
    async for _ in ledger.objects():
        break
    (task,) = await list_page(ledger, run, recording("more"))
    assert task.recording.recording_id == "more"


# Evidence: what no manifest names yet, and how far the audit trail has come.


async def test_what_was_archived_is_unsealed_until_a_manifest_names_it(ledger: SqlLedger, run: Run) -> None:
    for task in await list_page(ledger, run, recording("a"), recording("b"), recording("c")):
        if task.recording.recording_id != "c":
            await ledger.settle(run, replace(archived(task), sidecar_sha256=SHA[::-1]))
    first, second = await ledger.unsealed(10)
    assert (first.recording_id, first.key, first.sha256, first.sidecar_sha256) == ("a", "a.v1.mp3", SHA, SHA[::-1])
    assert (first.account_id, first.called_at, first.where) == (ACCOUNT, NOON, Sealable.ENTRY)
    assert [each.recording_id for each in await ledger.unsealed(1)] == ["a"]
    await ledger.seal([Sealed(first, 3)])
    assert list(await ledger.unsealed(10)) == [second]
    (known,) = await ledger.histories("a")
    assert [version.manifest_part for version in known.versions] == [3]


async def test_a_version_that_was_replaced_takes_its_manifest_along(ledger: SqlLedger, run: Run) -> None:
    for task in await list_page(ledger, run, recording("sealed"), recording("not")):
        await ledger.settle(run, archived(task))
    await ledger.seal([Sealed(each, 1) for each in await ledger.unsealed(10) if each.recording_id == "sealed"])
    again = await next_run(ledger)
    for task in await list_page(ledger, again, recording("sealed", length_bytes=5), recording("not", length_bytes=5)):
        await ledger.settle(again, archived(task, size_bytes=5))
    left = [(each.recording_id, each.version, each.where) for each in await ledger.unsealed(10)]
    assert sorted(left) == [("not", 1, Sealable.FORMER), ("not", 2, Sealable.ENTRY), ("sealed", 2, Sealable.ENTRY)]
    await ledger.seal([Sealed(each, 2) for each in await ledger.unsealed(10)])
    assert list(await ledger.unsealed(10)) == []
    (known,) = await ledger.histories("sealed")
    assert [(version.version, version.manifest_part) for version in known.versions] == [(1, 1), (2, 2)]


async def test_an_object_that_was_replaced_meanwhile_is_not_sealed_by_mistake(ledger: SqlLedger, run: Run) -> None:
    for task in await list_page(ledger, run, recording("a")):
        await ledger.settle(run, archived(task))
    (before,) = await ledger.unsealed(10)
    again = await next_run(ledger)
    for task in await list_page(ledger, again, recording("a", length_bytes=5)):
        await ledger.settle(again, archived(task, size_bytes=5))
    await ledger.seal([Sealed(before, 1)])
    assert sorted(each.version for each in await ledger.unsealed(10)) == [1, 2]


async def test_a_trails_mark_is_kept_and_only_raised(kind: LedgerKind, ledger: SqlLedger, tmp_path: Path) -> None:
    assert await ledger.trail_mark(TrailMarkName.HEAD) is None
    await ledger.raise_trail_mark(TrailMarkName.HEAD, TrailMark(7, "aa"))
    await ledger.raise_trail_mark(TrailMarkName.HEAD, TrailMark(6, "bb"))
    await ledger.raise_trail_mark(TrailMarkName.PUT, TrailMark(3, "cc"))
    other = await kind.open(tmp_path)
    assert await other.trail_mark(TrailMarkName.HEAD) == TrailMark(7, "aa")
    assert await other.trail_mark(TrailMarkName.PUT) == TrailMark(3, "cc")
    await other.close()


async def test_a_run_has_the_accounts_that_it_holds(
    kind: LedgerKind, ledger: SqlLedger, run: Run, tmp_path: Path
) -> None:
    await ledger.hold_accounts(run, [ACCOUNT, "\ud800"])
    second = await ledger.begin_run("second", started_at=NOON)
    await ledger.hold_accounts(second, [ACCOUNT])
    asked = kind.ask(tmp_path, "SELECT account_id, run_no FROM accounts ORDER BY account_id")
    assert asked == [(ACCOUNT, second.run_no), ("\\ud800", run.run_no)]
