"""The calendar's arithmetic and the columns' conversions, by property."""

import asyncio
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.ledger.columns import (
    fitting,
    from_milliseconds,
    from_seconds,
    milliseconds,
    original,
    plain,
    seconds,
)
from archiver.ledger.ledger import open_ledger
from archiver.ledger.pieces import Span, not_held, remainders
from archiver.ledger.values import WindowState
from archiver.window import Window

START = datetime(2026, 5, 6, tzinfo=UTC)
spans = st.tuples(st.integers(0, 40), st.integers(1, 15)).map(lambda pair: Span(pair[0], pair[0] + pair[1]))
instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


def covered(found: list[Span]) -> list[int]:
    return [second for span in found for second in range(span.start, span.end)]


@given(spans, st.lists(spans, max_size=6))
def test_what_is_not_held_and_what_is_held_make_up_what_is_wanted(wanted: Span, asked: list[Span]) -> None:
    held: list[Span] = []
    for span in asked:
        held = sorted([*held, *not_held(span, held)])
    seconds_held = covered(held)
    assert len(seconds_held) == len(set(seconds_held))
    missing = covered(list(not_held(wanted, held)))
    assert missing == [second for second in covered([wanted]) if second not in seconds_held]


@given(spans, spans)
def test_a_cut_leaves_exactly_what_lies_outside_it(span: Span, cut: Span) -> None:
    left = list(remainders(span, cut))
    assert covered(left) == [second for second in covered([span]) if second not in covered([cut])]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(spans, st.sampled_from(["ask", "complete", "incomplete"])), max_size=12))
def test_the_calendar_stays_disjoint_and_says_of_each_second_what_was_last_seen(steps: list[tuple[Span, str]]) -> None:
    expected: dict[int, str] = {}
    for span, step in steps:
        for second in covered([span]):
            if step == "ask":
                expected.setdefault(second, "incomplete")
            else:
                expected[second] = step
    with TemporaryDirectory() as folder:
        found = asyncio.run(_calendar(folder, steps))
    seen = [(second, state) for span, state in found for second in covered([span])]
    assert len(seen) == len(dict(seen))
    assert dict(seen) == expected
    assert found == sorted(found)


async def _calendar(folder: str, steps: list[tuple[Span, str]]) -> list[tuple[Span, str]]:
    ledger = await open_ledger(f"sqlite:///{folder}/ledger.sqlite3")
    for span, step in steps:
        window = Window(START + timedelta(seconds=span.start), START + timedelta(seconds=span.end))
        if step == "ask":
            await ledger.ask_for("a", [window])
        else:
            await ledger.finish_window("a", window, state=WindowState(step), scanned_at=START)
    pieces = await ledger.calendar("a")
    await ledger.close()
    base = seconds(START)
    return [
        (Span(seconds(piece.window.start_at) - base, seconds(piece.window.end_at) - base), piece.state.value)
        for piece in pieces
    ]


@given(st.text(st.characters(exclude_categories=[]), max_size=12), st.text(alphabet="\\u0d8\x00\ud800", max_size=12))
def test_any_text_comes_back_and_fits_any_database(one: str, other: str) -> None:
    for text in (one, other, one + other):
        assert original(plain(text)) == text
        assert "\x00" not in plain(text)
        plain(text).encode()
    assert (plain(one) == plain(other)) == (one == other)


@given(instants)
def test_times_are_cut_down_to_what_is_stored(at: datetime) -> None:
    assert from_seconds(seconds(at)) == at.replace(microsecond=0)
    assert from_milliseconds(milliseconds(at)) == at.replace(microsecond=at.microsecond // 1000 * 1000)


@given(st.integers())
def test_only_numbers_of_64_bits_are_stored(number: int) -> None:
    assert fitting(number) == (number if abs(number) < 2**63 else None)
