"""What `archiver report` says of the page that it wrote."""

import msgspec


class PageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the page says, in short: `verdict` is `fine`, `look` or `act`, `problems` how many points there are to do.

    `not_recorded` says why the audit trail could not take that it names callers and callees, if so.
    """

    verdict: str
    sentence: str
    problems: int
    since: str
    until: str
    accounts: int
    recordings: dict[str, int]
    bytes_archived: int
    findings: int
    not_recorded: str | None = None


class PageWritten(msgspec.Struct, frozen=True, kw_only=True):
    """Where the page is, how large it is, and what it says in short."""

    path: str
    bytes: int
    figures: PageFigures
