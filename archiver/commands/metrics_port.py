"""A port on loopback where Prometheus can read metrics while a command works."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import Metric

_PATIENCE_S = 5.0
"""So long an answer under way may take before the command ends without it."""


class MetricsPort:
    """Listens from when it is made until `close`; `collect` gathers an answer, in a thread of its own, one at a time.

    Both block. Whoever connects and asks nothing keeps nobody from anything.

    Raises:
        OSError: the port is taken, or not ours to listen on.
    """

    def __init__(self, host: str, port: int, collect: Callable[[], Sequence[Metric]]) -> None:
        self._answers = _Answers(collect)
        registry = CollectorRegistry()
        registry.register(self._answers)
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)

    def close(self) -> None:
        """Listen no more; an answer under way is given first."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._answers.close()


class _Answers:
    """Gathers one answer at a time, and none after its end."""

    def __init__(self, collect: Callable[[], Sequence[Metric]]) -> None:
        self._collect = collect
        self._turn = threading.Lock()
        self._closed = False

    def collect(self) -> Iterable[Metric]:
        """One answer."""
        return self._gathered()

    def close(self) -> None:
        """Wait for the one under way."""
        self._closed = True
        if self._turn.acquire(timeout=_PATIENCE_S):
            self._turn.release()

    def _gathered(self) -> Iterator[Metric]:
        with self._turn:
            found = () if self._closed else self._collect()
        yield from found
