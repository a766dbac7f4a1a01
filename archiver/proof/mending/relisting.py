"""Metadata of single recordings, listed again around the time of their calls."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from archiver.pbx import listing
from archiver.pbx.base import Pbx
from archiver.recording import Recording
from archiver.window import Window

_MARGIN = timedelta(minutes=5)
_NEAR = timedelta(hours=1)
_LONGEST = timedelta(hours=24)


def times_of(known: Recording) -> tuple[datetime, ...]:
    """When the PBX may have filed a recording: when it started and when it was saved; none when nobody knows."""
    return tuple(at for at in (known.start_at, known.saved_at) if at is not None)


def window_of(times: Sequence[datetime]) -> Window:
    """A window that lists a recording, whichever of its times the PBX goes by; it touches the month of each.

    Times that can't belong together are not listed over: the later one, when it was saved, must do then.
    """
    first, last = min(times), max(times)
    if last - first > _LONGEST:
        first = last
    return Window((first - _MARGIN).replace(microsecond=0), (last + _MARGIN).replace(microsecond=0))


def together(one: Window, other: Window) -> Window | None:
    """One window instead of two that lie close together, the earlier one first; None when they don't."""
    if other.start_at - one.end_at > _NEAR or other.end_at - one.start_at > _LONGEST:
        return None
    return Window(min(one.start_at, other.start_at), max(one.end_at, other.end_at))


async def listed(
    pbx: Pbx, account_id: str, window: Window, recording_ids: frozenset[str], *, page_size: int
) -> Mapping[str, Recording]:
    """What the PBX lists now of these recordings; who is not in it is not listed any more.

    Raises:
        PbxError: the listing could not be had, or not be proved whole before all were found.
    """
    found: dict[str, Recording] = {}
    walk = listing.recordings(pbx, account_id, page_size=page_size)
    async for page in walk.pages(window):
        found.update((row.recording_id, row) for row in page.rows if row.recording_id in recording_ids)
        if len(found) == len(recording_ids):
            break
    return found
