"""The pure parts of the work on a cluster: shares, parcels, versions, counts; and what a worker remembers of the PBX."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import Silent
from virtual_clock import virtually

from archiver.engine.base import Watcher
from archiver.engine.cluster.counts import Counts, End
from archiver.engine.cluster.cutting import Cutter
from archiver.engine.cluster.errand import Parcel
from archiver.engine.cluster.scheduler import Scheduler
from archiver.engine.cluster.shares import Shares
from archiver.engine.cluster.versions import check_versions, difference
from archiver.engine.wire import News, Unsettled
from archiver.errors import SignInRefused, WorkersDiffer
from archiver.pbx.base import Access, Secret, Traffic
from archiver.pbx.memory import PbxMemory
from archiver.pbx.session import PbxSession
from archiver.pipeline.limiter import Limiter
from archiver.pipeline.producer import Partition
from archiver.pipeline.tally import Tally
from archiver.simulator import Corpus, Fault, FaultScript, SimulatedRecording, Simulator, SimulatorThread, Switches
from archiver.simulator import Status as Answer
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.notes import Notes
from archiver.window import ListingWindow, Window

BEGIN = datetime(2024, 5, 6, tzinfo=UTC)
ACCOUNT = "a" * 32


# Shares; how they keep to one budget is in test_cluster_budget


@given(st.integers(1, 50), st.integers(1, 50))
def test_those_that_stay_get_everything_when_others_have_left_for_a_while(divisor: int, under_way: int) -> None:
    shares = Shares(divisor, 50)
    for _ in range(under_way):
        shares.begin()
    for _ in range(under_way - 1):
        shares.end()
    parts = [(shares.settle(), shares.part)[1] for _ in range(5)]
    assert parts[-1] == 1
    assert len(set(parts)) == 1 + (max(divisor, under_way) > 1)


def test_a_gap_between_two_parcels_changes_no_share() -> None:
    shares = Shares(2, 50)
    shares.begin()
    shares.begin()
    for _ in range(20):
        shares.end()
        shares.settle()
        shares.begin()
        shares.settle()
    assert shares.part == 0.5


def test_what_holds_is_said_again_before_anybody_thinks_that_nobody_leads() -> None:
    shares = Shares(1, 50)
    shares.begin()
    shares.set_out("one")
    assert [shares.settle() for _ in range(4)] == [False, False, False, True]
    shares.portion()
    assert not shares.settle()


# Cutter


def partition(account_id: str, ordinal: int) -> Partition:
    window = Window(BEGIN + timedelta(hours=ordinal), BEGIN + timedelta(hours=ordinal + 1))
    return Partition(account_id, ListingWindow(window, window), window)


def partitions_of(sizes: dict[str, int]) -> Iterator[Partition]:
    for account_id, count in sizes.items():
        for ordinal in range(count):
            yield partition(account_id, ordinal)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 60), max_size=5),
    st.sets(st.sampled_from("abcdefg")),
    st.lists(st.floats(0, 100), min_size=1, max_size=20),
    st.integers(1, 40),
)
def test_every_partition_and_what_is_due_of_every_account_come_once_and_in_order(
    sizes: dict[str, int], owed: set[str], took_s: list[float], hands: int
) -> None:
    cutter = Cutter(partitions_of(sizes), sorted(owed), lambda: hands)
    parcels: list[Parcel] = []
    while (parcel := cutter.listing()) is not None:
        cutter.took(parcel, took_s[len(parcels) % len(took_s)])
        parcels.append(parcel)
    assert cutter.listing() is None
    whole = {parcel.account_id for parcel in parcels if parcel.due}
    while (parcel := cutter.due()) is not None:
        assert parcel.due
        assert not parcel.partitions
        parcels.append(parcel)
    assert [each for parcel in parcels for each in parcel.partitions] == list(partitions_of(sizes))
    assert all({each.account_id for each in parcel.partitions} <= {parcel.account_id} for parcel in parcels)
    assert Counter(parcel.account_id for parcel in parcels if parcel.due) == Counter(owed)
    names = [(parcel.account_id, parcel.name) for parcel in parcels]
    assert len(set(names)) == len(names)
    for account_id in whole:
        # What is due comes along only if nothing of the account is listed elsewhere.
        assert len([parcel for parcel in parcels if parcel.account_id == account_id]) == 1


@given(st.integers(1, 2000), st.integers(1, 16), st.booleans())
def test_near_the_end_no_parcel_holds_more_than_a_fair_share_of_what_is_left_and_a_slow_one_half_of_it(
    count: int, hands: int, slow: bool
) -> None:
    cutter, left = Cutter(partitions_of({"a": count}), [], lambda: hands), count
    sizes: list[int] = []
    while (parcel := cutter.listing()) is not None:
        size = len(parcel.partitions)
        assert size <= -(-left // (2 * hands if hands > 1 and (slow or not sizes) else hands))
        left -= size
        cutter.took(parcel, 5.0 * size if slow else 0.0)
        sizes.append(size)
    assert left == 0
    assert count < 8 * hands or len(sizes) >= hands


def test_parcels_grow_while_they_are_quick_and_shrink_when_they_are_slow() -> None:
    cutter = Cutter(partitions_of({"a": 3000, "b": 10}), [], lambda: 2)
    sizes: list[int] = []
    for seconds in (1.0, 1.0, 1.0, 1.0, 400.0, 1.0):
        parcel = cutter.listing()
        assert parcel is not None
        sizes.append(len(parcel.partitions))
        cutter.took(parcel, seconds)
    assert sizes == [8, 32, 128, 512, 1024, 153]


# Versions


def found(**others: dict[str, Any]) -> dict[str, Any]:
    """What Dask tells of three that run the same, but for the packages named."""
    same = {"recording-archiver": "1.0", "python": "3.11.4.final.0", "distributed": "2026.8.0", "msgspec": "0.20"}

    def node(name: str) -> dict[str, Any]:
        return {"packages": same | others.get(name, {})}

    return {"client": node("client"), "scheduler": node("scheduler"), "workers": {"tcp://w:1": node("worker")}}


def test_those_that_run_the_same_may_work_together() -> None:
    check_versions(found())


@pytest.mark.parametrize("package", ["recording-archiver", "python", "distributed", "msgspec"])
@pytest.mark.parametrize("theirs", ["9.9.9", None])
def test_each_package_in_which_a_worker_differs_is_named_with_both_versions(package: str, theirs: str | None) -> None:
    told = found(worker={package: theirs})
    with pytest.raises(WorkersDiffer, match="worker tcp://w:1") as caught:
        check_versions(told)
    assert package in str(caught.value)
    assert ("9.9" if theirs else f"has no {package}") in str(caught.value)


def test_of_the_scheduler_only_its_dask_must_be_the_same() -> None:
    check_versions(found(scheduler={"recording-archiver": None, "python": "3.13.1.final.0", "msgspec": None}))
    with pytest.raises(WorkersDiffer, match=r"the scheduler has distributed 1\.0"):
        check_versions(found(scheduler={"distributed": "1.0"}))


def test_a_patch_version_of_python_makes_no_difference_and_a_minor_one_does() -> None:
    check_versions(found(worker={"python": "3.11.99.final.0"}))
    with pytest.raises(WorkersDiffer, match=r"python 3\.12"):
        check_versions(found(worker={"python": "3.12.4.final.0"}))


def test_who_joins_later_is_compared_in_the_same_and_the_difference_is_named() -> None:
    told = found(worker={"msgspec": "0.18", "python": "3.12.4.final.0"})
    ours = told["client"]
    assert difference(ours, ours) == ""
    assert difference(ours, told["workers"]["tcp://w:1"]) == (
        "it has python 3.12; here it is 3.11; it has msgspec 0.18; here it is 0.20"
    )


def test_of_many_differences_the_first_are_named_and_the_rest_is_counted() -> None:
    told = found()
    told["workers"] = {f"tcp://w:{n}": {"packages": {}} for n in range(3)}
    with pytest.raises(WorkersDiffer, match=r"\(and 9 more\)"):
        check_versions(told)


# Counts


class Listening(Silent):
    """Adds up the bytes that it is told of, and keeps what was not archived."""

    def __init__(self) -> None:
        self.total = 0
        self.names: list[str] = []

    def bytes_came(self, size_bytes: int) -> None:
        self.total += size_bytes

    def settled(self, account_id: str, recording_id: str, status: str, reason: str) -> None:
        self.names.append(recording_id)


def news(archived: int, *, lowered: int = 0, unsettled: tuple[Unsettled, ...] = ()) -> News:
    return News(
        Tally(claimed=archived, archived=archived, settled=archived, bytes_archived=10 * archived),
        Traffic(requests=archived + 1, at_once=3),
        10 * archived,
        lowered,
        unsettled,
    )


def test_a_parcel_that_is_done_again_counts_once_and_its_requests_each_time() -> None:
    counts = Counts(Silent())
    for key, end in (("first", End.UNDONE), ("again", End.DONE)):
        counts.begin(key)
        counts.hear(key, news(3))
        counts.end(key, end)
    assert (counts.tally.archived, counts.tally.listed, counts.traffic.requests) == (3, 3, 8)
    assert counts.traffic.at_once == 0


def test_late_news_of_a_parcel_that_has_come_back_change_nothing() -> None:
    watcher = Listening()
    counts = Counts(watcher)
    counts.begin("one")
    counts.hear("one", news(2))
    counts.end("one", End.DONE)
    late = news(9, lowered=4, unsettled=(Unsettled(ACCOUNT, "x", "missing", "why"),))
    assert not counts.hear("one", late)
    assert (counts.tally.archived, counts.traffic.requests, watcher.total, watcher.names) == (2, 3, 20, [])


def test_news_tell_once_of_bytes_of_what_was_not_archived_and_of_a_lowered_limit() -> None:
    watcher = Listening()
    counts = Counts(watcher)
    counts.begin("one")
    assert not counts.hear("one", news(1, unsettled=(Unsettled(ACCOUNT, "x", "missing", "why"),)))
    assert counts.hear("one", news(3, lowered=1))
    assert not counts.hear("one", news(4, lowered=1))
    assert (watcher.total, watcher.names) == (40, ["x"])


@given(
    st.lists(
        st.tuples(st.sampled_from(["begin", "hear", "done", "undone"]), st.integers(0, 4), st.integers(0, 9)),
        max_size=60,
    )
)
def test_sums_are_of_what_is_done_and_of_what_is_under_way_and_nothing_else(steps: list[tuple[str, int, int]]) -> None:
    watcher: Watcher = Silent()
    counts = Counts(watcher)
    done, spent, under_way = 0, 0, dict[str, tuple[int, int]]()
    for step, who, archived in steps:
        key = str(who)
        if step == "begin" and key not in under_way:
            counts.begin(key)
            under_way[key] = (0, 0)
        elif step == "hear":
            counts.hear(key, news(archived))
            if key in under_way:
                under_way[key] = (archived, archived + 1)
        elif step in {"done", "undone"} and key in under_way:
            counts.end(key, End.DONE if step == "done" else End.UNDONE)
            last, requests = under_way.pop(key)
            done, spent = done + last * (step == "done"), spent + requests
        assert counts.tally.archived == done + sum(last for last, _ in under_way.values())
        assert counts.tally.bytes_archived == 10 * counts.tally.archived
        assert counts.traffic.requests == spent + sum(requests for _, requests in under_way.values())


@pytest.mark.parametrize("end", [End.LEFT, End.LOST])
def test_what_an_attempt_has_archived_stays_in_the_report_when_nobody_does_it_again(end: End) -> None:
    counts = Counts(Silent())
    counts.begin("one")
    counts.hear("one", replace(news(3), tally=Tally(claimed=5, archived=3, settled=3, windows_complete=2)))
    before = counts.end("one", End.UNDONE)
    assert counts.tally.archived == 0
    # The next one is cut off before it has found what the first had done.
    counts.begin("again", before)
    counts.hear("again", news(0))
    assert counts.tally.archived == 3
    counts.end("again", end)
    assert (counts.tally.archived, counts.tally.listed, counts.tally.pending) == (3, 5, 2)
    if end is End.LOST:
        counts.lost(ACCOUNT, 4, "it broke")
        assert (counts.tally.windows_complete, counts.tally.windows_incomplete) == (0, 4)


def test_what_was_done_in_the_end_counts_as_it_ended_whatever_was_counted_before() -> None:
    counts = Counts(Silent())
    counts.begin("one", Tally(claimed=9, archived=9, settled=9))
    counts.hear("one", news(2))
    counts.end("one", End.DONE)
    assert counts.tally.archived == 2


def test_a_parcel_that_never_came_back_is_in_the_report_with_its_windows_as_incomplete() -> None:
    counts = Counts(Silent())
    counts.lost(ACCOUNT, 3, "it broke")
    counts.lost(ACCOUNT, 0, "it broke")
    assert (counts.tally.windows_incomplete, counts.tally.problems_total) == (4, 2)
    assert counts.tally.something_left


# The crew and the scheduler


class Silence:
    """A scheduler's client of which one worker never answers."""

    async def run(self, *_: object, **__: object) -> None:
        await asyncio.Event().wait()


