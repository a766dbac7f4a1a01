"""The accounts on the page: a calendar of the period by days, the same by months in numbers, and what is older by years."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from archiver.recording import Status
from archiver.reports.page.charts import Chart, calendar, weekly_sums
from archiver.reports.page.days import Days, DayState, Gap, days_between, gaps, states
from archiver.reports.page.values import AccountFacts, PageFacts, Period
from archiver.reports.page.wording import at, counted, on, size

_MOST_CELLS = 40_000
_MOST_ROWS = 1_200
_FEWEST_DAYS = 28
_MOST_GAPS = 12
_STRIP_DAYS = 400
_OLDEST_YEAR = 1990


@dataclass(frozen=True, slots=True)
class Strip:
    """A drawn stretch of an account's calendar, with what it shows in words."""

    chart: Chart
    title: str
    words: str


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A month or a year of an account in numbers."""

    label: str
    complete: int
    incomplete: int
    not_yet: int
    archived: int
    waiting: int
    missing: int
    size: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """An account as it is shown."""

    account_id: str
    expected: bool
    covered: str
    recordings: str
    size: str
    strips: Sequence[Strip]
    rows: Sequence[SpanRow]
    gaps: Sequence[Gap]
    gaps_more: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """All accounts, the days that are drawn, and how many days in it all were listed and not whole."""

    drawn: Period
    cut: bool
    accounts: Sequence[AccountView]
    incomplete_days: int
    totals: Counter[DayState]


@dataclass(slots=True)
class _Sum:
    """What comes together in a row."""

    days: Counter[DayState] = field(default_factory=Counter)
    recordings: Counter[Status] = field(default_factory=Counter)
    archived_bytes: int = 0


def drawn_period(period: Period, accounts: int) -> Period:
    """The days that are drawn: all of the period, or as many of its last as keep the page small."""
    most = max(_FEWEST_DAYS, _MOST_CELLS // max(accounts, 1))
    return Period(max(period.since, period.until - timedelta(days=most)), period.until)


def coverage(facts: PageFacts) -> Coverage:
    """Each account's calendar and numbers."""
    drawn = drawn_period(facts.period, len(facts.accounts))
    first = min((_first_day(account, facts, drawn) for account in facts.accounts), default=drawn.since)
    everything = days_between(first, drawn.until, facts.zone)
    months = (drawn.days // 30 + 2) * len(facts.accounts) <= _MOST_ROWS
    volumes: defaultdict[str, list[tuple[date, Status, int, int]]] = defaultdict(list)
    for volume in facts.volumes:
        if volume.day is not None:
            volumes[volume.account_id].append((volume.day, volume.status, volume.recordings, volume.bytes))
    views, totals = [], Counter[DayState]()
    for account in facts.accounts:
        found = states(account.pieces, everything, now=facts.made_at)
        totals.update(found)
        views.append(_view(account, facts, drawn, everything, found, volumes[account.account_id], months=months))
    return Coverage(drawn, drawn != facts.period, views, totals[DayState.INCOMPLETE], totals)


def _first_day(account: AccountFacts, facts: PageFacts, drawn: Period) -> date:
    """From when on an account's days are counted; what hostile dates say before there were archives is not."""
    if not account.pieces:
        return drawn.since
    first = account.pieces[0].window.start_at.astimezone(facts.zone).date()
    return max(min(first, drawn.since), date(_OLDEST_YEAR, 1, 1))


def _view(
    account: AccountFacts,
    facts: PageFacts,
    drawn: Period,
    everything: Days,
    found: Sequence[DayState],
    volumes: Sequence[tuple[date, Status, int, int]],
    *,
    months: bool,
) -> AccountView:
    stretches = list(gaps(found, everything, account.pieces))
    # Today is never complete before it is over, which is no gap.
    if stretches and stretches[-1].state is DayState.NOT_YET and stretches[-1].first == stretches[-1].last:
        stretches = stretches[:-1] if stretches[-1].last == facts.made_at.astimezone(facts.zone).date() else stretches
    daily: Counter[date] = Counter()
    for day, _, recordings, _ in volumes:
        daily[day] += recordings
    return AccountView(
        account_id=account.account_id,
        expected=account.expected,
        covered=at(account.covered_through, facts.zone) if account.covered_through else "nothing yet",
        recordings=counted(account.recordings.get(Status.ARCHIVED, 0), "recording"),
        size=size(account.bytes.get(Status.ARCHIVED, 0)),
        strips=list(_strips(account, drawn, everything, found, daily)),
        rows=_rows(drawn, everything, found, volumes, months=months),
        gaps=stretches[::-1][:_MOST_GAPS],
        gaps_more=max(0, len(stretches) - _MOST_GAPS),
    )


def _strips(
    account: AccountFacts, drawn: Period, everything: Days, found: Sequence[DayState], daily: Counter[date]
) -> Iterable[Strip]:
    """One strip for about a year; a longer period has one for each calendar year."""
    since = drawn.since
    while since < drawn.until:
        until = drawn.until if drawn.days <= _STRIP_DAYS else min(drawn.until, date(since.year + 1, 1, 1))
        start, length = (since - everything.first).days, (until - since).days
        shown = found[start : start + length]
        tally = Counter(shown)
        if len(tally) > 1 or DayState.OUTSIDE not in tally or not account.pieces:
            said = f"{on(since)} to {on(until - timedelta(days=1))}"
            weekly = weekly_sums(daily, since, length)
            yield Strip(
                chart=calendar(shown, since, weekly),
                title=f"Coverage of account {account.account_id}, {said}",
                words=(
                    f"{counted(tally[DayState.COMPLETE], 'day')} complete, {tally[DayState.INCOMPLETE]:,} incomplete, "
                    f"{tally[DayState.NOT_YET]:,} not yet listed, {tally[DayState.OUTSIDE]:,} before the archive begins; "
                    f"the busiest week has {counted(max(weekly, default=0), 'recording')}."
                ),
            )
        since = until


def _rows(
    drawn: Period,
    everything: Days,
    found: Sequence[DayState],
    volumes: Sequence[tuple[date, Status, int, int]],
    *,
    months: bool,
) -> list[SpanRow]:
    """The latest first: the period's months, or its years when months would be too many, and the years before it."""

    def span_of(day: date) -> tuple[int, int]:
        return (day.year, day.month if months and day >= drawn.since else 0)

    sums: defaultdict[tuple[int, int], _Sum] = defaultdict(_Sum)
    for ordinal, state in enumerate(found):
        if state is not DayState.OUTSIDE:
            sums[span_of(everything.day(ordinal))].days[state] += 1
    for day, status, recordings, size_bytes in volumes:
        if day < drawn.until:
            row = sums[span_of(day)]
            row.recordings[status] += recordings
            row.archived_bytes += size_bytes if status is Status.ARCHIVED else 0
    return [_row(_label(span, drawn, months=months), sums[span]) for span in sorted(sums, reverse=True)]


def _label(span: tuple[int, int], drawn: Period, *, months: bool) -> str:
    year, month = span
    if month:
        return f"{date(year, month, 1):%b} {year}"
    cut = months and year == drawn.since.year
    return f"{year} before {on(drawn.since)}" if cut else str(year)


def _row(label: str, row: _Sum) -> SpanRow:
    return SpanRow(
        label=label,
        complete=row.days[DayState.COMPLETE],
        incomplete=row.days[DayState.INCOMPLETE],
        not_yet=row.days[DayState.NOT_YET],
        archived=row.recordings[Status.ARCHIVED],
        waiting=row.recordings[Status.PENDING] + row.recordings[Status.QUARANTINED],
        missing=row.recordings[Status.MISSING],
        size=size(row.archived_bytes),
    )
