"""`archiver reconcile`: what the listing leaves out is found by the CDRs, fetched, classed and told."""

import asyncio
import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from archive_rig import ACCOUNTS, BEGIN_UNIX_S, cdr, key, media, recording, recordings
from in_process import PERIOD, Silent, archived, files, made, source

from archiver.assembly import utc_now
from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.commands.reconciling import ReconcileRequest, ReconcileResult, run_reconcile
from archiver.errors import ExitCode, SettingsError
from archiver.pbx.base import CdrsAnswer
from archiver.pbx.payloads import cdrs_page
from archiver.proof.reconciliation.classes import CallRecord, Class
from archiver.proof.reconciliation.completeness import DayStatement
from archiver.proof.verification.findings import Kind
from archiver.proof.verification.verify import Level
from archiver.settings import Settings
from archiver.simulator import (
    Body,
    BytesMedia,
    Corpus,
    Fault,
    FaultScript,
    SimulatedCdr,
    SimulatedRecording,
    Simulator,
    Status,
    Switches,
)

SINCE, UNTIL = PERIOD.since, PERIOD.until
assert SINCE is not None
ASKED = ReconcileRequest(since=SINCE, until=UNTIL)


def withheld(row: SimulatedRecording) -> SimulatedRecording:
    """No listing ever shows it; its media are there."""
    return replace(row, listed_at=math.inf, available_at=0)


def without_media(row: SimulatedRecording) -> SimulatedRecording:
    return replace(row, listed_at=math.inf, available_at=math.inf)


def corpus(rows: Sequence[SimulatedRecording], cdrs: Sequence[SimulatedCdr] | None = None) -> Corpus:
    return Corpus(rows, [cdr(row) for row in rows] if cdrs is None else cdrs, accounts=ACCOUNTS)


def settings(pbx: Simulator, root: Path, *, page_size: int = 1000, **listing: object) -> Settings:
    found = made(pbx.base_url, root, page_size=page_size)
    return found.model_copy(update={"listing": found.listing.model_copy(update=listing)})


async def reconciled(
    wanted: Settings, request: ReconcileRequest = ASKED, *, now: Callable[[], datetime] = utc_now
) -> ReconcileResult:
    return await run_reconcile(wanted, request, stop=asyncio.Event(), watcher=Silent(), now=now)


async def verified(wanted: Settings, level: Level = Level.FULL) -> list[tuple[Kind, str]]:
    report = await run_verify(wanted, VerifyRequest(level), stop=asyncio.Event())
    return [(finding.kind, finding.key) for finding in report.findings]


def counts(result: ReconcileResult) -> dict[str, int]:
    """Classes with anything in them."""
    return {kind.value: found.count for kind, found in result.report.classes.items() if found.count}


def call_records(result: ReconcileResult) -> dict[str, int]:
    return {each.value: count for each, count in result.report.call_records.items() if count}


def code(result: ReconcileResult) -> ExitCode:
    return result.exit_code(signal=None)


def busy_days(result: ReconcileResult) -> list[DayStatement]:
    return [day for day in result.report.days if day.recordings or day.cdrs]


def cdr_lines(root: Path) -> dict[str, list[bytes]]:
    """The archived CDRs, by key."""
    found = sorted(root.rglob("cdrs*.jsonl.gz"))
    return {path.relative_to(root).as_posix(): gzip.decompress(path.read_bytes()).splitlines() for path in found}


