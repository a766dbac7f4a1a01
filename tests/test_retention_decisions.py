"""Keep or expire, decided purely: the calendar, conditions, holds, locks; golden plans and properties."""

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from archiver.ledger.values_retention import Hold
from archiver.proof.retention.decide import Decision, Policy, Reason, Verdict
from archiver.proof.retention.plan import CSV_COLUMNS, Planned, PlanTotals, csv_row, plan
from archiver.proof.retention.rules import FOR_EVER, Keep, Rule
from archiver.proof.retention.subjects import Facts, Locked, Subject, facts_of, facts_of_sidecar

GOLDEN = Path(__file__).parent / "golden"
MADRID = ZoneInfo("Europe/Madrid")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
A, B = "a" * 32, "b" * 32
INBOUND = Facts("inbound", ("1655", "+4930123456"))


def at(text: str, zone: ZoneInfo = MADRID) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize(
    ("called", "keep", "until"),
    [
        ("2023-05-06T10:00", Keep(months=84), "2030-05-06T10:00"),
        ("2023-05-06T10:00", Keep(days=90), "2023-08-04T10:00"),
        ("2024-02-29T10:00", Keep(months=12), "2025-03-01T10:00"),
        ("2024-02-29T10:00", Keep(months=48), "2028-02-29T10:00"),
        ("2023-12-31T23:30", Keep(months=2), "2024-03-01T23:30"),
        ("2023-01-31T08:00", Keep(months=1), "2023-03-01T08:00"),
        ("2023-12-15T08:00", Keep(months=1), "2024-01-15T08:00"),
        # 02:30 does not exist on the day the clocks go forward: it is half past three.
        ("2023-03-26T00:30", Keep(days=0), "2023-03-26T00:30"),
        ("2023-02-26T02:30", Keep(months=1), "2023-03-26T03:30"),
        # A day with 23 hours and one with 25 are a day all the same.
        ("2023-03-25T12:00", Keep(days=1), "2023-03-26T12:00"),
        ("2023-10-28T12:00", Keep(days=1), "2023-10-29T12:00"),
    ],
)
def test_the_end_is_the_same_time_of_day_by_the_calendar_of_the_zone(called: str, keep: Keep, until: str) -> None:
    assert keep.until(at(called), MADRID) == at(until)


def test_an_hour_that_comes_twice_ends_with_the_second() -> None:
    assert Keep(months=1).until(at("2023-09-29T02:30"), MADRID) == datetime(2023, 10, 29, 1, 30, tzinfo=UTC)


def test_the_zone_decides_on_which_day_a_call_was() -> None:
    called = datetime(2023, 12, 31, 23, 30, tzinfo=UTC)
    assert Keep(months=2).until(called, UTC) == datetime(2024, 3, 1, 23, 30, tzinfo=UTC)
    assert Keep(months=2).until(called, MADRID) == at("2024-03-01T00:30")


def test_what_no_calendar_holds_is_kept_for_ever() -> None:
    called = datetime(9990, 1, 1, tzinfo=UTC)
    assert Keep(months=1200).until(called, UTC) == FOR_EVER
    decision = Policy((Rule("long", Keep(months=1200)),), (), UTC).decide(Subject(A, "x", called), NOW)
    assert (decision.verdict, decision.rule, decision.until_at) == (Verdict.KEEP, "long", None)


def decided(subject: Subject, *rules: Rule, holds: tuple[Hold, ...] = (), now: datetime = NOW) -> Decision:
    return Policy(rules, holds, MADRID).decide(subject, now)


def subject(days: float = 100, **more: object) -> Subject:
    return replace(Subject(A, "202608-x", NOW - timedelta(days=days), INBOUND), **more)  # type: ignore[arg-type]


def hold(name: str = "case", **more: Any) -> Hold:
    return replace(Hold(name, "why", "ref", "ann", NOW), **more)


SHORT, LONG = Rule("short", Keep(days=30)), Rule("long", Keep(days=365))


def test_without_a_rule_everything_is_kept_for_ever() -> None:
    assert decided(subject()) == Decision(Verdict.KEEP, Reason.NO_RULE)
    assert decided(subject(), replace(SHORT, account_ids=(B,))).reason is Reason.NO_RULE


def test_the_longest_rule_wins_and_of_equals_the_first() -> None:
    assert (decided(subject(), SHORT, LONG).rule, decided(subject(), LONG, SHORT).rule) == ("long", "long")
    twin = replace(SHORT, name="twin")
    assert (decided(subject(), SHORT, twin).rule, decided(subject(), twin, SHORT).rule) == ("short", "twin")


