"""Walks the pages of a window until the end, and only calls it the end when it provably is (api-facts, "Listing").

The cursor is a bare second, so that rows at a page's edge may come twice, the same cursor may come for ever, or rows of a
crowded second may be left out, depending on the server. Rows are told apart by id; a cursor that repeats, or a page that
brings nothing new, first gets larger pages, then shorter windows; a single second that still can't be listed whole makes
the window incomplete. So does a cut near a month's edge, since a call over the edge is listed only by a window over it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from archiver.errors import ListingIncomplete, RequestRefused
from archiver.pbx.base import Pbx
from archiver.pbx.payloads import instant
from archiver.recording import Cdr, Recording
from archiver.window import Window, may_hide_calls

_SECOND = timedelta(seconds=1)
_INSTANT = timedelta(microseconds=1)
"""Shorter than what the PBX counts in, so that startDate and endDate are the same second."""
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
        self._refused = _LARGEST_PAGE + 1
        self._doubts: list[str] = []

    async def pages(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        """The window's pages, new rows only."""
        async for page in self._window(query):
            yield page
        if self._unreadable:
            raise ListingIncomplete(f"{self._unreadable} rows of the listing have no usable id")
        if self._doubts:
            raise ListingIncomplete(self._doubts[0])

    async def _window(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        page_size = answered = self._page_size
        cursor, before, asked = None, None, None
        met: set[str] = set()
        cursors: set[str] = set()
        while True:
            answer = await self._ask(query, page_size, cursor)
            if answer is None:
                if (smaller := self._larger(answered)) is None:
                    break
                page_size = smaller
                continue
            answered = page_size
            goes_on = self._meets_new(answer, met)
            yield WalkedPage(self._new(answer), self._pages, answer.cursor or "")
            if before is not None and (second := self._crowded(before, answer)) is not None:
                async for page in self._cut_second(query, second, asked, page_size):
                    yield page
            if answer.cursor is None:
                if len(answer.rows) < page_size:
                    return
                # A full page without a cursor may be the end, or a cursor that was forgotten: shorter windows tell,
                # and a larger page where the window can't be cut.
                larger = self._larger(page_size)
                if larger is None or not may_hide_calls(query, query.middle_at):
                    break
                page_size, cursor, before, met, cursors = larger, None, None, set(), set()
                continue
            if not goes_on or answer.cursor == cursor or answer.cursor in cursors:
                if (larger := self._larger(page_size)) is None:
                    break
                page_size = larger
                continue
            cursors.add(answer.cursor)
            asked, cursor, before = cursor, answer.cursor, answer
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
                self._refused = min(self._refused, page_size)
                return None
            if query.length < _SECOND:
                raise _too_crowded(query) from None
            raise
        self._pages += 1
        self._unreadable += answer.unreadable
        return answer

    def _larger(self, page_size: int) -> int | None:
        """The next larger page size to try, halfway to one that was refused; None when there is none."""
        wanted = min(page_size * _GROWTH, _LARGEST_PAGE)
        if wanted >= self._refused:
            wanted = (page_size + self._refused) // 2
        return wanted if wanted > page_size else None

    async def _shorter(self, query: Window) -> AsyncIterator[WalkedPage[Row]]:
        if query.length <= _SECOND:
            async for page in self._second(query.start_at):
                yield page
            return
        for half in query.halves():
            async for page in self._window(half):
                yield page
        if may_hide_calls(query, query.middle_at):
            self._doubts.append(
                f"{query} could only be listed in parts: calls over the month's edge in it may be missing"
            )

    def _meets_new(self, answer: Answer[Row], met: set[str]) -> bool:
        """Whether this walk over one window goes on: rows that another window brought count as well."""
        known = len(met)
        met.update(self._id_of(row) for row in answer.rows)
        return len(met) > known

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

    async def _cut_second(
        self, query: Window, second: datetime, cursor: str | None, page_size: int
    ) -> AsyncIterator[WalkedPage[Row]]:
        """The rest of a second that a page's edge cut; `cursor` asked for the page before the edge."""
        if not may_hide_calls(query, second):
            async for page in self._second(second):
                yield page
            return
        # By itself the second would hide calls over the month's edge; a larger page has its edge elsewhere.
        answered = page_size
        while (larger := self._larger(answered)) is not None:
            answer = await self._ask(query, larger, cursor)
            if answer is None:
                continue
            answered = larger
            if fresh := self._new(answer):
                yield WalkedPage(fresh, self._pages, answer.cursor or "")
            if answer.cursor is None and len(answer.rows) < larger:
                return
            if answer.rows and second not in self._times_of(answer.rows[-1]):
                return
        self._doubts.append(f"pages end within the second {second:%Y-%m-%dT%H:%M:%SZ} near a month's edge")

    async def _second(self, second: datetime) -> AsyncIterator[WalkedPage[Row]]:
        """All rows of one second, in a single page.

        Where endDate is inclusive, a query of one second shows two. One from a second to itself then shows that second
        alone; where endDate is exclusive it is empty and proves nothing.
        """
        for query in (Window(second, second + _SECOND), Window(second, second + _INSTANT)):
            page_size: int | None = self._page_size
            answered = self._page_size
            while page_size is not None:
                answer = await self._ask(query, page_size, None)
                if answer is not None:
                    answered = page_size
                    if fresh := self._new(answer):
                        yield WalkedPage(fresh, self._pages, "")
                    if len(answer.rows) < page_size and answer.cursor is None:
                        if answer.rows or query.length == _SECOND:
                            return
                        break
                page_size = self._larger(answered)
        raise _too_crowded(Window(second, second + _SECOND))


def _too_crowded(query: Window) -> ListingIncomplete:
    return ListingIncomplete(f"more rows in the second {query} than the PBX lists in one page")


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