@pytest.mark.parametrize(
    "switches",
    [
        Switches(),
        Switches(cdrs_cursor="top", cdr_timestamp="unix", numbers="number", cursor="exact"),
        Switches(cdrs_cursor="both", cdr_timestamp="ms", numbers="text", last_cursor="null", order="descending"),
        Switches(cursor="exclusive", last_cursor="empty", empty_page="null", time_field="start"),
    ],
)
async def test_what_the_listing_withholds_and_cdrs_name_is_fetched_each_once(
    tmp_path: Path, switches: Switches
) -> None:
    rows = [withheld(row) if n % 3 else row for n, row in enumerate(recordings(24))]
    missing = sum(1 for row in rows if row.listed_at is not None)
    async with Simulator(corpus(rows), switches=switches) as pbx:
        it = settings(pbx, tmp_path / "a", page_size=5)
        await archived(it)
        assert len(files(tmp_path / "a")) == len(rows) - missing
        first = await reconciled(it)
        assert (code(first), first.report.fetched, first.report.fetched_archived) == (0, missing, missing), first.report
        assert counts(first) == {"archived": len(rows)}
        assert call_records(first) == {"in_both": len(rows) - missing, "never_listed": missing}
        assert files(tmp_path / "a") == source(rows)
        assert set(pbx.stats.media_gets.values()) == {1}
        second = await reconciled(it)
        assert (code(second), second.report.fetched, second.report.outcome) == (0, 0, "complete")
        assert (counts(second), call_records(second)) == (counts(first), call_records(first))
        assert set(pbx.stats.media_gets.values()) == {1}
        for level in Level:
            assert await verified(it, level) == []
        # A night after it has nothing to do about them either.
        assert (await archived(it)).report.outcome == "complete"
        assert set(pbx.stats.media_gets.values()) == {1}


@pytest.mark.parametrize("several", [",", ", ", "array"])
async def test_a_cdr_may_name_several_recordings(tmp_path: Path, several: str) -> None:
    rows = [withheld(recording(n)) for n in range(3)]
    ids = tuple(row.recording_id for row in rows)
    leg = replace(cdr(rows[0]), media_recording_id=ids if several == "array" else several.join(ids))
    async with Simulator(corpus(rows, [leg, leg])) as pbx:
        result = await reconciled(settings(pbx, tmp_path / "a"))
        assert (code(result), counts(result), result.report.cdrs) == (0, {"archived": 3}, 1)
        assert files(tmp_path / "a") == source(rows)
        assert set(pbx.stats.media_gets.values()) == {1}


async def test_what_no_run_has_listed_is_told_as_pending_and_archived_by_the_next_run(tmp_path: Path) -> None:
    rows = recordings(4)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        result = await reconciled(it)
        assert (code(result), counts(result), call_records(result)) == (3, {"pending": 4}, {"in_both": 4})
        assert {noted.recording_id for noted in result.report.noted} == {row.recording_id for row in rows}
        assert not pbx.stats.media_gets
        # Not even one that lists these days: the ledger knows them.
        elsewhere = datetime(2024, 6, 1, tzinfo=UTC)
        run = await archived(it, replace(PERIOD, since=elsewhere, until=elsewhere + timedelta(days=1)))
        assert run.report.archived == 4
        assert (code(await reconciled(it)), files(tmp_path / "a")) == (0, source(rows))


@pytest.mark.parametrize(("http_status", "reason"), [(500, "server_error"), (403, "refused")])
async def test_cdr_pages_that_fail_make_the_day_incomplete_and_the_rest_is_done_all_the_same(
    tmp_path: Path, http_status: int, reason: str
) -> None:
    rows = [recording(0), withheld(recording(1))]
    faults = FaultScript([Fault(on="cdrs", action=Status(code=http_status), account_id=ACCOUNTS[1], times=-1)])
    async with Simulator(corpus([*rows, recording(2, account=1)]), faults=faults) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        result = await reconciled(it)
        assert (code(result), result.report.outcome, result.report.fetched_archived) == (3, "incomplete", 1)
        for day in result.report.days:
            failing = day.account_id == ACCOUNTS[1]
            assert (day.cdrs_listed_whole, day.recordings_listed_whole, day.whole) == (not failing, True, not failing)
            assert any(reason in said for said in day.reasons) == failing
        assert counts(result) == {"archived": 3}
        # No CDR was seen there, which says nothing: nobody is accused.
        assert all(noted.account_id == ACCOUNTS[0] for noted in result.report.noted)
        faults.clear()
        assert code(await reconciled(it)) == 0


