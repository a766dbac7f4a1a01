"""Connections with a PostgreSQL server, set up for a ledger; with `postgresql` all that knows the driver."""

from contextlib import suppress
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from archiver.errors import LedgerError
from archiver.ledger import postgresql_words as words
from archiver.ledger.postgresql_address import Address

_OLDEST = 130000


class Connections:
    """Makes connections to an address, each of which is its caller's."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=self._call,
            poolclass=NullPool,
            hide_parameters=True,
            use_native_hstore=False,
        )

    def open(self) -> Connection:
        """A new one.

        Raises:
            LedgerError: the server, the database or its schema can't hold a ledger.
            SQLAlchemyError, psycopg.Error, OSError: there is none to be had.
        """
        connection = self._engine.connect()
        try:
            self._set_up(driver_of(connection))
        except BaseException:
            discard(connection)
            raise
        return connection

    def _call(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(**dict(self._address.parameters), autocommit=True)  # type: ignore[arg-type]

    def _set_up(self, driver: "psycopg.Connection[Any]") -> None:
        place = self._address.place
        driver.execute(words.SET)
        if driver.info.server_version < _OLDEST:
            raise LedgerError(f"The ledger {place} needs PostgreSQL {_OLDEST // 10000} or newer.")
        if driver.info.parameter_status("server_encoding") != "UTF8":
            raise LedgerError(f"The ledger {place} needs a database whose encoding is UTF8.")
        if one(driver, "SELECT current_schema()") is None:
            raise LedgerError(f"The ledger {place} can't be used: {words.NO_SCHEMA}.")


def driver_of(connection: Connection) -> "psycopg.Connection[Any]":
    """The driver's own connection.

    Raises:
        LedgerError: it is closed.
    """
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise LedgerError("The ledger's connection is closed.")
    return driver


def one(driver: "psycopg.Connection[Any]", query: str, *values: object) -> Any:
    """The first value of the first row; None when there is none."""
    found = driver.execute(query, values or None).fetchone()
    return None if found is None else found[0]


def discard(connection: Connection) -> None:
    """Close it, whatever state it is in."""
    with suppress(SQLAlchemyError, psycopg.Error, OSError):
        driver = connection.connection.driver_connection
        if driver is None or driver.closed:
            # There is nothing to roll back, and an attempt would be logged as an error.
            connection.invalidate()
        connection.close()
