"""What all parts of the ledger stand on: the writer, and long reads on a connection of their own."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Executable, Result, Row

from archiver.ledger.backend import Backend
from archiver.ledger.columns import plain
from archiver.ledger.fencing import check_right
from archiver.ledger.settling import Settled
from archiver.ledger.tables import accounts
from archiver.ledger.values_claims import Claim
from archiver.ledger.writer import Writer

_T = TypeVar("_T")
_ARCHIVED_BATCH = 2000
# Where the server would else send all rows at once.
_STREAMED = {"stream_results": True, "max_row_buffer": _ARCHIVED_BATCH}


class LedgerCore:
    """The writer and its database; a ledger's parts are made of it."""

    def __init__(self, backend: Backend, writer: Writer[Settled]) -> None:
        self._backend = backend
        self._writer = writer
        self._claim: Claim | None = None
        self._run_no: int | None = None

    async def flush(self) -> None:
        """See the promise."""
        await self._writer.flush()

    async def check(self) -> None:
        """Read the whole database and see whether it is sound; changes nothing.

        Raises:
            LedgerDamaged: it is not.
        """
        await self._writer.read(self._backend.check)

    async def close(self) -> None:
        """See the promise; raises what kept something accepted from being written. A second call does nothing."""
        await self._writer.close()

    async def _write_for(
        self, account_id: str, job: Callable[[Connection], _T], *, run_no: int | None = None, shared: bool = False
    ) -> _T:
        """Run a job that writes to an account for a run, if that still may; without `run_no` for this object's own."""
        claim, run_no = self._claim, run_no or self._run_no

        def write(connection: Connection) -> _T:
            check_right(connection, claim, run_no, accounts.c.account_id == plain(account_id))
            return job(connection)

        return await self._writer.write(write, shared=shared)

    async def _walked(
        self, chosen: Executable, make: "Callable[[Connection, Sequence[Row[Any]]], Sequence[_T]]"
    ) -> AsyncGenerator[Sequence[_T], None]:
        await self._writer.flush()
        walk = Walk(self._backend, chosen, make)
        try:
            while batch := await walk.batch():
                yield batch
        finally:
            await walk.close()


class Walk(Generic[_T]):
    """One statement whose rows are read bit by bit, on a connection and a thread of its own."""

    def __init__(
        self, backend: Backend, chosen: Executable, make: Callable[[Connection, Sequence[Row[Any]]], Sequence[_T]]
    ) -> None:
        self._backend = backend
        self._chosen = chosen
        self._make = make
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._connection: Connection | None = None
        self._found: Result[Any] | None = None
        self._rows: Iterator[Sequence[Row[Any]]] = iter(())

    async def batch(self) -> Sequence[_T]:
        """The next rows, none at the end."""
        return await asyncio.wrap_future(self._thread.submit(self._next))

    async def close(self) -> None:
        """Give everything back."""
        closing = self._thread.submit(self._close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(asyncio.wrap_future(closing))

    def _next(self) -> Sequence[_T]:
        try:
            if self._connection is None:
                self._connection = self._backend.connect_to_read()
                self._backend.begin(self._connection, write=False)
                self._found = self._connection.execute(self._chosen, execution_options=_STREAMED)
                self._rows = self._found.partitions(_ARCHIVED_BATCH)
            return self._make(self._connection, next(self._rows, ()))
        except self._backend.errors as error:
            raise self._backend.explain(error) from error

    def _close(self) -> None:
        # A walk that is over has nothing to say any more, not even that its connection was lost.
        with suppress(*self._backend.errors):
            if self._found is not None:
                self._found.close()
        with suppress(*self._backend.errors):
            if self._connection is not None:
                self._connection.close()
