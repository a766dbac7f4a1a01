"""What parcels far away have counted: those that are done, and the last news of those under way."""

from archiver.engine.base import Watcher
from archiver.engine.wire import News
from archiver.pbx.base import Traffic
from archiver.pipeline.tally import Problem, Tally


class Counts:
    """`tally` and `traffic` are sums over all parcels, live; one that is done again counts once, its traffic each time."""

    def __init__(self, watcher: Watcher) -> None:
        self.tally = Tally()
        self.traffic = Traffic()
        self._watcher = watcher
        self._done = Tally()
        self._spent = Traffic()
        self._under_way: dict[str, News] = {}

    def begin(self, key: str) -> None:
        """A parcel sets out."""
        self._under_way[key] = News(Tally(), Traffic(), 0, 0, ())

    def hear(self, key: str, news: News) -> bool:
        """News of a parcel under way; whether it has lowered what it asks for. What comes after its end is old."""
        before = self._under_way.get(key)
        if before is None:
            return False
        self._under_way[key] = news
        self._watcher.bytes_came(max(0, news.bytes_came - before.bytes_came))
        self._add_up()
        for each in news.unsettled:
            self._watcher.settled(each.account_id, each.recording_id, each.status, each.reason)
        self._watcher.moved()
        return news.lowered > before.lowered

    def end(self, key: str, *, done: bool) -> None:
        """A parcel has come back; what it counted stays only if it is done."""
        news = self._under_way.pop(key)
        if done:
            self._done.become_sum([self._done, news.tally])
        self._spent.become_sum([self._spent, news.traffic])
        self._spent.at_once = 0
        self._add_up()

    def lost(self, account_id: str, windows: int, why: str) -> None:
        """A parcel never came back; in the ledger its windows are incomplete."""
        self._done.windows_incomplete += max(1, windows)
        self._done.problem(Problem(account_id, "", "incomplete", f"partition_lost: {why}; the next run does it", 0))
        self._add_up()

    def _add_up(self) -> None:
        news = self._under_way.values()
        self.tally.become_sum([self._done, *(each.tally for each in news)])
        self.traffic.become_sum([self._spent, *(each.traffic for each in news)])
