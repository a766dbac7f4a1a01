"""Retention: legal holds, and what stands for recordings that are gone."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# By code point, as SQLite sorts.
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the tables; nothing was held or expired before."""
    op.add_column("cdr_files", sa.Column("expired_ms", sa.BigInteger))
    op.create_table(
        "holds",
        sa.Column("hold_no", sa.Integer, primary_key=True),
        sa.Column("folded_name", _TEXT, nullable=False, unique=True),
        sa.Column("name", _TEXT, nullable=False),
        _words("reason"),
        _words("reference"),
        _words("placed_by"),
        sa.Column("placed_ms", sa.BigInteger, nullable=False),
        _words("account_id"),
        sa.Column("since_s", sa.BigInteger),
        sa.Column("until_s", sa.BigInteger),
        sa.Column("recording_ids", _TEXT, nullable=False, server_default="[]"),
        sa.Column("users", _TEXT, nullable=False, server_default="[]"),
        _words("released_by"),
        sa.Column("released_ms", sa.BigInteger),
        _words("release_reason"),
    )
    op.create_table(
        "tombstones",
        sa.Column("entry_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", _TEXT, nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("kind", _TEXT, nullable=False),
        _words("rule"),
        _words("reference"),
        sa.Column("expired_ms", sa.BigInteger, nullable=False),
        sa.Column("run_no", sa.Integer, nullable=False),
        sa.Column("removed_ms", sa.BigInteger),
        sa.Column("body", sa.LargeBinary),
        sa.Column("manifest_part", sa.Integer),
    )
    for name, which in (("tombstones_unfinished", "removed_ms"), ("tombstones_unsealed", "manifest_part")):
        where = sa.text(f"{which} IS NULL")
        op.create_index(name, "tombstones", ["entry_id"], sqlite_where=where, postgresql_where=where)


def _words(name: str) -> sa.Column[str]:
    return sa.Column(name, _TEXT, nullable=False, server_default="")
