"""The page, from facts to HTML: what it says, that it is sound and small, and that no text from outside becomes markup."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from html.parser import HTMLParser
from itertools import pairwise
from zoneinfo import ZoneInfo

import page_facts
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_hostile import PAYLOADS, hostile

from archiver.ledger.values import Piece, WindowState
from archiver.proof.verification.findings import Kind
from archiver.recording import Status
from archiver.reports.page.charts import bars, calendar, month_marks, shares
from archiver.reports.page.days import DayState, days_between, gaps, states
from archiver.reports.page.palette import DARK, LIGHT, READ, SEEN, Palette, contrast
from archiver.reports.page.parties import parties_in_sidecar, parties_of
from archiver.reports.page.rendering import page_of
from archiver.reports.page.values import PageFacts, Parties, Period
from archiver.reports.page.verdict import Mood, Verdict, meaning_of, verdict
from archiver.reports.page.wording import harmless, lasted, numberless, size
from archiver.reports.status import Alarm, AlarmReason
from archiver.window import Window

NOW, BERLIN, DAY = page_facts.NOW, page_facts.BERLIN, page_facts.DAY
MOST_BYTES = 2_000_000
VOID = {"meta", "br", "path"}


class Seen(HTMLParser):
    """The page as a parser sees it: its elements with their attributes' names, and its texts."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    @property
    def skeleton(self) -> list[tuple[str, tuple[str, ...]]]:
        """The elements with the names of their attributes, and with those values that do something."""
        alive = {"id", "class", "href", "http-equiv", "src", "d"}
        return [
            (tag, tuple(f"{name}={value}" if name in alive else name for name, value in attrs))
            for tag, attrs in self.elements
        ]

    @property
    def text(self) -> str:
        return " ".join(" ".join(data.split()) for tag, data in self.texts if tag != "style" and data.strip())


def judged(facts: PageFacts, incomplete_days: int = 0) -> Verdict:
    return verdict(facts, incomplete_days)


def with_counts(facts: PageFacts, **counts: int) -> PageFacts:
    first, *others = facts.accounts
    recordings = {**first.recordings, **{Status(name): number for name, number in counts.items()}}
    return replace(facts, accounts=[replace(first, recordings=recordings), *others])


# The verdict.


def test_when_all_is_well_one_sentence_says_so_and_since_when() -> None:
    found = judged(page_facts.facts())
    assert found.mood is Mood.FINE
    assert found.sentence == (
        "Everything is fine: every call up to 23 Nov 2026, 01:30 is listed, "
        "and every recording that the PBX has is archived."
    )
    assert found.since == "Every run since 26 Apr 2026, 02:30 has left nothing undone."
    assert not found.points


def test_what_waits_for_a_night_is_no_reason_to_worry_and_is_said() -> None:
    found = judged(with_counts(page_facts.facts(), pending=1, missing=0))
    assert found.mood is Mood.FINE
    assert found.sentence.endswith("is listed, and 1 recording still waits for the next try.")


@pytest.mark.parametrize(
    ("spoil", "mood", "word"),
    [
        (lambda facts: replace(facts, ledger_is_there=False), Mood.ACT, "no ledger"),
        (lambda facts: replace(facts, fixity_known=False), Mood.ACT, "audit trail can't be read"),
        (lambda facts: replace(facts, findings_total={Kind.DIGEST: 2}), Mood.ACT, "2 archived recordings hold other"),
        (
            lambda facts: replace(facts, findings_total={Kind.FOREIGN_OBJECT: 1}),
            Mood.LOOK,
            "1 file lies in the archive",
        ),
        (lambda facts: replace(facts, verified_at={}), Mood.LOOK, "no verification has read the recordings yet"),
        (lambda facts: replace(facts, made_at=NOW + 60 * DAY), Mood.LOOK, "since 20 Nov 2026"),
        (lambda facts: with_counts(facts, quarantined=3), Mood.LOOK, "3 recordings in quarantine"),
        (lambda facts: replace(facts, runs=[page_facts.run(0, "failed"), *facts.runs]), Mood.LOOK, "last run failed"),
        (lambda facts: with_alarm(facts, AlarmReason.RUN), Mood.ACT, "no run has come to its end"),
        (lambda facts: with_alarm(facts, AlarmReason.COVERAGE), Mood.ACT, "not all listed (account x)"),
        (lambda facts: with_alarm(facts, AlarmReason.PENDING), Mood.LOOK, "waited for too long (account x)"),
    ],
)
def test_what_is_not_well_is_said_with_what_to_do(
    spoil: Callable[[PageFacts], PageFacts], mood: Mood, word: str
) -> None:
    found = judged(spoil(page_facts.facts()))
    assert (found.mood, len(found.points)) == (mood, 1)
    assert word in found.points[0].what
    assert found.points[0].remedy
    openings = ("Somebody has to act", "Nothing has been") if mood is Mood.ACT else ("The archive works",)
    assert found.sentence.startswith(openings)


