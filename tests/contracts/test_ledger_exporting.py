"""What an export asks of every ledger: recordings of every status with their objects, in batches."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from ledgers import ACCOUNT, NOON, SHA, archived, failed, list_page, recording

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import ArchivedEntry, Run, Settlement
from archiver.ledger.values_exporting import KnownRecording, Sought
from archiver.recording import Fixity, Status
from archiver.window import Window

HOUR = timedelta(hours=1)


async def known(ledger: SqlLedger, sought: Sought) -> Sequence[KnownRecording]:
    return [each async for batch in ledger.known_recordings(sought) for each in batch]


async def ids(ledger: SqlLedger, sought: Sought) -> list[str]:
    return [each.recording_id for each in await known(ledger, sought)]


async def test_recordings_of_every_status_come_with_what_is_known_of_them(ledger: SqlLedger, run: Run) -> None:
    rows = [recording(each) for each in ("archived", "missing", "pending", "expired")]
    tasks = {task.recording.recording_id: task for task in await list_page(ledger, run, *rows)}
    settled = replace(archived(tasks["archived"]), sidecar_sha256=SHA, flags=("weak_framing",))
    await ledger.settle(run, settled)
    await ledger.settle(run, failed(tasks["missing"], Status.MISSING))
    await ledger.settle(run, replace(archived(tasks["expired"]), status=Status.EXPIRED))
    found = {each.recording_id: each for each in await known(ledger, Sought())}
    assert {name: each.status.value for name, each in found.items()} == {name: name for name in tasks}
    one = found["archived"]
    assert (one.account_id, one.called_at, one.dated_at, one.duration_ms) == (ACCOUNT, NOON, NOON, 61_000)
    assert (one.flags, one.metadata, len(one.objects)) == ("weak_framing", b"", 1)
    version = one.objects[0]
    assert (version.version, version.key, version.fixity) == (1, "archived.v1.mp3", Fixity(1000, SHA))
    assert (version.sidecar_sha256, version.archived_at, version.run_id) == (SHA, NOON, "first")
    assert (found["missing"].reason, found["missing"].metadata, found["missing"].objects) == (
        "not_there",
        b'{"k": 1}',
        [],
    )
    assert (found["pending"].objects, found["expired"].objects) == ([], [])


async def test_more_than_a_batch_come_once_each_in_the_order_of_their_listing(ledger: SqlLedger, run: Run) -> None:
    names = [f"r-{n:04d}" for n in range(1203)]
    await list_page(ledger, run, *map(recording, names))
    sizes = [len(batch) async for batch in ledger.known_recordings(Sought())]
    assert (sum(sizes), max(sizes)) == (1203, 500)
    assert await ids(ledger, Sought()) == names
    assert sorted(await ids(ledger, Sought(recording_ids=frozenset(names[:700]) | {"unknown"}))) == names[:700]


async def test_periods_accounts_and_ids_must_all_fit(ledger: SqlLedger, run: Run) -> None:
    undated = replace(recording("undated", start_at=None), saved_at=None)
    await list_page(ledger, run, recording("a"), recording("b", start_at=NOON + HOUR), undated, at=NOON + 3 * HOUR)
    assert await ids(ledger, Sought(period=Window(NOON, NOON + HOUR))) == ["a"]
    assert await ids(ledger, Sought(period=Window(NOON + HOUR, NOON + 4 * HOUR))) == ["b", "undated"]
    assert await ids(ledger, Sought(account_ids=["nobody"])) == []
    assert await ids(ledger, Sought(account_ids=["nobody", ACCOUNT], recording_ids=frozenset({"a", "x"}))) == ["a"]
    assert await ids(ledger, Sought(period=Window(NOON, NOON + HOUR), recording_ids=frozenset({"b"}))) == []


async def test_awkward_ids_are_found_as_they_are(ledger: SqlLedger, run: Run) -> None:
    awkward = ["a\x00b", "\ud800", "back\\slash", "'; DROP TABLE entries --", ""]
    await list_page(ledger, run, *map(recording, awkward))
    assert set(await ids(ledger, Sought(recording_ids=frozenset(awkward)))) == set(awkward)


async def test_former_versions_come_too_but_for_those_found_damaged(ledger: SqlLedger, run: Run) -> None:
    changed, damaged = await list_page(ledger, run, recording("changed"), recording("damaged"))
    await ledger.settle(run, archived(changed))
    await ledger.settle(run, archived(damaged))
    later = await ledger.begin_run("later", started_at=NOON + HOUR)
    (task,) = await list_page(ledger, later, recording("changed", length_bytes=2000))
    (before,) = await known(ledger, Sought(recording_ids=frozenset({"changed"})))
    assert (before.status, [each.version for each in before.objects]) == (Status.PENDING, [1])
    await ledger.settle(later, archived(task, size_bytes=2000))
    entry: ArchivedEntry = next(iter([each async for each in ledger.objects() if each.recording_id == "damaged"]))
    instead = Settlement(
        entry.entry_id,
        Status.ARCHIVED,
        attempts=2,
        key="damaged.v2.mp3",
        fixity=Fixity(1000, SHA),
        archived_at=NOON + HOUR,
    )
    await ledger.replace_damaged(later, entry, instead, recording=recording("damaged"), at=NOON + HOUR)
    found = {each.recording_id: [version.version for version in each.objects] for each in await known(ledger, Sought())}
    assert found == {"changed": [1, 2], "damaged": [2]}
