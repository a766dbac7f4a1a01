"""The simulator as a process of its own, which writes down when media were asked for and answered.

`python -m tests.bench.live_pbx '{"count": …}' RESULT` prints its address, serves until SIGTERM and then writes RESULT. All
recordings are one and the same tiny MP3, so that making media costs the server nothing.
"""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.request import Request, urlopen

import uvloop

from archiver.simulator import (
    BucketRule,
    BytesMedia,
    Corpus,
    Credentials,
    MediaSource,
    Mp3Media,
    SimulatedRecording,
    Simulator,
    Stats,
    Switches,
)

from .corpus import Workload, rows_by_day
from .nights import Past

PROJECT = Path(__file__).parents[2]
MEDIA_MS = 100


@dataclass(frozen=True)
class Plan:
    """What the PBX has and how it answers; a bucket of capacity 0 is none, and with a past `count` says nothing."""

    count: int
    think_time_s: float = 0.0
    bucket_capacity: float = 0.0
    bucket_refill_per_s: float = 0.0
    past: Past | None = None

    def rows(self, media: MediaSource) -> Iterator[SimulatedRecording]:
        """What it lists: an account's past, if there is one, else the workload."""
        if self.past is not None:
            yield from self.past.rows(media)
            return
        for day in rows_by_day(self.workload, media):
            yield from day

    @property
    def workload(self) -> Workload:
        return Workload("live", self.count, MEDIA_MS, shares_media=True)

    @property
    def switches(self) -> Switches:
        bucket = BucketRule(self.bucket_capacity, self.bucket_refill_per_s) if self.bucket_capacity else None
        return Switches(media_think_time_s=self.think_time_s, bucket=bucket)


@dataclass
class Seen:
    """What the PBX saw, in seconds of its clock.

    Attributes:
        begins, ends: when each media request came, and when each was answered.
        passed_at, refused_at: when any request was answered with 200, or otherwise.
        cpu_s: what the PBX itself used between the first media request and the last answer.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    passed_at: list[float] = field(default_factory=list)
    refused_at: list[float] = field(default_factory=list)
    cpu_s: float = 0.0

    @property
    def span_s(self) -> float:
        """From the first media request to the last answer."""
        return self.ends[-1] - self.begins[0]

    def rate(self, share_from: float, share_to: float) -> float:
        """Media answered a second between two shares of the span.

        A request counts with the part of its time at the PBX that lies between, so that answers which come in bursts
        do not depend on where the edges fall. The n-th request is taken to be the n-th answered, since all take as long.
        """
        begin, end = (self.begins[0] + share * self.span_s for share in (share_from, share_to))
        parts = (
            (min(ended, end) - max(begun, begin)) / (ended - begun)
            for begun, ended in zip(self.begins, self.ends, strict=True)
            if ended > begin and begun < end and ended > begun
        )
        return sum(parts) / (end - begin)


class TimedStatuses(Counter[int]):
    """Answers by status that notes when each was given."""

    def __init__(self, seen: Seen) -> None:
        super().__init__()
        self._seen = seen

    def __setitem__(self, status: int, count: int) -> None:
        super().__setitem__(status, count)
        (self._seen.passed_at if status == 200 else self._seen.refused_at).append(time.monotonic())


class TimedStats(Stats):
    """The simulator's counts, with the times beside them."""

    def __init__(self, seen: Seen) -> None:
        super().__init__(statuses=TimedStatuses(seen))
        self._seen = seen
        self._cpu_from_s = 0.0

    def begin(self, kind: str) -> None:
        super().begin(kind)
        if kind == "media":
            self._seen.begins.append(time.monotonic())
            self._cpu_from_s = self._cpu_from_s or time.process_time()

    def end(self, kind: str) -> None:
        super().end(kind)
        if kind == "media":
            self._seen.ends.append(time.monotonic())
            self._seen.cpu_s = time.process_time() - self._cpu_from_s


@dataclass
class LivePbx:
    """A running one; `seen` is filled in when it has ended."""

    base_url: str
    plan: Plan
    seen: Seen = field(default_factory=Seen)

    def sign_in(self) -> str:
        """A token, for clients that know nothing but addresses."""
        body = json.dumps(asdict(Credentials())).encode()
        with urlopen(Request(f"{self.base_url}/api/v2/login", body)) as answer:
            return str(json.loads(answer.read())["access_token"])


@contextmanager
def living(plan: Plan, work: Path) -> Iterator[LivePbx]:
    """A PBX on loopback, ended by its process id."""
    result = work / "seen.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.bench.live_pbx", json.dumps(asdict(plan)), str(result)]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        if process.stdout is None or not (url := process.stdout.readline().strip()):
            raise RuntimeError("the simulator did not start")
        pbx = LivePbx(url, plan)
        yield pbx
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    pbx.seen = Seen(**json.loads(result.read_text(encoding="ascii")))


async def _serve(simulator: Simulator) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with simulator:
        sys.stdout.write(f"{simulator.base_url}\n")
        sys.stdout.flush()
        await stop.wait()


def main() -> None:
    said, result = json.loads(sys.argv[1]), Path(sys.argv[2])
    plan = Plan(**said | {"past": Past(**said["past"]) if said["past"] else None})
    media = BytesMedia(b"".join(Mp3Media("tiny", MEDIA_MS).chunks()))
    corpus = Corpus(plan.rows(media))
    simulator = Simulator(corpus, switches=plan.switches, credentials=Credentials())
    seen = Seen()
    simulator.stats = TimedStats(seen)
    uvloop.run(_serve(simulator))
    result.write_text(json.dumps(asdict(seen)), encoding="ascii")


if __name__ == "__main__":
    main()
