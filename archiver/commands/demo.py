"""`archiver demo`: the whole program against the built-in simulator, over real sockets, without any settings."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from archiver.assembly import RunRequest
from archiver.commands.archiving import RunResult, run_archive
from archiver.commands.inspection import VerifyRequest, run_verify
from archiver.engine.base import Watcher
from archiver.proof.verification.verify import VerifyReport
from archiver.settings import Settings
from archiver.simulator import Corpus, Credentials, Simulator

_DAYS = 10


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo did: the run, the verification, and how long both took in seconds."""

    run: RunResult
    verified: VerifyReport
    calls: int
    accounts: int
    took_s: float


async def run_demo(root: Path, *, recordings: int, stop: asyncio.Event, watcher: Watcher) -> DemoResult:
    """Archive a simulated PBX of two accounts into `root` and verify every byte.

    Raises:
        ArchiverError: as `run` does.
    """
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    begin = end - timedelta(days=_DAYS)
    corpus = Corpus.generate(
        seed=20220506,
        accounts=2,
        recordings=recordings,
        begin=begin,
        end=end,
        median_duration_s=20.0,
        max_duration_s=120.0,
    )
    credentials = Credentials()
    begun_s = time.monotonic()
    async with Simulator(corpus, credentials=credentials) as pbx:
        settings = Settings.model_validate(
            {
                "pbx": {
                    "base_url": pbx.base_url,
                    "username": credentials.username,
                    "password": credentials.password,
                    "domain": credentials.domain,
                    "account_ids": corpus.account_ids,
                },
                "transfer": {"requests_per_s": 0},
                "store": {"local": {"root": str(root)}},
            }
        )
        request = RunRequest(since=begin - timedelta(days=1), until=end + timedelta(hours=2))
        result = await run_archive(settings, request, stop=stop, watcher=watcher)
        verified = await run_verify(settings, VerifyRequest(), stop=stop)
    return DemoResult(result, verified, len(corpus.recordings), len(corpus.account_ids), time.monotonic() - begun_s)
