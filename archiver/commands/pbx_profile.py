"""What `doctor --write-profile` keeps of a PBX beside the ledger: compared by the next `doctor`, a hint for each run."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from archiver.check import Check, failed
from archiver.errors import StoreError
from archiver.pbx.base import Access
from archiver.proof.examination.behaviours import Behaviour
from archiver.proof.examination.profile import Profile, changes, hints_of, read_profile, written_profile
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.profile_file import PROFILE_NAME, keep_profile, kept_profile

_ANEW = "`archiver doctor --write-profile` makes it anew"


def with_hints(reach: Access, folder: ArchiveFolder) -> tuple[Access, tuple[str, ...]]:
    """How a run reaches the PBX, beginning with what was learnt of it; and notes for its report.

    Nothing rests on a hint: see `proof.examination.profile`. A profile that can't be read is none.
    """
    profile, note = _read(folder, reach.base_url)
    hints = hints_of(profile)
    hinted = replace(
        reach,
        recording_path=hints.recording_path(reach.recording_path),
        page_size=hints.page_size(reach.page_size),
    )
    return hinted, (f"{note}; {_ANEW}",) if note else ()


def profile_checks(
    root: Path, base_url: str, behaviours: Sequence[Behaviour], *, write: bool, at: datetime
) -> tuple[Check, ...]:
    """What changed since the profile was written, and the writing of a new one; nothing where neither is the case."""
    if not behaviours:
        said = "not written: the PBX could not be looked at"
        return (Check("profile", "weak", said, "mend what failed, then do it again"),) if write else ()
    try:
        folder = ArchiveFolder(root, durable=True, make=False)
    except StoreError as error:
        return (failed("profile", error),) if write else ()
    try:
        former, note = _read(folder, base_url)
        if write:
            keep_profile(folder, written_profile(former, behaviours, base_url=base_url, learned_at=at))
    except StoreError as error:
        return (failed("profile", error),)
    finally:
        folder.close()
    return _said(former, note, behaviours, written=f"{root}/.archiver/{PROFILE_NAME}" if write else "")


def _said(former: Profile | None, note: str, behaviours: Sequence[Behaviour], *, written: str) -> tuple[Check, ...]:
    done = f"; saved in {written}" if written else ""
    if former is None:
        if note:
            return (Check("profile", "weak", note + done, "" if written else _ANEW),)
        return (Check("profile", "ok", f"what was learnt is saved in {written}"),) if written else ()
    since = f"{former.learned_at:%Y-%m-%d}"
    if changed := changes(former, behaviours):
        said = f"since {since} this PBX changed: {'; '.join(changed)}"
        return (Check("profile", "weak", said + done, "" if written else f"if that is meant to be so, {_ANEW}"),)
    return (Check("profile", "ok", f"the PBX behaves as on {since}{done}"),)


def _read(folder: ArchiveFolder, base_url: str) -> tuple[Profile | None, str]:
    try:
        data = kept_profile(folder)
    except StoreError as error:
        return None, f"{PROFILE_NAME} is passed over: {error}"
    return read_profile(data, base_url=base_url)
