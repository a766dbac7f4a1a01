"""What a process remembers of a PBX from one session to the next, so that it signs in once, learns once, never hurries."""

import threading
from dataclasses import dataclass, field

from archiver.errors import SignInRefused


@dataclass(eq=False, slots=True)
class PbxMemory:
    """A token with its number and that of the last one that worked, a refusal, and when the last request was sent.

    Sessions in several threads may share one: whoever signs in holds `signing_in` meanwhile. The token is in memory only.
    `last_request_s` is in seconds of the monotonic clock, None before the first. `media_path` is the form of the media's
    address that has served audio, empty before.
    """

    token: str = field(default="", repr=False)
    generation: int = 0
    worked_generation: int = 0
    refusal: SignInRefused | None = None
    last_request_s: float | None = None
    media_path: str = ""
    signing_in: threading.Lock = field(default_factory=threading.Lock, repr=False)
