"""The PBX on the wire."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

from archiver.simulator.api import Api, route
from archiver.simulator.bucket import Buckets
from archiver.simulator.delivery import deliver
from archiver.simulator.faults import Fault, FaultScript
from archiver.simulator.http import BODY_LIMIT_BYTES, BadRequestHead, Reply, Request, parse_head
from archiver.simulator.signin import Credentials, SignIn
from archiver.simulator.stats import Stats
from archiver.simulator.switches import Switches
from archiver.simulator.wire import HeadTooLarge, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType

    from archiver.simulator.corpus import Corpus
    from archiver.simulator.faults import Kind

_BACKLOG = 4096

_CLOSING_ROUNDS = 100


class Simulator:
    """A PBX that listens while its `async with` block runs; leaving it ends every connection at once.

    Connections run as plain tasks and not in a TaskGroup: a group would cancel the task that entered the block, and
    that one is gone when an async fixture entered it. A bug in a connection is raised on leaving instead.

    Args:
        corpus: what the PBX has; may be changed meanwhile, from the same thread.
        switches: how it behaves where the vendor's page is silent.
        faults: what it does wrong; may be added to meanwhile.
        tls: a server context for HTTPS; None for HTTP.
        host: the address to listen on.
        port: 0 for any that is free.
        clock: Unix seconds.
        credentials: who may sign in.
    """

    def __init__(
        self,
        corpus: Corpus,
        *,
        switches: Switches | None = None,
        faults: FaultScript | None = None,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.time,
        credentials: Credentials | None = None,
    ) -> None:
        self.corpus = corpus
        self.switches = switches or Switches()
        self.faults = faults or FaultScript()
        self.credentials = credentials or Credentials()
        self.stats = Stats()
        self.port = port
        self._tls = tls
        self._host = host
        self._clock = clock
        self._sign_in = SignIn(self.credentials, self.switches.token_lifetime_s, clock)
        self._api = Api(corpus, self.switches, self._sign_in, clock)
        self._buckets = Buckets(self.switches.bucket, time.monotonic) if self.switches.bucket else None
        self._wires: set[Wire] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._bugs: list[BaseException] = []
        self._server: asyncio.Server | None = None

    @property
    def base_url(self) -> str:
        """Scheme, host and port, without a slash at the end."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    @property
    def canaries(self) -> frozenset[str]:
        """Every secret a client sent or was given so far, for tests that look for leaks."""
        return self._sign_in.canaries

    def expire_tokens(self) -> None:
        """Make every token issued so far invalid."""
        self._sign_in.expire_all()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._wire, self._host, self.port, backlog=_BACKLOG)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for wire in tuple(self._wires):
            wire.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # A transport tells its protocol of the end in the loop's next rounds; after a failed TLS handshake never.
        for _ in range(_CLOSING_ROUNDS):
            if not self._wires:
                break
            await asyncio.sleep(0)
        if self._server is not None:
            await self._server.wait_closed()
        if self._bugs and error is None:
            raise self._bugs[0]

    def _wire(self) -> Wire:
        return Wire(self._opened, self._closed, paused=self._tls is not None)

    def _opened(self, wire: Wire) -> None:
        self.stats.opened()
        self._wires.add(wire)
        task = asyncio.get_running_loop().create_task(self._serve(wire))
        self._tasks.add(task)
        task.add_done_callback(self._served)

    def _closed(self, wire: Wire) -> None:
        self.stats.connections_open -= 1
        self._wires.discard(wire)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            self._bugs.append(bug)

    async def _serve(self, wire: Wire) -> None:
        try:
            if self._tls is not None:
                await wire.start_tls(self._tls)
            while await self._exchange(wire):
                pass
        except OSError:
            pass  # the client went away, or does not trust us: its affair
        finally:
            wire.close()

    async def _exchange(self, wire: Wire) -> bool:
        """One request and its answer; whether another may follow."""
        try:
            request = parse_head(await wire.read_head())
            length = _body_length(request)
        except HeadTooLarge:
            return await self._refuse(wire, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except BadRequestHead:
            return await self._refuse(wire, HTTPStatus.BAD_REQUEST)
        if length is None:
            return await self._refuse(wire, HTTPStatus.LENGTH_REQUIRED)
        if length > BODY_LIMIT_BYTES:
            return await self._refuse(wire, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if length:
            request.body = await wire.read_exactly(length)
        kind, recording_id = route(request.path)
        if recording_id is not None:
            self.stats.media_gets[request.account_id, recording_id] += 1
        self.stats.begin(kind)
        try:
            reply = self._reply(wire, kind, recording_id, request)
            keeps_alive, whole = await self._send(wire, request, reply)
            if whole and recording_id is not None:
                self.stats.media_whole[request.account_id, recording_id] += 1
            return keeps_alive
        finally:
            self.stats.end(kind)

    async def _refuse(self, wire: Wire, status: HTTPStatus) -> bool:
        self.stats.statuses[status] += 1
        await wire.write(Reply(status, framing="close").head(self._clock(), keeps_alive=False))
        return False

    def _reply(self, wire: Wire, kind: Kind, recording_id: str | None, request: Request) -> Reply:
        wait_s = self._buckets.take(wire.address, request.account_id) if self._buckets else None
        if wait_s is not None:
            return self._limited(wait_s)
        fault = self.faults.take(kind, recording_id, request)
        if fault is None:
            return self._api.answer(kind, recording_id, request)
        around = _Surroundings(self, self._api, request.account_id, recording_id or "")
        return _spoiled(fault, around, lambda: self._api.answer(kind, recording_id, request))

    def _limited(self, wait_s: int) -> Reply:
        self.stats.bucket_refusals += 1
        reply = self._api.error(HTTPStatus.TOO_MANY_REQUESTS, "too many requests")
        if self.switches.bucket is not None and self.switches.bucket.retry_after:
            reply.headers.append(("Retry-After", str(wait_s)))
        return reply

    async def _send(self, wire: Wire, request: Request, reply: Reply) -> tuple[bool, bool]:
        """Whether another request may follow, and whether whole media went out."""
        self.stats.statuses[reply.status] += 1
        wait_s = reply.wait_s + self.switches.round_trip_s
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        limit = self.switches.bandwidth_bytes_per_s if reply.media is not None else 0.0
        sent, keeps_alive = await deliver(
            wire, reply, now=self._clock(), keeps_alive=request.keeps_alive, bytes_per_s=limit
        )
        self.stats.sent(sent)
        whole = reply.media is not None and reply.status == HTTPStatus.OK and sent == reply.length_bytes
        return keeps_alive, whole


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What actions may ask about one request."""

    simulator: Simulator
    api: Api
    account_id: str
    recording_id: str

    def metadata(self) -> bytes:
        return self.api.metadata(self.account_id, self.recording_id)

    def other_media(self) -> bytes:
        return self.api.other_media(self.account_id, self.recording_id)

    def expire_tokens(self) -> None:
        self.simulator.expire_tokens()


def _spoiled(fault: Fault, around: _Surroundings, answer: Callable[[], Reply]) -> Reply:
    """The reply with every action of the fault applied."""
    for action in fault.actions:
        action.prepare(around)
    instead = next((reply for action in fault.actions if (reply := action.instead()) is not None), None)
    reply = instead or answer()
    for action in fault.actions:
        action.bend(reply, around)
    return reply


def _body_length(request: Request) -> int | None:
    """The size of the request's body; None when it is not told in a way we read."""
    if "transfer-encoding" in request.headers:
        return None
    told = request.headers.get("content-length", "0")
    return int(told) if told.isascii() and told.isdigit() else None
