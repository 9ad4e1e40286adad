"""The registry of modalities: one record is all that a modality is asked by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medfuse import modalities
from medfuse.case import Image, Source
from medfuse.display.views import windows_of
from medfuse.errors import UserError, WrongUse
from medfuse.io.headers import classify
from medfuse.modalities import MODALITIES, Window
from medfuse.task import Task, load_task


@pytest.fixture
def another(monkeypatch):
    """A modality that only this test knows: optical tomography as volumes in its own unit."""
    known = dict(MODALITIES)
    record = replace(
        MODALITIES["CT"],
        code="OPT",
        word={"en": "Optical tomography", "zh-TW": "光學斷層"},
        sop_classes=("1.2.840.10008.5.1.4.1.1.77.1.5.4",),
        plain_classes=(),
        unit=None,
        windows={"Full": Window(percentiles=(0, 100))},
        aliases=("OCT",),
        roles_from="",
    )
    modalities.add(record)
    yield record
    MODALITIES.clear()
    MODALITIES.update(known)


def volume(code: str) -> Image:
    values = np.arange(8**3, dtype=np.float32).reshape(8, 8, 8)
    return Image(code, values, Source("x"), affine=np.eye(4))


def test_an_unknown_modality_is_refused_by_name(tmp_path):
    with pytest.raises(WrongUse, match="modality XA is not known; medfuse reads US, CT"):
        volume("XA")
    shipped = load_task("upper-abdomen")
    (tmp_path / "task.yaml").write_text(
        "extends: upper-abdomen\nname: other\nmodalities: {XA: {intensity: {kind: byte}}}\nfindings: []\n"
        "exclusive: []\n"
    )
    with pytest.raises(UserError, match="modality XA is not known"):
        load_task(tmp_path / "task.yaml")
    assert shipped.image_senses == ("US", "CT", "MR")


def test_kind_says_what_has_a_place():
    cine = Image("US", np.zeros((3, 8, 8), np.uint8), Source("x"))
    sweep = Image("US", np.zeros((8, 8, 4), np.float32), Source("x"), affine=np.eye(4))
    assert (cine.kind, cine.frames) == ("cine", 3)
    assert (sweep.kind, sweep.frames) == ("volume", 4)
    assert volume("CT").kind == "volume"


def test_a_new_record_is_read_shown_and_asked(another, tmp_path):
    tags = {"SOPClassUID": another.sop_classes[0], "SOPInstanceUID": "1.2", "SeriesInstanceUID": "1.3"}
    assert classify(tmp_path, {**tags, "Rows": "8", "Columns": "8"}).modality == "OPT"
    assert modalities.stated("oct") == "OPT"
    assert windows_of(volume("OPT")) == {"Full": (219.0, 438.0)}
    spec = load_task("upper-abdomen").modalities["CT"]
    data = {"name": "t", "title": {"en": "t"}, "body_part": "eye", "findings": []}
    task = Task(**data, modalities={"OPT": spec.model_dump(), "CT": spec.model_dump()})
    assert task.image_senses == ("CT", "OPT")


def test_no_two_records_may_claim_one_code_or_class():
    with pytest.raises(ValueError, match="is there already"):
        modalities.add(MODALITIES["CT"])
    with pytest.raises(ValueError, match="belongs to modality CT"):
        modalities.add(replace(MODALITIES["CT"], code="CT2"))
