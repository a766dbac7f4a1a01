"""What `doctor --write-profile` saves of a PBX: what was seen of each behaviour, to compare with, and as hints for a run.

A hint can't make anything wrong: a run that begins with the form of the media's address that worked still tries the
other one, and smaller pages are more pages of the same listing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from archiver.proof.examination.behaviours import Behaviour, Name

SCHEMA = 1
_PASSING = frozenset({Name.SPEED, Name.RATE_LIMIT})
"""They are never twice the same, or only met by chance."""
_CONFIGURED = frozenset({Name.LONGEST_QUERY, Name.OTHER_ACCOUNTS})
"""They depend on the settings, too."""


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one behaviour, and when last."""

    seen: str
    at: datetime


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """A PBX as it was found; `behaviours` by their names."""

    schema: int
    learned_at: datetime
    base_url: str
    behaviours: dict[str, Learnt]


@dataclass(frozen=True, slots=True)
class Hints:
    """What a run may begin with: which form media's addresses have ("" where not known), the largest page (0 likewise)."""

    media_path: str = ""
    page_cap: int = 0

    def recording_path(self, configured: str) -> str:
        """The configured address in the form that worked; one without either form stays as it is."""
        if self.media_path == "plural":
            return configured.replace("/recording/", "/recordings/")
        return configured.replace("/recordings/", "/recording/") if self.media_path == "singular" else configured

    def page_size(self, configured: int) -> int:
        """The configured rows a page, or as many as fit."""
        return min(configured, self.page_cap) if self.page_cap > 0 else configured


def read_profile(data: bytes | None, *, base_url: str) -> tuple[Profile | None, str]:
    """The profile of this PBX and a note: None for one that is damaged, of another program, or of another PBX."""
    if data is None:
        return None, ""
    try:
        found = msgspec.json.decode(data, type=Profile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None, "pbx-profile.json can't be read and is passed over"
    if found.schema != SCHEMA:
        return None, f"pbx-profile.json has schema {found.schema}, not {SCHEMA}, and is passed over"
    if found.base_url != base_url:
        return None, "pbx-profile.json is of another PBX and is passed over"
    return found, ""


def changes(former: Profile, now: Iterable[Behaviour]) -> list[str]:
    """What is not as it was; what could not be told now, or then, is no change."""
    return [
        f"{one.name} was {former.behaviours[one.name].seen}, now {one.seen}"
        for one in now
        if one.name not in _PASSING | _CONFIGURED
        and one.seen
        and one.name in former.behaviours
        and former.behaviours[one.name].seen != one.seen
    ]


def written_profile(
    former: Profile | None, behaviours: Sequence[Behaviour], *, base_url: str, learned_at: datetime
) -> bytes:
    """The profile to save; what could not be told this time stays as it was told before."""
    kept = dict(former.behaviours) if former is not None else {}
    kept |= {
        str(one.name): Learnt(seen=one.seen, at=learned_at)
        for one in behaviours
        if one.seen and one.name not in _PASSING
    }
    profile = Profile(schema=SCHEMA, learned_at=learned_at, base_url=base_url, behaviours=kept)
    return msgspec.json.format(msgspec.json.encode(profile), indent=2) + b"\n"


def hints_of(profile: Profile | None) -> Hints:
    """What a run may begin with."""
    if profile is None:
        return Hints()
    path = _seen(profile, Name.MEDIA_PATH)
    cap = _seen(profile, Name.PAGE_CAP)
    sure = cap.isascii() and cap.isdigit() and len(cap) < 10  # noqa: PLR2004 - no page has so many rows
    return Hints(path if path in {"singular", "plural"} else "", int(cap) if sure else 0)


def _seen(profile: Profile, name: Name) -> str:
    found = profile.behaviours.get(name)
    return "" if found is None else found.seen
