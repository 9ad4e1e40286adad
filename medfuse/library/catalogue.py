"""What this workstation holds: SQLAlchemy tables, SQLite (WAL) by default, any SQLAlchemy URL by MEDFUSE_DATABASE_URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    DateTime,
    Float,
    ForeignKey,
    Integer,
    String,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    select,
    text,
)
from sqlalchemy.engine import Engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship

from ..settings import settings


def _now() -> datetime:
    return datetime.now(UTC)


NUMBERS = ("INTEGER", "BIGINT", "FLOAT", "BOOLEAN")


class Base(DeclarativeBase):
    pass


class CaseRow(Base):
    __tablename__ = "cases"
    id: Mapped[str] = mapped_column(String(80), primary_key=True)
    patient_id: Mapped[str] = mapped_column(String(64), index=True, default="")
    sex: Mapped[str] = mapped_column(String(8), default="")
    birth_date: Mapped[str] = mapped_column(String(16), default="")
    indication: Mapped[str] = mapped_column(Text, default="")
    risk: Mapped[str] = mapped_column(Text, default="")
    labs: Mapped[list] = mapped_column(JSON, default=list)  # laboratory values as in a manifest
    simulated: Mapped[bool] = mapped_column(Boolean, default=False)
    study_date: Mapped[str] = mapped_column(String(16), default="", index=True)
    conflict: Mapped[str] = mapped_column(Text, default="")  # identifiers disagree: waits for a person
    added: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    series: Mapped[list[SeriesRow]] = relationship(
        back_populates="case", cascade="all, delete-orphan", order_by="SeriesRow.id"
    )
    results: Mapped[list[ResultRow]] = relationship(back_populates="case", cascade="all, delete-orphan")


class SeriesRow(Base):
    __tablename__ = "series"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    uid: Mapped[str] = mapped_column(String(80), index=True)
    study_uid: Mapped[str] = mapped_column(String(80), default="")
    study_date: Mapped[str] = mapped_column(String(16), default="")
    modality: Mapped[str] = mapped_column(String(4), index=True)
    role: Mapped[str] = mapped_column(String(32), default="unknown")
    role_confidence: Mapped[float] = mapped_column(Float, default=0.0)
    description: Mapped[str] = mapped_column(String(128), default="")
    geometry: Mapped[str] = mapped_column(String(160), default="")
    files: Mapped[list] = mapped_column(JSON, default=list)  # sha256 of each stored file
    images: Mapped[list] = mapped_column(JSON, default=list)  # what each image of the series turned out to be
    case: Mapped[CaseRow] = relationship(back_populates="series")


class FileRow(Base):
    """One file that a scan has seen: unchanged (size, time), it need not be opened again."""

    __tablename__ = "files"
    path: Mapped[str] = mapped_column(String(1024), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    patient: Mapped[str] = mapped_column(String(140), default="", index=True)  # id, or study where there is none
    case_id: Mapped[str] = mapped_column(String(80), default="", index=True)


class ResultRow(Base):
    """One prediction with its draft; a new run of the same case and bundle replaces the draft."""

    __tablename__ = "results"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    bundle_hash: Mapped[str] = mapped_column(String(64))
    language: Mapped[str] = mapped_column(String(16))
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    prediction: Mapped[dict] = mapped_column(JSON)
    report: Mapped[dict] = mapped_column(JSON)
    summary: Mapped[dict] = mapped_column(
        JSON, default=dict
    )  # what a worklist shows of it, so that it reads no prediction
    case: Mapped[CaseRow] = relationship(back_populates="results")


class ReportRow(Base):
    """One revision of a case's report: rows are only added. The newest row of a case is what stands."""

    __tablename__ = "reports"
    __table_args__ = (UniqueConstraint("case_id", "revision"),)  # two writers of one revision: the second is refused
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    revision: Mapped[int] = mapped_column(Integer)
    version: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16), index=True)
    language: Mapped[str] = mapped_column(String(16))
    author: Mapped[str] = mapped_column(String(80), default="")  # "" is medfuse itself
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    change: Mapped[list] = mapped_column(JSON, default=list)  # what this revision did, one line each
    sha256: Mapped[str] = mapped_column(String(64))
    result_id: Mapped[int] = mapped_column(Integer, default=0)  # the prediction it was drafted from
    report: Mapped[dict] = mapped_column(JSON)


class TrainingRow(Base):
    """A person's word on a drafted sentence or an answer: what the second training stage learns from."""

    __tablename__ = "training_records"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    kind: Mapped[str] = mapped_column(String(16))  # sentence, answer
    action: Mapped[str] = mapped_column(String(16))  # accepted, edited, rejected, added
    question: Mapped[str] = mapped_column(Text, default="")
    drafted: Mapped[str] = mapped_column(Text, default="")
    final: Mapped[str] = mapped_column(Text, default="")
    section: Mapped[str] = mapped_column(String(16), default="")
    finding: Mapped[str] = mapped_column(String(64), default="")
    language: Mapped[str] = mapped_column(String(16), default="")
    author: Mapped[str] = mapped_column(String(80))
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    bundle_hash: Mapped[str] = mapped_column(String(64), default="")
    audit: Mapped[str] = mapped_column(String(64), default="")  # hash of the audit entry that says so


