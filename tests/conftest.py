"""What holds for every test, and the ledgers for those that hold them to their promise."""

import gc
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from ledgers import KINDS, NOON, LedgerKind

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Run


def pytest_configure() -> None:
    """A shell starts what it puts into the background with Ctrl-C ignored, which the commands under test would inherit."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Else every process of the suite compiles the tests anew, and every command under test the archiver.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    # Every client would load all the roots of the system, for longer than most tests take; what is needed of them is found
    # in their folder.
    os.environ["SSL_CERT_FILE"] = os.devnull


def pytest_collection_finish() -> None:
    """Thousands of tests stay to the end; the collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.name))
def kind(request: pytest.FixtureRequest) -> LedgerKind:
    """Each kind of ledger in its turn."""
    found = request.param
    assert isinstance(found, LedgerKind)
    return found


@pytest.fixture
async def ledger(kind: LedgerKind, tmp_path: Path) -> AsyncIterator[SqlLedger]:
    """An empty one, open."""
    opened = await kind.open(tmp_path)
    yield opened
    await opened.close()


@pytest.fixture
async def run(ledger: SqlLedger) -> Run:
    """Its first run."""
    return await ledger.begin_run("first", started_at=NOON)
