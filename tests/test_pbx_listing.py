"""The walk over a window, over real sockets: every id once, or loudly incomplete (faults rows 8 to 12, 15)."""

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from archiver.errors import BadAnswer, BodyCut, ListingIncomplete, PbxError, RequestRefused
from archiver.pbx import listing
from archiver.pbx.base import Access, Secret
from archiver.pbx.session import PbxSession
from archiver.simulator import (
    Body,
    Corpus,
    Cut,
    Fault,
    FaultScript,
    SimulatedCdr,
    SimulatedRecording,
    Simulator,
    Stats,
    Status,
    Switches,
)
from archiver.window import Window

ACCOUNT = "a" * 32
NOON = 1_714_996_800
GREGORIAN_S = 62_167_219_200
# Lone calls, pairs, and a crowded second in the middle; the last one is a pair again.
SECONDS = (10, 11, 11, 12, 30, 30, 30, 30, 30, 31, 50, 50)


def recording(n: int, second: int) -> SimulatedRecording:
    return SimulatedRecording(
        account_id=ACCOUNT, recording_id=f"202405-{n:032x}", start_unix_s=NOON + second, duration_ms=4000
    )


def corpus_of(seconds: Sequence[int]) -> Corpus:
    return Corpus([recording(n, second) for n, second in enumerate(seconds)], accounts=[ACCOUNT])


def access(base_url: str, **changed: Any) -> Access:
    told: dict[str, Any] = {
        "base_url": base_url,
        "username": "archiver",
        "domain": "example",
        "password": Secret("simulator"),
        "ca_file": None,
        "time_unit": "s",
        "page_size": 50,
        "recording_path": "/api/v2/reports/recording/{recording_id}",
        "connect_timeout_s": 5.0,
        "read_timeout_s": 5.0,
        "max_retries": 2,
        "retry_wait_s": 0.002,
        "requests_per_s": 0.0,
        "min_rate_bytes_per_s": 0.0,
        "connections": 10,
    }
    return Access(**(told | changed))


def window(start_s: int = 0, end_s: int = 600) -> Window:
    return Window(datetime.fromtimestamp(NOON + start_s, UTC), datetime.fromtimestamp(NOON + end_s, UTC))


async def walked(
    corpus: Corpus,
    *,
    page_size: int = 3,
    query: Window | None = None,
    faults: FaultScript | None = None,
    ids: list[str] | None = None,
    stats: list[Stats] | None = None,
    **switches: Any,
) -> list[str]:
    """The ids of a whole walk; into `ids` also those of a walk that fails."""
    found = [] if ids is None else ids
    async with Simulator(corpus, switches=Switches(**switches), faults=faults) as pbx:
        if stats is not None:
            stats.append(pbx.stats)
        async with PbxSession(access(pbx.base_url)) as session:
            async for page in listing.recordings(session, ACCOUNT, page_size=page_size).pages(query or window()):
                found += [row.recording_id for row in page.rows]
    return found


def all_ids(corpus: Corpus) -> list[str]:
    return sorted(row.recording_id for row in corpus.recordings)


