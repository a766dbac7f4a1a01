"""What parcels far away have counted: those that are done, and the last news of those under way."""

from dataclasses import dataclass, replace
from enum import Enum

from archiver.engine.base import Watcher
from archiver.engine.wire import News
from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Problem, Tally


class End(Enum):
    """How an attempt at a parcel ended: done; undone, with nobody or somebody to do it again; or given up after many."""

    DONE = "done"
    LEFT = "left"
    UNDONE = "undone"
    LOST = "lost"


@dataclass(slots=True)
class _Attempt:
    """An attempt under way: its last news, and what the one before had counted, of which it finds what is in the ledger."""

    news: News
    before: Tally

    @property
    def tally(self) -> Tally:
        """The fuller one: it takes this attempt a while to find what was done before it."""
        return max(self.news.tally, self.before, key=lambda tally: tally.settled)


class Counts:
    """`tally` and `traffic` are sums over all parcels, live; one that is done again counts once, its traffic each time."""

    def __init__(self, watcher: Watcher) -> None:
        self.tally = Tally()
        self.traffic = Traffic()
        self._watcher = watcher
        self._done = Tally()
        self._spent = Traffic()
        self._under_way: dict[str, _Attempt] = {}

    def begin(self, key: str, before: Tally | None = None) -> None:
        """A parcel sets out; `before` is what the attempt before had counted when it ended undone."""
        self._under_way[key] = _Attempt(News(Tally(), Traffic(), 0, 0, ()), before or Tally())
        self._add_up()

    def hear(self, key: str, news: News) -> bool:
        """News of a parcel under way; whether it has lowered what it asks for. What comes after its end is old."""
        attempt = self._under_way.get(key)
        if attempt is None:
            return False
        before, attempt.news = attempt.news, news
        self._watcher.bytes_came(max(0, news.bytes_came - before.bytes_came))
        self._add_up()
        for each in news.unsettled:
            self._watcher.settled(each.account_id, each.recording_id, each.status, each.reason)
        self._watcher.moved()
        return news.lowered > before.lowered

    def end(self, key: str, how: End) -> Tally:
        """An attempt is over; what it had counted. It stays in the sums unless somebody does the parcel again."""
        attempt = self._under_way.pop(key)
        tally = attempt.news.tally if how is End.DONE else attempt.tally
        if how in {End.DONE, End.LEFT}:
            self._done.become_sum([self._done, tally])
        elif how is End.LOST:
            # Whoever hears of it counts all its windows as incomplete.
            self._done.become_sum([self._done, replace(tally, windows_complete=0, windows_incomplete=0)])
        self._spent.become_sum([self._spent, attempt.news.traffic])
        self._spent.at_once = 0
        self._add_up()
        return tally

    def lost(self, account_id: str, windows: int, why: str) -> None:
        """A parcel never came back; in the ledger its windows are incomplete."""
        self._done.windows_incomplete += max(1, windows)
        self._done.problem(Problem(account_id, "", "incomplete", f"partition_lost: {why}; the next run does it", 0))
        self._add_up()

    def _add_up(self) -> None:
        attempts = self._under_way.values()
        self.tally.become_sum([self._done, *(each.tally for each in attempts)])
        self.traffic.become_sum([self._spent, *(each.news.traffic for each in attempts)])
