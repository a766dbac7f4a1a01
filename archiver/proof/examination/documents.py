"""How the PBX writes its documents: recordings' metadata, and CDRs with their own listing."""

from datetime import timedelta

from archiver.pbx.probe import PageLook, PageSeen, Question
from archiver.proof.examination.behaviours import Behaviour, Name, untold
from archiver.proof.examination.scene import Scene
from archiver.proof.examination.times import NO_ROWS
from archiver.window import Window

_DAYS = 7
_PLACES = {
    "top": "beside the rows",
    "in_data": "as an element after the rows",
    "both": "beside the rows and after them",
}
_CLOCKS = {"gregorian": "Gregorian seconds", "unix": "Unix seconds", "ms": "Unix milliseconds"}


async def numbers(scene: Scene) -> Behaviour:
    """Whether numbers in recordings' metadata are numbers."""
    return _numbers(Name.NUMBERS, "recordings", scene.sample.page.look) if scene.rows else untold(Name.NUMBERS, NO_ROWS)


async def attachments(scene: Scene) -> Behaviour:
    """How many attachments the metadata have."""
    counts = scene.sample.page.look.attachments
    if not counts:
        return untold(Name.ATTACHMENTS, NO_ROWS)
    without = counts.count(0)
    if without == len(counts):
        found = "recordings are listed without attachments: their length is not known before they are fetched"
        advice = "nothing to set: only the framing of the transfer tells then that a recording is whole"
        return Behaviour(Name.ATTACHMENTS, "none", found, "weak", advice)
    said = f"; {without} of {len(counts)} have none (yet)" if without else ""
    if max(counts) > 1:
        return Behaviour(Name.ATTACHMENTS, "several", f"recordings have up to {max(counts)} attachments each{said}")
    return Behaviour(Name.ATTACHMENTS, "one", f"recordings have one attachment each{said}")


async def digest(scene: Scene) -> Behaviour:
    """Whether the metadata have a digest of the media."""
    look = scene.sample.page.look
    if not any(look.attachments):
        return untold(Name.DIGEST, "no attachment is listed" if scene.rows else NO_ROWS)
    if look.digests:
        return Behaviour(Name.DIGEST, "md5", f"{look.digests} of {len(look.attachments)} recordings have a digest")
    return Behaviour(Name.DIGEST, "empty", "no recording has a digest: the length alone can be compared")


async def cdr_behaviours(scene: Scene) -> list[Behaviour]:
    """One page of CDRs with a single row: whether it may be read, where its cursor stands, how it is written."""
    names = (Name.CDRS, Name.CDRS_CURSOR, Name.CDR_NUMBERS, Name.CDR_TIMESTAMP)
    page = PageSeen()

    async def first(scene: Scene) -> Behaviour:
        nonlocal page
        window = scene.sample.window
        if not scene.rows:
            window = Window(scene.now - timedelta(days=_DAYS), scene.now)
        page = await scene.probe.cdrs(Question(scene.account_id, window, scene.sample.unit, 1))
        if page.refusal is not None:
            advice = "let this user read CDRs, unless they are none of its business"
            return Behaviour(Name.CDRS, "refused", str(page.refusal), "weak", advice)
        if not page.cdrs:
            return untold(Name.CDRS, "the CDR listing answers, but is empty")
        return Behaviour(Name.CDRS, "listed", "this user may read CDRs")

    found = [await scene.look(Name.CDRS, first)]
    if not page.cdrs:
        return [*found, *(untold(name, "no CDR is listed") for name in names[1:])]
    look, place = page.look, page.look.cursor_place
    if place:
        found.append(Behaviour(Name.CDRS_CURSOR, place, f"the cursor stands {_PLACES[place]}"))
    else:
        found.append(untold(Name.CDRS_CURSOR, "there is only one CDR"))
    found.append(_numbers(Name.CDR_NUMBERS, "CDRs", look))
    if look.clocks:
        said = " and ".join(_CLOCKS[clock] for clock in look.clocks)
        found.append(Behaviour(Name.CDR_TIMESTAMP, " and ".join(look.clocks), f"a CDR's timestamp counts {said}"))
    else:
        found.append(untold(Name.CDR_TIMESTAMP, "a CDR's timestamp is no number"))
    return found


def _numbers(name: Name, of: str, look: PageLook) -> Behaviour:
    if not look.numbers:
        return untold(name, f"no number is in the {of}")
    said = {"number": "numbers", "text": "texts"}
    words = " and ".join(said[kind] for kind in look.numbers)
    return Behaviour(name, " and ".join(look.numbers), f"numbers in {of} are sent as {words}")