@pytest.mark.parametrize("place", ["top", "in_data", "both"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
async def test_a_walk_hands_out_every_id_of_the_window_exactly_once_whatever_the_pbx_s_habits(
    cursor: str, order: str, place: str
) -> None:
    """Row 11: more recordings in one second than a page holds, under every cursor."""
    habits = itertools.product(
        (("absent", "sample"), ("null", "number"), ("empty", "text")), ("list", "null"), ("pvt_created", "start")
    )
    for (last_cursor, numbers), empty_page, time_field in habits:
        corpus = corpus_of(SECONDS)
        found = await walked(
            corpus,
            cursor=cursor,
            order=order,
            recordings_cursor=place,
            last_cursor=last_cursor,
            empty_page=empty_page,
            numbers=numbers,
            time_field=time_field,
        )
        assert sorted(found) == all_ids(corpus), (last_cursor, empty_page, numbers, time_field)


@pytest.mark.parametrize("place", ["top", "in_data", "both"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
async def test_a_walk_hands_out_every_cdr_of_the_window_exactly_once_whatever_the_pbx_s_habits(
    cursor: str, order: str, place: str
) -> None:
    legs = [
        SimulatedCdr(
            account_id=ACCOUNT,
            cdr_id=f"202405-{n:032x}",
            ended_unix_s=NOON + second,
            billing_s=3,
            interaction_id=f"{n}",
        )
        for n, second in enumerate(SECONDS)
    ]
    for last_cursor, stamp in itertools.product(("absent", "null", "empty"), ("gregorian", "unix", "ms")):
        habits: dict[str, Any] = {"cursor": cursor, "order": order, "cdrs_cursor": place, "cdr_timestamp": stamp}
        switches = Switches(**habits, last_cursor=last_cursor)  # type: ignore[arg-type]
        async with Simulator(Corpus((), legs), switches=switches) as pbx, PbxSession(access(pbx.base_url)) as session:
            walk = listing.cdrs(session, ACCOUNT, page_size=3).pages(window())
            found = [row.cdr_id async for page in walk for row in page.rows]
        assert sorted(found) == sorted(leg.cdr_id for leg in legs), (last_cursor, stamp)


@pytest.mark.parametrize("empty_page", ["list", "null"])
@pytest.mark.parametrize("last_cursor", ["absent", "null", "empty"])
async def test_an_empty_window_is_one_page_and_whole(empty_page: str, last_cursor: str) -> None:
    stats: list[Stats] = []
    assert await walked(corpus_of(()), empty_page=empty_page, last_cursor=last_cursor, stats=stats) == []
    assert stats[0].recordings_pages == 1


@pytest.mark.parametrize("end_bound", ["inclusive", "exclusive"])
async def test_a_window_returns_what_lies_in_it_and_nothing_beyond_its_edges(end_bound: str) -> None:
    corpus = corpus_of((0, 99, 100, 150, 200, 201))
    found = await walked(corpus, query=window(100, 200), time_field="start", end_bound=end_bound)
    inside = {row.recording_id for row in corpus.recordings if NOON + 100 <= row.start_unix_s < NOON + 200}
    edge = {row.recording_id for row in corpus.recordings if row.start_unix_s == NOON + 200}
    assert Counter(found) == Counter(inside | (edge if end_bound == "inclusive" else set()))


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
@pytest.mark.parametrize("ties", [1, 2, 3, 4, 40])
async def test_a_crowded_second_is_listed_whole_however_it_lies_to_the_page_s_edge(
    cursor: str, order: str, ties: int
) -> None:
    """Row 11."""
    for before, page_size in itertools.product(range(3), (1, 2, 3)):
        corpus = corpus_of([*range(before), *[7] * ties, 8, 20])
        found = await walked(corpus, page_size=page_size, cursor=cursor, order=order)
        assert sorted(found) == all_ids(corpus), (before, page_size)


@pytest.mark.parametrize("over_cap", ["clamp", "refuse"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive"])
async def test_a_second_with_more_rows_than_the_pbx_s_largest_page_makes_the_window_incomplete(
    cursor: str, over_cap: str
) -> None:
    """Row 11, the alarm."""
    corpus, stats = corpus_of([1, *[7] * 5, 8]), list[Stats]()
    ids: list[str] = []
    with pytest.raises(ListingIncomplete):
        await walked(corpus, cursor=cursor, page_cap=3, over_cap=over_cap, ids=ids, stats=stats)
    assert len(ids) == len(set(ids))
    assert stats[0].recordings_pages < 300


@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
async def test_a_page_cap_under_the_asked_page_size_loses_nothing(cursor: str, order: str) -> None:
    corpus = corpus_of(SECONDS)
    assert sorted(await walked(corpus, page_size=50, cursor=cursor, order=order, page_cap=6)) == all_ids(corpus)


@pytest.mark.parametrize("end_bound", ["inclusive", "exclusive"])
@pytest.mark.parametrize("order", ["ascending", "descending"])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive"])
async def test_two_busy_seconds_side_by_side_are_listed_whole_as_long_as_each_fits_a_page(
    cursor: str, order: str, end_bound: str
) -> None:
    """Row 11: an inclusive endDate shows the next second's rows as well, more than one page holds."""
    for seconds in ((7,) * 5 + (8,) * 5, (6,) * 5 + (7,) * 5 + (8,) * 5 + (9,) * 5):
        corpus = corpus_of(seconds)
        habits: dict[str, Any] = {"cursor": cursor, "order": order, "end_bound": end_bound, "time_field": "start"}
        assert sorted(await walked(corpus, page_size=3, page_cap=7, **habits)) == all_ids(corpus)


@pytest.mark.parametrize("cap", [3, 4, 5, 9, 11, 13, 40])
@pytest.mark.parametrize("cursor", ["inclusive", "exclusive", "exact"])
async def test_a_pbx_that_refuses_larger_pages_is_asked_for_the_largest_it_gives(cursor: str, cap: int) -> None:
    """Row 11: larger pages are needed for a busy second, but not as much larger as we ask for at first."""
    corpus, stats = corpus_of([1, *[7] * (cap - 1), 8, 20]), list[Stats]()
    found = await walked(corpus, page_size=3, cursor=cursor, page_cap=cap, over_cap="refuse", stats=stats)
    assert sorted(found) == all_ids(corpus)
    assert stats[0].statuses[400] <= 14


def over_an_edge(hours: int, calls: Sequence[tuple[int, int]]) -> tuple[Corpus, Window]:
    """Calls by start and duration in seconds around a month's edge in the server's zone, and two days around it."""
    edge = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp()) - 3600 * hours
    rows = [
        SimulatedRecording(
            account_id=ACCOUNT, recording_id=f"2024-{n:032x}", start_unix_s=edge + start_s, duration_ms=1000 * length_s
        )
        for n, (start_s, length_s) in enumerate(calls)
    ]
    day = Window(datetime.fromtimestamp(edge - 86_400, UTC), datetime.fromtimestamp(edge + 86_400, UTC))
    return Corpus(rows, accounts=[ACCOUNT], time_zone=timezone(timedelta(hours=hours))), day


OVER = [(-4000, 5000), (-3000, 5000), (-900, 3600), (-60, 1800), (-1, 2), (5, 60), (7000, 1)]


@pytest.mark.parametrize("hours", [-9, 0, 13])
@pytest.mark.parametrize("order", ["ascending", "descending"])
async def test_a_cursor_forgotten_near_a_months_edge_costs_no_call_that_runs_over_it(order: str, hours: int) -> None:
    """Row 10: only a window over both months shows such a call, so the window must not be cut at the edge."""
    corpus, day = over_an_edge(hours, OVER)
    faults = FaultScript([Fault(on="recordings", page=1, action=Body(text=page_of((1, 2, 3))))])
    found = await walked(corpus, query=day, faults=faults, order=order)
    assert set(all_ids(corpus)) <= set(found)
    assert faults.unhit() == []


@pytest.mark.parametrize("days", [0, 10])
async def test_a_window_that_had_to_be_cut_at_a_months_edge_is_incomplete_and_elsewhere_whole(days: int) -> None:
    """Row 10: the last page is full, and the PBX gives no larger one to tell whether it is the end."""
    corpus, day = over_an_edge(0, [(start_s + 86_400 * days, length_s) for start_s, length_s in OVER[:6]])
    query = Window(day.start_at + timedelta(days=days), day.end_at + timedelta(days=days))
    ids: list[str] = []
    if days:
        await walked(corpus, query=query, page_cap=3, over_cap="refuse", cursor="exact", ids=ids)
    else:
        with pytest.raises(ListingIncomplete, match="month"):
            await walked(corpus, query=query, page_cap=3, over_cap="refuse", cursor="exact", ids=ids)
    assert sorted(ids) == all_ids(corpus)


@pytest.mark.parametrize("order", ["ascending", "descending"])
async def test_a_page_that_ends_within_a_second_near_a_months_edge_hides_no_call_over_it(order: str) -> None:
    """Row 11, the cursor that goes on after the second: calls of both months were saved in the one that a page cuts."""
    for before in range(3):
        calls = [(-100 + n, 1) for n in range(before)] + [(-50, 57), (-40, 47), (2, 5), (3, 4), (-10, 17), (30, 5)]
        corpus, day = over_an_edge(0, calls)
        found = await walked(corpus, query=day, cursor="exclusive", order=order)
        assert sorted(found) == all_ids(corpus), before


async def test_a_page_size_that_the_pbx_refuses_from_the_start_is_refused_and_not_an_empty_window() -> None:
    with pytest.raises(RequestRefused):
        await walked(corpus_of(SECONDS), page_size=50, page_cap=6, over_cap="refuse")


def page_of(seconds: Sequence[int], **more: Any) -> str:
    rows = [
        {"_id": f"202405-{n:032x}", "start": NOON + second + GREGORIAN_S, "pvt_created": NOON + second + GREGORIAN_S}
        for n, second in enumerate(seconds)
    ]
    return json.dumps({"recordings": rows} | more)


async def test_a_cursor_that_repeats_for_ever_makes_the_window_incomplete() -> None:
    """Row 9."""
    cursor, stats = str(NOON + GREGORIAN_S + 1), list[Stats]()
    faults = FaultScript(
        [Fault(on="recordings", action=Body(text=page_of((1, 2, 3), next_start_key=cursor)), times=-1)]
    )
    with pytest.raises(ListingIncomplete):
        await walked(corpus_of(()), faults=faults, stats=stats)
    assert stats[0].recordings_pages < 300


async def test_cursors_that_go_round_in_a_circle_make_the_window_incomplete() -> None:
    """Row 9: A, B, A."""
    a, b = str(NOON + GREGORIAN_S + 1), str(NOON + GREGORIAN_S + 2)
    faults = FaultScript(
        [
            Fault(on="recordings", start_key=b, action=Body(text=page_of((1, 2, 3), next_start_key=a)), times=-1),
            Fault(on="recordings", action=Body(text=page_of((4, 5, 6), next_start_key=b)), times=-1),
        ]
    )
    stats: list[Stats] = []
    with pytest.raises(ListingIncomplete):
        await walked(corpus_of(()), faults=faults, stats=stats)
    assert stats[0].recordings_pages < 300
    assert faults.unhit() == []


async def test_fresh_cursors_that_bring_no_new_row_make_the_window_incomplete() -> None:
    """Row 9: an endless row of cursors; row 10: an empty page with a key."""
    for seconds in ((), (1, 2, 3)):
        faults = FaultScript(
            [
                Fault(on="recordings", action=Body(text=page_of(seconds, next_start_key=str(NOON + n))))
                for n in range(500)
            ]
        )
        with pytest.raises(ListingIncomplete):
            await walked(corpus_of(()), faults=faults)


async def test_a_full_page_without_a_cursor_is_listed_again_in_shorter_windows() -> None:
    """Row 10: the cursor was forgotten once."""
    corpus = corpus_of((1, 2, 3, 4, 5))
    faults = FaultScript([Fault(on="recordings", page=1, action=Body(text=page_of((1, 2, 3))))])
    found = await walked(corpus, faults=faults)
    assert sorted(found) == all_ids(corpus)
    assert faults.unhit() == []


async def test_a_full_page_without_a_cursor_for_a_single_second_is_not_taken_for_the_end() -> None:
    """Row 10: the PBX forgot the cursor, and the second can't be cut."""
    corpus = corpus_of([7] * 5)
    faults = FaultScript([Fault(on="recordings", action=Body(text=page_of((7, 7, 7))))])
    found = await walked(corpus, query=window(7, 8), time_field="start", faults=faults)
    assert sorted(found) == all_ids(corpus)


async def test_a_full_last_page_of_one_second_is_whole_once_a_larger_page_shows_no_more() -> None:
    corpus = corpus_of((7, 7, 7))
    for cursor in ("inclusive", "exclusive", "exact"):
        assert sorted(await walked(corpus, cursor=cursor)) == all_ids(corpus)


BAD_BODIES = [
    Body(kind="html"),
    Body(kind="empty"),
    Body(text="{}"),
    Body(text='{"data": []}'),
    Body(text='{"recordings": [{"_id": "202405'),
    Body(text='{"recordings": {}}'),
    Body(text="[]"),
    Body(text="null"),
    Body(text='{"recordings": NaN}'),
    Body(text='{"recordings": [' + "9" * 5000 + "]" + "}}"),
    Body(text='{"recordings": ' + "[" * 100_000),
]


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_an_answer_that_is_no_page_is_asked_for_again_and_never_counts_as_the_end(body: Body) -> None:
    """Rows 8, 15."""
    for page in (1, 2):
        corpus = corpus_of(SECONDS)
        once = FaultScript([Fault(on="recordings", page=page, action=body, times=2)])
        assert sorted(await walked(corpus, faults=once)) == all_ids(corpus)
        assert once.unhit() == []
        ever = FaultScript([Fault(on="recordings", page=page, action=body, times=-1)])
        with pytest.raises(BadAnswer):
            await walked(corpus, faults=ever)


@pytest.mark.parametrize("framing", ["content_length", "chunked", "close"])
async def test_a_page_cut_anywhere_is_asked_for_again_and_never_counts_as_the_end(framing: Any) -> None:
    """Row 8: each sixteenth, by each framing."""
    for part, how in itertools.product(range(16), ("fin", "rst")):
        corpus = corpus_of(SECONDS)
        cut = Cut(fraction=part / 16, how=how, framing=framing)  # type: ignore[arg-type]
        once = FaultScript([Fault(on="recordings", page=2, action=cut, times=1)])
        assert sorted(await walked(corpus, faults=once)) == all_ids(corpus), (part, how)
        assert once.unhit() == []
    ever = FaultScript([Fault(on="recordings", page=2, action=Cut(fraction=0.5, framing=framing), times=-1)])
    with pytest.raises((BodyCut, BadAnswer)):
        await walked(corpus_of(SECONDS), faults=ever)


async def test_rows_without_a_usable_id_make_the_window_incomplete_after_all_good_rows_came() -> None:
    """Row 14: what can't be named can't be proved archived."""
    odd = page_of((1, 2))[:-2] + ', {"_id": 7}, "text", {"_id": ""}]}'
    ids: list[str] = []
    with pytest.raises(ListingIncomplete, match="3 rows"):
        await walked(
            corpus_of(()), page_size=10, ids=ids, faults=FaultScript([Fault(on="recordings", action=Body(text=odd))])
        )
    assert len(ids) == 2


async def test_the_cursor_is_sent_back_byte_for_byte() -> None:
    odd = "63882+5/ä ?&=%25"
    faults = FaultScript(
        [
            Fault(on="recordings", start_key=odd, action=Status(code=200, text=page_of((1,)))),
            Fault(on="recordings", action=Body(text=page_of((5, 6, 7), next_start_key=odd))),
        ]
    )
    await walked(corpus_of(()), faults=faults)
    assert faults.unhit() == []


async def test_rows_that_come_and_go_between_pages_neither_double_nor_stop_the_walk() -> None:
    """Row 12."""
    corpus = corpus_of((1, 3, 5, 7, 9, 11))
    found: list[str] = []
    async with Simulator(corpus) as pbx, PbxSession(access(pbx.base_url)) as session:
        n = 100
        async for page in listing.recordings(session, ACCOUNT, page_size=2).pages(window()):
            found += [row.recording_id for row in page.rows]
            if n < 103:
                corpus.add(recording(n, 2 * (n - 100)))
                n += 1
            if n == 102:
                corpus.remove(ACCOUNT, recording(5, 11).recording_id)
    assert len(found) == len(set(found))
    assert {recording(i, 0).recording_id for i in range(5)} <= set(found)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    seconds=st.lists(st.integers(0, 12), max_size=30),
    page_size=st.integers(1, 7),
    cursor=st.sampled_from(["inclusive", "exclusive", "exact"]),
    order=st.sampled_from(["ascending", "descending"]),
    place=st.sampled_from(["top", "in_data", "both"]),
    last_cursor=st.sampled_from(["absent", "null", "empty"]),
    time_field=st.sampled_from(["pvt_created", "start"]),
    page_cap=st.integers(1, 12),
    over_cap=st.sampled_from(["clamp", "refuse"]),
    end_bound=st.sampled_from(["inclusive", "exclusive"]),
)
async def test_a_walk_of_any_corpus_ends_with_every_id_once_or_says_incomplete(
    seconds: list[int], page_size: int, page_cap: int, place: str, **habits: Any
) -> None:
    corpus = corpus_of(seconds)
    ids: list[str] = []
    try:
        await walked(
            corpus,
            query=window(0, 32),
            page_size=page_size,
            page_cap=page_cap,
            recordings_cursor=place,
            ids=ids,
            **habits,
        )
    except (ListingIncomplete, RequestRefused):
        # Only a second with a whole page of rows can't be proved whole, or a page size that is refused from the start.
        assert max(Counter(seconds).values(), default=0) >= page_cap or page_size > page_cap
    except PbxError as error:
        raise AssertionError(repr(error)) from error
    else:
        assert sorted(ids) == all_ids(corpus)
    assert len(ids) == len(set(ids))
