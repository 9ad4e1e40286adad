"""What a worklist shows of a case: name, accession, body part, description, and how many images."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table. It fills as cases are read in, or read again."""
    if "labels" in sa.inspect(op.get_bind()).get_table_names():
        return
    op.create_table(
        "labels",
        sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("accession", sa.String(255), nullable=False),
        sa.Column("body_part", sa.String(64), nullable=False),
        sa.Column("description", sa.String(255), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
    )
