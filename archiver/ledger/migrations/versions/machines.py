"""Several machines: which run has an account for itself, and how far each writer came."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# By code point, as SQLite sorts.
_TEXT = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the columns and tables; nobody has an account for himself before."""
    _hold_accounts()
    _mark_writers()


def _hold_accounts() -> None:
    op.add_column("accounts", sa.Column("run_no", sa.Integer))


def _mark_writers() -> None:
    op.create_table(
        "writers",
        sa.Column("writer", _TEXT, primary_key=True),
        sa.Column("committed", sa.BigInteger, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
