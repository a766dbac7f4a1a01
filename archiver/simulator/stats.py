"""What the simulator counted, for tests and summaries."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

_TENTHS = 10
"""In a second."""


@dataclass(slots=True)
class Stats:
    """Counts since the start. Reading them from another thread is fine; they only grow.

    Attributes:
        requests_by_kind: login, recordings (pages), cdrs (pages), media, other.
        statuses: answers by HTTP status; 0 stands for a raw answer or none.
        media_gets: requests by (account id, recording id), whatever the answer.
        media_whole: media sent whole to their last byte, likewise.
        bucket_refusals: requests answered 429 by the token bucket.
        connections_opened, connections_open, highest_connections: of clients.
        highest_in_flight, highest_media_in_flight: requests between the end of their head and that of the answer.
        body_bytes: sent in bodies.
        requests_by_tenth, body_bytes_by_tenth: when requests came and bodies were through, by tenths of a second of the
            monotonic clock.
    """

    requests_by_kind: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    media_gets: Counter[tuple[str, str]] = field(default_factory=Counter)
    media_whole: Counter[tuple[str, str]] = field(default_factory=Counter)
    bucket_refusals: int = 0
    connections_opened: int = 0
    connections_open: int = 0
    highest_connections: int = 0
    in_flight: int = 0
    highest_in_flight: int = 0
    media_in_flight: int = 0
    highest_media_in_flight: int = 0
    body_bytes: int = 0
    requests_by_tenth: Counter[int] = field(default_factory=Counter)
    body_bytes_by_tenth: Counter[int] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """All requests."""
        return self.requests_by_kind.total()

    @property
    def logins(self) -> int:
        """Login requests, whatever the answer."""
        return self.requests_by_kind["login"]

    @property
    def recordings_pages(self) -> int:
        """Requests for pages of recordings."""
        return self.requests_by_kind["recordings"]

    @property
    def cdr_pages(self) -> int:
        """Requests for pages of CDRs."""
        return self.requests_by_kind["cdrs"]

    @property
    def media(self) -> int:
        """Requests for media."""
        return self.requests_by_kind["media"]

    def most_requests_within(self, seconds: float) -> int:
        """Of any so many seconds one after another, those with the most requests, to a tenth of a second."""
        return _most_within(dict(self.requests_by_tenth), seconds)

    def most_body_bytes_within(self, seconds: float) -> int:
        """Likewise of the bytes of bodies, each as a whole when it is through."""
        return _most_within(dict(self.body_bytes_by_tenth), seconds)

    def opened(self) -> None:
        """A client connected."""
        self.connections_opened += 1
        self.connections_open += 1
        self.highest_connections = max(self.highest_connections, self.connections_open)

    def begin(self, kind: str) -> None:
        """A request's head is in."""
        self.requests_by_kind[kind] += 1
        self.requests_by_tenth[_tenth()] += 1
        self.in_flight += 1
        self.highest_in_flight = max(self.highest_in_flight, self.in_flight)
        if kind == "media":
            self.media_in_flight += 1
            self.highest_media_in_flight = max(self.highest_media_in_flight, self.media_in_flight)

    def end(self, kind: str) -> None:
        """Its answer is out, or given up."""
        self.in_flight -= 1
        if kind == "media":
            self.media_in_flight -= 1

    def sent(self, size_bytes: int) -> None:
        """So much of a body went out."""
        self.body_bytes += size_bytes
        self.body_bytes_by_tenth[_tenth()] += size_bytes


def _tenth() -> int:
    return int(time.monotonic() * _TENTHS)


def _most_within(by_tenth: dict[int, int], seconds: float) -> int:
    span = round(seconds * _TENTHS)
    return max((sum(by_tenth.get(first + n, 0) for n in range(span)) for first in by_tenth), default=0)