async def test_while_recordings_cannot_be_listed_nothing_is_fetched_without_its_metadata(tmp_path: Path) -> None:
    rows = recordings(2)
    faults = FaultScript([Fault(on="recordings", action=Status(code=503), times=-1)])
    async with Simulator(corpus(rows), faults=faults) as pbx:
        it = settings(pbx, tmp_path / "a")
        result = await reconciled(it)
        assert (code(result), counts(result), result.report.fetched) == (3, {"pending": 2}, 0)
        assert [noted.detail for noted in result.report.noted] == ["not fetched yet"] * 2
        assert any(
            "wait until recordings are listed whole" in said for day in result.report.days for said in day.reasons
        )
        assert not pbx.stats.media_gets
        faults.clear()
        await archived(it)
        assert (code(await reconciled(it)), files(tmp_path / "a")) == (0, source(rows))
        beside = json.loads((tmp_path / "a" / key(rows[0])).with_suffix(".json").read_bytes())
        assert beside["recording"]["_id"] == rows[0].recording_id


async def test_a_pbx_that_is_gone_ends_with_8(tmp_path: Path) -> None:
    faults = FaultScript([Fault(on="any", action=Status(code=503), times=-1)])
    async with Simulator(corpus(recordings(2)), faults=faults) as pbx:
        assert code(await reconciled(settings(pbx, tmp_path / "a"))) == ExitCode.PBX


async def test_benign_causes_have_names_and_leave_nothing_to_do(tmp_path: Path) -> None:
    rows = [without_media(recording(n, duration_ms=3000)) for n in range(4)]
    legs = [cdr(row) for row in rows]
    legs[0] = replace(legs[0], billing_s=0, hangup_cause="NO_ANSWER")
    legs[1] = replace(legs[1], billing_s=3)
    legs[2] = replace(legs[2], billing_s=60)
    # Nobody took the first leg of the last call, but somebody its second.
    answered = replace(legs[3], cdr_id="second leg", billing_s=60)
    legs[3] = replace(legs[3], billing_s=0)
    async with Simulator(corpus(rows, [*legs, answered])) as pbx:
        result = await reconciled(settings(pbx, tmp_path / "a", min_recording_s=5))
        assert counts(result) == {"unanswered": 1, "too_short": 1, "pending": 2}
        assert code(result) == 3
        kinds = {noted.recording_id: noted.kind for noted in result.report.noted}
        assert kinds == {
            rows[0].recording_id: Class.UNANSWERED,
            rows[1].recording_id: Class.TOO_SHORT,
            rows[2].recording_id: Class.PENDING,
            rows[3].recording_id: Class.PENDING,
        }
    async with Simulator(corpus(rows[:2], legs[:2])) as pbx:
        result = await reconciled(settings(pbx, tmp_path / "b", min_recording_s=5))
        assert (code(result), counts(result)) == (0, {"unanswered": 1, "too_short": 1})


async def test_calls_without_any_recording_are_counted_by_their_cause(tmp_path: Path) -> None:
    legs = [
        replace(cdr(recording(n)), media_recording_id=None, billing_s=billed_s) for n, billed_s in enumerate((0, 2, 90))
    ]
    async with Simulator(corpus([], legs)) as pbx:
        result = await reconciled(settings(pbx, tmp_path / "a", min_recording_s=5))
        (day,) = busy_days(result)
        assert day.without_recording == {"unanswered": 1, "too_short": 1, "none_named": 1}
        assert (code(result), day.recordings, day.cdrs) == (0, 0, 3)


async def test_objects_of_an_earlier_key_template_are_found_where_they_lie(tmp_path: Path) -> None:
    rows = recordings(4)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        old = {"key_template": "calls/{account_id}/{recording_id}.{extension}"}
        await archived(it.model_copy(update={"archive": it.archive.model_copy(update=old)}))
        result = await reconciled(it)
        assert (code(result), counts(result)) == (0, {"archived": 4})
        next((tmp_path / "a").rglob("*.mp3")).unlink()
        assert counts(await reconciled(it)) == {"archived": 3, "gone": 1}
        assert files(tmp_path / "a").keys() != source(rows).keys()


