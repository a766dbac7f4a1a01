"""The client's side: a connection with a running scheduler. With `worker` the only place that imports Dask.

Each foreign error becomes ours here. The scheduler forgets everything with the connection, and may: the ledger remembers.
"""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Self

import structlog

from archiver.engine.cluster.comparing import check_same
from archiver.engine.cluster.errand import Answer, Errand, FarNews
from archiver.engine.cluster.speaking import Lost, Unanswered, quieten, shown, spoken, unanswered
from archiver.engine.cluster.versions import PACKAGES
from archiver.errors import ClusterUnreachable, SettingsError

_CONNECT_S = 5.0
_TELL_S = 5.0
_ASKED_S = 15.0
"""For what the scheduler answers itself."""
_EXAMINED_S = 30.0
"""For what a worker answers."""
_PATIENT_TTL_S = 60.0
_RUNNING, _PAUSED = "running", "paused"
_EXTRA = "work on a cluster needs the extra `cluster`: pip install 'recording-archiver[cluster]'"


def check_extra() -> None:
    """See to it that Dask is installed.

    Raises:
        SettingsError: with what to install.
    """
    try:
        import distributed  # noqa: F401
    except ImportError:
        raise SettingsError(_EXTRA) from None


class Hands(NamedTuple):
    """How many errands a worker has in hand at a time; one that is paused finishes what it has, and is given no more."""

    threads: int
    is_paused: bool = False


