"""What nobody knows about the PBX, one switch each. The defaults play the vendor's page, else the likeliest server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CursorPlace = Literal["top", "in_data", "both"]


@dataclass(frozen=True, slots=True)
class BucketRule:
    """A token bucket per address and account, as Kazoo has it; an empty one answers 429.

    Attributes:
        capacity: requests that may come at once.
        refill_per_s: requests it regains a second.
        retry_after: whether the 429 says when to come back, in whole seconds.
    """

    capacity: float = 100.0
    refill_per_s: float = 10.0
    retry_after: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Switches:
    """How this PBX behaves wherever the vendor's page is silent.

    Listing:
        time_field: the field of a recording that startDate and endDate filter and pages are sorted by.
        time_unit: what startDate and endDate are read as: seconds, milliseconds, or told apart by size.
        end_bound: whether a row exactly at endDate is returned.
        order: of rows by time.
        cursor: `inclusive`: the second of the next page's first row, which starts with that second's first row, so ties
            at an edge repeat, and more ties than a page never end. `exclusive`: the second of the last row sent, and
            the next page starts after it: ties are lost. `exact`: the next page starts at the next row (with an offset
            behind the second).
        recordings_cursor, cdrs_cursor: where the cursor stands; in_data is one more element after the rows.
        last_cursor: how the end of a listing looks.
        empty_page: what an empty page holds in place of rows.
        page_cap, over_cap: the largest pageSize, and what happens to a larger one.
        default_page_size: without pageSize.
        max_range_days, over_range: the longest window, and what happens to a longer one (clamping moves its end).
        per_month_databases: a document lives in its start's month (server time); only windows touching it see it.
        wrong_parameters: what an unknown query parameter does.

    Documents:
        numbers: `sample` (numbers for recordings, text for CDRs), or all of one kind.
        cdr_timestamp: what a CDR's timestamp counts.
        attachments, digest: what `_attachments` holds.

    Media:
        media_path: `/reports/recording/{id}`, `/reports/recordings/{id}`, or both.
        media_answer: audio always, or metadata as JSON unless Accept names audio/mpeg (`*/*` does not).
        media_framing: how the body's end is told; `close` is neither a length nor chunks.
        ranges, etag, content_disposition: whether the server knows them.

    Server:
        token_lifetime_s: until an access token gets 401.
        unknown_account: what X-Account-ID of another's account gets.
        error_bodies: text or JSON.
        bucket: the rate limit; None for none.
        round_trip_s: wait before each answer. media_think_time_s: and before each media.
        bandwidth_bytes_per_s: of media per connection; 0 for no limit.
    """

    time_field: Literal["pvt_created", "start"] = "pvt_created"
    time_unit: Literal["s", "ms", "either"] = "either"
    end_bound: Literal["inclusive", "exclusive"] = "inclusive"
    order: Literal["ascending", "descending"] = "ascending"
    cursor: Literal["inclusive", "exclusive", "exact"] = "inclusive"
    recordings_cursor: CursorPlace = "top"
    cdrs_cursor: CursorPlace = "in_data"
    last_cursor: Literal["absent", "null", "empty"] = "absent"
    empty_page: Literal["list", "null"] = "list"
    page_cap: int = 2000
    over_cap: Literal["clamp", "refuse"] = "clamp"
    default_page_size: int = 50
    max_range_days: float = 30.0
    over_range: Literal["refuse", "clamp"] = "refuse"
    per_month_databases: bool = True
    wrong_parameters: Literal["ignore", "refuse"] = "ignore"

    numbers: Literal["sample", "number", "text"] = "sample"
    cdr_timestamp: Literal["gregorian", "unix", "ms"] = "gregorian"
    attachments: Literal["one", "none", "several"] = "one"
    digest: Literal["empty", "md5"] = "empty"

    media_path: Literal["singular", "plural", "both"] = "both"
    media_answer: Literal["audio", "json_unless_accept"] = "json_unless_accept"
    media_framing: Literal["content_length", "chunked", "close"] = "content_length"
    ranges: bool = False
    etag: bool = False
    content_disposition: bool = False

    token_lifetime_s: float = 3600.0
    unknown_account: Literal["forbidden", "empty", "not_found"] = "forbidden"
    error_bodies: Literal["text", "json"] = "text"
    bucket: BucketRule | None = None
    round_trip_s: float = 0.0
    media_think_time_s: float = 0.0
    bandwidth_bytes_per_s: float = 0.0

    def __post_init__(self) -> None:
        if self.page_cap < 1 or self.default_page_size < 1:
            raise ValueError("page_cap and default_page_size must be at least 1")
        if self.max_range_days <= 0 or self.token_lifetime_s <= 0:
            raise ValueError("max_range_days and token_lifetime_s must be positive")