async def test_nothing_is_reconciled_before_it_is_over_and_no_account_twice(tmp_path: Path) -> None:
    rows = recordings(2)
    noon = datetime.fromtimestamp(BEGIN_UNIX_S, UTC) + timedelta(hours=3)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a", overlap_hours=0)
        with pytest.raises(SettingsError, match="not over yet"):
            await reconciled(it, replace(ASKED, since=noon), now=lambda: noon)
        far = replace(ASKED, until=noon + timedelta(days=9000), account_ids=(ACCOUNTS[0], ACCOUNTS[0]))
        result = await reconciled(it, far, now=lambda: noon)
        assert [(day.day, day.whole) for day in result.report.days] == [("2024-05-06", False)]
        assert (result.report.recordings, result.report.until) == (1, "2024-05-06T12:00:00Z")


async def test_listed_recordings_without_a_cdr_are_named_and_no_failure(tmp_path: Path) -> None:
    rows = recordings(3)
    async with Simulator(corpus(rows, [cdr(rows[0])])) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        result = await reconciled(it)
        assert (code(result), call_records(result)) == (0, {"in_both": 1, "no_cdr": 2})
        named = {(noted.recording_id, noted.kind, noted.call_record) for noted in result.report.noted}
        assert named == {(row.recording_id, Class.ARCHIVED, CallRecord.NO_CDR) for row in rows[1:]}


async def test_orphans_and_objects_that_are_gone_are_found_in_the_days_folder(tmp_path: Path) -> None:
    rows, root = recordings(4), tmp_path / "a"
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, root)
        await archived(it)
        lost, stray = root / key(rows[0]), (root / key(rows[1])).with_name("202405-stray.mp3")
        lost.unlink()
        stray.write_bytes(b"stray")
        (root / ACCOUNTS[0] / "2024/07/01").mkdir(parents=True)
        (root / ACCOUNTS[0] / "2024/07/01/other.mp3").write_bytes(b"of another period")
        result = await reconciled(it)
        assert (code(result), counts(result)) == (3, {"archived": 3, "gone": 1, "orphan": 1})
        found = {(noted.kind, noted.key) for noted in result.report.noted}
        assert found == {(Class.GONE, key(rows[0])), (Class.ORPHAN, stray.relative_to(root).as_posix())}
        assert result.report.classes[Class.ORPHAN].bytes == 5


async def test_former_versions_and_the_other_hours_of_a_day_are_no_orphans(tmp_path: Path) -> None:
    rows = recordings(4)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        pbx.corpus.replace(replace(rows[0], duration_ms=5000))
        await archived(it)
        assert len(files(tmp_path / "a")) == 5
        assert code(await reconciled(it)) == 0
        begin = datetime.fromtimestamp(BEGIN_UNIX_S, UTC)
        part = await reconciled(it, ReconcileRequest(begin + timedelta(seconds=50), begin + timedelta(seconds=130)))
        assert (code(part), counts(part)) == (0, {"archived": 2})
        assert all(not day.whole for day in part.report.days)


async def test_a_recording_that_changed_at_the_source_is_pending_as_a_new_version(tmp_path: Path) -> None:
    rows = recordings(2)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        pbx.corpus.replace(replace(rows[0], duration_ms=5000))
        result = await reconciled(it)
        assert (code(result), counts(result)) == (3, {"archived": 1, "pending": 1})
        assert result.report.changed_at_source == 1


