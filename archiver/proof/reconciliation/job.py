"""What is to be reconciled, as data that can go to another process, and how it is divided into partitions."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import islice

from archiver.ledger.values import Run
from archiver.proof.reconciliation.days import Day, days
from archiver.window import ListingWindow, Window, listing_windows

_MORE_THAN_A_DAY = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class AccountDays:
    """A partition: consecutive days of an account. It begins and ends where a day does, or the whole job."""

    account_id: str
    period: Window


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be reconciled, and by which windows a run would list it.

    `least_s` is the shortest call that the PBX records. Only calls older than `overlap` are fetched when no listing shows
    them: metadata come a while after the CDR. `begun_at` is when the job began: nothing is listed beyond it.
    """

    run: Run
    account_ids: tuple[str, ...]
    period: Window
    zone: tzinfo
    window_length: timedelta
    overlap: timedelta
    begun_at: datetime
    page_size: int
    least_s: int

    def windows(self, window: Window) -> Iterator[ListingWindow]:
        """Those that list `window` whole."""
        return listing_windows(window, length=self.window_length, overlap=self.overlap, now=self.begun_at)

    def partitions(self, days_each: int | None = None) -> Iterator[AccountDays]:
        """All of it, account by account, in so many days each, or an account's days together."""
        for account_id in self.account_ids:
            waiting = days(self.period, self.zone)
            while together := list(islice(waiting, days_each)):
                yield AccountDays(account_id, Window(together[0].window.start_at, together[-1].window.end_at))

    def days_of(self, partition: AccountDays) -> Iterator[Day]:
        """A partition's days."""
        return days(partition.period, self.zone)

    def day_before(self, partition: AccountDays) -> Day | None:
        """The last day of the job before a partition, None when it has none."""
        start = partition.period.start_at
        if start <= self.period.start_at:
            return None
        *_, last = days(Window(max(self.period.start_at, start - _MORE_THAN_A_DAY), start), self.zone)
        return last

    @property
    def days_count(self) -> int:
        """How many days it has, of all accounts."""
        return len(self.account_ids) * sum(1 for _ in days(self.period, self.zone))
