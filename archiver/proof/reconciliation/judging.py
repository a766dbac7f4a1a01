"""Gives each recording of a day its class, and remembers objects that none of them names."""

import asyncio
from collections.abc import Sequence

from archiver.keys import sidecar_key
from archiver.ledger.values_reconciling import Standing
from archiver.proof.reconciliation.classes import (
    CallRecord,
    Class,
    Subject,
    call_record_of,
    class_of,
    together,
)
from archiver.proof.reconciliation.completeness import Noted
from archiver.proof.reconciliation.days import folder_of
from archiver.proof.reconciliation.found import DayFound, Loose, Unnamed
from archiver.proof.reconciliation.looking import Kit, Look


class Judge:
    """Judges the days of one partition, in their order: what is not of a day is its first day's."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._loose: set[str] = set()
        self._unnamed: set[str] = set()

    async def judge(self, look: Look) -> DayFound:
        """Everything that is to be said of a day, when nothing more will be done about it.

        Raises:
            StoreError, LedgerError.
        """
        bench, ledger = self._kit.bench, self._kit.ledger
        folder = folder_of(bench.keys, look.account_id, look.day.window)
        present = await bench.threads.run(self._sizes, folder)
        standings = await self._standings(look)
        elsewhere = [each.key for each in standings if each.key and not each.key.startswith(folder)]
        there = present.keys() | await self._found(elsewhere)
        noted: list[Noted] = []
        loose: list[Loose] = []
        for standing in standings:
            self._count(look, standing.recording_id, standing, noted, loose, present=standing.key in there)
        known = {each.recording_id for each in standings}
        known |= {each.recording_id for each in await ledger.standings(look.account_id, list(look.named))}
        for recording_id in look.named:
            if recording_id not in known:
                self._count(look, recording_id, None, noted, loose, present=False)
        named_keys = {standing.key for standing in standings if standing.key}
        named_keys |= {sidecar_key(key) for key in named_keys} | self._unnamed
        unnamed = tuple(Unnamed(key, size_bytes) for key, size_bytes in present.items() if key not in named_keys)
        self._unnamed.update(each.key for each in unnamed)
        return DayFound(look.open_day.statement(), tuple(noted), tuple(loose), unnamed)

    def _sizes(self, folder: str) -> dict[str, int]:
        return {head.key: head.size_bytes for head in self._kit.bench.store.list(folder)}

    async def _found(self, keys: Sequence[str]) -> set[str]:
        """Which of these keys, made by another template or another date, the store shows."""
        threads, store = self._kit.bench.threads, self._kit.bench.store
        async with asyncio.TaskGroup() as group:
            heads = [group.create_task(threads.run(store.head, key)) for key in keys]
        return {head.key for each in heads if (head := each.result()) is not None}

    async def _standings(self, look: Look) -> list[Standing]:
        """The day's recordings as the ledger knows them, those without a date included that the day showed first."""
        ledger = self._kit.ledger
        dated = await ledger.standings_of(look.account_id, look.day.window)
        undated_named = {recording_id for recording_id, at in look.named.items() if at is None}
        loose = await ledger.standings(look.account_id, sorted(look.undated | undated_named))
        return [*dated, *(standing for standing in loose if standing.dated_at is None)]

    def _count(
        self,
        look: Look,
        recording_id: str,
        standing: Standing | None,
        all_noted: list[Noted],
        all_loose: list[Loose],
        *,
        present: bool,
    ) -> None:
        subject = _subject(look, recording_id, standing, present=present)
        kind, call_record = class_of(subject), call_record_of(subject)
        size_bytes = standing.size_bytes if standing else 0
        noted = None
        no_cdr = call_record is CallRecord.NO_CDR and not look.open_day.cdrs_failed
        if kind not in {Class.ARCHIVED, Class.EXPIRED} or call_record is CallRecord.NEVER_LISTED or no_cdr:
            noted = Noted(
                account_id=look.account_id,
                day=look.day.day.isoformat(),
                recording_id=recording_id,
                key=standing.key if standing else "",
                kind=kind,
                call_record=call_record,
                detail=subject.reason if standing else "not fetched yet",
            )
        if standing is not None and standing.dated_at is not None:
            look.open_day.count(kind, call_record, size_bytes)
            all_noted += [noted] if noted else []
        elif recording_id not in self._loose:
            self._loose.add(recording_id)
            all_loose.append(Loose(recording_id, kind, call_record, size_bytes, noted))


def _subject(look: Look, recording_id: str, standing: Standing | None, *, present: bool) -> Subject:
    causes = look.any_causes.get(recording_id)
    return Subject(
        status=standing.status if standing else None,
        present=present,
        listed=recording_id in look.any_listed or (standing is not None and standing.was_listed),
        named=causes is not None,
        reason=standing.reason if standing else "",
        cause=together(causes or ()),
    )
