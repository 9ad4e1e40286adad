"""Which project a case is in, where it is not the default one."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the table; every case there is stays in the default project."""
    if "case_projects" in sa.inspect(op.get_bind()).get_table_names():
        return
    op.create_table(
        "case_projects",
        sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), primary_key=True),
        sa.Column("project", sa.String(64), nullable=False, index=True),
    )