async def test_cdrs_are_archived_verbatim_by_day_and_account(tmp_path: Path) -> None:
    rows = [*recordings(6), recording(9, account=0, duration_ms=2000)]
    rows[-1] = replace(rows[-1], start_unix_s=rows[-1].start_unix_s + 86_400)
    odd = {"caller_id_name": "\ud800 Jürgen\n<x>", "unknown": [1.50, None, {"a": 1}]}
    legs = [replace(cdr(row), overrides=odd) for row in rows]
    sent: dict[str, bytes] = {}
    async with Simulator(corpus(rows, legs)) as pbx:
        for leg in legs:
            sent[leg.cdr_id] = json.dumps(pbx._api._documents.cdr(leg), separators=(",", ":")).encode("ascii")
        result = await reconciled(settings(pbx, tmp_path / "a"))
    found = cdr_lines(tmp_path / "a")
    assert sorted(found) == [
        f"{ACCOUNTS[0]}/2024/05/06/cdrs.jsonl.gz",
        f"{ACCOUNTS[0]}/2024/05/07/cdrs.jsonl.gz",
        f"{ACCOUNTS[1]}/2024/05/06/cdrs.jsonl.gz",
    ]
    assert sorted(line for lines in found.values() for line in lines) == sorted(sent.values())
    assert (result.report.cdrs, result.report.cdrs_archived) == (len(legs), len(legs))
    (one, *_) = (part for day in result.report.days for part in day.cdr_files)
    assert (one.new, one.rows, one.key) == (True, 3, f"{ACCOUNTS[0]}/2024/05/06/cdrs.jsonl.gz")


async def test_a_cdr_that_comes_late_goes_into_a_further_part_and_nothing_is_written_over(tmp_path: Path) -> None:
    rows = [recording(n) for n in range(4)]
    async with Simulator(corpus(rows, [cdr(row) for row in rows[:2]])) as pbx:
        it = settings(pbx, tmp_path / "a")
        await reconciled(it)
        before = cdr_lines(tmp_path / "a")
        for row in rows[2:]:
            pbx.corpus.add_cdr(cdr(row))
        second = await reconciled(it)
        found = cdr_lines(tmp_path / "a")
        assert {name: len(lines) for name, lines in found.items()} == {
            f"{ACCOUNTS[0]}/2024/05/06/cdrs.2.jsonl.gz": 2,
            f"{ACCOUNTS[0]}/2024/05/06/cdrs.jsonl.gz": 2,
        }
        assert all(found[name] == lines for name, lines in before.items())
        assert [part.new for day in second.report.days for part in day.cdr_files] == [False, True]
        await reconciled(it)
        assert cdr_lines(tmp_path / "a") == found


async def test_verify_finds_a_cdr_file_that_was_changed_cut_or_removed(tmp_path: Path) -> None:
    root = tmp_path / "a"
    async with Simulator(corpus(recordings(2))) as pbx:
        it = settings(pbx, root)
        await archived(it)
        await reconciled(it)
    paths = sorted(root.rglob("cdrs.jsonl.gz"))
    names = [path.relative_to(root).as_posix() for path in paths]
    whole = paths[0].read_bytes()
    paths[0].write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert await verified(it) == [(Kind.DIGEST, names[0])]
    assert await verified(it, Level.SIZE) == []
    paths[0].write_bytes(whole[:-1])
    assert await verified(it, Level.SIZE) == [(Kind.SIZE, names[0])]
    paths[0].write_bytes(whole)
    paths[1].rename(paths[1].with_name("renamed.gz"))
    assert await verified(it) == [(Kind.RENAMED, names[1])]
    paths[1].with_name("renamed.gz").unlink()
    for level in Level:
        assert await verified(it, level) == [(Kind.MISSING_OBJECT, names[1])]


async def test_a_day_is_one_in_the_archives_time_zone(tmp_path: Path) -> None:
    # 23:30 and 00:30 in Madrid, both on 2024-05-06 in UTC.
    rows = [recording(n) for n in range(2)]
    late = int(datetime(2024, 5, 6, 21, 30, tzinfo=UTC).timestamp())
    rows = [replace(row, start_unix_s=late + 3600 * n) for n, row in enumerate(rows)]
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        it = it.model_copy(update={"archive": it.archive.model_copy(update={"timezone": "Europe/Madrid"})})
        await archived(it)
        since = datetime(2024, 5, 5, 22, tzinfo=UTC)
        result = await reconciled(it, ReconcileRequest(since, since + timedelta(days=2), ACCOUNTS[:1]))
        assert [(day.day, day.recordings, day.cdrs, day.whole) for day in result.report.days] == [
            ("2024-05-06", 1, 1, True),
            ("2024-05-07", 1, 1, True),
        ]
        assert [name.split("/", 1)[1] for name in cdr_lines(tmp_path / "a")] == [
            "2024/05/06/cdrs.jsonl.gz",
            "2024/05/07/cdrs.jsonl.gz",
        ]