def with_alarm(facts: PageFacts, reason: AlarmReason) -> PageFacts:
    whose = None if reason is AlarmReason.RUN else "x"
    return replace(
        facts, alarms=[Alarm(account_id=whose, reason=reason, since=None, detail="it is late. `archiver run`.")]
    )


def test_the_worst_comes_first_and_the_rest_is_counted() -> None:
    facts = replace(with_counts(page_facts.facts(), quarantined=1), findings_total={Kind.MISSING_OBJECT: 1})
    found = judged(facts, incomplete_days=2)
    assert [point.mood for point in found.points] == [Mood.ACT, Mood.LOOK, Mood.LOOK]
    assert found.sentence == "Somebody has to act: 1 archived recording is gone. There are 2 more points below."


def test_the_same_trouble_of_many_accounts_is_one_point() -> None:
    facts = page_facts.facts()
    alarms = [Alarm(account_id=f"a{n}", reason=AlarmReason.COVERAGE, since=None, detail="late. x") for n in range(50)]
    (point,) = judged(replace(facts, alarms=alarms)).points
    assert (point.what, point.meaning) == ("recent calls are not all listed (50 accounts)", "Account a0: Late.")


@pytest.mark.parametrize("kind", list(Kind))
def test_every_kind_of_finding_has_its_words(kind: Kind) -> None:
    assert meaning_of(kind)


# Days.


def piece(start: datetime, end: datetime, *, whole: bool = True, scanned: bool = True) -> Piece:
    state = WindowState.COMPLETE if whole else WindowState.INCOMPLETE
    return Piece(Window(start, end), state, end if scanned else None, "" if whole else "why")


def at(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 5, day, hour, tzinfo=UTC)


def test_a_day_is_complete_only_when_all_of_it_is() -> None:
    days = days_between(date(2026, 5, 1), date(2026, 5, 9), UTC)
    pieces = [
        piece(at(2, 12), at(4)),
        piece(at(4), at(5), whole=False),
        piece(at(5), at(6), whole=False, scanned=False),
        piece(at(6), at(6, 20)),
        piece(at(7), at(8, 10)),
    ]
    found = states(pieces, days, now=at(8, 12))
    assert found == [
        DayState.OUTSIDE,
        DayState.COMPLETE,  # nothing before its noon was asked for
        DayState.COMPLETE,
        DayState.INCOMPLETE,
        DayState.NOT_YET,
        DayState.NOT_YET,
        DayState.COMPLETE,
        DayState.NOT_YET,
    ]
    assert [(gap.first.day, gap.last.day, gap.state, gap.reason) for gap in gaps(found, days, pieces)] == [
        (4, 4, DayState.INCOMPLETE, "why"),
        (5, 6, DayState.NOT_YET, "why"),
        (8, 8, DayState.NOT_YET, ""),
    ]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/St_Johns", "Asia/Kathmandu", "Pacific/Apia", "UTC"])