class MeasurementRow(Base):
    """A distance or region that a person drew on an image, in pixels of the slice as displayed; a removed one stays, marked."""

    __tablename__ = "measurements"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    author: Mapped[str] = mapped_column(String(80))
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    removed: Mapped[bool] = mapped_column(Boolean, default=False)
    data: Mapped[dict] = mapped_column(JSON)


class EditRow(Base):
    """What somebody is typing into a report and has not finished: one a case and account, offered again after a lost session."""

    __tablename__ = "edits"
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    author: Mapped[str] = mapped_column(String(80), primary_key=True)
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    data: Mapped[dict] = mapped_column(JSON)


class RatingRow(Base):
    """One reader's blinded scores of one version of a report."""

    __tablename__ = "ratings"
    __table_args__ = (UniqueConstraint("case_id", "rater", "kind"),)
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    rater: Mapped[str] = mapped_column(String(80), index=True)
    background: Mapped[str] = mapped_column(Text, default="")
    kind: Mapped[str] = mapped_column(String(16))  # drafted, edited, or an alternative writer: hidden from the rater
    correctness: Mapped[int] = mapped_column(Integer)
    completeness: Mapped[int] = mapped_column(Integer)
    wording: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(Float)
    edit_distance: Mapped[int] = mapped_column(
        Integer
    )  # words to insert, delete or replace until it is the version that stands
    language: Mapped[str] = mapped_column(String(16), default="")
    text: Mapped[str] = mapped_column(Text)  # as it was rated
    reference: Mapped[str] = mapped_column(Text, default="")  # the version that stood then
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)


class BatchRow(Base):
    """One case of one batch (an output folder with its settings): what it came from and what became of it."""

    __tablename__ = "batch"
    out: Mapped[str] = mapped_column(String(512), primary_key=True)
    case_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    input_hash: Mapped[str] = mapped_column(String(64))
    bundle_hash: Mapped[str] = mapped_column(String(64))
    settings_hash: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16), index=True)  # waiting, running, done, refused, failed
    tries: Mapped[int] = mapped_column(Integer, default=0)
    worker: Mapped[str] = mapped_column(String(120), default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    seconds: Mapped[dict] = mapped_column(JSON, default=dict)
    started: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), default=None)
    finished: Mapped[datetime | None] = mapped_column(DateTime(timezone=True), default=None)


class InstanceRow(Base):
    """One DICOM instance that the node has received and indexed."""

    __tablename__ = "instances"
    uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    sop_class: Mapped[str] = mapped_column(String(64))
    transfer_syntax: Mapped[str] = mapped_column(String(64))
    study_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_uid: Mapped[str] = mapped_column(String(64), index=True)
    patient_id: Mapped[str] = mapped_column(String(64), index=True, default="")
    keys: Mapped[dict] = mapped_column(JSON, default=dict)  # what C-FIND and QIDO ask for, keyword → text
    source: Mapped[str] = mapped_column(String(80), default="")  # AE title that sent it
    received: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now, index=True)
    filed: Mapped[bool] = mapped_column(Boolean, default=False, index=True)  # its case is in the library


@cache
def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": 30})

        @event.listens_for(engine, "connect")
        def _pragmas(connection, _record) -> None:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA foreign_keys=ON")
    else:
        engine = create_engine(url)
    Base.metadata.create_all(engine)
    _add_columns(engine)
    return engine


def _add_columns(engine: Engine) -> None:
    """A library made by an older version lacks columns that came later: they are added, empty. Nothing is changed."""
    found = inspect(engine)
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            there = {c["name"] for c in found.get_columns(table.name)}
            for column in table.columns:
                if column.name not in there:
                    kind = column.type.compile(engine.dialect)
                    empty = "'[]'" if isinstance(column.type, JSON) else "0" if kind in NUMBERS else "''"
                    connection.execute(
                        text(f"ALTER TABLE {table.name} ADD COLUMN {column.name} {kind} NOT NULL DEFAULT {empty}")
                    )


def engine() -> Engine:
    home = settings().home
    home.mkdir(parents=True, exist_ok=True)
    return _engine(settings().database)


@contextmanager
def session() -> Iterator[Session]:
    """One transaction: committed whole or not at all."""
    with Session(engine(), expire_on_commit=False) as s, s.begin():
        yield s


def latest_result(s: Session, case_id: str) -> ResultRow | None:
    return s.scalars(
        select(ResultRow).where(ResultRow.case_id == case_id).order_by(ResultRow.id.desc()).limit(1)
    ).first()
