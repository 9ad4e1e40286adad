"""Ratings say which bundle drafted the report that was rated; earlier ones stay empty."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column."""
    there = {c["name"] for c in sa.inspect(op.get_bind()).get_columns("ratings")}
    if "bundle_hash" not in there:
        op.add_column("ratings", sa.Column("bundle_hash", sa.String(64), nullable=False, server_default=""))
