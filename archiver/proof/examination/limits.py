"""How much the PBX gives at once: rows on a page, and time in a query."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from archiver.pbx.probe import PageSeen
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.scene import SECOND, Scene
from archiver.proof.examination.times import NO_ROWS, Dated, dated
from archiver.window import Window

_LARGEST_PAGE = 10_000
"""The largest that a run ever asks for, when a second is crowded."""
_SIZES = (5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1)
_LONG = timedelta(days=45)
_NOT_SHOWN = "a recording that is there was not met on the pages that were asked for"
_WINDOW_HOURS = (336, 168, 96, 48, 24, 12, 6, 3, 1)

Reach = Literal["whole", "clamped", "refused", ""]


async def page_behaviours(scene: Scene) -> list[Behaviour]:
    """The largest page, and what becomes of one that is larger."""
    over = ""

    async def over_cap(scene: Scene) -> Behaviour:
        nonlocal over
        page = await scene.ask(scene.tiny, page_size=_LARGEST_PAGE)
        if page.refusal is None:
            return untold(Name.OVER_CAP, "no page was met that was cut to fewer rows")
        over = "refuse"
        return Behaviour(Name.OVER_CAP, over, f"a page of {_LARGEST_PAGE:,} rows is refused: {page.refusal}")

    async def cap(scene: Scene) -> Behaviour:
        return await (_refused_cap(scene) if over else _clamped_cap(scene))

    refused = await scene.look(Name.OVER_CAP, over_cap)
    found = await scene.look(Name.PAGE_CAP, cap)
    if not over and found.seen:
        refused = Behaviour(Name.OVER_CAP, "clamp", "larger pages come with fewer rows, and are not refused")
    return [found, refused]


async def _refused_cap(scene: Scene) -> Behaviour:
    wanted = scene.expected.page_size
    if not await _refuses(scene, wanted):
        return untold(Name.PAGE_CAP, f"pages of {wanted:,} rows (pbx.page_size) are taken, those of 10,000 refused")
    for size in (size for size in _SIZES if size < wanted):
        if size <= scene.sample.page_size or not await _refuses(scene, size):
            found = f"pages of {size:,} rows are taken, and those of {wanted:,} (pbx.page_size) refused"
            return Behaviour(Name.PAGE_CAP, str(size), found, "failed", f"pbx.page_size = {size}")
    return untold(Name.PAGE_CAP, "every page was refused")


async def _refuses(scene: Scene, page_size: int) -> bool:
    return (await scene.ask(scene.tiny, page_size=page_size)).refusal is not None


async def _clamped_cap(scene: Scene) -> Behaviour:
    sample, wanted = scene.sample, scene.expected.page_size
    page, asked = sample.page, sample.page_size
    if page.cursor is not None and len(page.recordings) >= asked and wanted > asked:
        page, asked = await scene.ask(sample.window, page_size=wanted), wanted
    count = len(page.recordings) + page.unreadable
    if page.cursor is not None and count < asked:
        found = f"of {asked:,} rows that were asked for {count:,} come, and a cursor for the others"
        advice = "" if wanted <= count else f"pbx.page_size = {count} (not needed: a run goes on from the cursor)"
        return Behaviour(Name.PAGE_CAP, str(count), found, advice=advice)
    if count >= asked and page.cursor is not None:
        return untold(Name.PAGE_CAP, f"it is not below the {asked:,} rows of pbx.page_size")
    why = f"there were only {count:,} recordings to list, which came on one page" if count else NO_ROWS
    return untold(Name.PAGE_CAP, why)


async def default_page_size(scene: Scene) -> Behaviour:
    """How many rows come without a pageSize."""
    if not scene.rows:
        return untold(Name.DEFAULT_PAGE_SIZE, NO_ROWS)
    page = await scene.ask(scene.sample.window, page_size=None)
    if page.refusal is not None:
        return Behaviour(Name.DEFAULT_PAGE_SIZE, "required", "a listing without pageSize is refused")
    count = len(page.recordings)
    if page.cursor is None:
        return untold(Name.DEFAULT_PAGE_SIZE, f"there were only {count:,} recordings to list")
    return Behaviour(Name.DEFAULT_PAGE_SIZE, str(count), f"without pageSize {count:,} rows come")


@dataclass(frozen=True, slots=True)
class Ways:
    """What is known of how recordings are listed: the time that the filter goes by and the order, "" where unknown."""

    time_field: str
    order: str


async def long_range(scene: Scene, ways: Ways) -> Behaviour:
    """What becomes of a query over more time than such systems give at once (30 or 31 days)."""
    found = await _reach(scene, ways, _LONG)
    said = {
        "refused": f"a query over {_LONG.days} days is refused",
        "clamped": f"of a query over {_LONG.days} days the end is left out, without a word",
        "whole": f"a query over {_LONG.days} days is answered to its end",
    }
    if not found:
        return untold(Name.LONG_RANGE, _NOT_SHOWN if scene.rows else NO_ROWS)
    return Behaviour(Name.LONG_RANGE, found, said[found])


async def longest_query(scene: Scene, ways: Ways) -> Behaviour:
    """Whether the longest query of a run is answered whole."""
    expected = scene.expected
    length = expected.longest_query(expected.window_hours)
    found = await _reach(scene, ways, length)
    if not found:
        return untold(Name.LONGEST_QUERY, _NOT_SHOWN if scene.rows else NO_ROWS)
    hours = _hours(length)
    if found == "whole":
        return Behaviour(Name.LONGEST_QUERY, "whole", f"the longest query of a run, {hours:g} hours, is answered whole")
    done = "refused" if found == "refused" else "cut short without a word"
    said = f"a query over {hours:g} hours, the longest of a run, is {done}"
    for fewer in (fewer for fewer in _WINDOW_HOURS if fewer < expected.window_hours):
        shorter = expected.longest_query(fewer)
        if shorter < length and await _reach(scene, ways, shorter) == "whole":
            said += f"; one over {_hours(shorter):g} hours is answered whole"
            return Behaviour(Name.LONGEST_QUERY, found, said, "failed", f"listing.window_hours = {fewer}")
        length = shorter
    advice = f"ask whoever runs the PBX: over a month's edge a run needs {_hours(length):g} hours at once"
    return Behaviour(Name.LONGEST_QUERY, found, said, "failed", advice)


async def _reach(scene: Scene, ways: Ways, length: timedelta) -> Reach:
    """What becomes of a query of that length which ends just after a recording that is there."""
    rows = dated(scene.rows)
    latest = max(rows, key=lambda row: row.at(ways.time_field), default=None)
    end_at = scene.now if latest is None else latest.at(ways.time_field) + SECOND
    window = Window(end_at - length, end_at)
    page = await scene.ask(window)
    if page.refusal is not None:
        return "refused"
    if latest is None:
        return ""
    if _holds(page, latest):
        return "whole"
    if page.cursor is not None and ways.order == "ascending":
        # Too many rows for one page: go on from just before the recording.
        page = await scene.ask(window, cursor_at=max(latest.at(ways.time_field) - SECOND, window.start_at))
    if _holds(page, latest):
        return "whole"
    ended = page.refusal is None and page.cursor is None and len(page.recordings) < scene.sample.page_size
    return "clamped" if ended and ways.time_field in {"start", "pvt_created"} else ""


def _holds(page: PageSeen, row: Dated) -> bool:
    return any(found.recording_id == row.recording.recording_id for found in page.recordings)


def _hours(length: timedelta) -> float:
    return length.total_seconds() / 3600
