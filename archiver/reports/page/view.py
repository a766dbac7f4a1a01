"""From the facts to what the template shows: everything counted, cut to size and put into words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from archiver.recording import Status
from archiver.reports.fixity import Extent
from archiver.reports.page.charts import Chart, shares
from archiver.reports.page.coverage import Coverage, coverage
from archiver.reports.page.values import (
    HoldSummary,
    NamedRecording,
    OpenFinding,
    PageFacts,
    RetentionSummary,
    RunFacts,
    Verification,
)
from archiver.reports.page.verdict import Verdict, meaning_of, total, verdict
from archiver.reports.page.volumes import LOOKS, Volumes, volumes
from archiver.reports.page.wording import at, count, lasted, on, size, words

MEANINGS = {
    Status.ARCHIVED: "whole, checked, and durable in the store",
    Status.PENDING: "known, not archived yet; each run tries again",
    Status.QUARANTINED: "bytes came, but contradict what the PBX says of them",
    Status.MISSING: "listed, but the PBX has no media of it, after all tries",
    Status.EXPIRED: "removed by retention; a tombstone is kept",
}
_LOOK_OF = {status: look for look, _, statuses in LOOKS for status in statuses}
_EXTENTS = {Extent.ALL: "everything", Extent.SAMPLE: "a sample", Extent.PERIOD: "the calls of a period"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A big number, what it counts, and a word beside it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """A status with its numbers."""

    status: str
    look: str
    recordings: str
    share: str
    size: str
    meaning: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """A kind of finding that stands open."""

    kind: str
    meaning: str
    count: str


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """How many recordings are not archived for a reason."""

    status: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """All that the template needs; texts of the PBX are not harmless yet."""

    facts: PageFacts
    title: str
    made: str
    period: str
    drawn: str
    verdict: Verdict
    tiles: Sequence[Tile]
    coverage: Coverage
    volumes: Volumes
    statuses: Sequence[StatusRow]
    statuses_chart: Chart
    reasons: Sequence[ReasonRow]
    named: Sequence[NamedRecording]
    flagged: Sequence[NamedRecording]
    left_total: int
    finding_rows: Sequence[FindingRow]
    findings: Sequence[OpenFinding]
    verifications: Sequence[Verification]
    runs: Sequence[RunFacts]
    retention: RetentionSummary | None
    holds: Sequence[HoldSummary]


def view_of(facts: PageFacts) -> View:
    """The view of the facts."""
    covered = coverage(facts)
    judged = verdict(facts, covered.incomplete_days)
    last = facts.period.until - timedelta(days=1)
    counts = {status: total(facts, status) for status in Status}
    return View(
        facts=facts,
        title=f"Recording archive, {at(facts.made_at, facts.zone)}",
        made=at(facts.made_at, facts.zone),
        period=f"{on(facts.period.since)} to {on(last)}",
        drawn=f"{on(covered.drawn.since)} to {on(last)}",
        verdict=judged,
        tiles=list(_tiles(facts, counts)),
        coverage=covered,
        volumes=volumes(facts.volumes, facts.period),
        statuses=[
            _status_row(facts, status, counts) for status in MEANINGS if counts[status] or status is Status.ARCHIVED
        ],
        statuses_chart=shares([(_LOOK_OF[status], counts[status]) for status in MEANINGS]),
        reasons=_reasons(facts),
        named=[each for each in facts.named if each.status is not Status.ARCHIVED],
        flagged=[each for each in facts.named if each.status is Status.ARCHIVED],
        left_total=counts[Status.PENDING] + counts[Status.QUARANTINED] + counts[Status.MISSING],
        finding_rows=[
            FindingRow(words(kind.value), meaning_of(kind), count(found))
            for kind, found in facts.findings_total.items()
        ],
        findings=facts.findings,
        verifications=facts.verifications,
        runs=facts.runs,
        retention=facts.retention,
        holds=facts.holds,
    )


def extent_of(verification: Verification) -> str:
    """How much a verification took, in words."""
    return _EXTENTS[verification.extent] + ("" if verification.complete else ", stopped before its end")


def took(run: RunFacts) -> str:
    """How long a run took; empty while nobody knows."""
    return lasted(run.ended_at - run.started_at) if run.ended_at is not None else ""


def _tiles(facts: PageFacts, counts: dict[Status, int]) -> list[Tile]:
    archived_bytes = sum(account.bytes.get(Status.ARCHIVED, 0) for account in facts.accounts)
    expected = [account for account in facts.accounts if account.expected]
    through = [account.covered_through for account in expected]
    known = [when for when in through if when is not None]
    covered = (
        at(min(known), facts.zone) if known and len(known) == len(through) else "not everywhere" if known else "nothing"
    )
    day, _, time = covered.partition(", ")
    verified = max(
        (when for (_, extent), when in facts.verified_at.items() if extent is not Extent.PERIOD), default=None
    )
    left = counts[Status.PENDING] + counts[Status.QUARANTINED]
    found = sum(facts.findings_total.values())
    return [
        Tile("Recordings archived", count(counts[Status.ARCHIVED]), size(archived_bytes)),
        Tile("Listed completely up to", day, time or "see Coverage"),
        Tile("Not archived yet", count(left), f"{count(counts[Status.QUARANTINED])} in quarantine"),
        Tile("Missing at the PBX", count(counts[Status.MISSING]), "after all tries"),
        Tile(
            "Last verified",
            at(verified, facts.zone).partition(", ")[0] if verified else "never",
            f"{count(found)} open findings" if found != 1 else "1 open finding",
        ),
    ]


def _status_row(facts: PageFacts, status: Status, counts: dict[Status, int]) -> StatusRow:
    whole = sum(counts.values())
    part = 100 * counts[status] / whole if whole else 0
    return StatusRow(
        status=status.value,
        look=_LOOK_OF[status],
        recordings=count(counts[status]),
        share=f"{part:.1f} %" if part in {0, 100} or 0.1 <= part <= 99.9 else "< 0.1 %" if part < 1 else "> 99.9 %",  # noqa: PLR2004 - what a decimal can say
        size=size(sum(account.bytes.get(status, 0) for account in facts.accounts)),
        meaning=MEANINGS[status],
    )


def _reasons(facts: PageFacts) -> list[ReasonRow]:
    found: Counter[tuple[Status, str]] = Counter()
    for each in facts.reasons:
        found[each.status, each.reason] += each.recordings
    order = list(MEANINGS)
    rows = sorted(found.items(), key=lambda item: (order.index(item[0][0]), -item[1], item[0][1]))
    return [
        ReasonRow(status.value, words(reason) or "no try has failed yet", number)
        for (status, reason), number in rows[:100]
    ]
