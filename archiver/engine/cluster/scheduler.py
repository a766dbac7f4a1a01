"""The client's side: a connection with a running scheduler. With `worker` the only place that imports Dask.

Each foreign error becomes ours here. The scheduler forgets everything with the connection, and may: the ledger remembers.
"""

import asyncio
import logging
import pickle
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self

from archiver.engine.cluster.errand import Answer, Errand, FarNews
from archiver.engine.cluster.versions import PACKAGES, check_versions, fingerprint
from archiver.errors import ClusterUnreachable, SettingsError, WorkersDiffer

_CONNECT_S = 5.0
_TELL_S = 5.0
_PATIENT_TTL_S = 60.0
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


class Lost(Exception):
    """A parcel's workers died one after another while they had it."""


class Scheduler:
    """A scheduler and its workers, for one run; close it.

    `side` is what the run is called on the workers.
    """

    def __init__(self, client: Any, address: str, side: str) -> None:
        self.side = side
        self._client = client
        self._address = address

    @classmethod
    async def connect(cls, address: str, *, side: str, on_news: Callable[[FarNews], None]) -> Self:
        """Reach the scheduler, compare versions, and put our side onto its workers, also onto those that come later.

        Raises:
            SettingsError: the extra is not installed, the address is none, or Dask's TLS settings don't fit it.
            ClusterUnreachable: nobody answers there, or there is no worker.
            WorkersDiffer: they run other versions.
        """
        check_extra()
        from distributed import Client

        _quieten()
        with _spoken(address):
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
        try:
            await it.check()
            with _spoken(address):
                client.subscribe_topic(side, lambda event: on_news(pickle.loads(event[1])))  # noqa: S301 - see `errand`
                from archiver.engine.cluster.worker import WorkerSide

                await client.register_plugin(WorkerSide(side))
        except BaseException:
            await it.close()
            raise
        return it

    async def check(self) -> None:
        """Compare versions.

        Raises:
            WorkersDiffer, ClusterUnreachable.
        """
        with _spoken(self._address):
            check_versions(await self._client.get_versions(packages=PACKAGES))
            ours = fingerprint()
            for address, theirs in (await self._client.run(fingerprint)).items():
                if theirs != ours:
                    raise WorkersDiffer(
                        f"worker {address} runs another archiver of the same version number: install the same everywhere"
                    )

    async def notes(self) -> list[str]:
        """What is worth saying of how the scheduler is set up.

        Raises:
            ClusterUnreachable.
        """
        import dask
        from dask.utils import parse_timedelta

        with _spoken(self._address):
            ttl = await self._client.run_on_scheduler(dask.config.get, "distributed.scheduler.worker-ttl")
        if ttl and parse_timedelta(ttl) <= _PATIENT_TTL_S:
            return []
        return [
            (
                f"The scheduler waits {ttl or 'for ever'} for a worker that says nothing: "
                "with DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=20s it gives its work away sooner."
            )
        ]

    async def workers(self) -> Mapping[str, int]:
        """The workers that can take errands, by address, and how many each takes at a time.

        Raises:
            ClusterUnreachable.
        """
        with _spoken(self._address):
            found = await self._client.scheduler.identity()
        return {
            address: int(worker["nthreads"])
            for address, worker in found["workers"].items()
            if worker.get("status", "running") == "running"
        }

    async def ask(self, question: Callable[..., Any], *arguments: Any, worker: str) -> Any:
        """Have a worker answer a question, beside what its threads are busy with.

        Raises:
            ClusterUnreachable; whatever the question raises.
        """
        from archiver.engine.cluster.worker import answer_beside

        with _spoken(self._address):
            answers = await self._client.run(answer_beside, question, *arguments, workers=[worker])
        return answers[worker]

    async def answer(self, errand: Errand, key: str, workers: Collection[str]) -> Answer:
        """Have one of the workers run an errand; when it dies another one runs it again.

        Raises:
            Lost: several died of it.
            ClusterUnreachable: the scheduler is gone, or the workers are.
        """
        from distributed.scheduler import KilledWorker, NoValidWorkerError

        from archiver.engine.cluster.worker import run_errand

        future = self._client.submit(run_errand, errand, key=key, workers=list(workers), pure=False)
        try:
            with _spoken(self._address):
                answer = await future
        except KilledWorker as error:
            raise Lost(f"{error.allowed_failures + 1} workers died while they had it") from None
        except NoValidWorkerError:
            raise ClusterUnreachable(f"none of the workers of {self._address} is left") from None
        finally:
            # What is finished and held would be computed again when its worker dies.
            future.release()
        if not isinstance(answer, Answer):
            raise TypeError(f"a worker answered {type(answer).__name__}")
        return answer

    async def tell(self, message: str, *arguments: Any) -> None:
        """Tell our side on every worker; one that does not answer (it is paused, or gone) is not waited for long."""
        from archiver.engine.cluster.worker import tell_side

        with _spoken(self._address), suppress(TimeoutError):
            async with asyncio.timeout(_TELL_S):
                await self._client.run(tell_side, self.side, message, *arguments, on_error="ignore")

    async def close(self) -> None:
        """Take our side from the workers, and leave."""
        with suppress(Exception):
            async with asyncio.timeout(_TELL_S):
                await self._client.unregister_worker_plugin(self.side)
        with suppress(Exception):
            await self._client.close(timeout=_TELL_S)


@contextmanager
def _spoken(address: str) -> Iterator[None]:
    """Dask's errors in our words."""
    from concurrent.futures import CancelledError

    try:
        yield
    except TimeoutError:
        raise ClusterUnreachable(f"the scheduler {address} does not answer: is it running there?") from None
    except (OSError, CancelledError) as error:
        raise ClusterUnreachable(
            f"the scheduler {address} can't be reached, or was lost ({error}); what is archived is in the ledger, and the "
            "next run goes on from there"
        ) from None


def _quieten() -> None:
    """What Dask would log on stderr, we say in words of our own."""
    logger = logging.getLogger("distributed")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    # A client that could not be made leaves such behind.
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", module=r"distributed\.")
