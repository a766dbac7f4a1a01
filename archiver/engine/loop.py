"""An event loop tuned for many short pieces of work: uvloop where the platform has it, and a patient collector."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_tuned(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop of its own."""
    # What was imported so far stays for the whole run; the collector need not look at it again and again.
    gc.freeze()
    # What a recording leaves is mostly freed by its reference counts; the default looks every 700 objects.
    gc.set_threshold(20_000, 20, 50)
    # The disk's thread asks for the interpreter after every system call; by default it may wait 5 ms each time.
    sys.setswitchinterval(0.0005)
    return run_in_loop(work)


def run_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Likewise, and leave the process as it is: it is not ours alone."""
    with asyncio.Runner(loop_factory=_new_loop()) as runner:
        return runner.run(work)


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