def test_days_of_a_zone_are_as_long_as_its_clocks_make_them(zone: str) -> None:
    days = days_between(date(2011, 12, 1), date(2012, 12, 1), ZoneInfo(zone))
    assert len(days) == 366
    assert days.edges[-1] - days.edges[0] == int(
        (
            datetime(2012, 12, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
            - datetime(2011, 12, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        ).total_seconds()
    )
    assert all(0 <= end - start <= 25 * 3600 for start, end in pairwise(days.edges))
    whole = [piece(datetime.fromtimestamp(days.edges[0], UTC), datetime.fromtimestamp(days.edges[-1], UTC))]
    assert set(states(whole, days, now=NOW)) == {DayState.COMPLETE}


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_every_day_has_one_state_whatever_the_pieces_and_no_incomplete_one_is_called_complete(
    lengths: Sequence[tuple[int, bool, bool]],
) -> None:
    start, pieces = at(3, 5), []
    for hours, whole, scanned in lengths:
        pieces.append(piece(start, start + timedelta(hours=hours), whole=whole, scanned=scanned))
        start += timedelta(hours=hours)
    days = days_between(date(2026, 5, 1), date(2026, 7, 10), BERLIN)
    found = states(pieces, days, now=NOW)
    assert len(found) == len(days)
    for state, (since, until) in zip(found, pairwise(days.edges), strict=True):
        touching = [
            each
            for each in pieces
            if each.window.start_at.timestamp() < until and each.window.end_at.timestamp() > since
        ]
        if state is DayState.COMPLETE:
            assert touching
            assert all(each.state is WindowState.COMPLETE for each in touching)
        assert (state is DayState.INCOMPLETE) == any(
            each.state is WindowState.INCOMPLETE and each.scanned_at is not None for each in touching
        )


# Drawing.


def test_a_calendar_draws_each_day_once() -> None:
    found = [DayState.OUTSIDE, DayState.COMPLETE, DayState.INCOMPLETE, DayState.NOT_YET] * 10
    drawn = calendar(found, date(2026, 5, 6), [1, 2, 3, 0, 5, 6])
    paths = {shape.look: shape.path for shape in drawn.shapes}
    assert {look: path.count("M") for look, path in paths.items()} == {
        "complete": 10,
        "incomplete": 10,
        "mark": 10,
        "not-yet": 10,
        "volume": 5,
    }
    # 6 May 2026 is a Wednesday; the day after it is the first complete one: third row from the top, then fourth.
    assert paths["complete"].startswith("M30 57h11")


def test_bars_stand_on_one_another_within_their_axis() -> None:
    from archiver.reports.page.charts import Series

    drawn = bars([Series("archived", [10, 0, 237]), Series("missing", [0, 3, 13])], [(0, "May")], height=190)
    assert [label.text for label in drawn.beside] == ["0", "100", "200", "300"]
    heights = [float(tall) for shape in drawn.shapes for tall in re.findall(r"v-([\d.]+)", shape.path)]
    assert len(heights) == 4
    assert max(heights) < 190
    assert not bars([Series("archived", [0, 0])], [], height=100).shapes


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=5).filter(any))
def test_shares_fill_their_width_and_none_is_too_thin_to_see(numbers: list[int]) -> None:
    drawn = shares([(f"look{number}", value) for number, value in enumerate(numbers)])
    widths = [float(re.findall(r"h([\d.]+)", shape.path)[0]) for shape in drawn.shapes]
    assert len(widths) == sum(1 for number in numbers if number)
    assert min(widths) >= 3
    assert sum(widths) + len(widths) == pytest.approx(drawn.width, abs=0.1)


def test_months_are_marked_where_they_begin() -> None:
    assert month_marks(date(2025, 12, 30), 40) == [(2, "Jan 2026"), (33, "Feb")]
    assert [text for _, text in month_marks(date(2016, 2, 1), 3652)][:2] == ["2017", "2018"]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_can_be_read_and_every_mark_seen(palette: Palette) -> None:
    assert set(LIGHT) == set(DARK)
    for text, ground in READ:
        assert contrast(palette[text], palette[ground]) >= 4.5, (text, ground)
    for mark, ground in SEEN:
        assert contrast(palette[mark], palette[ground]) >= 3, (mark, ground)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


# Words.


def test_sizes_and_lengths_have_three_digits_and_two_units() -> None:
    said = [size(number) for number in (0, 999, 1000, 999_600, 12_345_678, 10**12 - 1, 3 * 10**18)]
    assert said == ["0 bytes", "999 bytes", "1.00 kB", "1.00 MB", "12.3 MB", "1.00 TB", "3.00 EB"]
    assert [lasted(timedelta(seconds=seconds)) for seconds in (59, 61, 3661, 90_000)] == [
        "59 s",
        "1 min 1 s",
        "1 h 1 min",
        "1 d 1 h",
    ]


