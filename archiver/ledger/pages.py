"""A page of a listing: what its rows change in the ledger, and which of them this run has to work on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, insert, select, update

from archiver.ledger.backend import insert_or, insert_rows, lock_accounts, portions
from archiver.ledger.columns import plain
from archiver.ledger.coverage import note_progress
from archiver.ledger.decide import Facts, Known, Verdict, decide, facts_of
from archiver.ledger.entries import account_number, find_account, find_known, find_metadata, recording_of, task_of
from archiver.ledger.fencing import check_right, recovered_of
from archiver.ledger.pieces import Span
from archiver.ledger.tables import accounts, entries, former_versions, listed_metadata
from archiver.ledger.tally import TallyChange, weight
from archiver.ledger.values import PageResult, Task, WindowProgress
from archiver.ledger.values_claims import Claim, Recovered
from archiver.recording import Recording, Status

_UPDATE_FACTS = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"))
    .values({name: bindparam(name) for name in Facts._fields})
)
_TRY_AGAIN = (
    update(entries)
    .where(entries.c.entry_id == bindparam("of_entry"))
    .values(
        status=Status.PENDING.value,
        version=bindparam("version"),
        retries_used=bindparam("retries_used"),
        next_attempt_at=bindparam("next_attempt_at"),
        reason="",
        detail="",
    )
)
_OBJECT = ("key", "size_bytes", "sha256", "sidecar_sha256", "archived_ms", "archived_run_no", "manifest_part")


@dataclass(frozen=True, slots=True)
class Page:
    """The arguments of `record_page`; times in Unix seconds."""

    run_no: int
    account_id: str
    span: Span
    rows: Sequence[Recording]
    progress: WindowProgress
    at: int
    retry_missing: bool
    claim: Claim | None = None

    @property
    def lost(self) -> frozenset[int]:
        """Attempts of this run whose claims don't hold any more."""
        return self.claim.lost if self.claim is not None else frozenset()


class _Row(NamedTuple):
    """A listed row beside the entry it belongs to."""

    recording: Recording
    facts: Facts
    known: Known


@dataclass(slots=True)
class _Sorted:
    """A page's rows by what they mean."""

    fresh: list[tuple[str, Recording, Facts]] = field(default_factory=list)
    settled: Counter[Status] = field(default_factory=Counter)
    claims: list[int] = field(default_factory=list)
    work: list[_Row] = field(default_factory=list)
    again: list[_Row] = field(default_factory=list)
    changed: list[_Row] = field(default_factory=list)
    settled_before: list[_Row] = field(default_factory=list)


def record_page(connection: Connection, page: Page) -> PageResult:
    """See the ledger's promise; runs within the caller's transaction."""
    account_no = account_number(connection, plain(page.account_id))
    check_right(connection, page.claim, page.run_no, accounts.c.account_no == account_no)
    lock_accounts(connection, [account_no])
    listed = {plain(row.recording_id): row for row in page.rows}
    rows = _sort(page, listed, find_known(connection, account_no, list(listed)))
    tally = TallyChange()
    recovered = _recovered(connection, page, rows)
    claim_no = page.claim.claim_no if page.claim is not None else None
    for portion in portions(rows.claims):
        claimed = update(entries).where(entries.c.entry_id.in_(portion))
        connection.execute(claimed.values(run_no=page.run_no, claim_no=claim_no))
    tasks = _insert_new(connection, page, account_no, rows.fresh, tally)
    _keep_former(connection, rows.changed)
    tasks |= _take_up(connection, page, account_no, rows, tally)
    tally.write(connection)
    note_progress(connection, account_no, page.span, page.progress, run_no=page.run_no)
    ordered = [tasks[recording_id] for recording_id in listed if recording_id in tasks]
    return PageResult(tasks=ordered, settled=dict(rows.settled), changed=len(rows.changed), recovered=recovered)


def classify_page(connection: Connection, account_id: str, rows: Sequence[Recording]) -> Mapping[Status, int]:
    """See the ledger's promise; reads only."""
    listed = {plain(row.recording_id): row for row in rows}
    account_no = find_account(connection, plain(account_id))
    known = {} if account_no is None else find_known(connection, account_no, list(listed))
    found: Counter[Status] = Counter()
    for recording_id, recording in listed.items():
        entry = known.get(recording_id)
        verdict = decide(entry, facts_of(recording), bare=not recording.metadata, run_no=None)
        stays = entry is not None and verdict in {Verdict.SETTLED, Verdict.WORK}
        found[entry.status if entry is not None and stays else Status.PENDING] += 1
    return dict(found)


def _sort(page: Page, listed: Mapping[str, Recording], known: Mapping[str, Known]) -> _Sorted:
    rows = _Sorted()
    for recording_id, recording in listed.items():
        facts, entry, bare = facts_of(recording), known.get(recording_id), not recording.metadata
        verdict = decide(entry, facts, bare=bare, run_no=page.run_no, retry_missing=page.retry_missing, lost=page.lost)
        if entry is None:
            rows.fresh.append((recording_id, recording, facts))
            continue
        if verdict is Verdict.CLAIMED:
            continue
        rows.claims.append(entry.entry_id)
        # A row that only a CDR named knows less than we do.
        row = _Row(recording, entry.facts if bare else facts, entry)
        match verdict:
            case Verdict.WORK:
                rows.work.append(row)
            case Verdict.REVIVED:
                rows.again.append(row._replace(known=entry._replace(retries_used=0)))
            case Verdict.AGAIN:
                rows.again.append(row)
            case Verdict.CHANGED:
                rows.changed.append(row)
            case _ if entry.run_no == page.run_no:
                rows.settled_before.append(row)
            case _:
                rows.settled[entry.status] += 1
    return rows


