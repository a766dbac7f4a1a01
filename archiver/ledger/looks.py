"""Looks at an open ledger one after another, as `doctor` does: the first that fails ends it."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import Connection

from archiver.check import Check, failed
from archiver.errors import LedgerError
from archiver.ledger.backend import Backend

B = TypeVar("B", bound=Backend)


def in_turn(
    backend: B,
    connect: Callable[[], Connection],
    looks: Sequence[Callable[[Connection, B], Check]],
    *,
    opening: str,
) -> Iterator[Check]:
    """What each look finds, on one connection, which is closed at the end; `opening` names the check that it opens."""
    errors: tuple[type[Exception], ...] = (LedgerError, *backend.errors)
    connection, name = None, opening
    try:
        connection = connect()
        for look in looks:
            name = look.__name__.removeprefix("_")
            yield look(connection, backend)
    except errors as error:
        yield failed(name, backend.explain(error))
    finally:
        if connection is not None:
            connection.close()
