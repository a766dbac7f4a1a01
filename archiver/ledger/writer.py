"""The one writer: a thread that owns the ledger's connection and does everything in the order it was asked for.

Jobs (a page, a window, a read) run each in its own transaction and their callers wait. Outcomes don't wait: they gather
and go down many to a transaction, at the latest before the next job. Once something accepted could not be written, the
writer is broken and every later call says so.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from sqlalchemy import Connection

from archiver.errors import ArchiverError, LedgerError
from archiver.ledger.backend import Backend

_T = TypeVar("_T")
_Outcome = TypeVar("_Outcome")
_MOST_RECOVERIES = 10
_OPENED_AGAIN_S = 0.5


class Writer(Generic[_Outcome]):
    """Runs jobs on its thread; `write_outcomes` writes a batch of outcomes within a transaction.

    A batch is sent when it holds `batch_count` outcomes or `batch_s` after its first. At most `backlog_count` outcomes
    are accepted and not yet durable. Belongs to the event loop that it is used in.
    """

    def __init__(
        self,
        backend: Backend,
        write_outcomes: Callable[[Connection, Sequence[_Outcome]], None],
        *,
        batch_count: int = 500,
        batch_s: float = 0.1,
        backlog_count: int = 5000,
    ) -> None:
        self._backend = backend
        self._errors: tuple[type[Exception], ...] = (ArchiverError, *backend.errors)
        self._write_outcomes = write_outcomes
        self._batch_count = batch_count
        self._batch_s = batch_s
        self._backlog_count = backlog_count
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-writer")
        self._connection: Connection | None = None
        self._failure: ArchiverError | None = None
        self._closed = False
        self._batch: list[_Outcome] = []
        self._timer: asyncio.TimerHandle | None = None
        self._next_beat: asyncio.TimerHandle | None = None
        self._beats: Future[None] | None = None
        self._in_flight = 0
        self._room = asyncio.Event()

    async def open(self, prepare: Callable[[Connection], None], *, create: bool, patience_s: float = 0.0) -> None:
        """Connect, then run `prepare`, which ends its own transactions; on an error nothing stays open.

        A database that is away is waited for as long as patience goes.
        """
        try:
            await _see_through(self._thread.submit(self._connect_in_time, prepare, create, patience_s))
        except BaseException:
            self._closed = True
            self._thread.submit(self._disconnect)
            self._thread.shutdown(wait=False)
            raise

    def beat(self, every_s: float) -> None:
        """From now on use the connection at least so often, so that its loss is noticed, and what it held taken back.

        What came of it is the error of the next call.
        """
        if self._next_beat is None and not self._closed:
            self._next_beat = asyncio.get_running_loop().call_later(every_s, self._do_beat, every_s)

    def _do_beat(self, every_s: float) -> None:
        self._next_beat = None
        if self._beats is None or self._beats.done():
            self._beats = self._thread.submit(self._touch)
        self.beat(every_s)

    async def read(self, job: Callable[[Connection], _T]) -> _T:
        """What `job` reads, after all that was handed over before."""
        return await _see_through(self._send(job, write=False))

    async def write(self, job: Callable[[Connection], _T], *, shared: bool = False) -> _T:
        """Run `job` in a transaction of its own; when this returns it is durable.

        A caller that is cancelled meanwhile doesn't stop it: it is done whole or, on a failure, not at all. After a
        lost connection it may run again. A `shared` one locks its accounts itself, see `backend.lock_accounts`.
        """
        return await _see_through(self._send(job, write=True, shared=shared))

    async def hand_over(self, outcome: _Outcome) -> None:
        """Accept an outcome for the next batch, waiting while the backlog is full; cancelled, it is not accepted."""
        while True:
            self._refuse_if_broken()
            if self._in_flight + len(self._batch) < self._backlog_count:
                break
            self._send_batch()
            self._room.clear()
            await self._room.wait()
        self._batch.append(outcome)
        if len(self._batch) >= self._batch_count:
            self._send_batch()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch_s, self._send_batch)

    async def flush(self) -> None:
        """Wait until all that was handed over is durable."""
        self._refuse_if_broken()
        self._send_batch()
        await _see_through(self._thread.submit(self._say_if_broken))

    async def close(self) -> None:
        """Flush and disconnect, at once or after a failure, which is then raised; a second call does nothing."""
        if self._closed:
            return
        self._send_batch()
        self._closed = True
        if self._next_beat is not None:
            self._next_beat.cancel()
        last = self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)
        await _see_through(last)
        self._say_if_broken()

    def _send(self, job: Callable[[Connection], _T], *, write: bool, shared: bool = False) -> "Future[_T]":
        self._refuse_if_broken()
        self._send_batch()
        return self._thread.submit(self._in_transaction, job, write=write, shared=shared)

    def _send_batch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        self._in_flight += len(batch)
        loop = asyncio.get_running_loop()

        def landed(_: "Future[None]") -> None:
            # The loop may be closed already when a process ends without closing the ledger.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._landed, len(batch))

        self._thread.submit(self._write_batch, batch).add_done_callback(landed)

    def _landed(self, count: int) -> None:
        self._in_flight -= count
        self._room.set()

    def _refuse_if_broken(self) -> None:
        if self._closed:
            raise LedgerError("The ledger is closed.")
        self._say_if_broken()

    def _again(self, failure: ArchiverError) -> ArchiverError:
        again = type(failure)(*failure.args)
        again.__cause__ = failure
        return again

    # What follows runs on the writer's thread only.

    def _connect_in_time(self, prepare: Callable[[Connection], None], create: bool, patience_s: float) -> None:
        until_s = time.monotonic() + patience_s
        while not self._connect(prepare, create, is_last=time.monotonic() + _OPENED_AGAIN_S >= until_s):
            time.sleep(_OPENED_AGAIN_S)

    def _connect(self, prepare: Callable[[Connection], None], create: bool, *, is_last: bool) -> bool:
        """Whether it could be done; False when the database is away and this was not the last try."""
        try:
            self._connection = self._backend.connect(create=create)
            prepare(self._connection)
        except self._errors as error:
            cause = error.__cause__ if isinstance(error, ArchiverError) else error
            if not is_last and isinstance(cause, Exception) and self._backend.is_away(cause):
                self._disconnect()
                self._failure = None
                return False
            if isinstance(error, ArchiverError):
                raise
            raise self._backend.explain(error) from error
        return True

    def _touch(self) -> None:
        # Whatever is wrong is kept as the writer's failure, which every later call tells.
        with contextlib.suppress(ArchiverError):
            self._in_transaction(lambda _: None, write=True, shared=True)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            self._backend.close(connection)
        except self._errors as error:
            explained = error if isinstance(error, ArchiverError) else self._backend.explain(error)
            self._failure = self._failure or explained

    def _write_batch(self, batch: Sequence[_Outcome]) -> None:
        if self._failure is not None:
            return
        try:
            self._in_transaction(lambda connection: self._write_outcomes(connection, batch), write=True, shared=True)
        except ArchiverError as error:
            self._failure = error
        except BaseException as error:  # noqa: BLE001 - nobody waits for a batch, so the failure is kept for all who call
            self._failure = LedgerError(f"The ledger's writer failed on {len(batch)} outcomes: {type(error).__name__}.")
            self._failure.__cause__ = error

    def _say_if_broken(self) -> None:
        if self._failure is not None:
            raise self._again(self._failure)

    def _in_transaction(self, job: Callable[[Connection], _T], *, write: bool, shared: bool = False) -> _T:
        self._say_if_broken()
        for turn in range(_MOST_RECOVERIES):
            connection, results = self._connection, list[_T]()
            if connection is None:
                raise LedgerError("The ledger is closed.")
            try:
                self._backend.begin(connection, write=write, shared=shared)
                results.append(job(connection))
                self._backend.commit(connection)
            except self._errors as error:
                self._roll_back(connection)
                again = turn + 1 < _MOST_RECOVERIES
                if not self._recovered(connection, error, write=write, again=again):
                    continue
            except BaseException:
                self._roll_back(connection)
                raise
            return results[0]
        raise LedgerError("The ledger's connection was lost again and again.")

    def _recovered(self, connection: Connection, error: Exception, *, write: bool, again: bool) -> bool:
        """After an error: whether the transaction was committed all the same; False when it is to be done again.

        Raises:
            ArchiverError: it failed for good.
        """
        try:
            found = None if isinstance(error, ArchiverError) or not again else self._backend.recover(connection, error)
        except ArchiverError as end:
            self._connection, self._failure = None, end
            raise
        if found is not None:
            self._connection = found.connection
            return found.committed
        failure = error if isinstance(error, ArchiverError) else self._backend.explain(error)
        if write:
            self._failure = failure
        if failure is error:
            raise failure
        raise failure from error

    def _roll_back(self, connection: Connection) -> None:
        # What made the transaction fail may also keep it from being rolled back; the next begin then says so.
        with contextlib.suppress(*self._errors):
            connection.rollback()


async def _see_through(future: "Future[_T]") -> _T:
    """Wait for what a thread does; whoever is cancelled while waiting leaves it to finish."""
    waited = asyncio.wrap_future(future)
    # Whoever is cancelled asks no more how it ended, and asyncio would complain of an error that nobody has seen.
    waited.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())
    return await asyncio.shield(waited)
