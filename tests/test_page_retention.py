"""What the page says of retention and holds agrees with the plan that decides about each recording."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from archiver.ledger.values_reporting import DayVolume
from archiver.ledger.values_retention import Hold
from archiver.proof.retention.decide import Policy, Reason, Verdict
from archiver.proof.retention.rules import Keep, Rule
from archiver.proof.retention.subjects import Subject
from archiver.recording import Status
from archiver.reports.page.retention import hold_summaries, retention_summary

NOW = datetime(2024, 6, 1, 12, tzinfo=UTC)
FIRST = date(2020, 1, 1)
RULES = (
    Rule("short", Keep(days=90)),
    Rule("long", Keep(months=24), account_ids=("b",)),
    Rule("inbound", Keep(months=60), direction="inbound", account_ids=("c",)),
)
PERIOD = Hold("period", "dispute", "7", "Ann", NOW, since_at=datetime(2024, 1, 1, tzinfo=UTC), account_id="a")
SOME = Hold("some", "dispute", "8", "Ann", NOW, recording_ids=("x", "y"))
PEOPLE = Hold("people", "dispute", "9", "Ann", NOW, users=("+4930123456",))


def volume(account_id: str, day: date | None, status: Status = Status.ARCHIVED, recordings: int = 1) -> DayVolume:
    return DayVolume(account_id, day, status, recordings, recordings)


days = st.integers(0, 2000).map(lambda n: FIRST + timedelta(days=n))
volumes = st.lists(st.builds(volume, st.sampled_from("ab"), days, recordings=st.integers(1, 9)), max_size=30)


@given(volumes)
def test_the_page_counts_what_the_plan_decides(found: list[DayVolume]) -> None:
    policy = Policy(RULES[:2], (PERIOD,), UTC)
    said = retention_summary(policy, found, NOW)
    assert said is not None
    decided: Counter[object] = Counter()
    for each in found:
        assert each.day is not None
        at = datetime(each.day.year, each.day.month, each.day.day, 23, 59, 59, tzinfo=UTC)
        decision = policy.decide(Subject(each.account_id, "any", at), NOW)
        decided[Verdict.EXPIRE if decision.verdict is Verdict.EXPIRE else decision.reason] += each.recordings
        decided[decision.rule] += each.recordings if decision.verdict is Verdict.KEEP else 0
    assert (said.due, said.held, said.without_rule, said.undecided) == (
        decided[Verdict.EXPIRE],
        decided[Reason.HELD],
        0,
        0,
    )
    assert {rule.name: rule.recordings for rule in said.rules} == {name: decided[name] for name in ("short", "long")}


def test_without_rules_there_is_nothing_to_tell() -> None:
    assert retention_summary(Policy((), (), UTC), [volume("a", FIRST)], NOW) is None


def test_what_only_metadata_can_tell_is_undecided_and_never_counted_as_due() -> None:
    old = [volume("c", date(2023, 1, 1), recordings=3), volume("a", date(2023, 1, 1), recordings=2)]
    said = retention_summary(Policy(RULES, (), UTC), old, NOW)
    assert said is not None
    assert (said.due, said.undecided) == (2, 3)
    held = retention_summary(Policy(RULES[:1], (PEOPLE,), UTC), old, NOW)
    assert held is not None
    assert (held.due, held.undecided) == (0, 5)


def test_the_next_date_of_a_rule_is_its_earliest_and_what_is_gone_or_pending_is_not_counted() -> None:
    found = [volume("a", date(2024, 5, 1)), volume("a", date(2024, 4, 1)), volume("a", None)]
    found += [volume("a", date(2024, 4, 1), status) for status in (Status.EXPIRED, Status.PENDING)]
    said = retention_summary(Policy(RULES[:1], (), UTC), found, NOW)
    assert said is not None
    (rule,) = said.rules
    assert (rule.keeps_for, rule.recordings, said.without_rule, said.due) == ("90 days", 2, 1, 0)
    assert rule.next_expires_at is not None
    assert rule.next_expires_at.date() == date(2024, 6, 30)


def test_a_hold_is_told_without_the_people_it_is_about() -> None:
    told = hold_summaries([PERIOD, SOME, PEOPLE])
    assert [(hold.covers, hold.recordings) for hold in told] == [
        ("account a, calls from 2024-01-01 00:00 UTC", None),
        ("named recordings", 2),
        ("calls of certain people", None),
    ]
    assert "4930" not in str(told)