def _recovered(connection: Connection, page: Page, rows: _Sorted) -> Recovered:
    """What lost attempts of this run settled; the rest of what they had claimed was settled before this run."""
    if not rows.settled_before:
        return Recovered()
    found = recovered_of(connection, page.run_no, [row.known.entry_id for row in rows.settled_before])
    rows.settled.update(row.known.status for row in rows.settled_before)
    rows.settled[Status.ARCHIVED] -= found.archived
    rows.settled[Status.MISSING] -= len(found.missing_ids)
    return found


def _insert_new(
    connection: Connection,
    page: Page,
    account_no: int,
    fresh: Sequence[tuple[str, Recording, Facts]],
    tally: TallyChange,
) -> dict[str, Task]:
    if not fresh:
        return {}
    shared = {
        "account_no": account_no,
        "status": Status.PENDING.value,
        "run_no": page.run_no,
        "claim_no": page.claim.claim_no if page.claim is not None else None,
        "listed_at": page.at,
        "next_attempt_at": page.at,
    }
    alike = tuple(shared.values())
    insert_rows(
        connection,
        entries,
        ("recording_id", *shared, *Facts._fields),
        [(recording_id, *alike, *facts) for recording_id, _, facts in fresh],
    )
    numbers: dict[str, int] = {}
    for portion in portions([recording_id for recording_id, _, _ in fresh]):
        chosen = select(entries.c.recording_id, entries.c.entry_id).where(
            entries.c.account_no == account_no, entries.c.recording_id.in_(portion)
        )
        numbers.update((row[0], row[1]) for row in connection.execute(chosen))
    insert_rows(
        connection,
        listed_metadata,
        ("entry_id", "metadata"),
        [(numbers[recording_id], row.metadata) for recording_id, row, _ in fresh if row.metadata],
    )
    for _, _, facts in fresh:
        tally.add(account_no, Status.PENDING, weight(None, facts.length_bytes))
    return {
        recording_id: Task(
            entry_id=numbers[recording_id],
            recording=recording,
            version=1,
            was_known=False,
            retries_used=0,
            due=True,
            attempts=0,
        )
        for recording_id, recording, _ in fresh
    }


def _keep_former(connection: Connection, changed: Sequence[_Row]) -> None:
    """Move the archived objects that the source has replaced to the former versions."""
    columns = ["entry_id", "version", *_OBJECT]
    for portion in portions([row.known.entry_id for row in changed]):
        current = select(*(entries.c[name] for name in columns)).where(entries.c.entry_id.in_(portion))
        connection.execute(insert(former_versions).from_select(columns, current))
        emptied = dict.fromkeys(_OBJECT) | {"key": "", "flags": "", "quarantined_sha256": None}
        connection.execute(update(entries).where(entries.c.entry_id.in_(portion)).values(**emptied))


def _take_up(connection: Connection, page: Page, account_no: int, rows: _Sorted, tally: TallyChange) -> dict[str, Task]:
    """Bring the entries to work on to what is listed now, and make their tasks, by recording id."""
    anew = [
        row._replace(known=row.known._replace(version=row.known.version + 1, retries_used=0)) for row in rows.changed
    ]
    emptied = {row.known.entry_id for row in anew}
    begun = [row._replace(known=row.known._replace(next_attempt_at=page.at)) for row in (*rows.again, *anew)]
    kept = find_metadata(connection, [row.known.entry_id for row in (*rows.work, *begun)])
    tasks: dict[str, Task] = {}
    facts: list[dict[str, object]] = []
    for is_begun, row in [*((False, row) for row in rows.work), *((True, row) for row in begun)]:
        known = row.known
        if known.facts != row.facts:
            facts.append({"of_entry": known.entry_id, **row.facts._asdict()})
        size_bytes = None if known.entry_id in emptied else known.size_bytes
        tally.remove(account_no, known.status, weight(known.size_bytes, known.facts.length_bytes))
        status = Status.PENDING if is_begun else known.status
        tally.add(account_no, status, weight(size_bytes, row.facts.length_bytes))
        recording = row.recording
        if not recording.metadata:
            recording = recording_of(page.account_id, known, kept.get(known.entry_id, b""))
        tasks[known.recording_id] = task_of(known, recording, at=page.at)
    if facts:
        connection.execute(_UPDATE_FACTS, facts)
    if begun:
        connection.execute(_TRY_AGAIN, [_anew(row.known) for row in begun])
    listed = {row.known.entry_id: row.recording.metadata for row in (*rows.work, *begun)}
    _keep_metadata(connection, {entry: found for entry, found in listed.items() if found != kept.get(entry)})
    return tasks


def _anew(known: Known) -> dict[str, object]:
    return {
        "of_entry": known.entry_id,
        "version": known.version,
        "retries_used": known.retries_used,
        "next_attempt_at": known.next_attempt_at,
    }


def _keep_metadata(connection: Connection, metadata: Mapping[int, bytes]) -> None:
    rows = [{"entry_id": entry_id, "metadata": found} for entry_id, found in metadata.items() if found]
    if rows:
        added = insert_or(connection, listed_metadata)
        connection.execute(
            added.on_conflict_do_update(index_elements=["entry_id"], set_={"metadata": added.excluded.metadata}), rows
        )
