"""What a library holds, as SQLAlchemy tables. A change here needs a step in migrations/versions too."""

from __future__ import annotations

from datetime import UTC, datetime

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
    TypeDecorator,
    UniqueConstraint,
    select,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, relationship


def _now() -> datetime:
    return datetime.now(UTC)


class Base(DeclarativeBase):
    pass


_STORED = {0xDC00 + byte: 0xF700 + byte for byte in range(0x80, 0x100)}
_BACK = {there: here for here, there in _STORED.items()}


class FileText(TypeDecorator[str]):
    """Text that may hold names of files. Python writes a byte of a name that is no UTF-8 as a lone surrogate
    (PEP 383), which no database stores; here it lies in Unicode's private area and comes back as it was."""

    impl: type[String] = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.translate(_STORED)

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else value.translate(_BACK)


class FilePath(FileText):
    """A path as `FileText`, of a length that can be a key."""

    impl = String
    cache_ok = True


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


class LabelRow(Base):
    """What a worklist shows of a case, from the headers of its files. files: how many it holds."""

    __tablename__ = "labels"
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    name: Mapped[str] = mapped_column(Text, default="")
    accession: Mapped[str] = mapped_column(String(255), default="")
    body_part: Mapped[str] = mapped_column(String(64), default="")
    description: Mapped[str] = mapped_column(String(255), default="")
    files: Mapped[int] = mapped_column(Integer, default=0)


class ReferringRow(Base):
    """A presentation state or key object selection of a case. said: a `ReferringObject`, without its path."""

    __tablename__ = "referring"
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    sop_uid: Mapped[str] = mapped_column(String(64), primary_key=True)
    said: Mapped[dict] = mapped_column(JSON)


class CaseProjectRow(Base):
    """Which project a case is in; one without a row is in the default project."""

    __tablename__ = "case_projects"
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), primary_key=True)
    project: Mapped[str] = mapped_column(String(64), index=True)
    case: Mapped[CaseRow] = relationship()


class FileRow(Base):
    """One file that a scan has seen: unchanged (size, time), it need not be opened again."""

    __tablename__ = "files"
    path: Mapped[str] = mapped_column(FilePath(1024), primary_key=True)
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(FileText, default="")
    # id, or study where there is none
    patient: Mapped[str] = mapped_column(String(140), default="", index=True)
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
    # what a worklist shows of it, so that it reads no prediction
    summary: Mapped[dict] = mapped_column(JSON, default=dict)
    case: Mapped[CaseRow] = relationship(back_populates="results")


class ReportRow(Base):
    """One revision of a case's report: rows are only added. The newest row of a case is what stands."""

    __tablename__ = "reports"
    # two writers of one revision: the second is refused
    __table_args__ = (UniqueConstraint("case_id", "revision"),)
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
    signature: Mapped[str] = mapped_column(String(64), default="")  # keyed, of a signed version


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
    """A distance or region that a person drew on an image, in pixels of the slice as displayed; a removed one
    stays, marked."""

    __tablename__ = "measurements"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.id"), index=True)
    author: Mapped[str] = mapped_column(String(80))
    made: Mapped[datetime] = mapped_column(DateTime(timezone=True), default=_now)
    removed: Mapped[bool] = mapped_column(Boolean, default=False)
    data: Mapped[dict] = mapped_column(JSON)


class EditRow(Base):
    """What somebody is typing into a report and has not finished: one a case and account, offered again after
    a lost session."""

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
    # drafted, edited, or an alternative writer: hidden from the rater
    kind: Mapped[str] = mapped_column(String(16))
    correctness: Mapped[int] = mapped_column(Integer)
    completeness: Mapped[int] = mapped_column(Integer)
    wording: Mapped[int] = mapped_column(Integer)
    seconds: Mapped[float] = mapped_column(Float)
    # words to insert, delete or replace until it is the version that stands
    edit_distance: Mapped[int] = mapped_column(Integer)
    language: Mapped[str] = mapped_column(String(16), default="")
    bundle_hash: Mapped[str] = mapped_column(String(64), default="")  # of the bundle that drafted the report
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


class AuditRow(Base):
    """One entry of the audit log. Its seal covers every other column, and the seal of the entry before."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(40))  # ISO 8601, UTC
    event: Mapped[str] = mapped_column(String(64))
    who: Mapped[str] = mapped_column(String(200))
    case_id: Mapped[str] = mapped_column(String(80), index=True)
    details: Mapped[str] = mapped_column(Text)  # JSON, as it was sealed
    rows: Mapped[str] = mapped_column(Text)  # JSON: [table, key, case, hash] of each row that was touched
    before: Mapped[str] = mapped_column(String(64))
    seal: Mapped[str] = mapped_column(String(64))


class AuditHeadRow(Base):
    """The log's name and how many entries it has: one row, which every writer changes and so waits for."""

    __tablename__ = "audit_head"
    log: Mapped[str] = mapped_column(String(64), primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, default=0)


def latest_result(s: Session, case_id: str) -> ResultRow | None:
    """The newest prediction of a case, in the caller's transaction."""
    return s.scalars(
        select(ResultRow).where(ResultRow.case_id == case_id).order_by(ResultRow.id.desc()).limit(1)
    ).first()