def test_time_is_over_at_the_very_instant_and_not_before() -> None:
    end = NOW - timedelta(days=100) + timedelta(days=30)
    # Madrid changed its clocks in between.
    until = decided(subject(), SHORT).until_at
    assert until is not None
    assert abs(until - end) <= timedelta(hours=1)
    assert decided(subject(), SHORT, now=until).verdict is Verdict.EXPIRE
    assert decided(subject(), SHORT, now=until - timedelta(seconds=1)).verdict is Verdict.KEEP


@pytest.mark.parametrize(
    ("rule", "matches"),
    [
        (Rule("r", Keep(), direction="Inbound"), True),
        (Rule("r", Keep(), direction="outbound"), False),
        (Rule("r", Keep(), users=("16*",)), True),
        (Rule("r", Keep(), users=("17*", "+49*")), True),
        (Rule("r", Keep(), users=("17*",)), False),
        (Rule("r", Keep(), direction="inbound", users=("17*",)), False),
        (Rule("r", Keep(), account_ids=(A,), direction="inbound", users=("1655",)), True),
    ],
)
def test_all_conditions_of_a_rule_must_be_met(rule: Rule, matches: bool) -> None:
    assert rule.matches(A, INBOUND) is matches
    assert (decided(subject(), rule).verdict is Verdict.EXPIRE) is matches


def test_what_cannot_be_told_is_kept() -> None:
    unknown = subject(facts=Facts())
    asking = Rule("asking", Keep(days=10), direction="inbound")
    assert decided(unknown, asking).reason is Reason.UNREADABLE
    # With a rule for everything, the longer of what may be.
    assert decided(unknown, SHORT, asking) == replace(decided(unknown, SHORT))
    longer = Rule("longer", Keep(days=3650), users=("x",))
    assert decided(unknown, SHORT, longer).rule == "longer"
    assert decided(subject(facts=Facts("inbound")), SHORT, longer).rule == "longer"
    assert decided(unknown, SHORT, holds=(hold(users=("99*",)),)).reason is Reason.HELD
    assert decided(subject(), SHORT, holds=(hold(users=("99*",)),)).verdict is Verdict.EXPIRE


def test_an_undated_recording_is_kept() -> None:
    assert decided(subject(dated_at=None), SHORT).reason is Reason.UNDATED
    assert decided(subject(dated_at=None), SHORT, holds=(hold(since_at=NOW),)).reason is Reason.HELD


CALLED = NOW - timedelta(days=100)


@pytest.mark.parametrize(
    ("conditions", "covered"),
    [
        ({}, True),
        ({"account_id": A}, True),
        ({"account_id": B}, False),
        ({"since_at": CALLED, "until_at": CALLED + DAY}, True),
        ({"until_at": CALLED}, False),
        ({"since_at": CALLED + DAY}, False),
        ({"recording_ids": ("202608-x", "y")}, True),
        ({"recording_ids": ("y",)}, False),
        ({"users": ("*1655",)}, True),
        ({"users": ("nobody",)}, False),
        ({"account_id": A, "recording_ids": ("y",)}, False),
        ({"released_at": NOW, "released_by": "bob"}, False),
    ],
)
def test_a_hold_covers_what_meets_all_its_conditions_and_wins_over_every_rule(
    conditions: dict[str, Any], covered: bool
) -> None:
    found = decided(subject(), SHORT, holds=(hold(**conditions),))
    assert (found.reason is Reason.HELD, found.holds) == (covered, ("case",) if covered else ())
    assert (found.verdict is Verdict.EXPIRE) is not covered
    assert found.rule == "short"


def test_a_lock_of_the_store_keeps_until_its_date_and_a_legal_hold_without_one() -> None:
    locked = decided(subject(lock=Locked(NOW + DAY)), SHORT)
    assert (locked.verdict, locked.reason, locked.lock_until_at) == (Verdict.KEEP, Reason.LOCKED, NOW + DAY)
    assert decided(subject(lock=Locked(None)), SHORT).reason is Reason.LOCKED
    assert decided(subject(lock=Locked(NOW)), SHORT).verdict is Verdict.EXPIRE


def test_the_facts_are_read_from_metadata_and_from_sidecars() -> None:
    said = {
        "direction": "inbound",
        "owner_id": "OWNER",
        "caller_id_number": 1655,
        "to": "Eve@pbx.example.com",
        "user": {"username": "Ann"},
        "from": None,
    }
    facts = facts_of(json.dumps(said).encode())
    assert facts == Facts("inbound", ("owner", "1655", "eve@pbx.example.com", "eve", "ann"))
    assert facts_of_sidecar(json.dumps({"schema": 1, "recording": said}).encode()) == facts
    for nothing in (b"", b"[]", b"null", b"{", b'"x"', b"[" * 100_000, b"\xff"):
        assert facts_of(nothing) == facts_of_sidecar(nothing) == Facts()
    assert facts_of_sidecar(b'{"recording": null}') == Facts()


