"""Archives as the page sees them, of any size, made up reproducibly."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

from archiver.ledger.values import Piece, WindowState
from archiver.ledger.values_reporting import DayVolume, FlagCount, ReasonCount
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level
from archiver.recording import Status
from archiver.reports.fixity import Extent
from archiver.reports.page.values import (
    AccountFacts,
    HoldSummary,
    NamedRecording,
    OpenFinding,
    PageFacts,
    Parties,
    Period,
    RetentionSummary,
    RuleSummary,
    RunFacts,
    RunKind,
    Verification,
)
from archiver.reports.status import Alarm, AlarmReason
from archiver.window import Window

NOW = datetime(2026, 11, 23, 8, 15, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")
PERIOD = Period(date(2025, 11, 1), date(2026, 11, 24))
DAY = timedelta(days=1)
COVERED = datetime(2026, 11, 23, 0, 30, tzinfo=UTC)


def account_id(number: int) -> str:
    return f"{number + 1:02x}" + "4f5c6d7e8a9b0c1d2e3f405162738495"[2:]


def pieces(first: date, *, bad: Sequence[tuple[date, WindowState, bool]] = ()) -> list[Piece]:
    """A piece a day up to the night before; `bad` ones are incomplete, and were scanned or not."""
    odd = {day: (state, scanned) for day, state, scanned in bad}
    found, start = [], datetime(first.year, first.month, first.day, tzinfo=UTC)
    while start < COVERED:
        end = min(start + DAY, COVERED)
        state, scanned = odd.get(start.date(), (WindowState.COMPLETE, True))
        reason = "" if state is WindowState.COMPLETE else "the PBX answered HTTP 503" if scanned else "not listed yet"
        found.append(Piece(Window(start, end), state, end if scanned else None, reason))
        start = end
    return found


def volumes(accounts: int, first: date, *, per_day: int, seed: int = 7) -> list[DayVolume]:
    """Weekdays with their ups and downs, nights of them quiet."""
    random = Random(seed)
    found = []
    for number in range(accounts):
        day = first
        while day < NOW.date():
            usual = per_day * (1.0 if day.weekday() < 5 else 0.12) * (0.6 if day.month in {7, 8, 12} else 1)
            count = int(usual * random.uniform(0.7, 1.25)) + (day.weekday() < 5)
            found.append(
                DayVolume(account_id(number), day, Status.ARCHIVED, count, count * random.randint(300_000, 900_000))
            )
            if random.random() < 0.06:
                status = random.choice([Status.MISSING, Status.MISSING, Status.QUARANTINED])
                found.append(DayVolume(account_id(number), day, status, max(1, count // 25), 0))
            day += DAY
    waiting = NOW.date() - DAY
    return [*found, *(DayVolume(account_id(number), waiting, Status.PENDING, 3, 900_000) for number in range(accounts))]


def facts(
    *,
    accounts: int = 2,
    first: date = date(2025, 12, 8),
    per_day: int = 120,
    period: Period = PERIOD,
    bad: bool = False,
    parties: bool = False,
) -> PageFacts:
    """An archive in which all is well, or one in which a good deal is not."""
    found = volumes(accounts, first, per_day=per_day)
    sums: Counter[tuple[str, Status]] = Counter()
    sizes: Counter[tuple[str, Status]] = Counter()
    for each in found:
        if bad or each.status in {Status.ARCHIVED, Status.MISSING}:
            sums[each.account_id, each.status] += each.recordings
            sizes[each.account_id, each.status] += each.bytes
    odd = [
        (date(2026, 3, 10), WindowState.INCOMPLETE, True),
        (date(2026, 3, 11), WindowState.INCOMPLETE, True),
        (date(2026, 9, 2), WindowState.INCOMPLETE, True),
        *((date(2026, 6, day), WindowState.INCOMPLETE, False) for day in range(15, 24)),
    ]
    made = [
        AccountFacts(
            account_id=account_id(number),
            expected=True,
            pieces=pieces(first, bad=odd if bad and number % 2 == 0 else ()),
            recordings={status: sums[account_id(number), status] for status in Status},
            bytes={status: sizes[account_id(number), status] for status in Status},
            covered_through=COVERED,
        )
        for number in range(accounts)
    ]
    good = PageFacts(
        made_at=NOW,
        zone=BERLIN,
        version="0.1.0",
        archive="/srv/recordings",
        period=period,
        ledger_is_there=True,
        accounts=made,
        volumes=[each for each in found if bad or each.status in {Status.ARCHIVED, Status.MISSING}],
        reasons=[ReasonCount(account_id(0), Status.MISSING, "not_there", 41)],
        flags=[FlagCount(account_id(0), "shorter_than_said", 7)],
        runs=[run(night) for night in range(30)],
        good_since=COVERED - 211 * DAY,
        last_good_at=COVERED,
        verifications=[
            Verification(
                NOW - (3 + 7 * n) * DAY, Level.FULL, Extent.SAMPLE if n else Extent.ALL, True, 52_000 - n, 31 * 10**9, 0
            )
            for n in range(5)
        ],
        verified_at={(Level.FULL, Extent.ALL): NOW - 3 * DAY},
    )
    return with_troubles(good, parties=parties) if bad else good


def run(night: int, outcome: str = "complete", *, left: int = 0, error: str = "") -> RunFacts:
    started = COVERED - night * DAY
    return RunFacts(
        run_id=f"run-{night}",
        kind=RunKind.RUN,
        started_at=started,
        ended_at=started + timedelta(minutes=11, seconds=night),
        outcome=outcome,
        listed=812 - 3 * night,
        archived=240 - night,
        left=left,
        bytes_archived=120_000_000 + night,
        error=error,
    )


def with_troubles(good: PageFacts, *, parties: bool) -> PageFacts:
    who = Parties("+4930555123450 Ana García", "4711 <Service>") if parties else None
    named = [
        NamedRecording(
            account_id(n % 2),
            f"202611-{n:032x}",
            (Status.PENDING, Status.QUARANTINED, Status.MISSING)[n % 3],
            NOW - n * timedelta(hours=5),
            n % 9 + 1,
            ("server_error", "length", "not_there")[n % 3],
            ("the PBX answered HTTP 503", "1024 bytes came and 2048 were said", "the PBX has no media")[n % 3],
            [],
            NOW + timedelta(hours=n) if n % 3 == 0 else None,
            who,
        )
        for n in range(9)
    ]
    flagged = replace(
        named[0], status=Status.ARCHIVED, reason="", flags=["shorter_than_said"], detail="61 s were said, 40 s came"
    )
    return replace(
        good,
        named=[*named, flagged],
        reasons=[
            ReasonCount(account_id(0), Status.PENDING, "server_error", 6),
            ReasonCount(account_id(0), Status.QUARANTINED, "length", 3),
            ReasonCount(account_id(1), Status.MISSING, "not_there", 41),
        ],
        alarms=[
            Alarm(
                account_id=account_id(0),
                reason=AlarmReason.PENDING,
                since="2026-11-18T02:00:00Z",
                detail="6 recordings are pending, one of them since 2026-11-18T02:00:00Z. `archiver run` tries them.",
            )
        ],
        runs=[
            run(0, "incomplete", left=9),
            run(
                1,
                "failed",
                error="the PBX could not be reached: connection refused",
            ),
            *good.runs[2:],
        ],
        good_since=None,
        last_good_at=COVERED - 2 * DAY,
        findings=[
            OpenFinding(Kind.DIGEST, f"{account_id(0)}/2026/05/06/202605-{7:032x}.mp3", Level.FULL, who),
            OpenFinding(Kind.MISSING_OBJECT, f"{account_id(1)}/2026/05/07/202605-{8:032x}.mp3", Level.FULL, who),
            OpenFinding(Kind.FOREIGN_OBJECT, "notes.txt", Level.SIZE),
        ],
        findings_total={Kind.DIGEST: 1, Kind.MISSING_OBJECT: 1, Kind.FOREIGN_OBJECT: 1},
        retention=RetentionSummary(
            rules=[
                RuleSummary(
                    name="calls",
                    keeps_for="7 years",
                    recordings=48_120,
                    next_expires_at=datetime(2032, 12, 8, tzinfo=UTC),
                ),
                RuleSummary(name="support", keeps_for="90 days", recordings=3120, next_expires_at=NOW + 2 * DAY),
            ],
            without_rule=17,
            due=204,
            held=12,
        ),
        holds=[
            HoldSummary(
                name="case-17",
                reason="dispute over an order",
                reference="LG 12/26",
                placed_by="m.koch",
                placed_at=NOW - 40 * DAY,
                covers="account 014f…, calls from 1 Feb 2026 to 1 Mar 2026",
                recordings=12,
            )
        ],
        with_parties=parties,
    )
