"""Evidence: which manifest names an object, damaged versions, CDR files, and marks such as the audit trail's end."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# By code point, as SQLite sorts.
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add columns and tables; what is archived already comes into a manifest with the next run."""
    op.add_column("entries", sa.Column("manifest_part", sa.Integer))
    op.add_column("former_versions", sa.Column("manifest_part", sa.Integer))
    op.add_column("former_versions", sa.Column("damaged_ms", sa.BigInteger))
    unsealed = sa.text("manifest_part IS NULL AND archived_ms IS NOT NULL")
    op.create_index("entries_unsealed", "entries", ["entry_id"], sqlite_where=unsealed, postgresql_where=unsealed)
    op.create_table(
        "cdr_files",
        sa.Column("account_no", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("day", _TEXT, primary_key=True),
        sa.Column("part", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("key", _TEXT, nullable=False, unique=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.LargeBinary, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("archived_ms", sa.BigInteger, nullable=False),
        sa.Column("manifest_part", sa.Integer),
    )
    op.create_table(
        "marks",
        sa.Column("name", _TEXT, primary_key=True),
        sa.Column("value", _TEXT, nullable=False),
    )
