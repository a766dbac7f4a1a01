"""The charts' geometry: numbers and states become the paths of inline SVG, few and short whatever the archive's size."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from archiver.reports.page.days import DayState

_CELL, _PITCH = 11, 13
_LEFT, _TOP = 30, 18
_BARS = 26
_WEEK = 7
WIDTH, _AXIS = 760, 48


@dataclass(frozen=True, slots=True)
class Label:
    """A text in a chart; `x` and `y` are where its base line begins, or ends."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A path with the class that gives it its colour."""

    look: str
    path: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing: its size, its paths, and its labels at the left and at the top or bottom; `lines` are those of a grid."""

    width: int
    height: int
    shapes: Sequence[Shape]
    beside: Sequence[Label]
    along: Sequence[Label]
    lines: str = ""


def calendar(found: Sequence[DayState], first: date, weekly: Sequence[int]) -> Chart:
    """Weeks as columns, weekdays as rows, and under each week a bar for how many recordings it has."""
    before = first.weekday()
    weeks = (before + len(found) + _WEEK - 1) // _WEEK
    paths: dict[str, list[str]] = {"complete": [], "incomplete": [], "mark": [], "not-yet": []}
    for ordinal, state in enumerate(found):
        week, weekday = divmod(before + ordinal, _WEEK)
        x, y = _LEFT + week * _PITCH, _TOP + weekday * _PITCH
        match state:
            case DayState.COMPLETE:
                paths["complete"].append(f"M{x} {y}h{_CELL}v{_CELL}h-{_CELL}z")
            case DayState.INCOMPLETE:
                paths["incomplete"].append(f"M{x} {y}h{_CELL}v{_CELL}h-{_CELL}z")
                paths["mark"].append(f"M{x + 2} {y + 2}l7 7m0-7l-7 7")
            case DayState.NOT_YET:
                paths["not-yet"].append(f"M{x}.5 {y}.5h{_CELL - 1}v{_CELL - 1}h-{_CELL - 1}z")
            case DayState.OUTSIDE:
                pass
    base = _TOP + _WEEK * _PITCH + 4 + _BARS
    most = max(weekly, default=0)
    bars = [
        f"M{_LEFT + week * _PITCH} {base}h{_CELL}v-{_tall(number, most, _BARS)}h-{_CELL}z"
        for week, number in enumerate(weekly[:weeks])
        if number
    ]
    return Chart(
        width=max(_LEFT + weeks * _PITCH, 260),
        height=base + 2,
        shapes=[Shape(look, "".join(parts)) for look, parts in (*paths.items(), ("volume", bars)) if parts],
        beside=[Label(_LEFT - 6, _TOP + row * _PITCH + 9, name) for row, name in ((0, "Mon"), (2, "Wed"), (4, "Fri"))],
        along=_months(first, before, len(found)),
    )


def weekly_sums(daily: Mapping[date, int], first: date, days: int) -> list[int]:
    """The sums of calendar weeks, beginning with the one of `first`."""
    before = first.weekday()
    sums = [0] * ((before + days + _WEEK - 1) // _WEEK)
    for ordinal in range(days):
        sums[(before + ordinal) // _WEEK] += daily.get(first + timedelta(days=ordinal), 0)
    return sums


@dataclass(frozen=True, slots=True)
class Series:
    """One colour of a chart of bars: a number for each of them."""

    look: str
    numbers: Sequence[int]


def bars(
    series: Sequence[Series], marks: Sequence[tuple[int, str]], *, height: int, unit: int = 1, name: str = ""
) -> Chart:
    """Bars that stand on one another; `marks` name some of them by their ordinal. The axis counts in `unit`s."""
    length = max((len(each.numbers) for each in series), default=0)
    sums = [sum(each.numbers[ordinal] for each in series) for ordinal in range(length)]
    top, step = _axis(max(sums, default=0) / unit)
    pitch = (WIDTH - _AXIS) / max(length, 1)
    thick = max(pitch - (1 if pitch > 4 else 0.2), 0.5)  # noqa: PLR2004 - thin bars need no gap
    base, tall = height - 18, height - 18 - 10
    heights = [0.0] * length
    shapes: list[Shape] = []
    for each in series:
        parts: list[str] = []
        for ordinal, number in enumerate(each.numbers):
            if number > 0:
                high = max(number / unit / top * tall, 0.75)
                x, y = _AXIS + ordinal * pitch, base - heights[ordinal]
                parts.append(f"M{_short(x)} {_short(y)}h{_short(thick)}v-{_short(high)}h-{_short(thick)}z")
                heights[ordinal] += high
        if parts:
            shapes.append(Shape(each.look, "".join(parts)))
    ticks = [step * ordinal for ordinal in range(round(top / step) + 1)]
    levels = [(tick, base - tick / top * tall) for tick in ticks]
    return Chart(
        width=WIDTH,
        height=height,
        shapes=shapes,
        beside=[Label(_AXIS - 6, y + 4, _tick(tick, step, name)) for tick, y in levels],
        along=[Label(_AXIS + ordinal * pitch, height - 4, text) for ordinal, text in marks],
        lines="".join(f"M{_AXIS} {_short(y)}H{WIDTH}" for _, y in levels),
    )


def shares(numbers: Sequence[tuple[str, int]], *, width: int = WIDTH, height: int = 18) -> Chart:
    """One bar whose parts are shares of a whole; a small one is still seen."""
    whole = sum(number for _, number in numbers)
    present = [(look, number) for look, number in numbers if number > 0]
    room = width - 4 * len(present)
    shapes, x = [], 0.0
    for look, number in present:
        wide = 3 + room * number / whole
        shapes.append(Shape(look, f"M{_short(x)} 0h{_short(wide)}v{height}h-{_short(wide)}z"))
        x += wide + 1
    return Chart(width=width, height=height, shapes=shapes, beside=[], along=[])


def month_marks(first: date, days: int, *, most: int = 14) -> list[tuple[int, str]]:
    """The days on which months begin, by their ordinal, few enough to be read; January with its year."""
    found = [
        (ordinal, f"{day:%b} {day.year}" if day.month == 1 else f"{day:%b}")
        for ordinal in range(days)
        if (day := first + timedelta(days=ordinal)).day == 1
    ]
    if len(found) > most:
        years = [(ordinal, text[4:]) for ordinal, text in found if len(text) > 3]  # noqa: PLR2004 - "Jan"
        found = years[:: math.ceil(len(years) / most) or 1]
    return found


def _months(first: date, before: int, days: int) -> list[Label]:
    labels: list[Label] = []
    for ordinal, text in month_marks(first, days, most=days):
        x = _LEFT + (before + ordinal) // _WEEK * _PITCH
        if not labels or x - labels[-1].x >= 7 * len(labels[-1].text) + 6:
            labels.append(Label(x, _TOP - 6, text))
    return labels


def _axis(most: float) -> tuple[float, float]:
    """The axis' end and its step: a round number that goes into it two to five times."""
    if most <= 0:
        return 1.0, 1.0
    rough = most / 4
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if magnitude * factor >= rough)
    if most < 4:  # noqa: PLR2004 - nobody counts in halves of a recording
        step = max(step, 1.0) if most >= 1 else step
    return math.ceil(most / step) * step, step


def _tick(tick: float, step: float, name: str) -> str:
    text = f"{tick:,.0f}" if step == int(step) else f"{tick:,.2f}".rstrip("0").rstrip(".")
    return f"{text} {name}" if name and tick else text


def _tall(number: int, most: int, room: int) -> str:
    return _short(max(number / most * room, 1))


def _short(number: float) -> str:
    return f"{number:.2f}".rstrip("0").rstrip(".")
