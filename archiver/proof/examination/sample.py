"""Finds recordings to ask about, on few pages: in the configured unit, then in the other; smaller ones if refused."""

from dataclasses import replace
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
    found = await _in_unit(probe, expected, expected.unit, min(PAGE, expected.page_size), now)
    if _holds_any(found) or found.page.refusal is not None:
        return found
    other: Unit = "ms" if expected.unit == "s" else "s"
    odd = await _in_unit(probe, expected, other, found.page_size, now)
    return odd if _holds_fitting(odd) else found


async def _in_unit(probe: Probe, expected: Expected, unit: Unit, page_size: int, now: datetime) -> Sample:
    account_id = expected.account_ids[0]
    latest: Sample | None = None
    for days in _DAYS:
        window = Window(now - timedelta(days=days), now)
        page = await probe.recordings(Question(account_id, window, unit, page_size))
        found = Sample(unit, window, page_size, page)
        if page.refusal is not None:
            # A longer window may be too long: then what the shorter ones showed stands.
            return latest or (await _smaller(probe, account_id, found) if unit == expected.unit else found)
        if _holds_any(found):
            return found
        latest = found
    if latest is None:
        raise AssertionError("at least one page was asked for")
    return latest


async def _smaller(probe: Probe, account_id: str, refused: Sample) -> Sample:
    """A page with fewer rows, or over hours, that is not refused; else the one that was."""

    async def asked(sample: Sample) -> Sample:
        page = await probe.recordings(Question(account_id, sample.window, sample.unit, sample.page_size))
        return replace(sample, page=page)

    error = refused.page.refusal
    if not isinstance(error, RequestRefused) or error.http_status not in _ABOUT_PARAMETERS:
        return refused
    one = await asked(replace(refused, page_size=_SIZES[0]))
    if one.page.refusal is None:
        for size in _SIZES[1:]:
            if size < refused.page_size:
                found = await asked(replace(refused, page_size=size))
                if found.page.refusal is None:
                    return found
        return one
    for hours in _HOURS:
        end_at = refused.window.end_at
        found = await asked(replace(refused, window=Window(end_at - timedelta(hours=hours), end_at)))
        if found.page.refusal is None:
            return found
    return refused


def _holds_fitting(sample: Sample) -> bool:
    """Whether a row lies in the window, about: a PBX that passes over times it does not understand lists any."""
    within = Window(sample.window.start_at - _DAY, sample.window.end_at + _DAY)
    return any(at is not None and at in within for row in sample.page.recordings for at in (row.start_at, row.saved_at))


def _holds_any(sample: Sample) -> bool:
    return bool(sample.page.recordings or sample.page.unreadable)
