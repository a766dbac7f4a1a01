"""What a process remembers of a PBX from one session to the next, so that it signs in once, learns once, never hurries."""

import math
import random
import threading
from dataclasses import dataclass, field
from typing import Self

from archiver.errors import SignInRefused


@dataclass(eq=False, slots=True)
class PbxMemory:
    """A token with its number and that of the last one that worked, a refusal, and what is left of the rate.

    Sessions in several threads may share one: whoever signs in holds `signing_in` meanwhile. The token is in memory only.
    `left` has, of each session that has ended and that none has followed, how many requests it could have sent at once.
    `media_path` is the form of the media's address that has served audio, empty before.
    """

    token: str = field(default="", repr=False)
    generation: int = 0
    worked_generation: int = 0
    refusal: SignInRefused | None = None
    left: list[float] = field(default_factory=list)
    media_path: str = ""
    signing_in: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def of_one_alone(cls) -> Self:
        """That of sessions which share the rate with nobody, so that the first one has all that may come at once."""
        return cls(left=[math.inf])

    def take_left(self) -> float:
        """How many requests a session that begins may send at once: what one before it has left, and no more.

        While there was no session others had the share of the rate, so that time fills nothing. One that follows none
        begins anywhere below a request: many that begin together send their first ones spread out, not all at once.
        """
        try:
            return self.left.pop()
        except IndexError:
            return random.random()  # noqa: S311 - no secret
