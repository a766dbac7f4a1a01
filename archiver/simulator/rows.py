"""What the simulated PBX has in its documents: recordings and CDRs, as values."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from archiver.simulator.mp3 import MediaSource, Mp3Media

if TYPE_CHECKING:
    from collections.abc import Mapping

GREGORIAN_OFFSET_S: Final = 62_167_219_200
"""Seconds from year 0 to the Unix epoch: Gregorian second = Unix second + this."""


class Absent(Enum):
    """The type of DELETE."""

    DELETE = "delete"


DELETE: Final = Absent.DELETE
"""As a value in `overrides`: take the key out of the document."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedRecording:
    """One recording. Times are Unix seconds; everything not said here follows from the ids.

    Attributes:
        start_unix_s: when the recording began.
        duration_ms: its length; `start + duration` is the time it was saved (`pvt_created`).
        media: the audio; None makes an MP3 of that duration.
        overrides: merged over the metadata document's top-level keys; DELETE takes a key out.
        listed_at: when listings begin to show it; None: when the call ends.
        available_at: when its media can be fetched (404 before); None: when it is listed. `math.inf` for never.
    """

    account_id: str
    recording_id: str
    start_unix_s: int
    duration_ms: int
    media: MediaSource | None = None
    overrides: Mapping[str, Any] | None = None
    listed_at: float | None = None
    available_at: float | None = None

    @property
    def created_unix_s(self) -> int:
        """When the call ended and the recording was saved, in Unix seconds."""
        return self.start_unix_s + self.duration_ms // 1000

    @property
    def source(self) -> MediaSource:
        """The media, made up if none was given."""
        return self.media or Mp3Media(f"{self.account_id}/{self.recording_id}", self.duration_ms)

    @property
    def interaction_id(self) -> str:
        """What the legs of this call share; a text in `overrides` goes before the natural one."""
        told = (self.overrides or {}).get("interaction_id")
        return told if isinstance(told, str) else f"{self.start_unix_s + GREGORIAN_OFFSET_S - 4}-{self.mark:08x}"

    @property
    def mark(self) -> int:
        """A 32-bit number that stands for this recording wherever a detail has to be made up."""
        return zlib.crc32(self.recording_id.encode("utf-8", "surrogatepass"))

    def is_listed(self, now: float) -> bool:
        """Whether a listing at `now` (Unix seconds) shows it."""
        return (self.created_unix_s if self.listed_at is None else self.listed_at) <= now

    def is_available(self, now: float) -> bool:
        """Whether its media can be fetched at `now` (Unix seconds)."""
        return self.is_listed(now) if self.available_at is None else self.available_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCdr:
    """One leg of a call. Times are Unix seconds.

    Attributes:
        ended_unix_s: the leg's end, the time that listings filter and sort by.
        media_recording_id: absent (None), as text (one id or several with commas), or an array (a tuple).
        overrides: merged over the document's top-level keys; DELETE takes a key out.
        listed_at: when listings begin to show it; None: at the leg's end.
    """

    account_id: str
    cdr_id: str
    ended_unix_s: int
    billing_s: int
    interaction_id: str
    hangup_cause: str = "NORMAL_CLEARING"
    media_recording_id: str | tuple[str, ...] | None = None
    overrides: Mapping[str, Any] | None = None
    listed_at: float | None = None

    @property
    def mark(self) -> int:
        """A 32-bit number that stands for this call wherever a detail has to be made up."""
        return zlib.crc32(self.interaction_id.encode("utf-8", "surrogatepass"))

    def is_listed(self, now: float) -> bool:
        """Whether a listing at `now` (Unix seconds) shows it."""
        return (self.ended_unix_s if self.listed_at is None else self.listed_at) <= now
