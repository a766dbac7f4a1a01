"""The first schema: every table of the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# By code point, as SQLite sorts.
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables and their indexes."""
    _create_accounts_and_runs()
    _create_entries()
    _create_beside_entries()
    _create_calendar_and_tallies()


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False, server_default="")


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=False, server_default="0")


def _create_accounts_and_runs() -> None:
    op.create_table(
        "accounts",
        sa.Column("account_no", sa.Integer(), primary_key=True),
        sa.Column("account_id", _TEXT, nullable=False, unique=True),
    )
    op.create_table(
        "runs",
        sa.Column("run_no", sa.Integer(), primary_key=True),
        sa.Column("run_id", _TEXT, nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger()),
        sa.Column("outcome", _TEXT),
        sa.Column("report", sa.LargeBinary(), nullable=False),
        sqlite_autoincrement=True,
    )


def _create_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("entry_id", _NUMBER, primary_key=True),
        sa.Column("account_no", sa.Integer(), nullable=False),
        sa.Column("recording_id", _TEXT, nullable=False),
        sa.Column("status", _TEXT, nullable=False),
        sa.Column("run_no", sa.Integer(), nullable=False),
        sa.Column("listed_at", sa.BigInteger(), nullable=False),
        sa.Column("start_at", sa.BigInteger()),
        sa.Column("saved_at", sa.BigInteger()),
        sa.Column("duration_ms", sa.BigInteger()),
        sa.Column("length_bytes", sa.BigInteger()),
        sa.Column("digest_md5", sa.LargeBinary()),
        _words("extension"),
        _words("doubt"),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        _words("key"),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("sha256", sa.LargeBinary()),
        sa.Column("archived_ms", sa.BigInteger()),
        sa.Column("archived_run_no", sa.Integer()),
        _count("attempts"),
        _count("retries_used"),
        sa.Column("next_attempt_at", sa.BigInteger()),
        _words("reason"),
        _words("detail"),
        _words("flags"),
        sa.Column("quarantined_sha256", sa.LargeBinary()),
        sa.UniqueConstraint("account_no", "recording_id", name="entries_recording"),
    )
    due = sa.text("next_attempt_at IS NOT NULL")
    op.create_index(
        "entries_due",
        "entries",
        ["account_no", "next_attempt_at", "run_no"],
        sqlite_where=due,
        postgresql_where=due,
    )
    pending = sa.text("status = 'pending'")
    op.create_index(
        "entries_pending", "entries", ["account_no", "start_at"], sqlite_where=pending, postgresql_where=pending
    )


def _create_beside_entries() -> None:
    op.create_table(
        "listed_metadata",
        sa.Column("entry_id", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "former_versions",
        sa.Column("entry_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("version", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("archived_ms", sa.BigInteger(), nullable=False),
        sa.Column("archived_run_no", sa.Integer(), nullable=False),
    )
    op.create_table(
        "attempts",
        sa.Column("attempt_no", _NUMBER, primary_key=True),
        sa.Column("entry_id", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("run_no", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        _words("reason"),
        _words("detail"),
    )
    op.create_index("attempts_entry", "attempts", ["entry_id"])


def _create_calendar_and_tallies() -> None:
    op.create_table(
        "calendar",
        sa.Column("piece_no", _NUMBER, primary_key=True),
        sa.Column("account_no", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger(), nullable=False),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("scanned_at", sa.BigInteger()),
        _words("reason"),
        _count("pages"),
        _count("rows"),
        _words("cursor"),
        sa.Column("run_no", sa.Integer()),
        sa.UniqueConstraint("account_no", "start_at", name="calendar_start"),
    )
    op.create_table(
        "tallies",
        sa.Column("account_no", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("status", _TEXT, primary_key=True),
        _count("recordings"),
        _count("bytes"),
    )
