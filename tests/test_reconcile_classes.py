"""The classes of `reconcile` are exhaustive and disjoint, and benign causes have names."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.cli.words.reconcile import CALL_RECORDS, CLASSES
from archiver.keys import KeyTemplate
from archiver.ledger.values_reconciling import CdrFile
from archiver.proof.reconciliation.classes import (
    CallRecord,
    Cause,
    Class,
    Subject,
    call_record_of,
    cause_of,
    class_of,
    together,
)
from archiver.proof.reconciliation.completeness import OpenDay, as_csv, something_left, sums
from archiver.proof.reconciliation.days import Day, days, folder_of
from archiver.recording import Cdr, Fixity, Status
from archiver.window import Window

NOT_THERE = "not_there"

PAGE = (Path(__file__).parent.parent / "docs" / "reconcile.md").read_text("utf-8")


@pytest.mark.parametrize("word", [*Class, *CallRecord])
def test_every_class_and_every_call_record_is_explained_and_has_words(word: Class | CallRecord) -> None:
    assert f"| `{word.value}` |" in PAGE
    assert [word in words for words in (CLASSES, CALL_RECORDS)].count(True) == 1


subjects = st.builds(
    Subject,
    status=st.none() | st.sampled_from(Status),
    present=st.booleans(),
    listed=st.booleans(),
    named=st.booleans(),
    reason=st.sampled_from(["", NOT_THERE, "server_error", "length"]),
    cause=st.none() | st.sampled_from(Cause),
    orphan=st.booleans(),
)


def explained(it: Subject) -> bool:
    open_or_missing = it.status in {None, Status.PENDING, Status.MISSING}
    return open_or_missing and it.named and not it.listed and it.reason == NOT_THERE and it.cause is not None


# What the documentation says of each class, apart from the code that decides.
MEANS: dict[Class, Callable[[Subject], bool]] = {
    Class.ORPHAN: lambda it: it.orphan,
    Class.ARCHIVED: lambda it: not it.orphan and it.status is Status.ARCHIVED and it.present,
    Class.GONE: lambda it: not it.orphan and it.status is Status.ARCHIVED and not it.present,
    Class.QUARANTINED: lambda it: not it.orphan and it.status is Status.QUARANTINED,
    Class.EXPIRED: lambda it: not it.orphan and it.status is Status.EXPIRED,
    Class.UNANSWERED: lambda it: not it.orphan and explained(it) and it.cause is Cause.UNANSWERED,
    Class.TOO_SHORT: lambda it: not it.orphan and explained(it) and it.cause is Cause.TOO_SHORT,
    Class.MISSING: lambda it: not it.orphan and it.status is Status.MISSING and not explained(it),
    Class.PENDING: lambda it: not it.orphan and it.status in {None, Status.PENDING} and not explained(it),
}
KNOWN_BY: dict[CallRecord, Callable[[Subject], bool]] = {
    CallRecord.IN_BOTH: lambda it: not it.orphan and it.listed and it.named,
    CallRecord.NO_CDR: lambda it: not it.orphan and it.listed and not it.named,
    CallRecord.NEVER_LISTED: lambda it: not it.orphan and it.named and not it.listed,
    CallRecord.IN_NEITHER: lambda it: it.orphan or not (it.listed or it.named),
}


@given(subjects)
def test_each_recording_has_the_one_class_whose_meaning_fits_and_no_other_fits(subject: Subject) -> None:
    assert [kind for kind in Class if MEANS[kind](subject)] == [class_of(subject)]


@given(subjects)
def test_each_recording_has_the_one_call_record_whose_meaning_fits_and_no_other_fits(subject: Subject) -> None:
    assert [each for each in CallRecord if KNOWN_BY[each](subject)] == [call_record_of(subject)]


@given(st.lists(st.tuples(subjects, st.integers(0, 10_000))))
def test_a_days_counts_and_bytes_are_conserved_over_both_partitions(found: list[tuple[Subject, int]]) -> None:
    day = an_open_day()
    for subject, size_bytes in found:
        day.count(class_of(subject), call_record_of(subject), size_bytes)
    said = day.statement()
    assert said.recordings == len(found)
    assert sum(count.count for count in said.classes.values()) == len(found)
    assert sum(count.bytes for count in said.classes.values()) == sum(size_bytes for _, size_bytes in found)
    assert said.call_records == dict.fromkeys(CallRecord, 0) | Counter(call_record_of(it) for it, _ in found)
    assert sums([said, said])[0][Class.ARCHIVED].count == 2 * said.classes[Class.ARCHIVED].count
    left = {Class.GONE, Class.PENDING, Class.QUARANTINED, Class.ORPHAN}
    assert something_left([said]) == any(class_of(subject) in left for subject, _ in found)


def leg(**facts: object) -> Cdr:
    made = Cdr("a", "leg", None, ("r",))
    return replace(made, **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"billed_s": 0, "hangup_cause": "NORMAL_CLEARING"}, Cause.UNANSWERED),
        ({"billed_s": 30, "hangup_cause": "NO_ANSWER"}, None),
        ({"billed_s": 4}, Cause.TOO_SHORT),
        ({"billed_s": 5}, None),
        ({"hangup_cause": "ORIGINATOR_CANCEL"}, Cause.UNANSWERED),
        ({"hangup_cause": "NORMAL_CLEARING"}, None),
        ({"lasted_s": 4, "hangup_cause": "NORMAL_CLEARING"}, Cause.TOO_SHORT),
        ({"lasted_s": 500, "billed_s": 2}, Cause.TOO_SHORT),
        ({}, None),
    ],
)
def test_a_leg_has_a_benign_cause_only_when_it_says_so(facts: dict[str, object], cause: Cause | None) -> None:
    assert cause_of(leg(**facts), least_s=5) is cause


@pytest.mark.parametrize(
    ("causes", "cause"),
    [
        ([Cause.UNANSWERED], Cause.UNANSWERED),
        ([Cause.UNANSWERED, None], None),
        ([Cause.UNANSWERED, Cause.TOO_SHORT], Cause.TOO_SHORT),
        ([], None),
    ],
)
def test_a_call_is_explained_only_when_each_of_its_legs_is(causes: list[Cause | None], cause: Cause | None) -> None:
    assert together(causes) is cause


zones = st.sampled_from(["UTC", "Europe/Madrid", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@given(zones, st.integers(0, 400 * 86_400), st.integers(1, 20 * 86_400))
def test_the_days_of_a_period_cover_it_once_and_each_lies_in_one_local_day(zone: str, start: int, length: int) -> None:
    period = Window(EPOCH + timedelta(seconds=start), EPOCH + timedelta(seconds=start + length))
    found = list(days(period, ZoneInfo(zone)))
    assert found[0].window.start_at == period.start_at
    assert found[-1].window.end_at == period.end_at
    assert all(a.window.end_at == b.window.start_at for a, b in itertools.pairwise(found))
    second = timedelta(seconds=1)
    for each in found:
        ends = (each.window.start_at, each.window.end_at - second)
        assert {at.astimezone(ZoneInfo(zone)).date() for at in ends} == {each.day}
        beyond = (each.window.start_at - second, each.window.end_at)
        assert each.whole == all(at.astimezone(ZoneInfo(zone)).date() != each.day for at in beyond)
    assert all(each.whole for each in found[1:-1])


@pytest.mark.parametrize(
    ("template", "folder"),
    [
        ("{account_id}/{start:%Y/%m/%d}/{recording_id}.{extension}", "acct/2024/05/06/"),
        ("{account_id}/{start:%Y/%m/%d/%H}/{recording_id}.{extension}", "acct/2024/05/06/"),
        ("{account_id}/{start:%Y}/{recording_id}.{extension}", "acct/2024/"),
        ("{start:%H}/{account_id}/{recording_id}.{extension}", ""),
    ],
)
def test_the_keys_of_all_calls_of_a_day_begin_with_its_folder(template: str, folder: str) -> None:
    window = Window(datetime(2024, 5, 6, tzinfo=UTC), datetime(2024, 5, 7, tzinfo=UTC))
    assert folder_of(KeyTemplate(template, UTC), "acct", window) == folder


def an_open_day(account_id: str = "a" * 32) -> OpenDay:
    window = Window(datetime(2024, 5, 6, tzinfo=UTC), datetime(2024, 5, 7, tzinfo=UTC))
    return OpenDay(account_id, Day(date(2024, 5, 6), window, whole=True))


GOLDEN = """\
account_id,day,since,until,whole,cdrs_listed_whole,recordings_listed_whole,recordings,archived,archived_bytes,gone,\
gone_bytes,pending,pending_bytes,missing,missing_bytes,quarantined,quarantined_bytes,expired,expired_bytes,unanswered,\
unanswered_bytes,too_short,too_short_bytes,orphan,orphan_bytes,in_both,no_cdr,never_listed,in_neither,fetched,cdrs,\
cdrs_archived,cdr_files
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,2024-05-06,2024-05-06T00:00:00Z,2024-05-07T00:00:00Z,yes,yes,yes,3,2,300,0,0,1,7,\
0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,0,1,5,4,1
'=cmd|x,2024-05-06,2024-05-06T00:00:00Z,2024-05-07T00:00:00Z,no,no,yes,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,9,0,0,0,1,\
0,0,0,0
"""


def test_the_csv_is_the_golden_one_and_no_cell_is_a_formula() -> None:
    one, other = an_open_day(), an_open_day("=cmd|x")
    one.count(Class.ARCHIVED, CallRecord.IN_BOTH, 100)
    one.count(Class.ARCHIVED, CallRecord.NEVER_LISTED, 200)
    one.count(Class.PENDING, CallRecord.NO_CDR, 7)
    one.fetched, one.cdrs = 1, 5
    one.fresh = [CdrFile(one.account_id, one.day.day, 1, "k", Fixity(9, b"s"), 4, EPOCH)]
    other.count(Class.ORPHAN, CallRecord.IN_NEITHER, 9)
    other.cdrs_failed = "window: server_error"
    assert as_csv([one.statement(), other.statement()]) == GOLDEN
