"""The pipeline under faults: a cut body is never archived, counts are conserved, memory and queue stay bounded."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Literal

import pytest
from archive_rig import ACCOUNTS, conserved, recording, recordings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from in_process import archived, descriptors, files, leftovers, made, source

from archiver.ledger.values import Task
from archiver.pipeline.feed import Budget, Feed
from archiver.simulator import (
    Body,
    Corpus,
    Cut,
    Drop,
    Extra,
    Fault,
    FaultScript,
    Frame,
    Simulator,
    Status,
    Switches,
)
from archiver.simulator.actions import Action

FRAMINGS: tuple[Literal["content_length", "chunked", "close", "gzip"], ...] = (
    "content_length",
    "chunked",
    "close",
    "gzip",
)
SIXTEENTHS = [n / 16 for n in range(16)]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_cut_body_is_never_archived_wherever_and_however_it_ends_row_20(
    tmp_path: Path, framing: Literal["content_length", "chunked", "close", "gzip"], how: Literal["fin", "rst"]
) -> None:
    rows = [recording(n) for n in range(len(SIXTEENTHS) + 2)]
    cuts = [Cut(fraction=fraction, how=how, framing=framing) for fraction in SIXTEENTHS]
    cuts += [Cut(after_bytes=1, how=how, framing=framing), Cut(after_bytes=-1, how=how, framing=framing)]
    script = FaultScript(
        Fault(on="media", recording_id=row.recording_id, action=cut, times=-1)
        for row, cut in zip(rows, cuts, strict=True)
    )
    async with Simulator(Corpus(rows, accounts=ACCOUNTS), faults=script) as pbx:
        # More workers than recordings: the breaker is not what this is about.
        result = await archived(made(pbx.base_url, tmp_path / "archive", concurrency=64))
        assert script.unhit() == []
        found = files(tmp_path / "archive")
        assert all(data == source(rows)[name] for name, data in found.items())
        assert found == {}
        assert (result.report.archived, result.report.listed) == (0, len(rows))
        assert leftovers(tmp_path / "archive") == []
        # Once the PBX is whole again everything comes.
        pbx.faults.clear()
        await archived(made(pbx.base_url, tmp_path / "archive"))
        assert files(tmp_path / "archive") == source(rows)


@pytest.mark.parametrize("length", ["known", "unknown"])
async def test_a_body_that_only_the_connection_ends_needs_its_length_from_the_metadata_row_21(
    tmp_path: Path, length: str
) -> None:
    row = recording(1, overrides={} if length == "known" else {"_attachments": {}})
    script = FaultScript([Fault(on="media", action=Frame(framing="close"), times=-1)])
    async with Simulator(Corpus([row], accounts=ACCOUNTS), faults=script) as pbx:
        result = await archived(made(pbx.base_url, tmp_path / "archive"))
    assert result.report.archived == (1 if length == "known" else 0)
    assert files(tmp_path / "archive") == (source([row]) if length == "known" else {})


ACTIONS: list[Action] = [
    Status(code=404),
    Status(code=500),
    Status(code=429),
    Status(code=401),
    Status(code=204),
    Status(code=304),
    Drop(),
    Drop(how="rst"),
    Cut(fraction=0.5),
    Cut(fraction=0.5, how="rst", framing="chunked"),
    Body(kind="html"),
    Body(kind="json_metadata", right_length=True),
    Body(kind="empty"),
    Extra(bytes=9),
]
FAULTS = st.lists(
    st.builds(
        # A PBX that refuses for ever is asked every 20 s at last, which is tests/test_pace.py's to wait for.
        lambda on, action, after, times: Fault(
            on=on, action=action, after=after, times=1 if action == Status(code=429) else times
        ),
        st.sampled_from(["media", "media", "media", "recordings", "cdrs"]),
        st.sampled_from(ACTIONS),
        st.integers(0, 6),
        st.sampled_from([1, 2, 5, -1]),
    ),
    max_size=4,
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(faults=FAULTS, workers=st.integers(1, 5), queue_size=st.integers(1, 4), page_size=st.integers(1, 8))
def test_counts_are_conserved_and_no_wrong_byte_is_archived_whatever_fails(
    faults: list[Fault], workers: int, queue_size: int, page_size: int
) -> None:
    rows = recordings(8)

    async def run() -> None:
        async with Simulator(Corpus(rows, accounts=ACCOUNTS), faults=FaultScript(faults)) as pbx:
            knobs = {"concurrency": workers, "queue_size": queue_size, "page_size": page_size, "max_retries": 1}
            result = await archived(made(pbx.base_url, root, **knobs))
            report = json.loads(json.dumps({name: getattr(result.report, name) for name in (*COUNTS, "listed")}))
            assert conserved(report), (report, result.ended)
            found = files(root)
            assert len(found) == result.report.archived
            assert found.items() <= source(rows).items()
            assert leftovers(root) == []
            pbx.faults.clear()
            await archived(made(pbx.base_url, root, max_retries=2))
            assert files(root).items() <= source(rows).items()
            last = await archived(made(pbx.base_url, root, max_retries=2))
            assert files(root) == source(rows), (faults, last.report)

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "archive"
        asyncio.run(run())


COUNTS = ("archived", "already_archived", "pending", "missing", "quarantined")


async def test_a_full_queue_stops_the_listing(tmp_path: Path) -> None:
    rows = [recording(n) for n in range(30)]
    async with Simulator(Corpus(rows, accounts=ACCOUNTS), switches=Switches(media_think_time_s=0.05)) as pbx:
        knobs = {"concurrency": 1, "queue_size": 1, "page_size": 4}
        running = asyncio.create_task(archived(made(pbx.base_url, tmp_path / "archive", **knobs)))
        ahead = []
        while not running.done():
            await asyncio.sleep(0.01)
            if pbx.stats.media:
                # With one task in hand and one waiting, the page being fed and nothing beyond it has been asked for.
                ahead.append((pbx.stats.recordings_pages, pbx.stats.media))
        result = await running
    assert result.report.archived == 30
    assert result.report.pages > 6
    early = [pages for pages, fetched in ahead if fetched <= 3]
    assert early
    assert max(early) < result.report.pages - 3


async def test_a_feed_holds_no_more_than_its_size_and_ends_when_it_is_closed() -> None:
    feed = Feed(2)
    tasks: list[Task] = [object() for _ in range(3)]  # type: ignore[misc]
    await feed.put(tasks[0])
    await feed.put(tasks[1])
    third = asyncio.create_task(feed.put(tasks[2]))
    await asyncio.sleep(0.01)
    assert not third.done()
    assert await feed.take() is tasks[0]
    await asyncio.wait_for(third, 1)
    feed.close()
    assert [await feed.take() for _ in range(4)] == [tasks[1], tasks[2], None, None]


@given(st.lists(st.integers(0, 200), max_size=30), st.integers(1, 100))
def test_the_memory_budget_is_never_overdrawn_and_lets_everybody_through(sizes: list[int], total: int) -> None:
    async def run() -> None:
        budget = Budget(total)
        held, highest = 0, 0

        async def one(size: int) -> None:
            nonlocal held, highest
            async with budget.share(size):
                held += min(size, total)
                highest = max(highest, held)
                await asyncio.sleep(0)
                held -= min(size, total)

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for size in sizes:
                group.create_task(one(size))
        assert highest <= total
        assert held == 0

    asyncio.run(run())


async def test_no_descriptor_is_left_open_by_a_run(tmp_path: Path) -> None:
    rows = recordings(10)
    script = FaultScript([Fault(on="media", action=Cut(fraction=0.5), times=4)])
    async with Simulator(Corpus(rows, accounts=ACCOUNTS), faults=script) as pbx:
        await archived(made(pbx.base_url, tmp_path / "warm", max_retries=3))
        await asyncio.sleep(0.05)
        before = descriptors()
        await archived(made(pbx.base_url, tmp_path / "archive", max_retries=3))
        await asyncio.sleep(0.05)
        assert descriptors() <= before
