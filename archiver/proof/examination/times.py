"""How the PBX understands time: the unit, which of a recording's times the filter goes by, its end, a month's edge."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from archiver.errors import ExitCode
from archiver.pbx.probe import Unit
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.scene import SECOND, Scene
from archiver.recording import Recording
from archiver.window import Window

NO_ROWS = "no recording is listed in the last four weeks"
_APART = 2 * SECOND
_LONG_AGO = datetime(2001, 9, 9, 2, tzinfo=UTC)
"""Before any of these systems; later than a billion seconds, so that milliseconds look like such."""
_MINUTE = timedelta(minutes=1)
_WORDS = {"s": "seconds", "ms": "milliseconds"}


@dataclass(frozen=True, slots=True)
class Dated:
    """A recording with both of its times."""

    recording: Recording
    start_at: datetime
    saved_at: datetime

    def at(self, time_field: str) -> datetime:
        """The time that the filter goes by."""
        return self.start_at if time_field == "start" else self.saved_at


def dated(rows: Iterable[Recording]) -> list[Dated]:
    """Those recordings that have both times."""
    return [
        Dated(row, row.start_at, row.saved_at) for row in rows if row.start_at is not None and row.saved_at is not None
    ]


async def time_unit(scene: Scene) -> Behaviour:
    """Which unit startDate and endDate are read in: the one that gave rows, or both."""
    wanted, unit = scene.expected.unit, scene.sample.unit
    if not scene.rows:
        return untold(Name.TIME_UNIT, f"{NO_ROWS}, in seconds or in milliseconds")
    if unit != wanted:
        found = f"startDate and endDate are read as {_WORDS[unit]}; in {_WORDS[wanted]} nothing is listed"
        advice = f'pbx.time_unit = "{unit}"'
        return Behaviour(Name.TIME_UNIT, unit, found, "failed", advice, ExitCode.USAGE)
    other: Unit = "ms" if unit == "s" else "s"
    page = await scene.ask(scene.sample.window, unit=other)
    known = {row.recording_id for row in scene.rows}
    if any(row.recording_id in known for row in page.recordings):
        return Behaviour(Name.TIME_UNIT, "either", "seconds and milliseconds are told apart by size")
    return Behaviour(Name.TIME_UNIT, unit, f"startDate and endDate are read as {_WORDS[unit]}, as set")


async def time_field(scene: Scene) -> Behaviour:
    """Which time the filter goes by: a recording is looked for in windows that hold only one of its times."""
    row = _telling(scene.rows)
    if row is None:
        why = "no recording is listed whose call began two seconds or more before it was saved"
        return untold(Name.TIME_FIELD, why if scene.rows else NO_ROWS)
    by_start = await _shows(scene, Window(row.start_at, row.saved_at - SECOND), row)
    by_saved = await _shows(scene, Window(row.start_at + SECOND, row.saved_at + SECOND), row)
    match by_start, by_saved:
        case True, False:
            return Behaviour(Name.TIME_FIELD, "start", "listings are filtered by the start of the call")
        case False, True:
            said = "listings are filtered by when the recording was saved (pvt_created)"
            return Behaviour(Name.TIME_FIELD, "pvt_created", said)
        case True, True:
            said = "a recording is listed by either of its times"
            return Behaviour(Name.TIME_FIELD, "either", said)
        case _:
            return untold(Name.TIME_FIELD, "a recording that is there was listed by neither of its times")


async def end_bound(scene: Scene, field: str) -> Behaviour:
    """Whether a recording exactly at endDate is listed."""
    row = _telling(scene.rows)
    if row is None or field not in {"start", "pvt_created"}:
        return untold(Name.END_BOUND, "which time the filter goes by is not known" if scene.rows else NO_ROWS)
    at = row.at(field)
    shown = await _shows(scene, Window(at - _MINUTE, at), row)
    if shown is None:
        return untold(Name.END_BOUND, "the minute before it holds more recordings than a page")
    word = "inclusive" if shown else "exclusive"
    return Behaviour(Name.END_BOUND, word, f"a recording exactly at endDate is {'listed' if shown else 'not listed'}")


async def empty_page(scene: Scene) -> Behaviour:
    """What a page without rows looks like: an hour of 2001 has none, unless the filter is passed over."""
    page = await scene.ask(Window(_LONG_AGO, _LONG_AGO + timedelta(hours=1)))
    if page.refusal is not None:
        return untold(Name.EMPTY_PAGE, str(page.refusal))
    if page.recordings:
        found = "recordings came for an hour of the year 2001: this PBX passes over startDate and endDate"
        return Behaviour(Name.EMPTY_PAGE, "", found, "weak", "ask whoever runs the PBX for the names of its parameters")
    said = "null" if page.look.empty == "null" else "an empty list"
    return Behaviour(Name.EMPTY_PAGE, page.look.empty, f"a page without recordings holds {said}")


async def month_edges(scene: Scene, field: str) -> Behaviour:
    """Whether a call over a month's end is listed by a window that begins after it."""
    name = Name.MONTH_EDGES
    over = next((row for row in dated(scene.rows) if _month(row.start_at) != _month(row.saved_at)), None)
    if over is None:
        return untold(name, "no call over a month's end (UTC) is among those listed" if scene.rows else NO_ROWS)
    if field != "pvt_created":
        return untold(name, "only a filter by the time of saving could show it")
    edge = over.saved_at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    shown = await _shows(scene, Window(max(edge, over.saved_at - _MINUTE), over.saved_at + SECOND), over)
    if shown is None:
        return untold(name, "the minute before the call's end holds more recordings than a page")
    if shown:
        return Behaviour(name, "shown", "a call over a month's end is listed by a window that begins after it, too")
    return Behaviour(name, "hidden", "a call over a month's end is listed only by a window over it")


def _telling(rows: Iterable[Recording]) -> Dated | None:
    """The shortest call whose times can be told apart, and that no month's edge hides."""
    apart = (row for row in dated(rows) if row.saved_at - row.start_at >= _APART)
    within = (row for row in apart if _month(row.start_at - _MINUTE) == _month(row.saved_at + _MINUTE))
    return min(within, key=lambda row: row.saved_at - row.start_at, default=None)


async def _shows(scene: Scene, window: Window, row: Dated) -> bool | None:
    """Whether a window lists a recording; None when its page does not tell."""
    page = await scene.ask(window)
    if any(found.recording_id == row.recording.recording_id for found in page.recordings):
        return True
    return None if page.refusal is not None or page.cursor is not None else False


def _month(at: datetime) -> tuple[int, int]:
    return at.year, at.month
