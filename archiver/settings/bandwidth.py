"""Sizes, rates and the timetable of `transfer.bandwidth`, as people write them."""

import re
from dataclasses import dataclass
from datetime import time
from decimal import Decimal
from typing import Self

_UNITS = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(B|kB|MB|GB|KiB|MiB|GiB)\Z")
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])\Z")
_SLOWEST = 1024
_OFF = "off"


def parse_size(text: str) -> int:
    """The bytes that a size such as `64MiB`, `1.5GB` or `1KiB` stands for, rounded down.

    Raises:
        ValueError: for anything else; the message says what is allowed.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("must be a number with a unit: B, kB, MB, GB, KiB, MiB or GiB, such as '50MiB'")
    return int(Decimal(match[1]) * _UNITS[match[2]])


def _rate(text: str) -> int | None:
    """Bytes per second, or None for `off`."""
    if text == _OFF:
        return None
    rate = parse_size(text)
    if rate < _SLOWEST:
        raise ValueError("must be at least 1KiB per second, or 'off' for no limit")
    return rate


def _step(text: str) -> tuple[time, int | None]:
    """One entry of a timetable, `08:00,20MiB`."""
    clock, comma, rate = text.partition(",")
    match = _CLOCK.match(clock)
    if match is None or not comma:
        raise ValueError("must be a rate such as '50MiB', or a timetable such as '08:00,20MiB 19:00,off'")
    return time(int(match[1]), int(match[2])), _rate(rate)


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """How many bytes per second may be used at which time of the day.

    `steps` are the times of the day, in order, from which each rate holds until the next; the last one holds past
    midnight until the first. No steps, or a rate of None, is no limit.
    """

    steps: tuple[tuple[time, int | None], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """A bandwidth from `""` (no limit), `"50MiB"` (always) or `"08:00,20MiB 19:00,off"` (a timetable).

        Raises:
            ValueError: for anything else; the message says what is allowed.
        """
        words = text.split()
        if not words or words == [_OFF]:
            return cls()
        if "," not in text:
            return cls(((time(0), _rate(text.strip())),))
        steps = sorted((_step(word) for word in words), key=lambda step: step[0])
        if len({start for start, _ in steps}) < len(steps):
            raise ValueError("must name each time of the timetable once")
        return cls(tuple(steps))

    def at(self, local: time) -> int | None:
        """The bytes per second allowed at a local time of the day, or None for no limit."""
        if not self.steps:
            return None
        clock = local.replace(tzinfo=None)
        begun = [rate for start, rate in self.steps if start <= clock]
        return begun[-1] if begun else self.steps[-1][1]

    def __str__(self) -> str:
        return " ".join(f"{start:%H:%M},{_OFF if rate is None else f'{rate}B'}" for start, rate in self.steps)
