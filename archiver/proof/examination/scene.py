"""What the examiners of behaviours share: the way to ask, and the recordings that were found to ask about."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from archiver.errors import PbxError, Severity
from archiver.pbx.probe import PageSeen, Probe, Question, Unit
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.recording import Recording
from archiver.window import Window

SECOND = timedelta(seconds=1)
INSTANT = timedelta(microseconds=1)
"""Shorter than what the PBX counts in: startDate and endDate are the same second."""
PAGE = 200
"""Rows on a page that is asked for to learn something else."""
_SAMPLES = 0
"""As many rows as the sample's page was asked for with."""
_MOST_FAILURES = 2


@dataclass(frozen=True, slots=True)
class Expected:
    """What the settings say, where a PBX may say otherwise.

    `longest_query` tells the longest that a run asks, for so many `listing.window_hours`.
    """

    base_url: str
    account_ids: Sequence[str]
    unit: Unit
    page_size: int
    requests_per_s: float
    window_hours: int
    longest_query: Callable[[int], timedelta]


@dataclass(frozen=True, slots=True)
class Sample:
    """The page with recordings of the last days, and how it was asked for: the smaller page and other unit if need be."""

    unit: Unit
    window: Window
    page_size: int
    page: PageSeen


@dataclass(slots=True)
class Scene:
    """A PBX that is signed in to, what the settings say of it, and what was found to ask about.

    `pages` are all that were asked for through `ask`, for what any of them shows.
    """

    probe: Probe
    expected: Expected
    sample: Sample
    now: datetime
    pages: list[PageSeen] = field(default_factory=list)
    failures: int = 0

    @property
    def account_id(self) -> str:
        """The account that is looked at."""
        return self.expected.account_ids[0]

    @property
    def rows(self) -> tuple[Recording, ...]:
        """Recordings that are known to be there."""
        return self.sample.page.recordings

    @property
    def tiny(self) -> Window:
        """A second with few rows or none, for questions whose answer does not matter."""
        at = self.sample.window.start_at
        return Window(at, at + SECOND)

    async def ask(
        self,
        window: Window,
        *,
        page_size: int | None = _SAMPLES,
        cursor: str | None = None,
        cursor_at: datetime | None = None,
        odd_parameter: bool = False,
        unit: Unit | None = None,
    ) -> PageSeen:
        """A page of the account, of as many rows as the sample's unless others are wanted; None sends no pageSize.

        Raises:
            PbxError.
        """
        if page_size == _SAMPLES:
            page_size = self.sample.page_size
        page = await self.probe.recordings(
            Question(
                self.account_id,
                window,
                unit or self.sample.unit,
                page_size,
                cursor=cursor,
                cursor_at=cursor_at,
                odd_parameter=odd_parameter,
            )
        )
        self.failures = 0
        self.pages.append(page)
        return page

    async def look(self, name: Name, look: Callable[["Scene"], Awaitable[Behaviour]]) -> Behaviour:
        """What a look finds; an error makes it untold, and several in a row end the asking, since a person waits.

        Raises:
            PbxError: one that ends a run.
        """
        if self.failures >= _MOST_FAILURES:
            return untold(name, "the PBX failed too often meanwhile")
        try:
            found = await look(self)
        except PbxError as error:
            if error.severity is Severity.FATAL:
                raise
            self.failures += 1
            return untold(name, str(error))
        return found
