"""Stands between a store and a real S3 server and does to single requests what networks and servers do.

It hears whole requests, keeps them for the test to look at, and passes them on unless a fault says otherwise. A fault
that was never hit fails the test. Without a server behind it every request must meet a fault.
"""

import http.client
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Cut(Exception):
    """End the connection with a reset."""


Act = Callable[[Request, Callable[[Request], Answer]], Answer]


@dataclass(slots=True)
class Fault:
    """What happens to the requests of this method with `path` in theirs: `times` of them, after `after` others."""

    act: Act
    method: str = "PUT"
    path: str = ""
    times: int = 1
    after: int = 0
    hits: int = field(default=0, init=False)

    def fits(self, request: Request) -> bool:
        return request.method == self.method and self.path in request.path


def refuse(status: int, code: str, message: str = "told to") -> Act:
    """Answer with an S3 error, without asking the server."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
    return lambda request, forward: Answer(
        status, {"Content-Type": "application/xml"}, b"" if request.method == "HEAD" else body
    )


def reset(request: Request, forward: Callable[[Request], Answer]) -> Answer:
    raise Cut


def lose_reply(request: Request, forward: Callable[[Request], Answer]) -> Answer:
    """The server does its work, and nobody hears of it."""
    forward(request)
    raise Cut


def flip_byte(request: Request, forward: Callable[[Request], Answer]) -> Answer:
    return forward(
        Request(request.method, request.path, request.headers, bytes([request.body[0] ^ 1]) + request.body[1:])
    )


def change_headers(**changes: str) -> Act:
    """Answer with other headers; an empty value takes one away."""

    def act(request: Request, forward: Callable[[Request], Answer]) -> Answer:
        answer = forward(request)
        new = {name.replace("_", "-").lower(): value for name, value in changes.items()}
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in new}
        return Answer(answer.status, headers | {name: value for name, value in new.items() if value}, answer.body)

    return act


def cut_body(request: Request, forward: Callable[[Request], Answer]) -> Answer:
    answer = forward(request)
    return Answer(answer.status, answer.headers, answer.body[: len(answer.body) // 2])


class Proxy:
    """Listens on loopback; `requests` is what came, in order."""

    def __init__(self, faults: Sequence[Fault], behind: str) -> None:
        self.requests: list[Request] = []
        self.faults = list(faults)
        self._behind = urlsplit(behind).netloc
        self._lock = threading.Lock()
        proxy = self

        class Handler(_Handler):
            answer = staticmethod(proxy._answer)

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def count(self, method: str, path: str = "") -> int:
        return sum(request.method == method and path in request.path for request in self.requests)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            act = self._next(request)
        return act(request, self._forward)

    def _next(self, request: Request) -> Act:
        for fault in self.faults:
            if fault.fits(request):
                if fault.after:
                    fault.after -= 1
                elif fault.times:
                    fault.times -= 1
                    fault.hits += 1
                    return fault.act
        return lambda request, forward: forward(request)

    def _forward(self, request: Request) -> Answer:
        assert self._behind, f"nothing is scripted for {request.method} {request.path}"
        calling = http.client.HTTPConnection(self._behind, timeout=60)
        try:
            headers = {name: value for name, value in request.headers.items() if name.lower() != "expect"}
            calling.request(request.method, request.path, body=request.body or None, headers=headers)
            found = calling.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            calling.close()


@contextmanager
def proxied(*faults: Fault, behind: str = "") -> Iterator[Proxy]:
    """A proxy before a server; each fault must have been hit in the end."""
    proxy = Proxy(faults, behind)
    try:
        yield proxy
    finally:
        proxy.close()
    missed = [fault for fault in faults if not fault.hits]
    assert not missed, f"never hit: {missed}"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is no news."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: ClassVar[Any]

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _do(self) -> None:
        size_bytes = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size_bytes)
        if len(body) < size_bytes:
            return
        try:
            found = self.answer(Request(self.command, self.path, dict(self.headers.items()), body))
        except Cut:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        self.send_response_only(found.status)
        sent = {name.lower() for name in found.headers}
        for name, value in found.headers.items():
            if name.lower() not in {"transfer-encoding", "connection"}:
                self.send_header(name, value)
        if "content-length" not in sent:
            self.send_header("Content-Length", str(len(found.body)))
        if "date" not in sent:
            self.send_header("Date", self.date_time_string())
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(found.body)
            announced = int(found.headers.get("Content-Length", found.headers.get("content-length", len(found.body))))
            self.close_connection = self.close_connection or announced != len(found.body)


for _method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
    setattr(_Handler, f"do_{_method}", _Handler._do)
