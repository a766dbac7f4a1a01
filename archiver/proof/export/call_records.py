"""`data/cdrs/`: the call detail records that belong to the recordings, verbatim, from the archived days of CDRs."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo

from archiver.errors import ObjectNotFound, StoreError
from archiver.keys import safe_id
from archiver.ledger.base import Ledger
from archiver.ledger.values_reconciling import CdrFile
from archiver.pbx.payloads import cdr as decoded
from archiver.pipeline.threads import Threads
from archiver.proof.export.payload import Handed, Payload
from archiver.proof.export.sources import difference, finding, words_of
from archiver.proof.reconciliation.cdr_files import lines_of
from archiver.proof.verification.findings import Finding, Kind
from archiver.recording import Counted
from archiver.stores.base import Store

CDRS = "data/cdrs/"
_AROUND = timedelta(days=1)
"""A leg is filed under the day of its own time, which is its end, or that of an earlier leg of the same call."""


@dataclass(slots=True)
class _Wanted:
    """What of an account's CDRs is looked for, and on which days."""

    recording_ids: set[str] = field(default_factory=set)
    interaction_ids: set[str] = field(default_factory=set)
    days: set[date] = field(default_factory=set)


@dataclass(slots=True)
class Found:
    """How many CDRs went into the bag, and which files with CDRs are damaged or gone: of those nothing is taken."""

    rows: int = 0
    files: int = 0
    findings: list[Finding] = field(default_factory=list)


async def add_call_records(
    ledger: Ledger,
    store: Store,
    threads: Threads,
    payload: Payload,
    handed: Sequence[Handed],
    timezone: tzinfo,
    *,
    stopped: Callable[[], bool],
) -> Found:
    """Write the rows that name one of the recordings, or belong to the same call.

    Raises:
        LedgerError, StoreError.
    """
    wanted = _wanted(handed, timezone)
    found = Found()
    days: dict[tuple[str, date], list[CdrFile]] = {}
    for file in await ledger.cdr_files():
        if file.account_id in wanted and file.day in wanted[file.account_id].days:
            days.setdefault((file.account_id, file.day), []).append(file)
    for (account_id, _), files in sorted(days.items()):
        if not stopped():
            await threads.run(_add_day, store, payload, files, wanted[account_id], found)
    return found


def _wanted(handed: Sequence[Handed], timezone: tzinfo) -> dict[str, _Wanted]:
    by_account: dict[str, _Wanted] = {}
    for each in handed:
        # The ledger may know accounts of CDRs by the folder's name, after a rebuild.
        ours = by_account.setdefault(each.known.account_id, _Wanted())
        by_account.setdefault(safe_id(each.known.account_id), ours)
        ours.recording_ids.add(each.known.recording_id)
        if each.call is not None and each.call.interaction_id:
            ours.interaction_ids.add(each.call.interaction_id)
        began_at = each.known.dated_at
        ended_at = began_at
        with suppress(OverflowError):
            ended_at += timedelta(milliseconds=min(max(each.known.duration_ms or 0, 0), 7 * 86_400_000))
        day, last = (began_at - _AROUND).astimezone(timezone).date(), (ended_at + _AROUND).astimezone(timezone).date()
        while day <= last:
            ours.days.add(day)
            day += timedelta(days=1)
    return by_account


def _add_day(store: Store, payload: Payload, files: Sequence[CdrFile], wanted: _Wanted, found: Found) -> None:
    lines: list[bytes] = []
    for file in files:
        chunks = Counted(iter(()))
        try:
            chunks = Counted(store.open(file.key))
            fitting = [line for line in _lines(chunks) if _belongs(line, file.account_id, wanted)]
            for _ in chunks:
                pass
        except ObjectNotFound:
            wrong: Finding | None = finding(Kind.MISSING_OBJECT, file.key, None, words_of(file.fixity), "nothing")
            fitting = []
        except StoreError as error:
            wrong = finding(Kind.UNREADABLE, file.key, None, words_of(file.fixity), str(error))
            fitting = []
        else:
            wrong = difference(file.key, None, file.fixity, chunks.fixity)
        if wrong is None:
            lines += fitting
        else:
            found.findings.append(wrong)
    if lines:
        day = files[0].day
        payload.write(f"{CDRS}{safe_id(files[0].account_id)}/{day:%Y/%m/%d}/cdrs.jsonl", b"".join(lines))
        found.rows += len(lines)
        found.files += 1


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of a file, as far as it is one; that it is not whole shows in its digest."""
    with suppress(ValueError):
        yield from lines_of(chunks)


def _belongs(line: bytes, account_id: str, wanted: _Wanted) -> bool:
    row = decoded(line, account_id=account_id)
    if row is not None and not wanted.recording_ids.isdisjoint(row.recording_ids):
        return True
    if not wanted.interaction_ids or b"interaction_id" not in line:
        return False
    with suppress(ValueError, RecursionError):
        said = json.loads(line)
        named = said.get("interaction_id") if isinstance(said, dict) else None
        return isinstance(named, str) and named in wanted.interaction_ids
    return False