@given(st.text())
def test_what_can_not_be_seen_is_written_out(text: str) -> None:
    assert harmless(text).isprintable()
    harmless(text).encode("utf-8")


def test_numbers_of_phones_are_taken_out_and_sizes_are_not() -> None:
    text = "from +49301234567 at 1234567890 came 1048576 bytes, run 20261104T013000Z-5f0c1d2e"
    assert numberless(text) == "from [number] at [number] came 1048576 bytes, run 20261104T013000Z-5f0c1d2e"


def test_parties_are_number_and_name_or_else_the_address() -> None:
    told = (
        b'{"caller_id_number": "+4930", "caller_id_name": "Ana", "callee_id_number": 4711, "from": "x@y", "to": "z@y"}'
    )
    assert parties_of(told) == Parties("+4930 Ana", "4711")
    assert parties_in_sidecar(b'{"schema": 1, "recording": ' + told + b"}") == Parties("+4930 Ana", "4711")
    assert parties_of(b'{"from": "x@y", "to": {"a": 1}, "caller_id_number": null}') == Parties("x@y", "")
    for nonsense in (b"", b"[]", b"\xff", b'{"caller_id_number": [[]]}', b"[" * 100_000):
        assert parties_of(nonsense) == parties_in_sidecar(nonsense) == Parties()
    assert parties_in_sidecar(b'{"recording": null}') == Parties()


# The page as a whole.


@pytest.mark.parametrize("bad", [False, True])
def test_the_page_is_sound_html_with_headings_landmarks_and_labelled_charts(bad: bool) -> None:
    html = page_of(page_facts.facts(bad=bad))
    seen = Seen(html)
    assert seen.open == []
    tags = Counter(tag for tag, _ in seen.elements)
    assert (tags["h1"], tags["main"], tags["nav"], tags["footer"], tags["title"] >= 1) == (1, 1, 1, 1, True)
    attributes = [(tag, dict(attrs)) for tag, attrs in seen.elements]
    assert attributes[0] == ("html", {"lang": "en"})
    levels = [int(tag[1]) for tag, _ in seen.elements if re.fullmatch(r"h\d", tag)]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all("scope" in attrs for tag, attrs in attributes if tag == "th")
    assert tags["table"] == tags["caption"]
    ids = [attrs["id"] for _, attrs in attributes if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in attributes:
        if tag == "svg":
            assert attrs.get("aria-hidden") == "true" or (
                attrs["role"] == "img" and set(str(attrs["aria-labelledby"]).split()) <= set(ids)
            )
        if tag == "a":
            assert str(attrs["href"]).removeprefix("#") in ids
        for name in ("aria-labelledby",):
            assert set(str(attrs.get(name, "")).split()) <= set(ids)


def test_the_page_loads_nothing_runs_nothing_and_allows_no_style_but_its_own() -> None:
    html = page_of(page_facts.facts(bad=True))
    seen = Seen(html)
    assert not {tag for tag, _ in seen.elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "base",
        "form",
        "image",
        "use",
    }
    names = {name for _, attrs in seen.elements for name, _ in attrs}
    assert not {name for name in names if name.startswith("on")} | names & {
        "style",
        "src",
        "srcset",
        "action",
        "xlink:href",
    }
    (policy,) = [
        dict(attrs)["content"]
        for tag, attrs in seen.elements
        if ("http-equiv", "Content-Security-Policy") in attrs and tag == "meta"
    ]
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert len(style) == 1
    assert "url(" not in style[0]
    assert "://" not in html


def test_the_page_begins_with_the_verdict_and_says_what_stands_behind_it() -> None:
    text = Seen(page_of(page_facts.facts(bad=True))).text
    order = [
        "Action needed",
        "1 archived recording holds other bytes now",
        "Recordings archived",
        "Coverage",
        "What to do",
        "Delete nothing",
    ]
    order += ["Volumes", "Statuses", "Not archived, and why", "Fixity", "Retention and holds", "Runs"]
    places = [text.index(word, text.index("Action needed")) for word in order]
    assert places == sorted(places)
    for word in (
        "10 Mar 2026 to 12 Mar 2026 incomplete the PBX answered HTTP 503",
        "server error",
        "1024 bytes came and 2048 were said",
        "8 Dec 2032",
        "case-17",
        "the PBX could not be reached",
        "52,000",
        "Europe/Berlin",
    ):
        assert word in text


def test_without_rules_it_says_that_nothing_ever_expires() -> None:
    text = Seen(page_of(page_facts.facts())).text
    assert "No retention rules are set: nothing ever expires." in text
    assert "No holds are in force." in text


def test_an_archive_that_nobody_ran_yet_has_a_page() -> None:
    facts = replace(
        page_facts.facts(accounts=1),
        ledger_is_there=False,
        accounts=[],
        volumes=[],
        runs=[],
        verifications=[],
        verified_at={},
        reasons=[],
        flags=[],
        good_since=None,
        last_good_at=None,
    )
    text = Seen(page_of(facts)).text
    assert "Nothing has been archived yet" in text
    assert "No verification has looked yet" in text
    assert "No recording is dated in these days." in text
    assert "left nothing undone" not in text


def test_parties_are_named_only_when_asked_for() -> None:
    with_them, without = page_of(page_facts.facts(bad=True, parties=True)), page_of(page_facts.facts(bad=True))
    assert "+4930555123450 Ana García" in with_them
    assert "4711 &lt;Service&gt;" in with_them
    assert "Caller" not in without
    assert "It holds no phone numbers and no names of callers." in without


# Hostile texts.


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_hostile_text_becomes_an_element(payload: str) -> None:
    assert_same_structure(payload)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(
        alphabet=st.one_of(st.sampled_from("<>\"'&/=-!`{}%#;: a\x00\u202e\ud800\x1b"), st.characters()),
        min_size=1,
        max_size=40,
    )
)
def test_no_text_at_all_becomes_an_element(text: str) -> None:
    assert_same_structure(text)


