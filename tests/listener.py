"""A server on loopback that hears heartbeats and notifications, and answers as a test tells it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Heard:
    """One request."""

    method: str
    path: str
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """Its body."""
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found


@dataclass(frozen=True)
class Reply:
    """An answer; `location` goes along as a header."""

    status: int = 200
    location: str = ""


@dataclass
class Listener:
    """What was heard. `replies` are given one after another, the last one for ever; none at all while `silent` is set."""

    port: int = 0
    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    heard: list[Heard] = field(default_factory=list)
    silent: bool = False
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"

    def take(self, heard: Heard) -> Reply:
        """Note a request; the answer to it."""
        self.heard.append(heard)
        if self.silent:
            self.release.wait()
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@contextmanager
def listener() -> Iterator[Listener]:
    """A listener while the context lasts."""
    it = Listener()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            reply = it.take(Heard(self.command, self.path, body))
            self.send_response(reply.status)
            if reply.location:
                self.send_header("Location", reply.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_POST = do_GET  # noqa: N815 - the name is the library's

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the library's
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        it.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield it
        finally:
            it.release.set()
            server.shutdown()
            thread.join()
