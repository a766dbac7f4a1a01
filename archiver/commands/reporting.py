"""`archiver report`: what ledger, audit trail and settings know of an archive, as a page for people.

Nothing is locked and nothing is changed, but for the audit trail, which says when a page names callers and callees. It can
be made while a run is active.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from archiver import __version__
from archiver.assembly import known_ledger, utc_now
from archiver.commands.fixity_records import read_fixity_records
from archiver.commands.holding import all_holds
from archiver.commands.policy import policy_of
from archiver.commands.reported_runs import last_runs
from archiver.destination import open_destination
from archiver.errors import ArchiverError, StoreError
from archiver.evidence import Evidence
from archiver.keys import sidecar_key
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values_reporting import Noteworthy, Reasons
from archiver.ledger.values_retention import KnownHold
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.audit import Record, What
from archiver.proof.evidence.audit_drafts import reported
from archiver.proof.verification.verify import Level
from archiver.recording import Status
from archiver.reports.fixity import FixityHistory, extent_of
from archiver.reports.page.parties import parties_in_sidecar, parties_of
from archiver.reports.page.rendering import page_of, verdict_of
from archiver.reports.page.retention import hold_summaries, retention_summary
from archiver.reports.page.values import (
    AccountFacts,
    NamedRecording,
    OpenFinding,
    PageFacts,
    Parties,
    Period,
    Verification,
)
from archiver.reports.page.written import PageFigures
from archiver.reports.status import status_report
from archiver.settings import Settings
from archiver.stores.base import Store
from archiver.window import Window

_MONTHS_BEFORE = 12
_MOST_NAMED = 100
_MOST_FINDINGS = 200
_MOST_VERIFICATIONS = 10
_LEVELS = {level.value: level for level in Level}
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What `archiver report` was asked for; without `period` the last 13 months are drawn day by day.

    What is not done within `max_age` is told as a problem.
    """

    period: Window | None = None
    max_age: timedelta = timedelta(hours=26)
    with_parties: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The page and its figures."""

    html: str
    figures: PageFigures


async def run_report(settings: Settings, request: PageRequest, *, now: Callable[[], datetime] = utc_now) -> Page:
    """`archiver report`: the page of an archive as it is now, also of one that nobody ran yet.

    Raises:
        ArchiverError: the ledger, or with parties the store, can't be opened.
    """
    facts, not_recorded = await _facts(settings, request, now())
    judged, html = await asyncio.to_thread(lambda: (verdict_of(facts), page_of(facts)))
    recordings = Counter[str]({status.value: 0 for status in Status})
    for account in facts.accounts:
        recordings.update({status.value: number for status, number in account.recordings.items()})
    figures = PageFigures(
        verdict=judged.mood.value,
        sentence=judged.sentence,
        problems=len(judged.points),
        since=facts.period.since.isoformat(),
        until=facts.period.until.isoformat(),
        accounts=len(facts.accounts),
        recordings=dict(recordings),
        bytes_archived=sum(account.bytes.get(Status.ARCHIVED, 0) for account in facts.accounts),
        findings=sum(facts.findings_total.values()),
        not_recorded=not_recorded,
    )
    return Page(html, figures)


async def _facts(settings: Settings, request: PageRequest, at: datetime) -> tuple[PageFacts, str | None]:
    """What the page shows, and what kept the audit trail from taking that it names somebody."""
    zone = settings.archive.zone
    fixity = await asyncio.to_thread(_read_fixity, settings.store.local.root)
    facts = PageFacts(
        made_at=at,
        zone=zone,
        version=__version__,
        archive=str(settings.store.local.root) if settings.archive.store == "local" else _bucket(settings),
        period=_period(request.period, at.astimezone(zone).date(), settings),
        ledger_is_there=False,
        fixity_known=fixity is not None,
        with_parties=request.with_parties,
    )
    if fixity is not None:
        found = fixity.history.open_findings()
        facts = replace(
            facts,
            findings=[OpenFinding(kind, key, level) for level, kind, key in found[:_MOST_FINDINGS]],
            findings_total=Counter(kind for _, kind, _ in found),
            verifications=list(fixity.verifications)[::-1],
            verified_at=fixity.history.fixity().verified_at,
        )
    async with AsyncExitStack() as stack:
        ledger = await known_ledger(settings, stack)
        if ledger is None:
            return facts, None
        facts = await _with_ledger(facts, ledger, settings, request)
        noteworthy = await ledger.noteworthy(_MOST_NAMED)
        if not request.with_parties:
            return replace(facts, named=[_named(each, None) for each in noteworthy]), None
        destination = await asyncio.to_thread(open_destination, settings, durable=False, make=False)
        stack.push_async_callback(asyncio.to_thread, destination.close)
        facts = await _with_parties(facts, noteworthy, destination.store)
        threads = await stack.enter_async_context(Threads(1, "evidence"))
        evidence = Evidence(settings, destination, ledger, threads)
        error = await evidence.witness([reported(recordings=len(facts.named), findings=len(facts.findings))])
        return facts, None if error is None else str(error)


async def _with_ledger(facts: PageFacts, ledger: SqlLedger, settings: Settings, request: PageRequest) -> PageFacts:
    expected = frozenset(settings.pbx.account_ids)
    status = await status_report(ledger, settings.pbx.account_ids, now=facts.made_at, max_age=request.max_age)
    known = {summary.account_id: summary for summary in await ledger.summaries()}
    accounts = []
    for account_id in sorted(expected | set(known)):
        summary = known.get(account_id)
        accounts.append(
            AccountFacts(
                account_id=account_id,
                expected=account_id in expected,
                pieces=await ledger.calendar(account_id) if summary is not None else (),
                recordings=summary.recordings if summary is not None else {},
                bytes=summary.bytes if summary is not None else {},
                covered_through=summary.covered_through if summary is not None else None,
            )
        )
    reasons: Reasons = await ledger.reasons()
    runs = await last_runs(ledger)
    volumes = await ledger.volumes(facts.zone, now=facts.made_at)
    holds = await _holds(settings, ledger)
    policy = policy_of(settings, holds)
    return replace(
        facts,
        ledger_is_there=True,
        accounts=accounts,
        volumes=volumes,
        retention=retention_summary(policy, volumes, facts.made_at),
        holds=hold_summaries([each.hold for each in holds]),
        reasons=reasons.reasons,
        flags=reasons.flags,
        alarms=status.alarms,
        runs=runs.last,
        good_since=runs.good_since,
        last_good_at=runs.last_good_at,
    )


async def _holds(settings: Settings, ledger: SqlLedger) -> list[KnownHold]:
    """All holds, those among them that only a file tells of."""
    destination = await asyncio.to_thread(open_destination, settings, durable=False, make=False)
    try:
        return await all_holds(destination, ledger)
    finally:
        await asyncio.to_thread(destination.close)


async def _with_parties(facts: PageFacts, found: Sequence[Noteworthy], store: Store) -> PageFacts:
    named = [
        _named(
            each,
            parties_of(each.metadata) if not each.key else await asyncio.to_thread(_parties_of_object, store, each.key),
        )
        for each in found
    ]
    findings = [
        replace(each, parties=await asyncio.to_thread(_parties_of_object, store, each.key)) for each in facts.findings
    ]
    return replace(facts, named=named, findings=findings)


def _named(found: Noteworthy, parties: Parties | None) -> NamedRecording:
    return NamedRecording(
        account_id=found.account_id,
        recording_id=found.recording_id,
        status=found.status,
        called_at=found.dated_at,
        attempts=found.attempts,
        reason=found.reason,
        detail=found.detail,
        flags=found.flags,
        next_attempt_at=found.next_attempt_at,
        parties=parties,
    )


def _parties_of_object(store: Store, key: str) -> Parties | None:
    """The parties that an object's sidecar names; None where there is none to be read."""
    try:
        return parties_in_sidecar(b"".join(store.open(sidecar_key(key))))
    except StoreError:
        return None


