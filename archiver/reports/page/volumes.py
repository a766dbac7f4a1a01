"""Volumes over time: all accounts together, by day where there is room and by weeks or months where there is not."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from archiver.ledger.values_reporting import DayVolume
from archiver.recording import Status
from archiver.reports.page.charts import Chart, Series, bars, month_marks
from archiver.reports.page.values import Period
from archiver.reports.page.wording import counted, on, size

_MOST_BARS = 420
_MOST_DAY_ROWS = 420
_WEEK, _MONTH = 7, 30
LOOKS: tuple[tuple[str, str, tuple[Status, ...]], ...] = (
    ("archived", "archived", (Status.ARCHIVED,)),
    ("waiting", "waiting or in quarantine", (Status.PENDING, Status.QUARANTINED)),
    ("missing", "missing at the PBX", (Status.MISSING,)),
    ("expired", "removed by retention", (Status.EXPIRED,)),
)
"""The colours of statuses, what they are called, and which they are."""
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000))


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """A day or a month in numbers: recordings in the order of `LOOKS`, and archived bytes."""

    label: str
    numbers: Sequence[int]
    size: str


@dataclass(frozen=True, slots=True)
class Volumes:
    """The two charts with what they show in words, and the rows for those who want the numbers."""

    each: str
    recordings: Chart
    recordings_words: str
    sizes: Chart
    sizes_words: str
    months: Sequence[VolumeRow]
    days: Sequence[VolumeRow]
    undated: int


def volumes(found: Sequence[DayVolume], period: Period) -> Volumes:
    """The volumes of a period."""
    numbers: defaultdict[date, Counter[str]] = defaultdict(Counter)
    look_of = {status: look for look, _, statuses in LOOKS for status in statuses}
    for volume in found:
        if volume.day is not None and period.since <= volume.day < period.until:
            numbers[volume.day][look_of[volume.status]] += volume.recordings
            numbers[volume.day]["bytes"] += volume.bytes if volume.status is Status.ARCHIVED else 0
    wide = 1 if period.days <= _MOST_BARS else _WEEK if period.days <= _MOST_BARS * _WEEK else _MONTH
    count = -(-period.days // wide)
    sums: dict[str, list[int]] = {look: [0] * count for look in (*(look for look, _, _ in LOOKS), "bytes")}
    for day, found_on in numbers.items():
        for look, number in found_on.items():
            sums[look][(day - period.since).days // wide] += number
    marks = [(ordinal // wide, text) for ordinal, text in month_marks(period.since, period.days)]
    name, unit = next(((name, unit) for name, unit in _UNITS if max(sums["bytes"], default=0) >= unit), ("kB", 1000))
    each = {1: "day", _WEEK: "week", _MONTH: "30 days"}[wide]
    total = {look: sum(numbers) for look, numbers in sums.items()}
    said = ", ".join(f"{total[look]:,} {meaning}" for look, meaning, _ in LOOKS if total[look])
    return Volumes(
        each=each,
        recordings=bars([Series(look, sums[look]) for look, _, _ in LOOKS], marks, height=190),
        recordings_words=f"Recordings per {each}: {said or 'none'}. {_busiest(sums, period, wide, each)}",
        sizes=bars([Series("archived", sums["bytes"])], marks, height=130, unit=unit, name=name),
        sizes_words=f"Archived per {each}, {size(total['bytes'])} in all.",
        months=_by_month(numbers),
        days=[_row(on(day), numbers[day]) for day in sorted(numbers, reverse=True)]
        if len(numbers) <= _MOST_DAY_ROWS
        else [],
        undated=sum(volume.recordings for volume in found if volume.day is None),
    )


def _busiest(sums: dict[str, list[int]], period: Period, wide: int, each: str) -> str:
    totals = [sum(numbers) for numbers in zip(*(sums[look] for look, _, _ in LOOKS), strict=True)]
    most = max(totals, default=0)
    if not most:
        return ""
    day = period.since + timedelta(days=totals.index(most) * wide)
    return f"The busiest {each} began on {on(day)}, with {counted(most, 'recording')}."


def _by_month(numbers: dict[date, Counter[str]]) -> list[VolumeRow]:
    months: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
    for day, found in numbers.items():
        months[day.year, day.month].update(found)
    return [_row(f"{date(*span, 1):%b} {span[0]}", months[span]) for span in sorted(months, reverse=True)]


def _row(label: str, found: Counter[str]) -> VolumeRow:
    return VolumeRow(label, [found[look] for look, _, _ in LOOKS], size(found["bytes"]))
