"""What the audit trail says of an export: ids, keys, counts, and what somebody gave as case, reference and name."""

from collections.abc import Iterator

from archiver.proof.evidence.audit import Details, Draft, What, plain, stamp
from archiver.proof.export.bagging import Bag
from archiver.proof.export.letter import Asked

NOTHING = "nothing"
HANDED_OUT = "handed_out"
NOT_HANDED_OUT = "not_handed_out"


def exported(asked: Asked, bag: Bag, name: str, *, recordings: int, result: str = HANDED_OUT) -> Iterator[Draft]:
    """The export, then each object: `copied`, or the kind of finding that kept it out of the bag.

    The latter have the manifest's digest, as the export's own record does, but not the case: a later bag with these
    lines must not tell its reader of another case.
    """
    details = _details(
        asked,
        objects=len(bag.media),
        listed=recordings,
        bytes=sum(each.version.fixity.size_bytes for each in bag.media if each.version is not None),
        findings=len(bag.findings),
        sha256=bag.manifest_sha256,
    )
    yield Draft(What.EXPORTED, name, result, details)
    if result != HANDED_OUT:
        return
    of_bag = Details(sha256=bag.manifest_sha256)
    for each in bag.handed:
        if each.version is not None:
            wrong = next((found.kind.value for found in each.findings if found.key == each.version.key), "")
            yield Draft(What.EXPORTED, each.version.key, wrong or "copied", of_bag)


def nothing_exported(asked: Asked) -> Draft:
    """The archive was searched, and nothing fits."""
    return Draft(What.EXPORTED, "", NOTHING, _details(asked, objects=0))


def _details(asked: Asked, **counts: int | str) -> Details:
    sought = asked.conditions.sought
    return Details(
        since=stamp(sought.period.start_at) if sought.period else None,
        until=stamp(sought.period.end_at) if sought.period else None,
        accounts=tuple(map(plain, sought.account_ids)),
        case=plain(asked.case),
        reference=plain(asked.reference) or None,
        by=plain(asked.by),
        **counts,  # type: ignore[arg-type]
    )