class Scheduler:
    """A scheduler and its workers, for one run; close it.

    `side` is what the run is called on the workers; `here` are the versions of this end, as Dask tells them.
    """

    def __init__(self, client: Any, address: str, side: str) -> None:
        self.side = side
        self.here: Mapping[str, Any] = {}
        self._client = client
        self._address = address
        self._log: Any = structlog.get_logger()

    @classmethod
    async def connect(cls, address: str, *, side: str, on_news: Callable[[FarNews], None]) -> Self:
        """Reach the scheduler, compare versions, and put our side onto its workers, also onto those that come later.

        Raises:
            SettingsError: the extra is not installed, the address is none, or Dask's TLS settings don't fit it.
            ClusterUnreachable: nobody answers there, or a worker does not.
            WorkersDiffer: they run other versions.
        """
        check_extra()
        from distributed import Client
        from distributed.versions import get_versions

        quieten()
        with spoken(address):
            try:
                client = await Client(  # type: ignore[no-untyped-call]
                    address, asynchronous=True, timeout=_CONNECT_S, set_as_default=False
                )
            except ValueError as error:
                raise SettingsError(f"cluster.scheduler {address[:200]!a} is no address: {error}") from None
            except (TypeError, RuntimeError) as error:
                # So Dask says that tls:// has no certificates, and that tcp:// may not be used.
                raise SettingsError(
                    f"cluster.scheduler {address[:200]!a} does not go with Dask's TLS settings: {error}"
                ) from None
        it = cls(client, address, side)
        it.here = get_versions(PACKAGES)
        try:
            await check_same(it)
            from archiver.engine.cluster.worker import WorkerSide

            async with it._asking():
                client.subscribe_topic(side, lambda event: on_news(pickle.loads(event[1])))  # noqa: S301 - see `errand`
                await client.register_plugin(WorkerSide(side))
        except BaseException:
            await it.close()
            raise
        return it

    async def versions(self, worker: str = "") -> Any:
        """What Dask tells of the versions of a worker, or of the scheduler itself; nobody needs to have us for that.

        Raises:
            Unanswered, ClusterUnreachable.
        """
        from distributed.versions import get_versions

        if worker:
            return await self._have_run(get_versions, PACKAGES, worker=worker)
        async with self._asking():
            return await self._client.scheduler.versions(packages=PACKAGES)

    async def notes(self) -> list[str]:
        """What is worth saying of how the scheduler is set up.

        Raises:
            ClusterUnreachable.
        """
        import dask
        from dask.utils import parse_timedelta

        async with self._asking():
            ttl = await self._client.run_on_scheduler(dask.config.get, "distributed.scheduler.worker-ttl")
        if ttl and parse_timedelta(ttl) <= _PATIENT_TTL_S:
            return []
        return [
            (
                f"The scheduler waits {ttl or 'for ever'} for a worker that says nothing: "
                "with DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=20s it gives its work away sooner."
            )
        ]

    async def workers(self) -> Mapping[str, Hands]:
        """The workers by address.

        Raises:
            ClusterUnreachable.
        """
        async with self._asking():
            found = await self._client.scheduler.identity()
        return {
            address: Hands(int(worker["nthreads"]), is_paused=status == _PAUSED)
            for address, worker in found["workers"].items()
            if (status := worker.get("status", _RUNNING)) in {_RUNNING, _PAUSED}
        }

    async def ask(self, question: Callable[..., Any], *arguments: Any, worker: str) -> Any:
        """Have a worker answer a question, beside what its threads are busy with.

        Raises:
            Unanswered: the worker fails of it, is silent, or is gone.
            ClusterUnreachable: the scheduler can't be asked.
        """
        from archiver.engine.cluster.worker import answer_beside

        return await self._have_run(answer_beside, question, *arguments, worker=worker)

    async def _have_run(self, function: Callable[..., Any], *arguments: Any, worker: str) -> Any:
        """Have a worker run a function in its own loop."""
        from distributed.comm.core import CommClosedError

        answers: Mapping[str, Any] | None = None
        with spoken(self._address, self._client), suppress(TimeoutError):
            async with asyncio.timeout(_EXAMINED_S):
                for pause_s in (0.1, 0.5, 0.0):
                    answers = await self._client.run(function, *arguments, workers=[worker], on_error="return")
                    # The scheduler may take a connection for it that the worker is just closing after the last question.
                    if not isinstance(answers[worker], CommClosedError):
                        break
                    await asyncio.sleep(pause_s)
        if answers is None:
            # Which of both is silent?
            await self.workers()
            raise Unanswered(f"it did not answer within {_EXAMINED_S:.0f} s")
        if isinstance(answers[worker], BaseException):
            raise unanswered(answers[worker])
        return answers[worker]

    async def answer(self, errand: Errand, key: str, workers: Collection[str]) -> Answer:
        """Have one of the workers run an errand; when it dies another one runs it again.

        Raises:
            Lost: several died of it, or it failed there of something that is no error of ours, which is logged.
            ClusterUnreachable: the scheduler is gone, or the workers are.
        """
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        from archiver.engine.cluster.worker import packed

        with spoken(self._address, self._client):
            # Nothing in it is ours that the scheduler would unpickle: it need not have us.
            future = self._client.submit(pickle.loads, packed(errand), key=key, workers=list(workers), pure=False)
        try:
            answer = await self._brought(future)
        finally:
            # What is finished and held would be computed again when its worker dies.
            future.release()
        match answer:
            case Answer():
                return answer
            case KilledWorker():
                raise Lost(f"{answer.allowed_failures + 1} workers died while they had it")
            case NoValidWorkerError():
                raise ClusterUnreachable(f"none of the workers of {self._address} is left")
        self._log.warning("a part of the work failed on a worker", part=key, error=shown(answer))
        raise Lost(f"it failed on a worker ({type(answer).__name__})")

    async def _brought(self, future: Any) -> Any:
        """What a future brings, or the error that it or its worker ended with, whatever it is.

        Raises:
            ClusterUnreachable.
        """
        try:
            with spoken(self._address, self._client):
                # A worker's own OSError is told as a value, and not taken for one between the scheduler and us.
                error = await future.exception()
                return await future if error is None else error
        except ClusterUnreachable:
            raise
        except Exception as error:  # noqa: BLE001 - one answer that can't be read must not end a run
            return error

    async def tell(self, message: str, *arguments: Any) -> None:
        """Tell our side on every worker; one that does not answer (it is paused, or gone) is not waited for long."""
        from archiver.engine.cluster.worker import tell_side

        with spoken(self._address, self._client), suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S):
                await self._client.run(tell_side, self.side, message, *arguments, on_error="ignore")

    async def close(self) -> None:
        """Take our side from the workers, and leave."""
        with suppress(Exception):
            async with asyncio.timeout(_TELL_S):
                await self._client.unregister_worker_plugin(self.side)
        with suppress(Exception):
            await self._client.close(timeout=_TELL_S)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """The scheduler is asked something, and not waited for without end."""
        with spoken(self._address, self._client):
            async with asyncio.timeout(_ASKED_S):
                yield
