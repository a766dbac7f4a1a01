"""The gate lowers concurrency when a store says that it is too much; key locks give a key to one writer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from archiver.stores.s3_gate import Gate, KeyLocks


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def calm(gate: Gate, times: int) -> None:
    for _ in range(times):
        with gate:
            pass


def test_a_busy_store_halves_the_limit_once_for_each_burst() -> None:
    clock = Clock()
    gate = Gate(16, clock=clock)
    for _ in range(10):
        gate.busy()
    assert gate.limit == 8
    clock.now_s = 1.0
    gate.busy()
    assert gate.limit == 4


def test_the_limit_never_falls_under_one_nor_rises_over_its_bound() -> None:
    clock = Clock()
    gate = Gate(4, clock=clock)
    for second in range(10):
        clock.now_s = second
        gate.busy()
    assert gate.limit == 1
    calm(gate, 1000)
    assert gate.limit == 4


def test_failures_do_not_raise_the_limit() -> None:
    gate = Gate(4)
    gate.busy()
    for _ in range(100):
        with pytest.raises(ValueError, match="no"), gate:
            raise ValueError("no")
    assert gate.limit == 2
    calm(gate, 16)
    assert gate.limit == 3


def test_no_more_than_the_limit_are_ever_inside() -> None:
    gate, inside, most = Gate(3), 0, 0
    counting = threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with gate:
            with counting:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with counting:
                inside -= 1

    with ThreadPoolExecutor(12) as pool:
        for _ in range(40):
            pool.submit(work)
    assert most == 3


def test_a_key_has_one_writer_and_other_keys_do_not_wait() -> None:
    keys, order = KeyLocks(), []
    held, release = threading.Event(), threading.Event()

    def first() -> None:
        with keys.hold("a"):
            held.set()
            release.wait(5)
            order.append("first")

    def second() -> None:
        with keys.hold("a"):
            order.append("second")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        held.wait(5)
        pool.submit(second)
        with keys.hold("b"):
            order.append("other")
        release.set()
    assert order == ["other", "first", "second"]
