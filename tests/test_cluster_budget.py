"""One PBX, one budget, whoever comes and goes and however long a message takes: a model of a run's limits, without Dask."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from archiver.engine.cluster.shares import Portion, Shares
from archiver.engine.cluster.slots import Slots
from archiver.pbx.bucket import Bucket

RATE_PER_S = 10.0


@dataclass
class FakeSeat:
    """A seat that takes whatever it may: as a `FarSeat` goes by portions, and a limiter by bound and ceiling."""

    bucket: Bucket
    portion: Portion
    ceiling: int
    held: int = 0
    acknowledged: list[tuple[int, int]] = field(default_factory=list)

    def hear(self, key: str, portion: Portion) -> None:
        if portion.number > self.portion.number:
            self.portion, self.ceiling = portion, portion.slots.get(key, self.ceiling)
            self.bucket.set_rate(RATE_PER_S * portion.part)
            self.acknowledged.append((portion.number, self.held))


class Model:
    """Whoever leads, the seats, and what is on its way between them."""

    def __init__(self, divisor: int, slots: int) -> None:
        self.total = slots
        self.shares = Shares(divisor, slots)
        self.seats: dict[str, FakeSeat] = {}
        self.on_their_way: list[tuple[str, Portion]] = []
        self.now_s = 0.0
        self.sent = self.number = 0
        self.filled = 0.0
        self.left: list[float] = []

    def tell(self, *, at_once: bool) -> None:
        portion = self.shares.portion()
        for key, seat in self.seats.items():
            if at_once:
                seat.hear(key, portion)
            else:
                self.on_their_way.append((key, portion))

    def begin(self) -> None:
        if self.shares.under_way >= self.total:
            return
        if self.shares.begin():
            # Whoever is under way has heard of it before the next sets out, but its answer takes a while.
            self.tell(at_once=True)
        self.number += 1
        key = str(self.number)
        portion = self.shares.set_out(key)
        if not self.left:
            # A worker that had none before begins with less than a request.
            self.left, self.filled = [0.99], self.filled + 0.99
        bucket = Bucket(RATE_PER_S * portion.part, burst_s=0.1, level=self.left.pop(), clock=lambda: self.now_s)
        self.seats[key] = FakeSeat(bucket, portion, portion.slots[key])

    def end(self, key: str) -> None:
        seat = self.seats.pop(key)
        self.left.append(seat.bucket.level)
        self.shares.come_back(key)
        self.shares.end()

    def deliver(self, index: int) -> None:
        key, portion = self.on_their_way.pop(index)
        if key in self.seats:
            self.seats[key].hear(key, portion)

    def answer(self, key: str) -> None:
        seat = self.seats[key]
        for number, held in seat.acknowledged:
            self.shares.heard(key, number, held)
        seat.acknowledged = []

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        # That these parts are no more than the whole is looked at besides.
        self.filled += seconds * RATE_PER_S * sum(seat.portion.part for seat in self.seats.values())
        for seat in self.seats.values():
            self.sent += int(level := seat.bucket.level)
            seat.bucket._level -= int(level)

    def grab(self, key: str) -> None:
        """Take every slot that it may."""
        seat = self.seats[key]
        seat.held = max(seat.held, min(seat.ceiling, max(1, int(self.total * seat.portion.part + 1e-9))))

    def check(self) -> None:
        assert sum(seat.held for seat in self.seats.values()) <= self.total
        assert sum(seat.portion.part for seat in self.seats.values()) <= 1 + 1e-9
        assert self.sent <= self.filled + 1e-6


STEPS = ["begin", "begin", "end", "settle", "deliver", "answer", "grab", "grab", "release", "wait"]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.integers(2, 12), st.lists(st.sampled_from(STEPS), min_size=20, max_size=120), st.data())
def test_slots_in_use_shares_and_requests_never_add_up_to_more_than_the_whole(
    divisor: int, slots: int, steps: list[str], data: st.DataObject
) -> None:
    model = Model(divisor, slots)
    for step in steps:
        key = data.draw(st.sampled_from(sorted(model.seats))) if model.seats else ""
        if step == "begin":
            model.begin()
        elif step == "settle" and model.shares.settle():
            model.tell(at_once=False)
        elif step == "deliver" and model.on_their_way:
            model.deliver(data.draw(st.integers(0, len(model.on_their_way) - 1)))
        elif step == "wait":
            model.wait(data.draw(st.floats(0, 3)))
        elif key and step in {"end", "answer", "grab"}:
            getattr(model, step)(key)
        elif key and step == "release":
            model.seats[key].held = data.draw(st.integers(0, model.seats[key].held))
        model.check()


@settings(deadline=None)
@given(st.integers(1, 64), st.integers(1, 8))
def test_whoever_joins_has_what_is_free_and_its_whole_part_once_the_others_have_let_go(
    total: int, joiners: int
) -> None:
    model = Model(1, total)
    model.begin()
    model.grab("1")
    assert model.seats["1"].held == total
    for _ in range(joiners):
        model.begin()
    for _ in range(2 * total):
        # One download after another ends; the rest goes on as before.
        first = model.seats["1"]
        first.held = min(first.held, max(0, first.held - 1)) if first.held > first.ceiling else first.held
        first.acknowledged.append((first.portion.number, first.held))
        for key in model.seats:
            model.answer(key)
        if model.shares.settle():
            model.tell(at_once=True)
        for key in model.seats:
            model.grab(key)
        model.check()
    fair = max(1, total // len(model.seats))
    assert [seat.held for seat in model.seats.values()] == [fair] * len(model.seats)


def test_a_slow_download_holds_back_nobody_but_by_its_own_slot() -> None:
    slots = Slots(8)
    assert slots.begin("old", 8) == 8
    assert slots.share_out(4) == {"old": 4}
    assert slots.begin("new", 4) == 0
    slots.heard("old", 7)
    assert slots.can_grow(4)
    assert slots.share_out(4) == {"old": 4, "new": 1}
    slots.heard("old", 5)
    assert slots.share_out(4) == {"old": 4, "new": 3}
    slots.end("old")
    assert slots.share_out(8) == {"new": 8}


def test_what_a_parcel_held_before_it_was_told_anew_says_nothing() -> None:
    shares = Shares(1, 8)
    shares.begin()
    first = shares.set_out("old")
    shares.begin()
    told = shares.portion()
    shares.heard("old", first.number, 2)
    assert shares.set_out("new").slots == {"new": 0}
    shares.heard("old", told.number, 2)
    assert shares.portion().slots == {"old": 4, "new": 4}
