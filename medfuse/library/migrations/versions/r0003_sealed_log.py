"""The audit log moves into the database, each entry sealed; signed reports carry a keyed signature.

What was there before is vouched for by `audit_seal`, which has the key."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the log, its head, and the column."""
    tables = set(sa.inspect(op.get_bind()).get_table_names())
    if "audit" not in tables:
        op.create_table(
            "audit",
            sa.Column("seq", sa.Integer(), primary_key=True, autoincrement=False),
            sa.Column("at", sa.String(40), nullable=False),
            sa.Column("event", sa.String(64), nullable=False),
            sa.Column("who", sa.String(200), nullable=False),
            sa.Column("case_id", sa.String(80), nullable=False, index=True),
            sa.Column("details", sa.Text(), nullable=False),
            sa.Column("rows", sa.Text(), nullable=False),
            sa.Column("before", sa.String(64), nullable=False),
            sa.Column("seal", sa.String(64), nullable=False),
        )
    if "audit_head" not in tables:
        head = op.create_table(
            "audit_head",
            sa.Column("log", sa.String(64), primary_key=True),
            sa.Column("seq", sa.Integer(), nullable=False),
        )
        op.bulk_insert(head, [{"log": uuid.uuid4().hex, "seq": 0}])
    there = {c["name"] for c in sa.inspect(op.get_bind()).get_columns("reports")}
    if "signature" not in there:
        op.add_column("reports", sa.Column("signature", sa.String(64), nullable=False, server_default=""))
