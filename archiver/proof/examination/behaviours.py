"""What `doctor` says of how a PBX behaves: a closed set of names, and for each what was seen and what it means."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from archiver.errors import ExitCode

BehaviourState = Literal["ok", "weak", "failed", "unknown"]


class Name(StrEnum):
    """What a PBX may do one way or another; docs/doctor.md has a row for each."""

    TIME_UNIT = "time_unit"
    TIME_FIELD = "time_field"
    END_BOUND = "end_bound"
    ORDER = "order"
    CURSOR = "cursor"
    RECORDINGS_CURSOR = "recordings_cursor"
    LAST_CURSOR = "last_cursor"
    EMPTY_PAGE = "empty_page"
    PAGE_CAP = "page_cap"
    OVER_CAP = "over_cap"
    DEFAULT_PAGE_SIZE = "default_page_size"
    LONG_RANGE = "long_range"
    LONGEST_QUERY = "longest_query"
    MONTH_EDGES = "month_edges"
    WRONG_PARAMETERS = "wrong_parameters"
    NUMBERS = "numbers"
    ATTACHMENTS = "attachments"
    DIGEST = "digest"
    CDRS = "cdrs"
    CDRS_CURSOR = "cdrs_cursor"
    CDR_NUMBERS = "cdr_numbers"
    CDR_TIMESTAMP = "cdr_timestamp"
    MEDIA_PATH = "media_path"
    MEDIA_ANSWER = "media_answer"
    MEDIA_FRAMING = "media_framing"
    RANGES = "ranges"
    ETAG = "etag"
    CONTENT_DISPOSITION = "content_disposition"
    NO_SUCH_RECORDING = "no_such_recording"
    OTHER_ACCOUNTS = "other_accounts"
    UNKNOWN_ACCOUNT = "unknown_account"
    ERROR_BODIES = "error_bodies"
    TOKEN_LIFETIME = "token_lifetime"  # noqa: S105 - a name
    RATE_LIMIT = "rate_limit"
    SPEED = "speed"


MATTERS: Mapping[Name, str] = {
    Name.TIME_UNIT: "with the wrong one every listing is empty, and looks whole",
    Name.TIME_FIELD: "a run lists by either; windows overlap for that",
    Name.END_BOUND: "a run is right with either; rows that come twice count once",
    Name.ORDER: "a run depends on none",
    Name.CURSOR: "a run is right with each; with exclusive ones it asks for crowded seconds once more",
    Name.RECORDINGS_CURSOR: "a run reads it in both places",
    Name.LAST_CURSOR: "a run takes each for the end",
    Name.EMPTY_PAGE: "a run reads both",
    Name.PAGE_CAP: "smaller pages cost requests and nothing else, unless larger ones are refused",
    Name.OVER_CAP: "where larger pages are refused, pbx.page_size must not be above the cap",
    Name.DEFAULT_PAGE_SIZE: "does not matter: a run always says how many rows it wants",
    Name.LONG_RANGE: "does not matter as long as no query of a run is that long",
    Name.LONGEST_QUERY: "if it is refused nothing is listed; if it is clamped recordings are left out silently",
    Name.MONTH_EDGES: "calls over a month's end are seen only by windows over it; a run always asks so",
    Name.WRONG_PARAMETERS: "does not matter: a run sends no others",
    Name.NUMBERS: "a run reads both",
    Name.ATTACHMENTS: "without them nothing tells how long a recording has to be",
    Name.DIGEST: "with a digest each recording's MD5 is checked, too",
    Name.CDRS: "without them empty windows can't be cross-checked, and `archiver reconcile` can't work",
    Name.CDRS_CURSOR: "a run reads it in both places",
    Name.CDR_NUMBERS: "a run reads both",
    Name.CDR_TIMESTAMP: "told apart by size",
    Name.MEDIA_PATH: "a run tries the other form when the first is not there; the right one saves that request",
    Name.MEDIA_ANSWER: "does not matter: a run asks for audio by name",
    Name.MEDIA_FRAMING: "closing the connection proves no end: such a body needs its length from the metadata",
    Name.RANGES: "does not matter: a run fetches recordings whole",
    Name.ETAG: "does not matter: the archive has digests of its own",
    Name.CONTENT_DISPOSITION: "does not matter: names come from the recording's id",
    Name.NO_SUCH_RECORDING: "404 begins the retry ladder; any other answer is tried again as a fault",
    Name.OTHER_ACCOUNTS: "an account that is refused is not archived",
    Name.UNKNOWN_ACCOUNT: "if it looks empty, a wrong id in pbx.account_ids can't be told from an account without calls",
    Name.ERROR_BODIES: "does not matter: a run goes by the status",
    Name.TOKEN_LIFETIME: "a run signs in again by itself; a short one costs requests",
    Name.RATE_LIMIT: "a run finds the rate by itself from refusals; transfer.requests_per_s avoids them",
    Name.SPEED: "`archiver plan` tells how long a period takes at the configured limits",
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One thing about this PBX.

    `seen` is a short word to compare by, empty when it could not be told; `found` says it in words, or why not.
    `weak` is worth a look, `failed` would keep a run from archiving, `unknown` is what could not be told.
    """

    name: Name
    seen: str
    found: str
    state: BehaviourState = "ok"
    advice: str = ""
    exit_code: ExitCode = ExitCode.PBX

    @property
    def matters(self) -> str:
        """What it means for a run."""
        return MATTERS[self.name]


def untold(name: Name, why: str) -> Behaviour:
    """What could not be told, and why."""
    return Behaviour(name, "", f"could not be told: {why}", "unknown")


Look = Callable[[], Awaitable[Behaviour]]
