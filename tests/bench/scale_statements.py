"""How long the ledger's own calls take in a large ledger, and how it comes to its rows."""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from statistics import median

from archiver.ledger.ledger import SqlLedger, open_ledger
from archiver.ledger.values import Run, Settlement, Task, WindowProgress
from archiver.recording import Fixity, Recording, Status

from .scale_rows import BEGIN, DAYS, Made, account_id, fresh, listed, window_of
from .scale_server import Plans, Reads, explaining

PAGE = 1000
NOW = BEGIN + timedelta(days=DAYS + 1)
PROGRESS = WindowProgress(1, PAGE, "")
_FIXITY = Fixity(240_000, bytes(range(32)))
_FIRST_ACCOUNT = 20
"""Those before are for the writers."""


@dataclass(frozen=True)
class Timed:
    """A call: what it was about, how long it took each time, and how it came to its rows."""

    name: str
    about: str
    times_s: Sequence[float]
    reads: Reads

    @property
    def row(self) -> list[str]:
        times_ms = [1000 * each for each in self.times_s]
        ways = [way if way.startswith("all of") else f"`{way}`" for way in self.reads.ways]
        figures = [f"{median(times_ms):,.1f}", f"{max(times_ms):,.1f}", f"{self.reads.pages:,}"]
        return [f"`{self.name}`", self.about, *figures, ", ".join(ways)]


@dataclass
class Turn:
    """One round of a call: a ledger, a run that is new to it, and an account that had no turn before."""

    ledger: SqlLedger
    run: Run
    account: int
    rows: Sequence[Recording] = ()
    tasks: Sequence[Task] = ()


Call = Callable[[Turn], Awaitable[object]]


async def claim_due(turn: Turn) -> None:
    await turn.ledger.claim_due(turn.run, account_id(turn.account), at=NOW, limit=200)


async def record_page(turn: Turn) -> None:
    page = turn.ledger.record_page(turn.run, account_id(turn.account), window_of(0), turn.rows, PROGRESS, at=NOW)
    turn.tasks = (await page).tasks


async def settle(turn: Turn) -> None:
    for task in turn.tasks:
        await turn.ledger.settle(turn.run, outcome(task))
    await turn.ledger.flush()


async def standings_of(turn: Turn) -> None:
    await turn.ledger.standings_of(account_id(turn.account), window_of(DAYS // 2))


async def summaries(turn: Turn) -> None:
    await turn.ledger.summaries()


async def last_run(turn: Turn) -> None:
    await turn.ledger.last_run()


async def unsealed(turn: Turn) -> None:
    await turn.ledger.unsealed(PAGE)


def outcome(task: Task) -> Settlement:
    """As if it had been archived."""
    recording = task.recording
    key = f"{recording.account_id}/{recording.dated_at:%Y/%m/%d}/{recording.recording_id}.mp3"
    return Settlement(
        entry_id=task.entry_id,
        status=Status.ARCHIVED,
        attempts=1,
        key=key,
        fixity=_FIXITY,
        sidecar_sha256=_FIXITY.sha256,
        archived_at=NOW,
    )


class Statements:
    """Measures each call several times, then once more with its plans."""

    def __init__(self, url: str, plans: Plans, made: Made, rounds: int) -> None:
        self._url = url
        self._plans = plans
        self._made = made
        self._rounds = rounds

    async def measured(self) -> list[Timed]:
        plain, told = await open_ledger(self._url), await open_ledger(explaining(self._url))
        try:
            turns = await self._turns(plain, self._rounds, _FIRST_ACCOUNT)
            telling = await self._turns(told, 1, _FIRST_ACCOUNT + self._rounds)
            rows: list[Timed] = []
            for name, about, call in (
                ("claim_due", "up to 200 tasks of an account", claim_due),
                ("record_page", "1,000 rows, all known", record_page),
                ("record_page", "1,000 rows, all new", record_page),
                ("settle", "1,000 outcomes, until they are durable", settle),
                ("standings_of", "an account's day", standings_of),
                ("summaries", "all accounts (`status`)", summaries),
                ("unsealed", "1,000 objects without a manifest", unsealed),
                ("last_run", "", last_run),
            ):
                self._prepare(about, [*turns, *telling])
                times_s = [await _took_s(call, turn) for turn in turns]
                self._plans.skip()
                await call(telling[0])
                rows.append(Timed(name, about, times_s, self._plans.read()))
            return rows
        finally:
            await plain.close()
            await told.close()

    def _prepare(self, about: str, turns: Sequence[Turn]) -> None:
        for turn in turns:
            if about.endswith("known"):
                numbers = islice(self._made.of_account(turn.account, 0), PAGE)
                turn.rows = [listed(self._made, turn.account, number) for number in numbers]
            elif about.endswith("new"):
                turn.rows = [fresh(turn.account, turn.account * PAGE + number) for number in range(PAGE)]

    async def _turns(self, ledger: SqlLedger, count: int, first: int) -> list[Turn]:
        run = await ledger.begin_run(f"scale-{first}", started_at=NOW)
        return [Turn(ledger, run, first + each) for each in range(count)]

    async def walked(self) -> tuple[int, float, float]:
        """A walk over all objects in the order of their keys: how many, when the first came, and when the last."""
        ledger = await open_ledger(self._url)
        try:
            begun_s, first_s, count = time.monotonic(), 0.0, 0
            async for batch in ledger.object_rows():
                first_s = first_s or time.monotonic() - begun_s
                count += len(batch)
            return count, first_s, time.monotonic() - begun_s
        finally:
            await ledger.close()


async def _took_s(call: Call, turn: Turn) -> float:
    begun_s = time.monotonic()
    await call(turn)
    return time.monotonic() - begun_s
