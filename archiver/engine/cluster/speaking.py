"""Dask's errors in our words, at the border with a scheduler."""

import logging
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from typing import Any

from archiver.errors import ClusterUnreachable

_MOST_SHOWN = 200


class Unanswered(Exception):
    """A worker gave no answer to a question: it failed of it, is silent, or is gone. The text says which, about "it"."""


class Lost(Exception):
    """A parcel could not be done: its workers died one after another while they had it, or it failed there."""


@contextmanager
def spoken(address: str, client: Any = None) -> Iterator[None]:
    """What is asked of the scheduler at an address, or through it, and fails, is the scheduler's failure.

    Raises:
        ClusterUnreachable.
    """
    try:
        yield
    except TimeoutError:
        raise ClusterUnreachable(f"the scheduler {address} does not answer: is it running there?") from None
    except (OSError, CancelledError) as error:
        raise _was_lost(address, error) from None
    except (RuntimeError, AttributeError) as error:
        # A client that has given its scheduler up has taken itself apart, and stumbles over what is gone.
        if client is None or client.status == "running":
            raise
        raise _was_lost(address, error) from None


def _was_lost(address: str, error: BaseException) -> ClusterUnreachable:
    return ClusterUnreachable(
        f"the scheduler {address} can't be reached, or was lost ({error}); what is archived is in the ledger, and the "
        "next run goes on from there"
    )


def unanswered(error: BaseException) -> Unanswered:
    """What a question made of a worker, in words."""
    if isinstance(error, ImportError | AttributeError):
        return Unanswered(f"it can't be asked ({shown(error)}): is the same archiver installed there?")
    return Unanswered(f"it failed with {shown(error)}")


def shown(error: BaseException) -> str:
    """A foreign error, its kind first."""
    return f"{type(error).__name__}: {error}"[:_MOST_SHOWN]


def quieten() -> None:
    """What Dask would log on stderr, we say in words of our own."""
    logger = logging.getLogger("distributed")
    logger.handlers.clear()
    logger.propagate = False
    logger.setLevel(logging.CRITICAL)
    # A client that could not be made leaves such behind.
    warnings.filterwarnings("ignore", message="coroutine .* was never awaited", module=r"distributed\.")
