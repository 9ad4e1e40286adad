"""What the node has received: files under MEDFUSE_HOME/images, indexed in the catalogue. Acknowledged means
on disk and indexed.

Many associations share one committer: it writes the index rows of everything that waits in one transaction,
    so that durability costs one flush for many objects.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydicom.dataset import Dataset
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from ..io.durable import write_durably
from ..io.names import uid_name
from ..library import Library
from ..library.audit import anchor_head, enter, write
from ..library.audit_rows import AuditedSession
from ..library.catalogue import InstanceRow
from ..library.projects import shown_instances
from ..library.store import stored_path

KEYS = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "IssuerOfPatientID",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "AccessionNumber",
    "StudyID",
    "ReferringPhysicianName",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDescription",
    "Modality",
    "BodyPartExamined",
    "SOPInstanceUID",
    "SOPClassUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
)
LONGEST_KEY = 1024  # characters of a value in the index
Outcome = Literal["stored", "known", "conflict"]
log = logging.getLogger(__name__)


@dataclass
class Instance:
    """One received object: ``data`` are the bytes of the file as it will lie on disk."""

    data: bytes
    keys: dict[str, str]
    transfer_syntax: str
    source: str

    @property
    def uid(self) -> str:
        """Its SOPInstanceUID."""
        return self.keys["SOPInstanceUID"]


def keys_of(ds: Dataset) -> dict[str, str]:
    """What queries ask for, as text; values parted by backslashes, what is too long cut. Raises ValueError
    for an identifier without end, and what pydicom does for a damaged value."""
    out = {}
    for key in KEYS:
        value = ds.get(key)
        if value not in (None, ""):
            said = str(value) if not isinstance(value, (list, tuple)) else "\\".join(map(str, value))
            if len(said) > LONGEST_KEY and key.endswith(("UID", "PatientID")):
                raise ValueError(f"{key} has {len(said)} characters")
            out[key] = said[:LONGEST_KEY]
    return out


class Archive:
    """Stores instances durably in a library. One per process; `close` ends its committer."""

    def __init__(self, library: Library | None = None, *, most: int = 64) -> None:
        self.library = library or Library()
        self._waiting: queue.SimpleQueue[tuple[InstanceRow, Future] | None] = queue.SimpleQueue()
        self._most = most
        self._closed = False
        self._closing = threading.Lock()
        (self.library.home / "quarantine").mkdir(parents=True, exist_ok=True)
        with self.library.engine.connect() as c:  # a commit that is acknowledged must be on disk
            self._full = c.dialect.name == "sqlite"
        self._sweep()
        self._thread = threading.Thread(target=self._commit_all, name="archive", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, and end the committer."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def store(self, instance: Instance) -> Outcome:
        """On disk and in the index when this returns. Same UID and bytes again: known. Other bytes: the old
        stay, the new are quarantined. Raises OSError where the disk refuses, or after `close`."""
        digest = hashlib.sha256(instance.data).hexdigest()
        known = self._digest_of(instance.uid)
        if known is not None:
            return self._again(instance, digest, known)
        write_durably(stored_path(self.library, digest), instance.data)
        done: Future[str] = Future()
        row = InstanceRow(
            uid=instance.uid,
            sha256=digest,
            sop_class=instance.keys.get("SOPClassUID", ""),
            transfer_syntax=instance.transfer_syntax,
            study_uid=instance.keys.get("StudyInstanceUID", ""),
            series_uid=instance.keys.get("SeriesInstanceUID", ""),
            patient_id=instance.keys.get("PatientID", "")[:64],
            keys=instance.keys,
            source=instance.source[:80],
            received=datetime.now(UTC),
            filed=False,
        )
        with self._closing:
            if self._closed:  # nobody would ever answer
                raise OSError("the archive is closed")
            self._waiting.put((row, done))
        stored = done.result()
        return "stored" if stored == "" else self._again(instance, digest, stored)

    def _again(self, instance: Instance, digest: str, known: str) -> Outcome:
        if known == digest:
            write_durably(
                stored_path(self.library, digest), instance.data
            )  # where it was set aside as damaged
            return "known"
        where = self.library.home / "quarantine" / f"{uid_name(instance.uid)}.{digest[:12]}.dcm"
        write_durably(where, instance.data)
        log.warning(
            "%s from %s: same SOP Instance UID but other bytes than stored; the old stay, the new lie in %s",
            uid_name(instance.uid),
            instance.source,
            where,
        )
        return "conflict"

    def _digest_of(self, uid: str) -> str | None:
        with self.library.session() as s:
            return s.scalar(select(InstanceRow.sha256).where(InstanceRow.uid == uid))

    def _commit_all(self) -> None:
        """The committer: everything that waits, in one transaction."""
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < self._most:
                try:
                    item = self._waiting.get_nowait()
                except queue.Empty:
                    break
                if item is None:
                    self._waiting.put(None)
                    break
                batch.append(item)
            self._commit(batch)

    def _commit(self, batch: list[tuple[InstanceRow, Future]]) -> None:
        try:
            with AuditedSession(self.library.engine, expire_on_commit=False) as s:
                if self._full:
                    s.execute(text("PRAGMA synchronous=FULL"))
                with s.begin() if not s.in_transaction() else s.get_transaction():  # type: ignore[union-attr]
                    there = dict(
                        s.execute(
                            select(InstanceRow.uid, InstanceRow.sha256).where(
                                InstanceRow.uid.in_([r.uid for r, _ in batch])
                            )
                        ).all()
                    )
                    results = []
                    for row, _ in batch:
                        if row.uid not in there:
                            there[row.uid] = row.sha256
                            s.add(row)
                            results.append("")
                        else:
                            results.append(there[row.uid])
                    _enter(s, [row for (row, _), result in zip(batch, results, strict=True) if not result])
                    head = write(self.library, s)
        except Exception as e:
            if len(batch) > 1:  # one row that the database refuses must not cost the others theirs
                for item in batch:
                    self._commit([item])
            else:
                batch[0][1].set_exception(e)
            return
        anchor_head(self.library, head)
        for (_, done), result in zip(batch, results, strict=True):
            done.set_result(result)

    def _sweep(self) -> None:
        """Half-written files of a node that was killed."""
        images = self.library.home / "images"
        for part in images.glob("*/.*.part") if images.is_dir() else ():
            part.unlink(missing_ok=True)


def _enter(s: Session, rows: list[InstanceRow]) -> None:
    """One entry of the audit log a sender and study, in the transaction that keeps its objects."""
    counts = Counter((row.source, row.study_uid) for row in rows)
    for (source, study), objects in counts.items():
        who = source if "://" in source else f"aet:{source}"
        enter(s, "objects received", who=who, study=study, objects=objects)


LEVELS = {"PATIENT": "patient_id", "STUDY": "study_uid", "SERIES": "series_uid", "IMAGE": "uid"}


def find(
    library: Library, level: str, query: dict[str, str], *, most: int = 10_000
) -> Iterator[dict[str, str]]:
    """One row of keys a patient, study, series or instance that matches. Wildcards * and ?, date ranges,
    lists of UIDs (PS3.4 C.2.2.2)."""
    column = getattr(InstanceRow, LEVELS[level])
    wanted = select(InstanceRow).where(shown_instances(library))
    for key, field in (
        ("StudyInstanceUID", InstanceRow.study_uid),
        ("SeriesInstanceUID", InstanceRow.series_uid),
        ("SOPInstanceUID", InstanceRow.uid),
    ):
        if query.get(key):
            wanted = wanted.where(field.in_(query[key].split("\\")))
    patient = query.get("PatientID", "")
    if patient and not set(patient) & set("*?"):
        wanted = wanted.where(InstanceRow.patient_id == patient)
    seen: dict[str, dict] = {}
    with library.session() as s:
        for row in s.scalars(wanted.order_by(column)).yield_per(500):
            name = getattr(row, LEVELS[level])
            if name in seen or not all(matches(row.keys.get(k, ""), v, k) for k, v in query.items() if v):
                if name in seen:
                    _count(seen[name], row)
                continue
            seen[name] = dict(row.keys)
            seen[name]["_modalities"] = ""
            _count(seen[name], row)
            if len(seen) >= most:
                break
    yield from seen.values()


def _count(found: dict, row: InstanceRow) -> None:
    found["_instances"] = str(int(found.get("_instances", "0")) + 1)
    found["_modalities"] = "\\".join(
        sorted({*found["_modalities"].split("\\"), row.keys.get("Modality", "")} - {""})
    )


def matches(value: str, wanted: str, key: str) -> bool:
    """Whether a stored value satisfies a query's."""
    import fnmatch

    if key.endswith("Date") and "-" in wanted:
        low, _, high = wanted.partition("-")
        return bool(value) and (not low or value >= low) and (not high or value <= high)
    if key.endswith("UID"):
        return value in wanted.split("\\")
    if key == "ModalitiesInStudy":
        return True
    return fnmatch.fnmatchcase(value.casefold(), wanted.casefold())


