"""`archiver hold`: place, release and list legal holds; works beside a run."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from archiver.assembly import utc_now
from archiver.destination import Destination, open_destination
from archiver.errors import SettingsError
from archiver.evidence import Evidence
from archiver.ledger.base_retention import RetentionLedger
from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values_retention import Hold, KnownHold
from archiver.ledger.values_sealing import TrailMarkName
from archiver.pipeline.threads import Threads, seen_through
from archiver.proof.evidence.audit import Draft, Record, What
from archiver.proof.evidence.audit_copies import restore_lines
from archiver.proof.evidence.recorder import read_trail
from archiver.proof.evidence.retention_drafts import held_by_record, hold_added, hold_released
from archiver.proof.retention.hold_files import encode, unknown_holds
from archiver.reports.retention_report import HoldReport, shown_hold
from archiver.settings import Settings
from archiver.stores.notes import Notes
from archiver.stores.trail_file import TrailFile

HOLDS_FOLDER = "holds"


@dataclass(frozen=True, slots=True)
class HoldRequest:
    """What `hold add` was asked for."""

    name: str
    reason: str
    reference: str
    by: str
    account_id: str = ""
    since: datetime | None = None
    until: datetime | None = None
    recording_ids: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


async def run_hold_add(
    settings: Settings, request: HoldRequest, *, now: Callable[[], datetime] = utc_now
) -> HoldReport:
    """`archiver hold add`: from its return on nothing that the hold covers expires.

    The file first, then the ledger, then the trail: killed in between, the hold is there.

    Raises:
        SettingsError: the name was used before.
        ArchiverError.
    """
    at = now().astimezone(UTC).replace(microsecond=0)
    hold = Hold(
        name=request.name,
        reason=request.reason,
        reference=request.reference,
        placed_by=request.by,
        placed_at=at,
        account_id=request.account_id,
        since_at=request.since,
        until_at=request.until,
        recording_ids=request.recording_ids,
        users=request.users,
    )
    async with AsyncExitStack() as stack:
        destination, ledger = await _open(settings, stack)
        known = await all_holds(destination, ledger)
        before = next((each.hold for each in known if each.hold.name.lower() == hold.name.lower()), None)
        if before is not None:
            raise SettingsError(f"a hold named {before.name!a} {_stands(before)}: a name is used once")
        notes = Notes(destination.folder, HOLDS_FOLDER)
        written = await seen_through(lambda: notes.write_new(hold.name.lower(), encode(hold)))
        if not written or not await ledger.add_hold(hold):
            raise SettingsError(f"a hold named {hold.name!a} was placed just now by somebody else; look at `hold list`")
        return await _reported(settings, destination, ledger, hold, hold_added(hold), now)


async def run_hold_release(
    settings: Settings, name: str, *, by: str, reason: str, now: Callable[[], datetime] = utc_now
) -> HoldReport:
    """`archiver hold release`: what it covered may expire again, with the next `retention apply`.

    Raises:
        SettingsError: no such hold, it is released, or `by` is who placed it.
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination, ledger = await _open(settings, stack)
        known = await take_in_holds(destination, ledger)
        hold = next((each.hold for each in known if each.hold.name.lower() == name.lower()), None)
        if hold is None:
            raise SettingsError(f"there is no hold named {name[:64]!a}; `archiver hold list --all` shows them")
        if not hold.is_active:
            raise SettingsError(f"the hold {hold.name!a} {_stands(hold)}")
        if _same_person(by, hold.placed_by):
            raise SettingsError(
                f"the hold {hold.name!a} was placed by {hold.placed_by!a}: somebody else must release it (--by)"
            )
        released = await ledger.release_hold(hold.name, by=by, at=now(), reason=reason)
        if released is None:
            raise SettingsError(f"the hold {hold.name!a} was released just now by somebody else")
        notes = Notes(destination.folder, HOLDS_FOLDER)
        await seen_through(lambda: notes.write(released.name.lower(), encode(released)))
        return await _reported(settings, destination, ledger, released, hold_released(released), now)


async def run_hold_list(settings: Settings, *, every: bool) -> HoldReport:
    """`archiver hold list`: the active holds, or `every` one; changes nothing.

    Raises:
        ArchiverError.
    """
    async with AsyncExitStack() as stack:
        destination, ledger = await _open(settings, stack)
        known = await all_holds(destination, ledger)
        return HoldReport(holds=[shown_hold(each.hold) for each in known if every or each.hold.is_active])


async def all_holds(destination: Destination, ledger: RetentionLedger) -> list[KnownHold]:
    """The ledger's holds, and those that only a file tells of, which get number 0; changes nothing.

    Raises:
        LedgerError, StoreDenied, StoreUnavailable.
    """
    known = await ledger.known_holds()
    files = await asyncio.to_thread(Notes(destination.folder, HOLDS_FOLDER).read)
    return [*known, *(KnownHold(0, hold) for hold in unknown_holds(files, [each.hold for each in known]))]


async def take_in_holds(destination: Destination, ledger: RetentionLedger) -> Sequence[KnownHold]:
    """All holds, those among them that only a file told of entered into the ledger.

    Raises:
        LedgerError, StoreDenied, StoreUnavailable.
    """
    for each in await all_holds(destination, ledger):
        if each.number == 0:
            await ledger.add_hold(each.hold)
    return await ledger.known_holds()


async def restore_holds(destination: Destination, ledger: RetentionLedger, threads: Threads) -> None:
    """Enter into a ledger that was lost the holds that their files tell of, else the audit trail, as far as it does.

    Raises:
        LedgerError, StoreError: nothing may expire before this came to its end.
    """
    await take_in_holds(destination, ledger)
    file = TrailFile(destination.folder)
    if destination.remote and await ledger.trail_mark(TrailMarkName.HEAD) is None:
        await threads.run(restore_lines, file, destination.store)
    told: dict[str, Hold] = {}

    def see(record: Record) -> None:
        name = record.subject.lower()
        if record.what == What.HOLD_ADDED:
            told[name] = held_by_record(record)
        elif record.what == What.HOLD_RELEASED and name in told:
            by, at = record.details.by or record.who, datetime.fromisoformat(record.at)
            told[name] = replace(told[name], released_by=by, released_at=at)

    await read_trail(file, threads, see)
    for hold in told.values():
        # One whose name is known stays as it is.
        await ledger.add_hold(hold)


async def _open(settings: Settings, stack: AsyncExitStack) -> tuple[Destination, SqlLedger]:
    destination = open_destination(settings, durable=settings.archive.durable, make=False)
    stack.callback(destination.close)
    ledger = await open_ledger(settings.ledger_url(), create=False)
    stack.push_async_callback(ledger.close)
    return destination, ledger


async def _reported(
    settings: Settings,
    destination: Destination,
    ledger: SqlLedger,
    hold: Hold,
    draft: Draft,
    now: Callable[[], datetime],
) -> HoldReport:
    async with Threads(1, "evidence") as threads:
        error = await Evidence(settings, destination, ledger, threads, now=now).witness([draft])
    return HoldReport(holds=[shown_hold(hold)], not_recorded=str(error) if error else None)


def _stands(hold: Hold) -> str:
    if hold.released_at is not None:
        return f"was released by {hold.released_by!a} on {hold.released_at:%Y-%m-%d}"
    return f"was placed by {hold.placed_by!a} on {hold.placed_at:%Y-%m-%d}"


def _same_person(one: str, other: str) -> bool:
    return " ".join(one.split()).casefold() == " ".join(other.split()).casefold()
