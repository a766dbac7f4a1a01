"""Walks the pages of a window until the end, and only calls it the end when it provably is (api-facts, "Listing").

The cursor is a bare second, so that rows at a page's edge may come twice, the same cursor may come for ever, or rows of a
crowded second may be left out, depending on the server. Rows are told apart by id; a cursor that repeats, or a page that
brings nothing new, first gets larger pages, then shorter windows; a single second that still can't be listed whole makes
the window incomplete.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from archiver.errors import ListingIncomplete, RequestRefused
from archiver.pbx.base import Pbx
from archiver.pbx.payloads import instant
from archiver.recording import Cdr, Recording
from archiver.window import Window

_SECOND = timedelta(seconds=1)
_LARGEST_PAGE = 10_000
_GROWTH = 4
_MOST_PAGES = 100_000

Row = TypeVar("Row")
Row_co = TypeVar("Row_co", covariant=True)


class Answer(Protocol[Row_co]):
    """A page as the session hands it over."""

    @property
    def rows(self) -> tuple[Row_co, ...]:
        """Its rows, duplicates of other pages included."""
        ...

    @property
    def cursor(self) -> str | None:
        """What asks for the next page."""
        ...

    @property
    def unreadable(self) -> int:
        """Rows that can't be read."""
        ...


Fetch = Callable[[Window, int, str | None], Awaitable[Answer[Row]]]


@dataclass(frozen=True, slots=True)
class WalkedPage(Generic[Row]):
    """The rows of a page that no earlier page of this window had; pages so far, and the cursor of the next."""

    rows: Sequence[Row]
    pages: int
    cursor: str


class Walk(Generic[Row]):
    """One walk over one window. Iterate once; a normal end of the iteration means that the window was listed whole.

    Raises (from the iteration):
        ListingIncomplete: the end can't be proved; the rows handed out so far are good.
        PbxError: a page could not be had.
    """

    def __init__(
        self,
        fetch: Fetch[Row],
        *,
        page_size: int,
        id_of: Callable[[Row], str],
        times_of: Callable[[Row], tuple[datetime | None, ...]],
    ) -> None:
        self._fetch = fetch
        self._page_size = page_size
        self._id_of = id_of
        self._times_of = times_of
        self._seen: set[str] = set()
        self._pages = 0
        self._unreadable = 0

    async def pages(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        """The window's pages, new rows only."""
        async for page in self._window(query):
            yield page
        if self._unreadable:
            raise ListingIncomplete(f"{self._unreadable} rows of the listing have no usable id")

    async def _window(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        cursor: str | None = None
        page_size = self._page_size
        cursors: set[str] = set()
        before: Answer[Row] | None = None
        while True:
            answer = await self._ask(query, page_size, cursor)
            if answer is None:
                break
            fresh = self._new(answer)
            yield WalkedPage(fresh, self._pages, answer.cursor or "")
            if before is not None and (second := self._crowded(before, answer)) is not None:
                async for page in self._second(second):
                    yield page
            if answer.cursor is None:
                if len(answer.rows) < page_size:
                    return
                # A full page without a cursor may be the end, or a cursor that was forgotten: shorter windows tell,
                # and a larger page where the window can't be cut.
                if query.length <= _SECOND:
                    async for page in self._second(query.start_at):
                        yield page
                    return
                break
            if not fresh or answer.cursor == cursor or answer.cursor in cursors:
                if page_size >= _LARGEST_PAGE:
                    break
                page_size = min(page_size * _GROWTH, _LARGEST_PAGE)
                continue
            cursors.add(answer.cursor)
            cursor, before = answer.cursor, answer
        async for page in self._shorter(query):
            yield page

    async def _ask(self, query: Window, page_size: int, cursor: str | None) -> Answer[Row] | None:
        """A page, or None when the server refuses pages as large as this one."""
        if self._pages >= _MOST_PAGES:
            raise ListingIncomplete(f"the listing of {query} did not end after {_MOST_PAGES} pages")
        try:
            answer = await self._fetch(query, page_size, cursor)
        except RequestRefused:
            if page_size > self._page_size:
                return None
            raise
        self._pages += 1
        self._unreadable += answer.unreadable
        return answer

    async def _shorter(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        if query.length <= _SECOND:
            raise ListingIncomplete(f"more rows in the second {query} than the PBX lists in one page")
        for half in query.halves():
            async for page in self._window(half):
                yield page

    def _new(self, answer: Answer[Row]) -> list[Row]:
        fresh: dict[str, Row] = {}
        for row in answer.rows:
            an_id = self._id_of(row)
            if an_id not in self._seen:
                fresh[an_id] = row
        self._seen.update(fresh)
        return list(fresh.values())

    def _crowded(self, before: Answer[Row], answer: Answer[Row]) -> datetime | None:
        """The second that a page's edge cut through, when the next page does not take it up again.

        A cursor that names the last row's own second may mean "go on after it"; others of that second are then left out.
        """
        if not before.rows:
            return None
        second = instant(before.cursor)
        if second is None or second not in self._times_of(before.rows[-1]):
            return None
        had = {self._id_of(row) for row in before.rows}
        return None if any(self._id_of(row) in had for row in answer.rows) else second

    async def _second(self, second: datetime) -> AsyncIterator[WalkedPage[Row]]:
        """All rows of one second, in a single page."""
        query = Window(second, second + _SECOND)
        page_size = self._page_size
        while True:
            answer = await self._ask(query, page_size, None)
            if answer is not None:
                fresh = self._new(answer)
                if fresh:
                    yield WalkedPage(fresh, self._pages, "")
                if len(answer.rows) < page_size and answer.cursor is None:
                    return
            if answer is None or page_size >= _LARGEST_PAGE:
                raise ListingIncomplete(f"more rows in the second {query} than the PBX lists in one page")
            page_size = min(page_size * _GROWTH, _LARGEST_PAGE)


def recordings(pbx: Pbx, account_id: str, *, page_size: int) -> Walk[Recording]:
    """A walk over an account's recordings."""

    async def fetch(query: Window, size: int, cursor: str | None) -> Answer[Recording]:
        return await pbx.recordings_page(account_id, query, page_size=size, cursor=cursor)

    return Walk(
        fetch,
        page_size=page_size,
        id_of=lambda row: row.recording_id,
        times_of=lambda row: (row.saved_at, row.start_at),
    )


def cdrs(pbx: Pbx, account_id: str, *, page_size: int) -> Walk[Cdr]:
    """A walk over an account's CDRs."""

    async def fetch(query: Window, size: int, cursor: str | None) -> Answer[Cdr]:
        return await pbx.cdrs_page(account_id, query, page_size=size, cursor=cursor)

    return Walk(fetch, page_size=page_size, id_of=lambda row: row.cdr_id, times_of=lambda row: (row.at,))