@cache
def benign() -> Seen:
    return Seen(page_of(hostile("x")))


def assert_same_structure(text: str) -> None:
    html = page_of(hostile(text))
    html.encode("utf-8")
    seen, expected = Seen(html), benign()
    # A flag of blanks is no flag, and an empty text leaves its cell out; neither adds anything.
    if text.strip():
        assert seen.skeleton == expected.skeleton
    assert seen.open == []
    assert {tag for tag, _ in seen.elements} <= {tag for tag, _ in expected.elements}


# Size.


@pytest.mark.parametrize(
    "made",  # not yet: they are large, and every process would hold all of them from the start
    [
        partial(page_facts.facts, accounts=1, per_day=300),
        partial(page_facts.facts, accounts=50, first=date(2016, 11, 1), per_day=3, bad=True),
        partial(
            page_facts.facts,
            accounts=50,
            first=date(2016, 11, 1),
            per_day=3,
            period=Period(date(2016, 11, 1), date(2026, 11, 24)),
        ),
        partial(page_facts.facts, accounts=300, first=date(2025, 11, 1), per_day=1),
        partial(
            page_facts.facts,
            accounts=1,
            first=date(2000, 1, 1),
            per_day=1,
            period=Period(date(1990, 1, 1), date(2026, 11, 24)),
        ),
    ],
    ids=[
        "100,000 recordings",
        "ten years of fifty accounts",
        "all their days asked for",
        "300 accounts",
        "a generation",
    ],
)
def test_the_page_stays_below_two_megabytes(made: Callable[[], PageFacts]) -> None:
    assert len(page_of(made()).encode()) < MOST_BYTES


def test_what_is_older_than_the_period_stands_there_by_years() -> None:
    text = Seen(page_of(page_facts.facts(accounts=1, first=date(2023, 6, 1), per_day=2))).text
    table = text[text.index("Days and recordings of account") :]
    rows = [
        label for label in ("Nov 2026", "Nov 2025", "2025 before 1 Nov 2025", "2024", "2023") if f" {label} " in table
    ]
    assert rows == ["Nov 2026", "Nov 2025", "2025 before 1 Nov 2025", "2024", "2023"]
    assert re.search(r" 2024 366 0 0 \d", table)