@dataclass(slots=True)
class _SeenFixity:
    """What the trail says of fixity, and its last verifications."""

    history: FixityHistory = field(default_factory=FixityHistory)
    verifications: deque[Verification] = field(default_factory=lambda: deque(maxlen=_MOST_VERIFICATIONS))

    def see(self, record: Record) -> None:
        """The next record."""
        self.history.see(record)
        level = _LEVELS.get(record.details.level or "")
        if record.what == What.VERIFIED and level is not None:
            details = record.details
            self.verifications.append(
                Verification(
                    at=datetime.fromisoformat(record.at).astimezone(UTC),
                    level=level,
                    extent=extent_of(details),
                    complete=bool(details.complete),
                    objects=details.objects,
                    bytes=details.bytes,
                    findings=details.findings,
                )
            )


def _read_fixity(root: Path) -> _SeenFixity | None:
    """What the audit trail says; None when it can't be read."""
    seen = _SeenFixity()
    try:
        read_fixity_records(root, seen.see)
    except ArchiverError:
        return None
    return seen


def _period(asked: Window | None, today: date, settings: Settings) -> Period:
    """Whole days; the last is today at most, the first at least one before."""
    tomorrow = today + _DAY
    if asked is None:
        months = today.year * 12 + today.month - 1 - _MONTHS_BEFORE
        return Period(date(months // 12, months % 12 + 1, 1), tomorrow)
    since = asked.start_at.astimezone(settings.archive.zone).date()
    last = (asked.end_at - timedelta(seconds=1)).astimezone(settings.archive.zone).date()
    until = min(last + _DAY, tomorrow)
    return Period(min(since, until - _DAY), until)


def _bucket(settings: Settings) -> str:
    s3 = settings.store.s3
    return f"s3://{s3.bucket}/{s3.prefix}"