def test_metadata_are_read_only_where_they_can_change_something() -> None:
    asking = Rule("asking", Keep(days=60), direction="inbound")
    bare = subject(facts=Facts())

    def needs(*rules: Rule, holds: tuple[Hold, ...] = (), of: Subject = bare) -> bool:
        return Policy(rules, holds, MADRID).needs_facts(of)

    assert not needs(SHORT, LONG)
    assert needs(SHORT, asking)
    assert not needs(LONG, asking)
    assert needs(asking)
    assert not needs(replace(asking, account_ids=(B,)))
    assert needs(LONG, holds=(hold(users=("x",)),))
    assert not needs(LONG, holds=(hold(users=("x",), account_id=B),))


def cases() -> Iterator[tuple[str, Policy, list[Subject]]]:
    calls = [
        Subject(A, f"call-{number}", at(day), Facts(direction, (user,)))
        for number, (day, direction, user) in enumerate(
            [
                ("2016-02-29T23:59", "inbound", "1655"),
                ("2019-11-23T12:59", "outbound", "1655"),
                ("2019-11-23T13:01", "outbound", "1700"),
                ("2025-05-31T08:00", "inbound", "1700"),
                ("2026-03-29T01:30", "inbound", "1800"),
                ("2026-11-23T11:00", "outbound", "1800"),
            ]
        )
    ]
    calls += [Subject(B, "other", at("2020-01-01T00:00")), Subject(B, "undated", None)]
    rules = (
        Rule("everything", Keep(days=90)),
        Rule("seven-years", Keep(months=84), account_ids=(A,), direction="outbound"),
        Rule("board", Keep(months=120), users=("16*",)),
    )
    yield "retention-rules", Policy(rules, (), MADRID), calls
    held = (
        hold("lawsuit", account_id=A, since_at=at("2025-01-01T00:00"), until_at=at("2026-01-01T00:00")),
        hold("one-call", recording_ids=("other",)),
        hold("settled", released_by="bob", released_at=NOW),
    )
    locked = [replace(each, lock=Locked(at("2027-01-01T00:00"))) for each in calls[4:5]]
    yield "retention-holds", Policy(rules[:1], held, MADRID), [*calls[:4], *locked, *calls[5:]]
    yield "retention-none", Policy((), (), MADRID), calls


@pytest.mark.parametrize(("name", "policy", "subjects"), list(cases()), ids=[case[0] for case in cases()])
def test_plans_are_those_of_the_golden_files(name: str, policy: Policy, subjects: list[Subject]) -> None:
    """`GOLDEN=write pytest …` writes them anew; look at the difference before you commit it."""
    totals = PlanTotals(policy, NOW)
    for each, decision in plan(subjects, policy, NOW):
        totals.add(Planned(each, f"{each.recording_id}.mp3", 1000, decision))
    found = msgspec.json.format(msgspec.json.encode(totals.plan()), indent=1).decode() + "\n"
    path = GOLDEN / f"{name}.json"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(found)
    assert found == path.read_text()


instants = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given a zone
accounts = st.sampled_from([A, B])
users = st.sampled_from(["1655", "1700", "eve"])
facts = st.builds(Facts, st.sampled_from(["", "inbound", "outbound"]), st.lists(users, max_size=2).map(tuple))
locks = st.one_of(st.none(), st.builds(Locked, st.one_of(st.none(), instants)))
ids = st.sampled_from(["r1", "r2", "r3"])
subjects_of = st.builds(Subject, accounts, ids, st.one_of(st.none(), instants), facts, locks)
keeps = st.builds(Keep, st.integers(0, 200), st.integers(0, 4000))
rules_of = st.lists(
    st.builds(
        Rule,
        st.just(""),
        keeps,
        st.lists(accounts, max_size=1).map(tuple),
        st.sampled_from(["", "inbound"]),
        st.lists(st.sampled_from(["16*", "EVE"]), max_size=1).map(tuple),
    ),
    max_size=5,
).map(lambda rules: tuple(replace(rule, name=f"rule{place}") for place, rule in enumerate(rules)))
one_hold = st.builds(
    Hold,
    st.sampled_from(["h1", "h2", "h3"]),
    st.just("why"),
    st.just("ref"),
    st.just("ann"),
    st.just(NOW),
    st.sampled_from(["", A, B]),
    st.one_of(st.none(), instants),
    st.one_of(st.none(), instants),
    st.lists(ids, max_size=1).map(tuple),
    st.lists(st.sampled_from(["16*", "17*"]), max_size=1).map(tuple),
    st.just(""),
    st.one_of(st.none(), st.just(NOW)),
)
holds_of = st.lists(one_hold, max_size=3).map(tuple)
Holds = tuple[Hold, ...]
Rules = tuple[Rule, ...]


