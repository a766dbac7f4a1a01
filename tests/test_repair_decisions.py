"""What is done about which findings: the whole table of the pure decision, without a store or a PBX."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from archiver.keys import sidecar_key
from archiver.ledger.base_repair import Repairable
from archiver.ledger.values import ArchivedEntry
from archiver.proof.mending.mender import Mended
from archiver.proof.mending.relisting import window_of
from archiver.proof.mending.repair import Mending, Wanted, batched, told
from archiver.proof.mending.repairs import Action, Repair, repairs_of
from archiver.proof.verification.findings import Finding, Kind
from archiver.recording import Fixity, Recording

AT = datetime(2026, 5, 6, 12, tzinfo=UTC)
KEY = "a/2026/05/06/one.mp3"
ENTRY = ArchivedEntry(1, "a", "one", 1, KEY, Fixity(10, b"1" * 32), AT, AT, sidecar_sha256=b"2" * 32)
DAMAGED = (Kind.SIZE, Kind.DIGEST, Kind.SWAPPED, Kind.UNREADABLE)
GONE = (Kind.MISSING_OBJECT, Kind.RENAMED)
SPOILT = (Kind.SIDECAR, Kind.UNREADABLE)
MEDIA = (None, *DAMAGED, *GONE, Kind.LEDGER)
BESIDE = (None, Kind.MISSING_SIDECAR, *SPOILT)


def finding(kind: Kind, key: str = KEY, found: str = "something") -> Finding:
    return Finding(kind=kind, key=key, account_id="a", recording_id="one", expected="else", found=found)


def decided(entry: ArchivedEntry, media: Kind | None, beside: Kind | None) -> list[Repair]:
    found = [finding(media, found="a/stray.mp3")] if media else []
    found += [finding(beside, sidecar_key(KEY))] if beside else []
    return repairs_of(found, {KEY: entry})


def wanted(media: Kind | None, beside: Kind | None) -> Action:
    """The table as the manual has it."""
    if media is Kind.LEDGER:
        return Action.CORRECT_LEDGER if beside is None else Action.LEAVE
    if media in DAMAGED:
        return Action.FETCH_BESIDE
    if media in GONE:
        return Action.FETCH_BESIDE if beside in SPOILT else Action.FETCH_AGAIN
    return Action.WRITE_SIDECAR if beside is Kind.MISSING_SIDECAR else Action.COPY_BESIDE


@pytest.mark.parametrize("media", MEDIA)
@pytest.mark.parametrize("beside", BESIDE)
def test_what_is_wrong_with_media_and_sidecar_decides_together(media: Kind | None, beside: Kind | None) -> None:
    repairs = decided(ENTRY, media, beside)
    if media is None and beside is None:
        assert repairs == []
        return
    (repair,) = repairs
    assert (repair.action, repair.entry) == (wanted(media, beside), ENTRY)
    assert repair.findings == tuple(range((media is not None) + (beside is not None)))
    assert repair.without_sidecar is (beside is Kind.MISSING_SIDECAR)
    assert repair.stray_key == ("a/stray.mp3" if media is Kind.RENAMED else "")
    assert bool(repair.why) is (repair.action is Action.LEAVE)


@pytest.mark.parametrize("media", MEDIA[1:])
@pytest.mark.parametrize("beside", BESIDE)
def test_an_earlier_version_is_never_fetched(media: Kind, beside: Kind | None) -> None:
    (repair,) = decided(replace(ENTRY, is_current=False), media, beside)
    allowed = Action.CORRECT_LEDGER if media is Kind.LEDGER and beside is None else Action.LEAVE
    assert repair.action is allowed


def test_an_earlier_versions_lost_sidecar_is_written_from_what_the_ledger_knows() -> None:
    (repair,) = decided(replace(ENTRY, is_current=False), None, Kind.MISSING_SIDECAR)
    assert repair.action is Action.WRITE_SIDECAR


def test_a_ledger_that_never_noted_the_sidecars_digest_is_put_right_although_the_sidecar_differs_from_it() -> None:
    (repair,) = decided(replace(ENTRY, sidecar_sha256=None), Kind.LEDGER, Kind.SIDECAR)
    assert (repair.action, repair.findings) == (Action.CORRECT_LEDGER, (0, 1))


@pytest.mark.parametrize("kind", [Kind.FOREIGN_OBJECT, Kind.STALE_TEMPORARY])
def test_what_no_entry_names_is_told_and_not_touched(kind: Kind) -> None:
    (repair,) = repairs_of([finding(kind, "a/other.mp3")], {KEY: ENTRY})
    assert (repair.action, repair.entry, "not touched" in repair.why) == (Action.LEAVE, None, True)


def test_every_finding_is_answered_by_exactly_one_repair() -> None:
    entries = {f"a/{n}.mp3": replace(ENTRY, entry_id=n, key=f"a/{n}.mp3") for n in range(5)}
    found = [finding(Kind.DIGEST, key) for key in entries]
    found += [finding(Kind.MISSING_SIDECAR, sidecar_key(key)) for key in entries]
    found.append(finding(Kind.FOREIGN_OBJECT, "a/foreign.mp3"))
    repairs = repairs_of(found, entries)
    assert sorted(place for repair in repairs for place in repair.findings) == list(range(len(found)))


def test_a_renamed_recording_that_is_back_leaves_a_foreign_object_that_is_told() -> None:
    found = [finding(Kind.RENAMED, found="a/stray.mp3")]
    said = told(found, Mending({0: Mended(done=True, words="fetched again")}, None))
    assert [(each.kind, each.key, each.repaired) for each in said] == [
        (Kind.RENAMED, KEY, True),
        (Kind.FOREIGN_OBJECT, "a/stray.mp3", False),
    ]


def needed(minutes: int, *, account_id: str = "a", action: Action = Action.FETCH_BESIDE) -> Wanted:
    at = AT + timedelta(minutes=minutes)
    known = Recording(account_id, f"r{minutes}", at, at + timedelta(minutes=1), 60_000, 10, None, "mp3", b"")
    entry = replace(ENTRY, account_id=account_id, recording_id=known.recording_id, dated_at=at)
    return Wanted(Repair(action, (0,), entry), entry, Repairable(known, 1, "run"))


def test_calls_that_lie_close_together_are_listed_together_and_others_are_not() -> None:
    batches = batched([needed(0), needed(30), needed(600), needed(5, account_id="b")])
    assert [len(batch.wanted) for batch in batches] == [2, 1, 1]
    for batch in batches:
        for each in batch.wanted:
            assert batch.window is not None
            assert each.entry.dated_at in batch.window
            assert each.entry.dated_at + timedelta(minutes=1) in batch.window


def test_a_batch_is_small_enough_for_others_to_have_work_and_its_window_never_longer_than_a_day() -> None:
    batches = batched([needed(n * 20) for n in range(500)])
    assert max(len(batch.wanted) for batch in batches) <= 50
    assert all(batch.window is not None and batch.window.length <= timedelta(hours=24) for batch in batches)
    assert sum(len(batch.wanted) for batch in batches) == 500


def test_putting_a_ledger_right_lists_nothing() -> None:
    (batch,) = batched([needed(0, action=Action.CORRECT_LEDGER)])
    assert batch.window is None


def test_times_that_cannot_belong_together_are_not_listed_over() -> None:
    assert window_of([datetime(1970, 1, 2, tzinfo=UTC), AT]).length < timedelta(hours=1)
