"""Finds recordings to ask about, on few pages: in the configured unit, then in the other; smaller ones if refused."""

from datetime import datetime, timedelta

from archiver.errors import RequestRefused
from archiver.pbx.probe import Probe, Question, Unit
from archiver.proof.examination.scene import PAGE, Expected, Sample
from archiver.window import Window

_DAYS = (1, 7, 28)
"""The last day; on a quiet one the last week, then the last four."""
_SIZES = (1, 100, 50, 20, 10, 5, 2)
"""A page of one row tells whether it is the size that is refused."""
_HOURS = (12, 6, 1)
_DAY = timedelta(days=1)
_ABOUT_PARAMETERS = frozenset({400, 413, 414, 422})


async def take_sample(probe: Probe, expected: Expected, *, now: datetime) -> Sample:
    """Look for recordings of the first account; without any, the page in the configured unit that came last.

    Raises:
        PbxError.
    """
    account_id, unit, size = expected.account_ids[0], expected.unit, min(PAGE, expected.page_size)
    found = await _in_unit(probe, account_id, unit, size, now)
    if _holds_any(found):
        return found
    error = found.page.refusal
    about_parameters = isinstance(error, RequestRefused) and error.http_status in _ABOUT_PARAMETERS
    if error is None or about_parameters:
        other: Unit = "ms" if unit == "s" else "s"
        odd = await _in_unit(probe, account_id, other, size, now)
        if _holds_fitting(odd):
            return odd
    return await _smaller(probe, account_id, found, now) if about_parameters else found


async def _in_unit(probe: Probe, account_id: str, unit: Unit, page_size: int, now: datetime) -> Sample:
    latest: Sample | None = None
    for days in _DAYS:
        window = Window(now - timedelta(days=days), now)
        found = await _asked(probe, account_id, unit, page_size, window)
        if found.page.refusal is not None:
            # A longer window may be too long: then what the shorter ones showed stands.
            return latest or found
        latest = found
        if _holds_any(found):
            break
    if latest is None:
        raise AssertionError("at least one page was asked for")
    return latest


async def _smaller(probe: Probe, account_id: str, refused: Sample, now: datetime) -> Sample:
    """Pages with fewer rows, or one over hours, that are not refused; else the one that was."""
    unit, window = refused.unit, refused.window
    one = await _asked(probe, account_id, unit, _SIZES[0], window)
    if one.page.refusal is None:
        for size in (size for size in _SIZES[1:] if size < refused.page_size):
            found = await _asked(probe, account_id, unit, size, window)
            if found.page.refusal is None:
                return found if _holds_any(found) else await _in_unit(probe, account_id, unit, size, now)
        return one
    for hours in _HOURS:
        shorter = Window(window.end_at - timedelta(hours=hours), window.end_at)
        found = await _asked(probe, account_id, unit, refused.page_size, shorter)
        if found.page.refusal is None:
            return found
    return refused


async def _asked(probe: Probe, account_id: str, unit: Unit, page_size: int, window: Window) -> Sample:
    page = await probe.recordings(Question(account_id, window, unit, page_size))
    return Sample(unit, window, page_size, page)


def _holds_fitting(sample: Sample) -> bool:
    """Whether a row lies in the window, about: a PBX that passes over times it does not understand lists any."""
    within = Window(sample.window.start_at - _DAY, sample.window.end_at + _DAY)
    return any(at is not None and at in within for row in sample.page.recordings for at in (row.start_at, row.saved_at))


def _holds_any(sample: Sample) -> bool:
    return bool(sample.page.recordings or sample.page.unreadable)
