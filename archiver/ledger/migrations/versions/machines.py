"""Several machines: which run has an account, which attempt at a partition may write, and how far each writer came."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# By code point, as SQLite sorts.
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and tables; nobody has an account for himself, or has claimed anything, before."""
    op.add_column("accounts", sa.Column("run_no", sa.Integer))
    _claim_partitions()
    _mark_writers()


def _claim_partitions() -> None:
    op.add_column("entries", sa.Column("claim_no", sa.Integer))
    op.create_table(
        "partition_claims",
        sa.Column("claim_no", sa.Integer, primary_key=True),
        sa.Column("run_no", sa.Integer, nullable=False),
        sa.Column("account_no", sa.Integer, nullable=False),
        sa.Column("partition", _TEXT, nullable=False),
        sa.Column("holder", _TEXT, nullable=False, server_default=""),
        sa.Column("state", _TEXT, nullable=False),
        sa.Column("begun_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("report", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("claims_partition", "partition_claims", ["run_no", "account_no", "partition"])


def _mark_writers() -> None:
    op.create_table(
        "writers",
        sa.Column("writer", _TEXT, primary_key=True),
        sa.Column("committed", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
