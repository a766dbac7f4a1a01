"""How the PBX hands out a listing's pages: order, cursor, and how the end looks."""

from collections.abc import Sequence
from datetime import datetime

from archiver.pbx.payloads import instant
from archiver.pbx.probe import PageSeen
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.scene import INSTANT, SECOND, Scene
from archiver.proof.examination.times import NO_ROWS, dated
from archiver.window import Window

_PLACES = {
    "top": "beside the rows",
    "in_data": "as an element after the rows",
    "both": "beside the rows and after them",
}
_ENDS = {"absent": "without a cursor", "null": "with a cursor that is null", "empty": "with an empty cursor"}
_FEW = "too few recordings are listed (two are needed)"


async def order(scene: Scene, field: str) -> Behaviour:
    """In which order rows come, by the time that the filter goes by, else by either."""
    rows = dated(scene.rows)
    fields = (field,) if field in {"start", "pvt_created"} else ("pvt_created", "start")
    for one in fields:
        times = [row.at(one) for row in rows]
        if len(set(times)) > 1:
            if times == sorted(times):
                return Behaviour(Name.ORDER, "ascending", "the oldest recordings come first")
            if times == sorted(times, reverse=True):
                return Behaviour(Name.ORDER, "descending", "the newest recordings come first")
    if len(rows) > 1 and len({row.saved_at for row in rows}) > 1:
        return Behaviour(Name.ORDER, "mixed", "recordings come in no order of their times")
    return untold(Name.ORDER, _FEW)


async def cursor(scene: Scene, field: str, *, end_inclusive: bool) -> Behaviour:
    """Where the next page begins: two pages of one row each, within one second if there is one with several."""
    if len(scene.rows) < 2:  # noqa: PLR2004 - what a page's edge can lie between
        return untold(Name.CURSOR, _FEW)
    crowded = _crowded_second(scene, field)
    window = scene.sample.window
    if crowded is not None:
        window = Window(crowded, crowded + (INSTANT if end_inclusive else SECOND))
    first = await scene.ask(window, page_size=1)
    if first.refusal is not None or not first.recordings:
        return untold(Name.CURSOR, str(first.refusal) if first.refusal else "a page of one row was empty")
    if first.cursor is None:
        found = f"a page of {len(first.recordings)} came without a cursor, though there are more recordings"
        return Behaviour(
            Name.CURSOR, "forgotten", found, "weak", "nothing to set: a run cuts such windows until they fit a page"
        )
    second = await scene.ask(window, page_size=1, cursor=first.cursor)
    return _told(first, second, field, crowded=crowded is not None)


def _told(first: PageSeen, second: PageSeen, field: str, *, crowded: bool) -> Behaviour:
    last = first.recordings[-1]
    names_at = instant(first.cursor)
    times = {last.saved_at, last.start_at}
    if field in {"start", "pvt_created"}:
        times = {last.start_at if field == "start" else last.saved_at}
    again = {row.recording_id for row in first.recordings} & {row.recording_id for row in second.recordings}
    if second.refusal is not None:
        return untold(Name.CURSOR, str(second.refusal))
    if names_at is None:
        return Behaviour(Name.CURSOR, "exact", "it is no bare second, and the next page begins at the next row")
    if again:
        return Behaviour(Name.CURSOR, "inclusive", "it is a second, and the next page begins with all rows of it again")
    if names_at in times:
        found = "it is the second of the last row, and the next page begins after that second"
        if crowded:
            found += ": rows of a second that a page's edge cuts are left out"
        return Behaviour(Name.CURSOR, "exclusive", found)
    why = "it is the second of the next row (inclusive or exact); no second with two recordings was there to tell which"
    return untold(Name.CURSOR, why)


def _crowded_second(scene: Scene, field: str) -> datetime | None:
    """A second with several recordings, by the time that the filter goes by."""
    if field not in {"start", "pvt_created"}:
        return None
    times = [row.at(field) for row in dated(scene.rows)]
    return next((at for at in times if times.count(at) > 1), None)


async def recordings_cursor(scene: Scene) -> Behaviour:
    """Where the cursor stands."""
    place = next((page.look.cursor_place for page in _pages(scene) if page.look.cursor_place), "")
    if not place:
        return untold(Name.RECORDINGS_CURSOR, _FEW if scene.rows else NO_ROWS)
    return Behaviour(Name.RECORDINGS_CURSOR, place, f"the cursor stands {_PLACES[place]}")


async def last_cursor(scene: Scene) -> Behaviour:
    """How the last page of a listing says that it is."""
    ends = {page.look.end for page in _pages(scene) if page.recordings and page.look.end}
    if not ends:
        return untold(Name.LAST_CURSOR, "no last page with recordings was met" if scene.rows else NO_ROWS)
    said = " or ".join(_ENDS[end] for end in sorted(ends))
    return Behaviour(Name.LAST_CURSOR, " or ".join(sorted(ends)), f"a listing ends {said}")


def _pages(scene: Scene) -> Sequence[PageSeen]:
    return [scene.sample.page, *scene.pages]