@given(st.lists(subjects_of, max_size=20), rules_of, holds_of, instants)
def test_keep_plus_expire_is_everything(subjects: list[Subject], rules: Rules, holds: Holds, now: datetime) -> None:
    policy = Policy(rules, holds, MADRID)
    totals = PlanTotals(policy, now)
    for each, decision in plan(subjects, policy, now):
        totals.add(Planned(each, "", 7, decision))
    found = totals.plan()
    assert found.keep + found.expire == found.recordings == len(subjects)
    assert sum(group.recordings for group in found.groups) == len(subjects)


@given(subjects_of, rules_of, holds_of, instants)
def test_nothing_held_or_locked_or_undated_or_without_a_rule_ever_expires(
    subject: Subject, rules: Rules, holds: Holds, now: datetime
) -> None:
    decision = Policy(rules, holds, MADRID).decide(subject, now)
    if decision.verdict is Verdict.EXPIRE:
        assert decision.holds == ()
        assert subject.lock is None or (subject.lock.until_at is not None and subject.lock.until_at <= now)
        assert subject.dated_at is not None
        assert subject.dated_at <= now
        assert any(rule.matches(subject.account_id, subject.facts) for rule in rules)
        assert (decision.until_at or FOR_EVER) <= now
    for hold in holds:
        others = (hold.account_id or subject.account_id) == subject.account_id and hold.is_active
        if others and not (hold.since_at or hold.until_at or hold.recording_ids or hold.users):
            assert decision.verdict is Verdict.KEEP


@given(st.lists(subjects_of, max_size=20).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_a_plan_does_not_depend_on_the_order_of_the_recordings(both: tuple[list[Subject], list[Subject]]) -> None:
    policy = Policy((SHORT, replace(LONG, direction="inbound")), (hold(recording_ids=("r1",)),), MADRID)
    first, second = (sorted(map(repr, plan(subjects, policy, NOW))) for subjects in both)
    assert first == second


@given(subjects_of, rules_of.flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))), holds_of)
def test_the_order_of_the_rules_decides_nothing_but_which_of_equals_is_named(
    subject: Subject, both: tuple[Rules, list[Rule]], holds: Holds
) -> None:
    first, second = (Policy(tuple(rules), holds, MADRID).decide(subject, NOW) for rules in both)
    assert replace(first, rule="") == replace(second, rule="")


@given(subjects_of, rules_of, holds_of, instants, st.integers(0, 4), keeps)
def test_a_rule_that_is_made_longer_never_makes_anything_go_earlier(
    subject: Subject, rules: Rules, holds: Holds, now: datetime, place: int, more: Keep
) -> None:
    if place < len(rules):
        keep = rules[place].keep
        longer = replace(rules[place], keep=Keep(keep.months + more.months, keep.days + more.days))
        changed = (*rules[:place], longer, *rules[place + 1 :])
        before, after = (Policy(each, holds, MADRID).decide(subject, now) for each in (rules, changed))
        assert not (before.verdict is Verdict.KEEP and after.verdict is Verdict.EXPIRE)
        assert (after.until_at or FOR_EVER) >= (before.until_at or FOR_EVER)


@given(subjects_of, rules_of, holds_of, one_hold, instants)
def test_another_hold_never_makes_anything_expire(
    subject: Subject, rules: Rules, holds: Holds, another: Hold, now: datetime
) -> None:
    before, after = (Policy(rules, each, MADRID).decide(subject, now) for each in (holds, (*holds, another)))
    assert not (before.verdict is Verdict.KEEP and after.verdict is Verdict.EXPIRE)


@given(subjects_of, rules_of, holds_of, instants)
def test_reading_the_metadata_only_where_needed_changes_no_decision(
    subject: Subject, rules: Rules, holds: Holds, now: datetime
) -> None:
    policy = Policy(rules, holds, MADRID)
    bare = replace(subject, facts=Facts())
    found = policy.decide(subject if policy.needs_facts(bare) else bare, now)
    assert replace(found, rule="") == replace(policy.decide(subject, now), rule="")


def test_a_row_of_csv_has_a_cell_for_each_column() -> None:
    each = subject(recording_id="=cmd()")
    row = csv_row(Planned(each, "k.mp3", 5, decided(each, SHORT)))
    assert len(row) == len(CSV_COLUMNS)
    assert row[1] == "'=cmd()"
