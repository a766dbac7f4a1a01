"""Many machines: which run has an account, and which attempt at a partition may write."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; nobody has claimed anything yet."""
    op.add_column("accounts", sa.Column("run_no", sa.Integer))
    op.add_column("entries", sa.Column("claim_no", sa.Integer))
    op.create_table(
        "partition_claims",
        sa.Column("claim_no", sa.Integer, primary_key=True),
        sa.Column("run_no", sa.Integer, nullable=False),
        sa.Column("account_no", sa.Integer, nullable=False),
        sa.Column("partition", sa.String, nullable=False),
        sa.Column("holder", sa.String, nullable=False, server_default=""),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("begun_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_ms", sa.BigInteger),
        sa.Column("report", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("claims_partition", "partition_claims", ["run_no", "account_no", "partition"])
