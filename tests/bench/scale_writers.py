"""How fast several processes write into one ledger, each under a claim of its own, as the workers of a cluster do."""

import asyncio
import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from archiver.ledger.ledger import open_ledger
from archiver.ledger.values import Run
from archiver.ledger.values_claims import Claim, ClaimState

from .scale_rows import account_id, fresh, window_of
from .scale_statements import NOW, PAGE, PROGRESS, outcome

_GETTING_READY_S = 4.0


@dataclass(frozen=True)
class Wrote:
    """What one process has written: new recordings, listed and settled as archived."""

    recordings: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True)
class Errand:
    """An account's recordings to write, from one instant to another of the clock that all processes share."""

    url: str
    run: Run
    account: int
    first: int
    begin_s: float
    end_s: float


async def written(url: str, processes: int, seconds: float, *, first: int) -> list[Wrote]:
    """So many processes at once; `first` keeps their recordings apart from those of other times."""
    leader = await open_ledger(url)
    try:
        holding = [account_id(account) for account in range(processes)]
        run = await leader.begin_run(f"writers-{first}", started_at=NOW, holding=holding)
        begin_s = time.monotonic() + _GETTING_READY_S
        errands = [
            Errand(url, run, account, first + account * 10**8, begin_s, begin_s + seconds)
            for account in range(processes)
        ]
        with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
            loop = asyncio.get_running_loop()
            return list(await asyncio.gather(*(loop.run_in_executor(pool, write, each) for each in errands)))
    finally:
        await leader.close()


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
        await asyncio.sleep(errand.begin_s - time.monotonic())
        begun_s, cpu_s, count = time.monotonic(), _cpu_s(), 0
        while time.monotonic() < errand.end_s:
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