def files_of(library: Library, query: dict[str, str]) -> list[tuple[str, str, str, Path]]:
    """(SOP instance, SOP class, transfer syntax, file) of what UIDs or a patient id name."""
    wanted = select(
        InstanceRow.uid, InstanceRow.sop_class, InstanceRow.transfer_syntax, InstanceRow.sha256
    ).where(shown_instances(library))
    named = False
    for key, field in (
        ("PatientID", InstanceRow.patient_id),
        ("StudyInstanceUID", InstanceRow.study_uid),
        ("SeriesInstanceUID", InstanceRow.series_uid),
        ("SOPInstanceUID", InstanceRow.uid),
    ):
        if query.get(key):
            named = True
            wanted = wanted.where(field.in_(query[key].split("\\")))
    if not named:
        return []
    with library.session() as s:
        return [
            (u, c, t, stored_path(library, d))
            for u, c, t, d in s.execute(wanted.order_by(InstanceRow.uid)).all()
        ]


def quiet_studies(library: Library, seconds: float) -> dict[str, list[Path]]:
    """Patient (or study, where there is none) → files, of patients with something not yet filed and nothing
    new for a while."""
    from datetime import timedelta

    limit = datetime.now(UTC) - timedelta(seconds=seconds)
    with library.session() as s:
        rows = s.execute(
            select(InstanceRow.patient_id, InstanceRow.study_uid)
            .where(InstanceRow.filed.is_(False))
            .distinct()
        ).all()
        out: dict[str, list[Path]] = {}
        for patient, study in rows:
            mine = InstanceRow.patient_id == patient if patient else InstanceRow.study_uid == study
            newest = s.scalar(
                select(InstanceRow.received).where(mine).order_by(InstanceRow.received.desc()).limit(1)
            )
            if newest is not None and newest.replace(tzinfo=newest.tzinfo or UTC) <= limit:
                out[patient or study] = [
                    stored_path(library, d) for d in s.scalars(select(InstanceRow.sha256).where(mine))
                ]
        return out


def mark_filed(library: Library, files: list[Path]) -> None:
    """Note that the cases of these stored files are in the library."""
    names = [f.name for f in files]
    with library.session() as s:
        for i in range(0, len(names), 500):
            s.execute(
                update(InstanceRow).where(InstanceRow.sha256.in_(names[i : i + 500])).values(filed=True)
            )