async def test_calls_over_midnight_and_a_months_end_are_counted_on_one_day(tmp_path: Path) -> None:
    edge = int(datetime(2024, 6, 1, tzinfo=UTC).timestamp())
    rows = [replace(recording(n, duration_ms=7_200_000), start_unix_s=edge - 3600 + 600 * n) for n in range(8)]
    rows = [withheld(row) if n % 2 else row for n, row in enumerate(rows)]
    rows = [replace(row, media=recording(n).source) for n, row in enumerate(rows)]
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        since = datetime(2024, 5, 31, tzinfo=UTC)
        await archived(it, replace(PERIOD, since=since, until=since + timedelta(days=2)))
        result = await reconciled(it, ReconcileRequest(since, since + timedelta(days=2)))
        assert (code(result), counts(result), result.report.fetched) == (0, {"archived": 8}, 4)
        assert sum(day.recordings for day in result.report.days) == 8


async def test_a_call_that_is_just_over_is_not_fetched_before_its_metadata_can_come(tmp_path: Path) -> None:
    rows = [withheld(recording(0))]
    soon = datetime.fromtimestamp(rows[0].created_unix_s, UTC) + timedelta(hours=1)
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        result = await reconciled(it, replace(ASKED, until=soon), now=lambda: soon)
        assert (code(result), counts(result), result.report.fetched) == (3, {"pending": 1}, 0)
        assert not any(day.whole for day in result.report.days[1::2])
        later = soon + timedelta(hours=12)
        assert counts(await reconciled(it, ASKED, now=lambda: later)) == {"archived": 1}


async def test_a_recording_that_is_not_there_climbs_the_ladder_and_is_news_once(tmp_path: Path) -> None:
    rows = [without_media(recording(0))]
    clock = [datetime(2024, 6, 1, tzinfo=UTC)]
    async with Simulator(corpus(rows)) as pbx:
        it = settings(pbx, tmp_path / "a")
        codes = []
        for _ in range(9):
            result = await reconciled(it, now=lambda: clock[0])
            codes.append((code(result), *counts(result)))
            clock[0] += timedelta(hours=73)
    assert codes[0] == (3, "pending")
    assert codes[-1] == (0, "missing")
    assert codes.count((ExitCode.LEFT, "missing")) == 1
    # Once a rung, and never again after the last.
    assert sum(pbx.stats.media_gets.values()) <= 2 * 7


async def test_bytes_that_are_no_recording_are_told_and_tried_again_by_the_next_one(tmp_path: Path) -> None:
    rows = [withheld(recording(0)), recording(1)]
    faults = FaultScript()
    async with Simulator(corpus(rows), faults=faults) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        faults.add(Fault(on="media", action=Body(text="<html>"), recording_id=rows[0].recording_id))
        result = await reconciled(it)
        assert (code(result), counts(result)) == (3, {"archived": 1, "pending": 1})
        (noted,) = (noted for noted in result.report.noted if noted.kind is Class.PENDING)
        assert noted.detail == "bad_answer"
        again = await reconciled(it)
        assert (code(again), counts(again)) == (0, {"archived": 2})
    assert not faults.unhit()


async def test_where_no_metadata_tell_the_kind_of_audio_its_bytes_do(tmp_path: Path) -> None:
    wav = BytesMedia(b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100), "audio/wav")
    row = replace(withheld(recording(0)), media=wav)
    async with Simulator(corpus([row])) as pbx:
        it = settings(pbx, tmp_path / "a")
        result = await reconciled(it)
        assert (code(result), counts(result)) == (0, {"archived": 1})
        path = (tmp_path / "a" / key(row)).with_suffix(".wav")
        beside = json.loads(path.with_suffix(".json").read_bytes())
        assert (path.read_bytes(), beside["content_type"]) == (b"".join(wav.chunks()), "audio/wav")
        assert await verified(it) == []


