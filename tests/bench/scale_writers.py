"""How fast several processes write into one ledger, each under a claim of its own, as the workers of a cluster do."""

import asyncio
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier

from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Run
from archiver.ledger.values_claims import Claim, ClaimState

from .scale_rows import account_id, fresh, window_of
from .scale_statements import NOW, PAGE, PROGRESS, outcome

_READY_S = 60.0
_together: "list[Barrier]" = []
"""What the processes of a pool begin at."""


@dataclass(frozen=True)
class Wrote:
    """What one process has written: new recordings, listed and settled as archived."""

    recordings: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Errand:
    """An account's recordings to write for so long; `first` is the number of the first one."""

    url: str
    run: Run
    account: int
    first: int
    seconds: float


async def written(url: str, processes: int, seconds: float, *, first: int) -> list[Wrote]:
    """So many processes at once; `first` keeps their recordings apart from those of other times."""
    leader = await open_ledger(url)
    try:
        holding = [account_id(account) for account in range(processes)]
        run = await leader.begin_run(f"writers-{first}", started_at=NOW, holding=holding)
        errands = [Errand(url, run, account, first + account * 10**8, seconds) for account in range(processes)]
        context = multiprocessing.get_context("spawn")
        barrier = context.Barrier(processes)
        with ProcessPoolExecutor(processes, context, initializer=wait_at, initargs=(barrier,)) as pool:
            loop = asyncio.get_running_loop()
            return list(await asyncio.gather(*(loop.run_in_executor(pool, write, each) for each in errands)))
    finally:
        await leader.close()


def wait_at(barrier: Barrier) -> None:
    """A process of the pool begins there."""
    _together.append(barrier)


def write(errand: Errand) -> Wrote:
    return asyncio.run(_write(errand))


async def _write(errand: Errand) -> Wrote:
    ledger = await open_ledger(errand.url, create=False)
    try:
        whose = account_id(errand.account)
        claim = await ledger.begin_claim(errand.run, whose, f"writers {errand.first}", holder="bench", at=NOW)
        if not isinstance(claim, Claim):
            raise TypeError("this was written before")
        ledger.work_under(claim)
        await asyncio.to_thread(_together[0].wait, _READY_S)
        begun_s, cpu_s, count = time.monotonic(), _cpu_s(), 0
        while time.monotonic() < begun_s + errand.seconds:
            rows = [fresh(errand.account, errand.first + count + number) for number in range(PAGE)]
            page = await ledger.record_page(errand.run, whose, window_of(0), rows, PROGRESS, at=NOW)
            for task in page.tasks:
                await ledger.settle(errand.run, outcome(task))
            await ledger.flush()
            count += len(page.tasks)
        wrote = Wrote(count, time.monotonic() - begun_s, _cpu_s() - cpu_s)
        await ledger.end_claim(claim, ClaimState.DONE, at=NOW, report=b"{}")
        return wrote
    finally:
        await ledger.close()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
