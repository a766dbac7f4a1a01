"""The ledger's tables. `migrations/` brings an older ledger to this shape; a test holds the two against each other.

Times are whole Unix seconds, or milliseconds where the name ends in `_ms`. Text goes through `columns.plain`. What a
later look never needs is not kept: metadata only until the recording is archived, tries only when they failed.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

ledger_metadata = MetaData()

# SQLite gives only INTEGER PRIMARY KEY its fast row id; elsewhere ten million entries want 64 bits.
_Number = BigInteger().with_variant(Integer(), "sqlite")


# Compared and sorted by code point, as SQLite does, whatever the database's own alphabet.
_Text = String().with_variant(String(collation="C"), "postgresql")


def _words(name: str) -> Column[str]:
    return Column(name, _Text, nullable=False, server_default="")


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


accounts = Table(
    "accounts",
    ledger_metadata,
    Column("account_no", Integer, primary_key=True),
    Column("account_id", _Text, nullable=False, unique=True),
    # The run that has it for itself; see `hold_accounts`.
    Column("run_no", Integer),
)

runs = Table(
    "runs",
    ledger_metadata,
    Column("run_no", Integer, primary_key=True),
    Column("run_id", _Text, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("outcome", _Text),
    Column("report", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

entries = Table(
    "entries",
    ledger_metadata,
    Column("entry_id", _Number, primary_key=True),
    Column("account_no", Integer, nullable=False),
    Column("recording_id", _Text, nullable=False),
    Column("status", _Text, nullable=False),
    # The run that claimed it last; each run claims an entry at most once.
    Column("run_no", Integer, nullable=False),
    Column("listed_at", BigInteger, nullable=False),
    # What the PBX listed last.
    Column("start_at", BigInteger),
    Column("saved_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("length_bytes", BigInteger),
    Column("digest_md5", LargeBinary),
    _words("extension"),
    _words("doubt"),
    # The archived object of this version, when there is one.
    Column("version", Integer, nullable=False, server_default="1"),
    _words("key"),
    Column("size_bytes", BigInteger),
    Column("sha256", LargeBinary),
    # Of the sidecar beside it; none where sidecars were off, or the ledger was older than this column.
    Column("sidecar_sha256", LargeBinary),
    Column("archived_ms", BigInteger),
    Column("archived_run_no", Integer),
    # How the tries went.
    _count("attempts"),
    _count("retries_used"),
    Column("next_attempt_at", BigInteger),
    _words("reason"),
    _words("detail"),
    _words("flags"),
    Column("quarantined_sha256", LargeBinary),
    # Which part of its day's manifest names it; none until the run's end.
    Column("manifest_part", Integer),
    # Which of the run's attempts at its partition claimed it, where several machines work.
    Column("claim_no", Integer),
    UniqueConstraint("account_no", "recording_id", name="entries_recording"),
)

# `run_no` stands in the index so that what this run has claimed is passed over without reading the entry.
Index(
    "entries_due",
    entries.c.account_no,
    entries.c.next_attempt_at,
    entries.c.run_no,
    sqlite_where=text("next_attempt_at IS NOT NULL"),
    postgresql_where=text("next_attempt_at IS NOT NULL"),
)
Index(
    "entries_pending",
    entries.c.account_no,
    entries.c.start_at,
    sqlite_where=text("status = 'pending'"),
    postgresql_where=text("status = 'pending'"),
)

Index(
    "entries_unsealed",
    entries.c.entry_id,
    sqlite_where=text("manifest_part IS NULL AND archived_ms IS NOT NULL"),
    postgresql_where=text("manifest_part IS NULL AND archived_ms IS NOT NULL"),
)

listed_metadata = Table(
    "listed_metadata",
    ledger_metadata,
    Column("entry_id", _Number, primary_key=True, autoincrement=False),
    Column("metadata", LargeBinary, nullable=False),
)

former_versions = Table(
    "former_versions",
    ledger_metadata,
    Column("entry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("key", _Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("sidecar_sha256", LargeBinary),
    Column("archived_ms", BigInteger, nullable=False),
    Column("archived_run_no", Integer, nullable=False),
    Column("manifest_part", Integer),
    # When a verification found it damaged and a repair put another version in its place; nobody expects it any more.
    Column("damaged_ms", BigInteger),
)

attempts = Table(
    "attempts",
    ledger_metadata,
    Column("attempt_no", _Number, primary_key=True),
    Column("entry_id", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("run_no", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    _words("reason"),
    _words("detail"),
    Index("attempts_entry", "entry_id"),
)

calendar = Table(
    "calendar",
    ledger_metadata,
    Column("piece_no", _Number, primary_key=True),
    Column("account_no", Integer, nullable=False),
    Column("start_at", BigInteger, nullable=False),
    Column("end_at", BigInteger, nullable=False),
    Column("state", _Text, nullable=False),
    Column("scanned_at", BigInteger),
    _words("reason"),
    # How far the listing has come; for people, nothing resumes from it.
    _count("pages"),
    _count("rows"),
    _words("cursor"),
    Column("run_no", Integer),
    UniqueConstraint("account_no", "start_at", name="calendar_start"),
)

# Kept in the transactions that change the entries, so that `status` need not count ten million of them.
tallies = Table(
    "tallies",
    ledger_metadata,
    Column("account_no", Integer, primary_key=True, autoincrement=False),
    Column("status", _Text, primary_key=True),
    _count("recordings"),
    _count("bytes"),
)

# An account's CDRs of a day, archived in one or more parts.
cdr_files = Table(
    "cdr_files",
    ledger_metadata,
    Column("account_no", Integer, primary_key=True, autoincrement=False),
    # As YYYY-MM-DD.
    Column("day", _Text, primary_key=True),
    Column("part", Integer, primary_key=True, autoincrement=False),
    Column("key", _Text, nullable=False, unique=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    _count("rows"),
    Column("archived_ms", BigInteger, nullable=False),
    Column("manifest_part", Integer),
    # Since when retention is about to remove it; then the row goes, too.
    Column("expired_ms", BigInteger),
)

# Legal holds, the active ones and those that were released; a name is used once.
holds = Table(
    "holds",
    ledger_metadata,
    Column("hold_no", Integer, primary_key=True),
    # In lower case.
    Column("folded_name", _Text, nullable=False, unique=True),
    Column("name", _Text, nullable=False),
    _words("reason"),
    _words("reference"),
    _words("placed_by"),
    Column("placed_ms", BigInteger, nullable=False),
    _words("account_id"),
    Column("since_s", BigInteger),
    Column("until_s", BigInteger),
    # JSON lists.
    Column("recording_ids", _Text, nullable=False, server_default="[]"),
    Column("users", _Text, nullable=False, server_default="[]"),
    _words("released_by"),
    Column("released_ms", BigInteger),
    _words("release_reason"),
)

# What stands in the store for an expired recording; `body` are its bytes until all else of the recording is removed.
tombstones = Table(
    "tombstones",
    ledger_metadata,
    Column("entry_id", BigInteger, primary_key=True, autoincrement=False),
    Column("key", _Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    Column("kind", _Text, nullable=False),
    _words("rule"),
    _words("reference"),
    Column("expired_ms", BigInteger, nullable=False),
    Column("run_no", Integer, nullable=False),
    Column("removed_ms", BigInteger),
    Column("body", LargeBinary),
    Column("manifest_part", Integer),
)

Index(
    "tombstones_unfinished",
    tombstones.c.entry_id,
    sqlite_where=text("removed_ms IS NULL"),
    postgresql_where=text("removed_ms IS NULL"),
)
Index(
    "tombstones_unsealed",
    tombstones.c.entry_id,
    sqlite_where=text("manifest_part IS NULL"),
    postgresql_where=text("manifest_part IS NULL"),
)

# Attempts at partitions that are worked on far from whoever leads the run; only one that is held may write.
partition_claims = Table(
    "partition_claims",
    ledger_metadata,
    Column("claim_no", Integer, primary_key=True),
    Column("run_no", Integer, nullable=False),
    Column("account_no", Integer, nullable=False),
    Column("partition", _Text, nullable=False),
    _words("holder"),
    Column("state", _Text, nullable=False),
    Column("begun_ms", BigInteger, nullable=False),
    Column("ended_ms", BigInteger),
    Column("report", LargeBinary, nullable=False, default=b""),
    Index("claims_partition", "run_no", "account_no", "partition"),
    sqlite_autoincrement=True,
)

# Single facts of the whole archive, such as the audit trail's last record.
marks = Table(
    "marks",
    ledger_metadata,
    Column("name", _Text, primary_key=True),
    Column("value", _Text, nullable=False),
)

# Who writes over a connection that can be lost: the number of the last transaction that was committed.
writers = Table(
    "writers",
    ledger_metadata,
    Column("writer", _Text, primary_key=True),
    Column("committed", BigInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
