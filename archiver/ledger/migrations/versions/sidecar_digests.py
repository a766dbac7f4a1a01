"""The digest of each sidecar, so that an edited one is found."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column to archived objects and their former versions; what is older has none."""
    for table in ("entries", "former_versions"):
        op.add_column(table, sa.Column("sidecar_sha256", sa.LargeBinary()))
