"""What the simulator counted, for tests and summaries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


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

    def opened(self) -> None:
        """A client connected."""
        self.connections_opened += 1
        self.connections_open += 1
        self.highest_connections = max(self.highest_connections, self.connections_open)

    def begin(self, kind: str) -> None:
        """A request's head is in."""
        self.requests_by_kind[kind] += 1
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