async def test_bytes_that_cannot_be_proved_whole_are_quarantined_like_in_a_run(tmp_path: Path) -> None:
    rows = [withheld(recording(0))]
    async with Simulator(corpus(rows), switches=Switches(media_framing="close")) as pbx:
        it = settings(pbx, tmp_path / "a")
        it = it.model_copy(update={"pbx": it.pbx.model_copy(update={"max_retries": 2})})
        result = await reconciled(it)
        assert (code(result), counts(result)) == (3, {"quarantined": 1})
        (noted,) = result.report.noted
        assert (noted.recording_id, noted.kind, noted.detail) == (
            rows[0].recording_id,
            Class.QUARANTINED,
            "unproven_length",
        )
        again = await reconciled(it)
        assert (code(again), again.report.fetched) == (3, 0)


async def test_the_report_has_no_number_of_a_caller(tmp_path: Path) -> None:
    rows = [withheld(recording(0)), recording(1), without_media(recording(2))]
    async with Simulator(corpus(rows)) as pbx:
        pages: list[CdrsAnswer] = []
        result = await reconciled(settings(pbx, tmp_path / "a"))
        numbers = set()
        for leg in pbx.corpus.cdrs:
            said: dict[str, Any] = pbx._api._documents.cdr(leg)
            pages.append(cdrs_page(json.dumps({"data": [said]}).encode(), account_id=ACCOUNTS[0]))
            numbers |= {said["caller_id_number"], said["caller_id_name"]}
        text = repr(result.report)
        assert pages
        assert not [number for number in numbers if number in text]


async def test_a_recording_without_any_date_is_counted_once(tmp_path: Path) -> None:
    rows = [recording(0)]
    odd = replace(rows[0], overrides={"start": None, "pvt_created": None})
    leg = replace(cdr(rows[0]), overrides={"timestamp": None, "datetime": "never"})
    async with Simulator(corpus([odd], [leg])) as pbx:
        it = settings(pbx, tmp_path / "a")
        await archived(it)
        result = await reconciled(it)
        assert (code(result), result.report.recordings, result.report.cdrs) == (0, 1, 1)
        assert counts(result) == {"archived": 1}


async def test_every_recording_of_a_generated_corpus_is_counted_once(tmp_path: Path) -> None:
    begin = datetime(2024, 5, 6, tzinfo=UTC)
    made_up = Corpus.generate(
        seed=7,
        accounts=2,
        recordings=60,
        begin=begin,
        end=begin + timedelta(days=2),
        median_duration_s=1,
        max_duration_s=2,
    )
    some = made_up.recordings[::4]
    for row in some:
        made_up.replace(withheld(row))
    named = Counter(one for leg in made_up.cdrs for one in _named(leg) if made_up.find(leg.account_id, one) is not None)
    async with Simulator(made_up) as pbx:
        it = settings(pbx, tmp_path / "a", page_size=7)
        it = it.model_copy(update={"pbx": it.pbx.model_copy(update={"account_ids": made_up.account_ids})})
        until = begin + timedelta(days=3)
        await archived(it, replace(PERIOD, since=begin, until=until))
        result = await reconciled(it, ReconcileRequest(begin, until))
        assert (code(result), counts(result)) == (0, {"archived": 60})
        assert result.report.fetched == len(some)
        assert result.report.cdrs == len({leg.cdr_id for leg in made_up.cdrs})
        assert call_records(result).get("never_listed", 0) == len([row for row in some if row.recording_id in named])
        assert await verified(it) == []


def _named(leg: SimulatedCdr) -> list[str]:
    named = leg.media_recording_id
    return [] if named is None else named.split(",") if isinstance(named, str) else list(named)


async def test_media_that_come_by_id_are_those_of_the_pbx(tmp_path: Path) -> None:
    row = withheld(recording(0))
    async with Simulator(corpus([row])) as pbx:
        await reconciled(settings(pbx, tmp_path / "a"))
    path = tmp_path / "a" / key(row)
    beside = json.loads(path.with_suffix(".json").read_bytes())
    assert (path.read_bytes(), beside["recording"]) == (media(row), None)
