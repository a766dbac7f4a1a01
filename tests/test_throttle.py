"""The throttle: a rate over all downloads of a seat, which follows a share of it that changes."""

from archiver.pipeline.throttle import Throttle

CHUNK_BYTES = 1000


class Downloads:
    """Downloads one after another through a throttle, on a clock that goes on only while they wait."""

    def __init__(self, rate: float | None) -> None:
        self.now_s, self.came = 50.0, 0
        self.rate = rate
        self.throttle = Throttle(lambda: self.rate, lambda: self.now_s)

    def go_on(self, seconds: float) -> int:
        """How many bytes come in so many seconds."""
        end_s, before = self.now_s + seconds, self.came
        while self.now_s < end_s:
            self.came += CHUNK_BYTES
            self.now_s += self.throttle.pause_s(CHUNK_BYTES)
        return self.came - before


def test_a_rate_is_kept_but_for_a_tenth_of_a_second_and_a_chunk() -> None:
    it = Downloads(20_000.0)
    assert 20_000 * 5 <= it.go_on(5.0) <= 20_000 * 5.1 + 2 * CHUNK_BYTES


def test_a_smaller_share_holds_at_once_and_not_only_when_the_clock_is_looked_at() -> None:
    it = Downloads(20_000.0)
    it.go_on(0.4)
    it.rate = 2_000.0
    it.throttle.ask_again()
    assert it.go_on(0.5) <= 2_000 * 0.5 + 2_000 * 0.1 + 2 * CHUNK_BYTES


def test_what_came_ahead_of_its_time_is_waited_for_at_the_rate_that_is_now() -> None:
    it = Downloads(1_000.0)
    assert it.throttle.pause_s(2_000) == 1.9
    it.rate = 500.0
    it.throttle.ask_again()
    # Two seconds' debt is four.
    assert it.throttle.pause_s(500) == 4.9
    it.rate = 1_000.0
    it.throttle.ask_again()
    assert it.throttle.pause_s(0) == 2.4


def test_no_limit_waits_for_nothing_and_a_limit_after_it_holds_from_then_on() -> None:
    it = Downloads(None)
    assert it.throttle.pause_s(1 << 30) == 0
    it.rate = 1_000.0
    it.throttle.ask_again()
    assert it.throttle.pause_s(500) == 0.4
    it.rate = None
    it.throttle.ask_again()
    assert it.throttle.pause_s(1 << 30) == 0