def test_a_worker_that_does_not_answer_is_not_waited_for_and_is_no_error() -> None:
    async def main(clock: Callable[[], float]) -> float:
        await Scheduler(Silence(), "tcp://nobody:1", "run").tell("stop")
        return clock()

    assert virtually(main) < 1000.0 + 60


# What a worker remembers of the PBX


ROWS = [
    SimulatedRecording(
        account_id=ACCOUNT, recording_id=f"202405-{n:032x}", start_unix_s=int(BEGIN.timestamp()) + n, duration_ms=1000
    )
    for n in range(3)
]
DAY = Window(BEGIN, BEGIN + timedelta(days=1))


def access(base_url: str, *, requests_per_s: float = 0.0) -> Access:
    return Access(
        base_url=base_url,
        username="archiver",
        domain="example",
        password=Secret("simulator"),
        ca_file=None,
        time_unit="s",
        page_size=50,
        recording_path="/api/v2/reports/recording/{recording_id}",
        connect_timeout_s=5.0,
        read_timeout_s=5.0,
        max_retries=0,
        retry_wait_s=0.0,
        requests_per_s=requests_per_s,
        min_rate_bytes_per_s=0.0,
        connections=10,
    )


async def ask(session: PbxSession, times: int = 1) -> None:
    for _ in range(times):
        answer = await session.recordings_page(ACCOUNT, DAY, page_size=50, cursor=None)
        assert len(answer.rows) == 3


