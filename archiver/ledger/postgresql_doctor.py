"""Examines a PostgreSQL ledger for `doctor`: reached, of this program, written to, read by nobody on the way, durable."""

from collections.abc import Iterator

from sqlalchemy import Connection

from archiver.check import Check, failed
from archiver.errors import LedgerError
from archiver.ledger.ledger import postgres_backend
from archiver.ledger.looks import in_turn
from archiver.ledger.postgresql import PostgresBackend
from archiver.ledger.schema import is_current

_LOCAL = ("", "localhost", "127.0.0.1", "::1")
_SURE = frozenset({"require", "verify-ca", "verify-full"})
_LOCK_TIMEOUT = "SET lock_timeout = '5s'"


def examine(url: str) -> Iterator[Check]:
    """Look at the ledger and change nothing in it; one that is not there yet is not made. The first failure ends it."""
    try:
        backend = postgres_backend(url, patience_s=0)
    except LedgerError as error:
        yield failed("place", error)
        return

    def connect() -> Connection:
        connection = backend.connect(create=True)
        connection.exec_driver_sql(_LOCK_TIMEOUT)
        connection.commit()
        return connection

    yield from in_turn(backend, connect, (_place, _schema, _write, _private, _durable), opening="place")


def _place(connection: Connection, backend: PostgresBackend) -> Check:
    version, schema = connection.exec_driver_sql("SELECT current_setting('server_version'), current_schema()").one()
    connection.rollback()
    return Check("place", "ok", f"{backend.place}, schema {schema}, PostgreSQL {version}")


def _schema(connection: Connection, backend: PostgresBackend) -> Check:
    there = backend.is_there()
    if is_current(connection, backend):
        return Check("schema", "ok", "it opens, and its schema is this program's")
    if there:
        return Check("schema", "ok", "it opens; its schema is older, and the next run brings it up to date")
    return Check("schema", "ok", "there is no ledger yet: the first run makes it")


def _write(connection: Connection, backend: PostgresBackend) -> Check:
    backend.make_durable(connection)
    backend.begin(connection, write=True)
    try:
        # In a transaction that is never committed.
        connection.exec_driver_sql("CREATE TABLE archiver_doctor (a int)")
        if backend.is_there():
            connection.exec_driver_sql("INSERT INTO accounts (account_id) VALUES ('doctor')")
    finally:
        connection.rollback()
    return Check("write", "ok", "it can be written")


def _private(_: Connection, backend: PostgresBackend) -> Check:
    return private(backend)


def private(backend: PostgresBackend) -> Check:
    """Whether somebody on the way could read or pretend to be the server; nothing is asked."""
    host, mode = backend.address.host, backend.address.parameters.get("sslmode", "")
    if host in _LOCAL or host.startswith("/"):
        return Check("private", "ok", "it is on this host")
    if mode in _SURE:
        return Check("private", "ok", f"the connection is encrypted (sslmode={mode})")
    advice = "put sslmode=verify-full and sslrootcert into ledger.url"
    return Check(
        "private", "weak", f"the connection to {host} need not be encrypted, nor the server be the one", advice
    )


def _durable(connection: Connection, _: PostgresBackend) -> Check:
    asked = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting <> 'on' ORDER BY name"
    off = [str(name) for name in connection.exec_driver_sql(asked).scalars()]
    connection.rollback()
    if off:
        said = f"{' and '.join(off)} of the server: off. It may lose the ledger when its power fails"
        return Check("durable", "weak", said, "set them to on in postgresql.conf")
    return Check("durable", "ok", "the server writes to its disk before it answers")
