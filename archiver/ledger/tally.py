"""How many recordings and bytes each account has in each status, kept by differences in the same transaction."""

from collections import defaultdict

from sqlalchemy import Connection

from archiver.ledger.backend import insert_or
from archiver.ledger.tables import tallies


def weight(size_bytes: int | None, length_bytes: int | None) -> int:
    """The bytes an entry counts for: what is archived, else what the PBX says it will be, else nothing."""
    return size_bytes if size_bytes is not None else length_bytes or 0


class TallyChange:
    """The differences that one transaction makes; `write` adds them to the tallies."""

    def __init__(self) -> None:
        self._changes: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0])

    def add(self, account_no: int, status: str, bytes_count: int, count: int = 1) -> None:
        """So many recordings, of so many bytes together, come into `status`."""
        change = self._changes[account_no, status]
        change[0] += count
        change[1] += bytes_count

    def remove(self, account_no: int, status: str, bytes_count: int, count: int = 1) -> None:
        """They leave `status`."""
        self.add(account_no, status, -bytes_count, -count)

    def write(self, connection: Connection) -> None:
        """Add the differences to the tallies, within the caller's transaction."""
        rows = [
            {"account_no": account_no, "status": status, "recordings": recordings, "bytes": bytes_count}
            for (account_no, status), (recordings, bytes_count) in sorted(self._changes.items())
            if recordings or bytes_count
        ]
        if not rows:
            return
        added = insert_or(connection, tallies)
        statement = added.on_conflict_do_update(
            index_elements=["account_no", "status"],
            set_={
                "recordings": tallies.c.recordings + added.excluded.recordings,
                "bytes": tallies.c.bytes + added.excluded.bytes,
            },
        )
        connection.execute(statement, rows)