async def test_a_session_after_another_signs_in_no_second_time() -> None:
    memory = PbxMemory()
    async with Simulator(Corpus(ROWS)) as pbx:
        for _ in range(3):
            async with PbxSession(access(pbx.base_url), memory=memory) as session:
                await ask(session)
        assert pbx.stats.logins == 1


async def test_sessions_one_after_another_keep_the_rate_over_all_of_them() -> None:
    memory, loop = PbxMemory(), asyncio.get_running_loop()
    async with Simulator(Corpus(ROWS)) as pbx:
        begun_s = loop.time()
        for _ in range(5):
            async with PbxSession(access(pbx.base_url, requests_per_s=20.0), memory=memory) as session:
                await ask(session, 2)
        took_s = loop.time() - begun_s
        # None of them begins with an allowance of its own.
        assert pbx.stats.requests == 11
        assert pbx.stats.requests <= 20 * took_s + 1


async def test_sessions_that_share_a_rate_never_send_more_however_often_their_shares_change() -> None:
    async def work(session: PbxSession) -> None:
        while True:
            await ask(session)

    async with Simulator(Corpus(ROWS)) as pbx, AsyncExitStack() as stack:
        reach, memories = access(pbx.base_url, requests_per_s=20 / 10), [PbxMemory(left=[n / 10]) for n in range(10)]
        sessions = [await stack.enter_async_context(PbxSession(reach, memory=memory)) for memory in memories]
        begun_s = time.monotonic()
        tasks = [asyncio.create_task(work(session)) for session in sessions]
        for n in range(15):
            await asyncio.sleep(0.1)
            for session in sessions:
                session.set_rate(20 / (10 + n % 2))
        took_s = time.monotonic() - begun_s
        assert pbx.stats.requests <= 20 * took_s + 5
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_refused_sign_in_is_remembered_and_not_tried_again_by_the_next_session() -> None:
    memory = PbxMemory()
    script = FaultScript([Fault(on="login", action=Answer(code=401), times=-1)])
    async with Simulator(Corpus(ROWS), faults=script) as pbx:
        for _ in range(3):
            async with PbxSession(access(pbx.base_url), memory=memory) as session:
                with pytest.raises(SignInRefused):
                    await ask(session)
        assert pbx.stats.logins == 1


