"""What the pipeline sees of the PBX: connection facts, framing, counters, and the promise of a media body."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Protocol

from archiver.recording import Cdr, Recording
from archiver.window import Window


class Framing(Enum):
    """How a body says where it ends; EOF means by closing the connection, so that a cut looks like an end."""

    LENGTH = "length"
    CHUNKED = "chunked"
    EOF = "eof"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the PBX. Times in seconds; `password` never appears in a repr."""

    base_url: str
    username: str
    domain: str
    password: "Secret"
    ca_file: Path | None
    time_unit: str
    page_size: int
    recording_path: str
    connect_timeout_s: float
    read_timeout_s: float
    max_retries: int
    retry_wait_s: float
    requests_per_s: float
    min_rate_bytes_per_s: float
    connections: int


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A text that must not reach a log, a traceback or a report."""

    text: str

    def __repr__(self) -> str:
        return "Secret(…)"


@dataclass(slots=True)
class Traffic:
    """What was asked of the PBX so far, and how many media may be asked for `at_once` just now (0: nobody set a limit).

    `refusals` are answers that ask for fewer requests (429 and 503), `login_refusals` sign-ins that were refused for good.
    """

    requests: int = 0
    retries: int = 0
    logins: int = 0
    pages: int = 0
    successes: int = 0
    refusals: int = 0
    login_refusals: int = 0
    at_once: int = 0

    def become_sum(self, parts: "Sequence[Traffic]") -> None:
        """Take the sum of what several sessions asked."""
        for each in fields(self):
            setattr(self, each.name, sum(getattr(part, each.name) for part in parts))


@dataclass(frozen=True, slots=True)
class RecordingsAnswer:
    """A page of recordings: rows, the cursor of the next page or None, and how many rows could not be read."""

    rows: tuple[Recording, ...]
    cursor: str | None
    unreadable: int


@dataclass(frozen=True, slots=True)
class CdrsAnswer:
    """A page of CDRs, likewise."""

    rows: tuple[Cdr, ...]
    cursor: str | None
    unreadable: int


class MediaBody(Protocol):
    """A recording's media on their way in; `content_length` is what the server announced, None when it did not."""

    @property
    def framing(self) -> Framing:
        """How the end will be known."""
        ...

    @property
    def content_length(self) -> int | None:
        """Announced length in bytes."""
        ...

    @property
    def content_type(self) -> str:
        """Announced type, lower case, without parameters."""
        ...

    @property
    def waited_s(self) -> float:
        """How long the PBX took until its answer began, in seconds; our own waits before the request don't count."""
        ...

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end.

        Raises:
            BodyCut, PbxUnreachable, TooSlow, BadAnswer.
        """
        ...


class Attempt(Protocol):
    """One try: a context manager that swallows an error after which another try comes."""

    @property
    def num(self) -> int:
        """1-based."""
        ...

    def __enter__(self) -> object:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """End."""
        ...


class Retries(Protocol):
    """A retry policy."""

    @property
    def max_retries(self) -> int:
        """Tries after the first."""
        ...

    def attempts(self) -> AsyncIterator[Attempt]:
        """Attempts to loop over."""
        ...


class Pbx(Protocol):
    """The PBX as the rest of the program sees it. Everything raises the PbxError tree, nothing of the HTTP library's."""

    @property
    def traffic(self) -> Traffic:
        """Counters, live."""
        ...

    async def recordings_page(
        self, account_id: str, query: Window, *, page_size: int, cursor: str | None
    ) -> RecordingsAnswer:
        """One page of recordings' metadata, after retries."""
        ...

    def media_url(self, recording_id: str) -> str:
        """The address of a recording's media, without secrets."""
        ...

    async def cdrs_page(self, account_id: str, query: Window, *, page_size: int, cursor: str | None) -> CdrsAnswer:
        """One page of CDRs, after retries."""
        ...

    def media(self, account_id: str, recording_id: str) -> AbstractAsyncContextManager[MediaBody]:
        """One try at a recording's media; leaving the block early closes the connection."""
        ...
