"""Examines the ledger for `doctor`: whether it can lie where it shall, opens, fits this program and can be written."""

import os
import stat

from sqlalchemy import Connection

from archiver.check import Check, failed
from archiver.errors import LedgerError
from archiver.ledger.ledger import sqlite_backend
from archiver.ledger.looks import in_turn
from archiver.ledger.postgresql_address import INSTALL, is_postgresql
from archiver.ledger.schema import is_current
from archiver.ledger.sqlite import SqliteBackend

_BUSY_TIMEOUT_S = 5.0
_OTHERS = 0o077


def examine(url: str) -> tuple[Check, ...]:
    """Look at the ledger and change nothing in it; one that is not there yet is not made. Raises nothing."""
    return _examine_server(url) if is_postgresql(url) else _examine_file(url)


def _examine_server(url: str) -> tuple[Check, ...]:
    try:
        from archiver.ledger.postgresql_doctor import examine as examine_postgresql
    except ImportError:
        return (failed("place", LedgerError(INSTALL)),)
    return tuple(examine_postgresql(url))


def _examine_file(url: str) -> tuple[Check, ...]:
    try:
        backend = sqlite_backend(url, busy_timeout_s=_BUSY_TIMEOUT_S)
    except LedgerError as error:
        return (failed("place", error),)
    folder = backend.path.parent
    try:
        backend.check_place()
        is_there = backend.path.exists()
    except (LedgerError, OSError) as error:
        return (failed("place", backend.explain(error)),)
    if not os.access(folder, os.W_OK | os.X_OK):
        return (Check("place", "failed", f"{folder} can't be written", "give it to the user that archives"),)
    place = Check("place", "ok", f"{backend.path}, on a local disk")
    if not is_there:
        return (place, Check("schema", "ok", "there is no ledger yet: the first run makes it"))
    looks = (_schema, _write, _private)
    return (place, *in_turn(backend, lambda: backend.connect(create=False), looks, opening="open"))


def _schema(connection: Connection, backend: SqliteBackend) -> Check:
    if is_current(connection, backend):
        return Check("schema", "ok", "it opens, and its schema is this program's")
    return Check("schema", "ok", "it opens; its schema is older, and the next run brings it up to date")


def _write(connection: Connection, backend: SqliteBackend) -> Check:
    backend.begin(connection, write=True)
    connection.rollback()
    return Check("write", "ok", "it can be written")


def _private(_: Connection, backend: SqliteBackend) -> Check:
    mode = stat.S_IMODE(backend.path.stat().st_mode)
    if mode & _OTHERS:
        return Check("private", "weak", f"others can read it (mode {mode:04o})", "the next run takes their rights away")
    return Check("private", "ok", "only this user can read it")
