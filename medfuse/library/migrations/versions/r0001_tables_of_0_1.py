"""The tables of medfuse 0.1, as they were: libraries of its time carry no mark and may lack later columns."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

# Every table with its columns, not to be changed: what changes later is a step of its own.
TABLES = sa.MetaData()
sa.Table(
    "batch",
    TABLES,
    sa.Column("out", sa.String(512), primary_key=True),
    sa.Column("case_id", sa.String(80), primary_key=True),
    sa.Column("input_hash", sa.String(64), nullable=False),
    sa.Column("bundle_hash", sa.String(64), nullable=False),
    sa.Column("settings_hash", sa.String(64), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("tries", sa.Integer(), nullable=False),
    sa.Column("worker", sa.String(120), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("seconds", sa.JSON(), nullable=False),
    sa.Column("started", sa.DateTime(timezone=True)),
    sa.Column("finished", sa.DateTime(timezone=True)),
)
sa.Table(
    "cases",
    TABLES,
    sa.Column("id", sa.String(80), primary_key=True),
    sa.Column("patient_id", sa.String(64), nullable=False, index=True),
    sa.Column("sex", sa.String(8), nullable=False),
    sa.Column("birth_date", sa.String(16), nullable=False),
    sa.Column("indication", sa.Text(), nullable=False),
    sa.Column("risk", sa.Text(), nullable=False),
    sa.Column("labs", sa.JSON(), nullable=False),
    sa.Column("simulated", sa.Boolean(), nullable=False),
    sa.Column("study_date", sa.String(16), nullable=False, index=True),
    sa.Column("conflict", sa.Text(), nullable=False),
    sa.Column("added", sa.DateTime(timezone=True), nullable=False),
)
sa.Table(
    "files",
    TABLES,
    sa.Column("path", sa.String(1024), primary_key=True),
    sa.Column("size", sa.BigInteger(), nullable=False),
    sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text(), nullable=False),
    sa.Column("patient", sa.String(140), nullable=False, index=True),
    sa.Column("case_id", sa.String(80), nullable=False, index=True),
)
sa.Table(
    "instances",
    TABLES,
    sa.Column("uid", sa.String(64), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("sop_class", sa.String(64), nullable=False),
    sa.Column("transfer_syntax", sa.String(64), nullable=False),
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("series_uid", sa.String(64), nullable=False, index=True),
    sa.Column("patient_id", sa.String(64), nullable=False, index=True),
    sa.Column("keys", sa.JSON(), nullable=False),
    sa.Column("source", sa.String(80), nullable=False),
    sa.Column("received", sa.DateTime(timezone=True), nullable=False, index=True),
    sa.Column("filed", sa.Boolean(), nullable=False, index=True),
)
sa.Table(
    "edits",
    TABLES,
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), primary_key=True),
    sa.Column("author", sa.String(80), primary_key=True),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.Column("data", sa.JSON(), nullable=False),
)
sa.Table(
    "measurements",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("author", sa.String(80), nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.Column("removed", sa.Boolean(), nullable=False),
    sa.Column("data", sa.JSON(), nullable=False),
)
sa.Table(
    "ratings",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("rater", sa.String(80), nullable=False, index=True),
    sa.Column("background", sa.Text(), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("correctness", sa.Integer(), nullable=False),
    sa.Column("completeness", sa.Integer(), nullable=False),
    sa.Column("wording", sa.Integer(), nullable=False),
    sa.Column("seconds", sa.Float(), nullable=False),
    sa.Column("edit_distance", sa.Integer(), nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Column("reference", sa.Text(), nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.UniqueConstraint("case_id", "rater", "kind"),
)
sa.Table(
    "reports",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("revision", sa.Integer(), nullable=False),
    sa.Column("version", sa.Integer(), nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("author", sa.String(80), nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.Column("change", sa.JSON(), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("result_id", sa.Integer(), nullable=False),
    sa.Column("report", sa.JSON(), nullable=False),
    sa.UniqueConstraint("case_id", "revision"),
)
sa.Table(
    "results",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("bundle_hash", sa.String(64), nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.Column("prediction", sa.JSON(), nullable=False),
    sa.Column("report", sa.JSON(), nullable=False),
    sa.Column("summary", sa.JSON(), nullable=False),
)
sa.Table(
    "series",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("uid", sa.String(80), nullable=False, index=True),
    sa.Column("study_uid", sa.String(80), nullable=False),
    sa.Column("study_date", sa.String(16), nullable=False),
    sa.Column("modality", sa.String(4), nullable=False, index=True),
    sa.Column("role", sa.String(32), nullable=False),
    sa.Column("role_confidence", sa.Float(), nullable=False),
    sa.Column("description", sa.String(128), nullable=False),
    sa.Column("geometry", sa.String(160), nullable=False),
    sa.Column("files", sa.JSON(), nullable=False),
    sa.Column("images", sa.JSON(), nullable=False),
)
sa.Table(
    "training_records",
    TABLES,
    sa.Column("id", sa.Integer(), primary_key=True, autoincrement=True),
    sa.Column("case_id", sa.String(80), sa.ForeignKey("cases.id"), nullable=False, index=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("action", sa.String(16), nullable=False),
    sa.Column("question", sa.Text(), nullable=False),
    sa.Column("drafted", sa.Text(), nullable=False),
    sa.Column("final", sa.Text(), nullable=False),
    sa.Column("section", sa.String(16), nullable=False),
    sa.Column("finding", sa.String(64), nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("author", sa.String(80), nullable=False),
    sa.Column("made", sa.DateTime(timezone=True), nullable=False),
    sa.Column("bundle_hash", sa.String(64), nullable=False),
    sa.Column("audit", sa.String(64), nullable=False),
)

EMPTY: dict[type, sa.TextClause | sa.False_] = {
    sa.JSON: sa.text("'[]'"),
    sa.Boolean: sa.false(),
    sa.DateTime: sa.text("'1970-01-01 00:00:00'"),
    sa.Integer: sa.text("0"),
    sa.BigInteger: sa.text("0"),
    sa.Float: sa.text("0"),
    sa.String: sa.text("''"),
    sa.Text: sa.text("''"),
}


def upgrade() -> None:
    """Make what is missing; columns that are added are empty, and nothing that is there changes."""
    connection = op.get_bind()
    TABLES.create_all(connection)
    found = sa.inspect(connection)
    for table in TABLES.sorted_tables:
        there = {c["name"] for c in found.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                empty = None if column.nullable else EMPTY[type(column.type)]
                op.add_column(
                    table.name,
                    sa.Column(column.name, column.type, nullable=column.nullable, server_default=empty),
                )
