"""What `ledger copy` reports."""

import msgspec


class CopiedTableRow(msgspec.Struct, frozen=True, kw_only=True):
    """A table, and the SHA-256 over all its rows as both ledgers gave them."""

    table: str
    rows: int
    sha256: str


class CopyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Which ledger was copied to where, without passwords.

    `outcome` is `complete` or `interrupted`; after the second the target is as it was, and `tables` is empty. `checked`
    says that the copy was read back and is what the source gave. `next` is what has to be done now.
    """

    outcome: str
    source: str
    target: str
    checked: bool
    rows: int
    tables: list[CopiedTableRow]
    duration_s: float
    next: str
