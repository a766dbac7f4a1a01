"""Windows cover a period exactly once, reach over month edges in every zone, and times are read as they are meant."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archiver.window import MAX_QUERY, Window, listing_windows, may_hide_calls, parse_age, parse_time

NOW = datetime(2026, 11, 23, 12, 30, 15, tzinfo=UTC)
SECONDS = st.integers(0, 100 * 365 * 86400).map(lambda s: datetime(1980, 1, 1, tzinfo=UTC) + timedelta(seconds=s))
LENGTHS = st.integers(3 * 3600, 10 * 86400).map(lambda s: timedelta(seconds=s))
OVERLAPS = st.integers(0, 3 * 86400).map(lambda s: timedelta(seconds=s))


@st.composite
def windows(draw: st.DrawFn, longest_s: int = 60 * 86400) -> Window:
    start = draw(SECONDS)
    return Window(start, start + timedelta(seconds=draw(st.integers(1, longest_s))))


def cover_once(parts: list[Window], whole: Window) -> bool:
    return (
        parts[0].start_at == whole.start_at
        and parts[-1].end_at == whole.end_at
        and all(one.end_at == other.start_at for one, other in pairwise(parts))
    )


@given(windows(longest_s=4000 * 60), st.integers(60, 86400))
def test_a_split_covers_the_window_exactly_once_in_parts_of_at_most_the_length(window: Window, length_s: int) -> None:
    length = timedelta(seconds=length_s)
    parts = list(window.split(length))
    assert cover_once(parts, window)
    assert all(part.length <= length for part in parts)
    assert len(parts) <= window.length // length + 2


@given(windows(86400 * 3), windows(86400 * 3), st.integers(600, 86400))
def test_two_runs_cut_at_the_same_instants(one: Window, other: Window, length_s: int) -> None:
    length = timedelta(seconds=length_s)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    for window in (one, other):
        inner = [part.end_at for part in window.split(length)][:-1]
        assert all((cut - epoch) % length == timedelta(0) for cut in inner)


@given(windows())
def test_halves_cover_the_window_exactly_once_at_a_whole_second(window: Window) -> None:
    if window.length < timedelta(seconds=2):
        with pytest.raises(ValueError, match="end after"):
            window.halves()
        return
    first, second = window.halves()
    assert cover_once([first, second], window)
    assert abs(first.length - second.length) <= timedelta(seconds=1)


@given(windows(), windows())
def test_windows_overlap_when_and_only_when_they_share_an_instant(one: Window, other: Window) -> None:
    start, end = max(one.start_at, other.start_at), min(one.end_at, other.end_at)
    assert one.overlaps(other) == other.overlaps(one) == (start < end)
    if start < end:
        assert start in one
        assert start in other


@given(windows())
def test_a_window_holds_its_start_and_not_its_end(window: Window) -> None:
    assert window.start_at in window
    assert window.end_at not in window
    assert window.end_at - timedelta(microseconds=1) in window


@pytest.mark.parametrize(
    ("start", "end"),
    [(NOW, NOW), (NOW, NOW - timedelta(seconds=1)), (NOW.replace(tzinfo=None), NOW), (NOW, NOW.replace(tzinfo=None))],
)
def test_a_window_is_never_empty_reversed_or_naive(start: datetime, end: datetime) -> None:
    with pytest.raises(ValueError, match="window"):
        Window(start, end)


def test_a_window_is_shown_in_utc() -> None:
    start = datetime(2022, 5, 6, 2, tzinfo=timezone(timedelta(hours=2)))
    assert str(Window(start, start + timedelta(hours=1))) == "[2022-05-06T00:00:00Z, 2022-05-06T01:00:00Z)"


@given(windows(20 * 86400), LENGTHS, OVERLAPS, st.integers(0, 5 * 86400))
def test_a_listing_accounts_for_the_period_exactly_once_and_asks_for_at_least_that(
    period: Window, length: timedelta, overlap: timedelta, later_s: int
) -> None:
    now = period.end_at + timedelta(seconds=later_s)
    listed = list(listing_windows(period, length=length, overlap=overlap, now=now))
    assert cover_once([each.covers for each in listed], period)
    for each in listed:
        assert each.query.start_at <= each.covers.start_at - overlap
        assert each.covers.end_at <= each.query.end_at <= now
    assert listed[-1].query.end_at == min(period.end_at + overlap, now)


@given(windows(20 * 86400), st.integers(3 * 3600, 7 * 86400), st.integers(0, 2 * 86400))
def test_no_query_is_wider_than_the_pbx_answers(period: Window, length_s: int, overlap_s: int) -> None:
    length, overlap = timedelta(seconds=length_s), timedelta(seconds=overlap_s)
    for each in listing_windows(period, length=length, overlap=overlap, now=period.end_at):
        assert each.query.length <= MAX_QUERY


def month_of(at: datetime, zone: timezone | ZoneInfo) -> tuple[int, int]:
    local = at.astimezone(zone)
    return local.year, local.month


OFFSETS = st.integers(-12 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters)))


AHEAD = datetime(2024, 2, 29, 10, tzinfo=UTC)
BEHIND = datetime(2024, 3, 1, 12, tzinfo=UTC)
"""The same month begins here in the zone furthest ahead, and in the one furthest behind."""


@st.composite
def calls_over_an_edge(draw: st.DrawFn) -> tuple[datetime, datetime, timezone]:
    """The edge, the start of a call of up to six hours over it, and the zone the month is counted in."""
    zone = draw(OFFSETS)
    edge = datetime(draw(st.integers(2000, 2099)), draw(st.integers(1, 12)), 1, tzinfo=zone).astimezone(UTC)
    return edge, edge - timedelta(seconds=draw(st.integers(1, 6 * 3600))), zone


@given(calls_over_an_edge(), st.integers(0, 6 * 3600), st.integers(3600, 3 * 86400), st.integers(0, 86400))
@example((AHEAD, AHEAD - timedelta(minutes=1), timezone(timedelta(hours=14))), 0, 3600, 0)
@example((BEHIND, BEHIND - timedelta(hours=6), timezone(timedelta(hours=-12))), 0, 3600, 0)
def test_a_call_over_a_months_end_in_any_zone_is_in_a_query_that_touches_both_months(
    call: tuple[datetime, datetime, timezone], after_s: int, length_s: int, grid_s: int
) -> None:
    """The call starts before the edge and is saved after it; whichever covers its saving must reach both months."""
    edge, started, zone = call
    saved = max(edge, min(edge + timedelta(seconds=after_s), started + timedelta(hours=6)))
    period = Window(edge - timedelta(days=2, seconds=grid_s), edge + timedelta(days=2))
    listed = listing_windows(
        period, length=timedelta(seconds=length_s), overlap=timedelta(0), now=period.end_at + timedelta(days=9)
    )
    (each,) = [each for each in listed if saved in each.covers]
    assert started in each.query
    assert month_of(each.query.start_at, zone) < month_of(each.query.end_at - timedelta(microseconds=1), zone)


@pytest.mark.parametrize("zone", ["Europe/Madrid", "America/New_York", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_every_month_of_the_calendar_has_its_edge_in_real_zones(zone: str) -> None:
    for year in (2023, 2024):
        for month in range(1, 13):
            edge = datetime(year, month, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
            period = Window(edge, edge + timedelta(hours=1))
            first = next(listing_windows(period, length=timedelta(hours=1), overlap=timedelta(0), now=NOW))
            assert first.query.start_at <= edge - timedelta(hours=6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-06", datetime(2026, 5, 5, 22, tzinfo=UTC)),
        ("2026-01-06", datetime(2026, 1, 5, 23, tzinfo=UTC)),
        ("2026-05-06T17:00+02:00", datetime(2026, 5, 6, 15, tzinfo=UTC)),
        ("2026-05-06T17:00Z", datetime(2026, 5, 6, 17, tzinfo=UTC)),
        ("2026-05-06T17:00", datetime(2026, 5, 6, 15, tzinfo=UTC)),
        (" 2026-05-06T17:00:01.999Z ", datetime(2026, 5, 6, 17, 0, 1, tzinfo=UTC)),
        ("30m", NOW - timedelta(minutes=30)),
        ("36h", NOW - timedelta(hours=36)),
        ("7d", NOW - timedelta(days=7)),
        ("2w", NOW - timedelta(weeks=2)),
        ("0d", NOW),
    ],
)
def test_a_time_is_read_in_the_archives_zone_unless_it_names_one(text: str, expected: datetime) -> None:
    assert parse_time(text, now=NOW, timezone=ZoneInfo("Europe/Madrid")) == expected


@given(
    st.one_of(
        st.text(max_size=30), st.from_regex(r"[0-9]{1,7}[mhdw]", fullmatch=True), st.from_regex(r"[0-9T:+-]{1,25}")
    )
)
@example("999999w")
@example("0001-01-01")
@example("0001-01-01T00:00+14:00")
@example("9999-12-31T23:59-12:00")
@example("٣d")
def test_any_text_is_an_aware_whole_second_or_a_sentence_about_what_is_allowed(text: str) -> None:
    found, said = None, ""
    try:
        found = parse_time(text, now=NOW, timezone=ZoneInfo("Europe/Madrid"))
    except ValueError as refused:
        said = str(refused)
    if found is None:
        assert "is no time: use an ISO date" in said
        assert said.isprintable()
    else:
        assert found.tzinfo is UTC
        assert found.microsecond == 0


@pytest.mark.parametrize(
    ("since", "cut", "hides"),
    [
        ("2024-05-31T00:00", "2024-06-01T00:00", True),
        ("2024-05-31T00:00", "2024-05-31T10:00", True),  # where it is June already, fourteen hours ahead
        ("2024-05-30T00:00", "2024-05-31T09:59", False),
        ("2024-05-31T00:00", "2024-06-01T19:59", True),  # six hours after the month began, fourteen hours behind
        ("2024-05-31T00:00", "2024-06-01T20:00", False),
        ("2024-06-01T14:00", "2024-06-01T15:00", False),  # the window itself touches one month only, everywhere
        ("2024-06-10T00:00", "2024-06-12T00:00", False),
        ("2024-12-31T12:00", "2025-01-01T03:00", True),
    ],
)
def test_a_part_hides_calls_only_when_a_months_edge_lies_less_than_a_call_before_it(
    since: str, cut: str, hides: bool
) -> None:
    start, at = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (since, cut))
    assert may_hide_calls(Window(start, at + timedelta(days=1)), at) is hides
    assert not may_hide_calls(Window(at, at + timedelta(days=1)), at)


@pytest.mark.parametrize(
    ("text", "age"),
    [("90m", timedelta(minutes=90)), ("26h", timedelta(hours=26)), ("2d", timedelta(days=2)), (" 1w ", timedelta(7))],
)
def test_an_age_is_read_as_it_is_meant(text: str, age: timedelta) -> None:
    assert parse_age(text) == age


@pytest.mark.parametrize("text", ["", "0h", "000d", "26", "h", "1.5h", "-1h", "1y", "2026-05-06", "1234567h", "٢d\n"])
def test_what_is_no_age_is_refused_with_what_is_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="26h"):
        parse_age(text)
