"""Presentation states and key object selections of cases."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table. It fills as files are read in, or read again."""
    if "referring" in sa.inspect(op.get_bind()).get_table_names():
        return
    op.create_table(
        "referring",
        sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("sop_uid", sa.String(64), primary_key=True),
        sa.Column("said", sa.JSON(), nullable=False),
    )