def test_sessions_in_several_threads_sign_in_once_also_when_the_token_expires() -> None:
    memory, ready = PbxMemory(), threading.Barrier(4)
    errors: list[BaseException] = []

    async def work(base_url: str) -> None:
        async with PbxSession(access(base_url), memory=memory) as session:
            await ask(session)

    def thread(base_url: str) -> None:
        try:
            ready.wait()
            asyncio.run(work(base_url))
        except BaseException as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    with SimulatorThread(Simulator(Corpus(ROWS), switches=Switches(round_trip_s=0.05))) as pbx:
        for expected in (1, 2):
            threads = [threading.Thread(target=thread, args=(pbx.base_url,)) for _ in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert errors == []
            assert pbx.stats.logins == expected
            # As if it had been withdrawn meanwhile: the PBX knows no such token.
            memory.token = "x" + memory.token[1:]


# The limiter's bound, and notes


@given(st.integers(1, 50), st.lists(st.one_of(st.integers(1, 60), st.sampled_from(["cut", "slot"])), max_size=30))
def test_a_new_bound_keeps_the_limit_between_one_and_it_and_slots_are_conserved(
    bound: int, steps: list[int | str]
) -> None:
    async def main() -> None:
        limits: list[int] = []
        clock_s, held = 0.0, 0
        limiter = Limiter(bound, lambda: clock_s, on_limit=limits.append)
        now = bound
        waiting: list[asyncio.Task[None]] = []
        for step in steps:
            clock_s += 2.0
            if isinstance(step, int):
                was_whole = limiter.limit == now
                limiter.set_bound(step)
                now = step
                assert not was_whole or limiter.limit == step
            elif step == "cut":
                limiter.lower()
            else:
                waiting.append(asyncio.create_task(limiter.acquire()))
            await asyncio.sleep(0)
            assert 1 <= limiter.limit <= now
            assert limits[-1] == limiter.limit
            got = sum(each.done() for each in waiting)
            assert limiter.held == got >= held
            # Nobody waits while there is room.
            assert got == len(waiting) or limiter.held >= limiter.limit
            held = got
        for _ in range(held):
            limiter.release()
        limiter.set_bound(100)
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(main())


def test_a_note_that_is_removed_is_gone_the_others_stay_and_removing_again_is_no_error(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path, durable=True)
    try:
        notes = Notes(folder, "cluster")
        notes.write("one", b"1")
        notes.write("two", b"2")
        notes.remove("one")
        notes.remove("one")
        assert notes.read() == {"two": b"2"}
        assert Notes(folder, "other").read() == {}
    finally:
        folder.close()
