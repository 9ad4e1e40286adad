"""docs/extend.md, followed: its code is run, and what it adds is used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from house import ROOT

from apps.viewer import registry
from apps.viewer.pixels import encode
from medfuse.case import Case
from medfuse.display.views import slice_array
from medfuse.errors import UserError
from medfuse.exports.registry import FORMATS, formats_named
from medfuse.exports.request import ExportRequest, write_exports
from medfuse.io.read import open_case
from medfuse.modalities import MODALITIES
from medfuse.models.coordination import OBJECTIVES
from medfuse.models.encoders import DENSE_ENCODERS, IMAGE_ENCODERS
from medfuse.models.feature_set import FusionData
from medfuse.models.features import CaseFeatures, collate
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.senses import SENSES, add_senses
from medfuse.prediction import FindingRecord, Prediction
from medfuse.preprocess.prepare import prepare
from medfuse.report import Report
from medfuse.task import Task, load_task
from medfuse.training.budget import Budget
from medfuse.training.stages.fusion import FusionTraining, train_fusion

PAGE = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
CODE = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
FINDING = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0]
REGISTRIES: list[dict | list] = [
    MODALITIES,
    FORMATS,
    DENSE_ENCODERS,
    IMAGE_ENCODERS,
    SENSES,
    OBJECTIVES,
    registry.PAGES,
]


@pytest.fixture
def added() -> Iterator[dict[str, Any]]:
    """The names that the page's code makes, run in one piece; every registry is as before afterwards."""
    before = [r.copy() for r in REGISTRIES]
    names: dict[str, Any] = {"__name__": "extend"}
    try:
        exec(compile(CODE, "docs/extend.md", "exec", dont_inherit=True), names)
        yield names
    finally:
        for now, old in zip(REGISTRIES, before, strict=True):
            now.clear()
            now.update(old) if isinstance(now, dict) else now.extend(old)  # type: ignore[arg-type]


def with_encoder(name: str) -> Task:
    shipped = load_task("breast-ultrasound")
    spec = shipped.modalities["US"].model_copy(update={"encoder": name})
    return shipped.model_copy(update={"modalities": {"US": spec}})


def test_the_page_has_a_section_for_each_kind():
    kinds = ["finding", "modality", "encoder", "sense", "loss", "export format", "page"]
    missing = [k for k in kinds if not re.search(rf"^## An? {k}", PAGE, re.MULTILINE)]
    assert not missing


def test_a_finding(tmp_path):
    (tmp_path / "task.yaml").write_text(FINDING, encoding="utf-8")
    task = load_task(tmp_path)
    (finding,) = task.findings
    assert finding.id == yaml.safe_load(FINDING)["findings"][0]["id"]
    assert FusionModel(task, ModelConfig(vocabulary=1), encoders=False).head[-1].out_features == 1


@pytest.mark.usefixtures("added")
def test_a_modality(tmp_path):
    values = np.arange(12**3, dtype=np.float32).reshape(12, 12, 12)
    nib.save(nib.Nifti1Image(values, np.diag([2.0, 2, 2, 1])), tmp_path / "a.nii.gz")
    (tmp_path / "a.json").write_text('{"Modality": "optoacoustic"}')
    case = open_case(tmp_path / "a.nii.gz")
    (image,) = case.images
    assert (image.modality, image.kind) == ("PA", "volume")
    assert slice_array(image, 6)[0].max() == 255
    assert list(encode(image, tmp_path, 0).presets) == ["Full"]
    spec = {"spacing_mm": [2, 2, 2], "intensity": {"kind": "robust"}}
    data = {"name": "t", "title": {"en": "t"}, "body_part": "breast", "findings": []}
    task = Task(**data, modalities={"PA": spec, "CT": spec})
    assert task.image_senses == ("CT", "PA")
    (prepared,) = prepare(case, task)["PA"]
    assert prepared.values.shape == (1, 16, 16, 16)


def test_a_modality_that_nobody_registered_is_refused_by_name(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4)), np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="modality PA is not known; medfuse reads US, CT"):
        open_case(tmp_path / "a.nii.gz", modality="PA")


def test_an_encoder(added):
    task = with_encoder("mean")
    model = FusionModel(task, ModelConfig(vocabulary=1)).eval()
    assert isinstance(model.encoders["US"], added["Mean"])
    tokens = model.encoders["US"](torch.rand(2, 1, 64, 64))
    every = torch.ones(2, 1, dtype=torch.bool)
    logits = model({"US": (tokens, every, torch.zeros(2, 1, dtype=torch.long))}).logits
    assert logits.shape == (2, len(task.findings))


def test_an_encoder_that_nobody_registered_is_refused_by_name():
    with pytest.raises(UserError, match="no encoder mean for US; there are densenet"):
        FusionModel(with_encoder("mean"), ModelConfig(vocabulary=1))


@pytest.mark.usefixtures("added")
def test_a_sense():
    task = load_task("upper-abdomen").model_copy(update={"further": ("LENGTH",)})
    assert task.senses == (*task.image_senses, "LENGTH")
    model = FusionModel(task, ModelConfig(vocabulary=1), encoders=False).eval()
    told = CaseFeatures()
    add_senses(told, task.further, Case("a", indication="pain for three weeks"))
    silent = CaseFeatures()
    add_senses(silent, task.further, Case("b"))
    batch = collate([told, silent], task.senses, model.sizes)
    assert batch["LENGTH"][1].tolist() == [[True], [False]]
    assert batch["LENGTH"][0][0].item() == 4
    assert model(batch).logits.shape == (2, len(task.findings))


def test_a_sense_that_nobody_registered_is_refused_by_name():
    task = load_task("upper-abdomen").model_copy(update={"further": ("LENGTH",)})
    with pytest.raises(UserError, match="no sense LENGTH; there are LABS, TEXT"):
        FusionModel(task, ModelConfig(vocabulary=1), encoders=False)


def test_a_loss(added):
    asked = []

    def counted(a, *rest):
        asked.append(len(a))
        return added["squared"](a, *rest)

    OBJECTIVES["squared"] = counted  # the fixture takes it back
    task = load_task("upper-abdomen")
    config = ModelConfig(coordination="squared", width=32, layers=1, vocabulary=9)
    model = FusionModel(task, config, encoders=False)
    draw = torch.Generator().manual_seed(0)
    batch = {
        m: (torch.randn(6, 2, n, generator=draw), torch.ones(6, 2).bool(), torch.ones(6, 2).long())
        for m, n in model.sizes.items()
    }
    labels = torch.randint(0, 2, (6, len(task.findings)), generator=draw)
    words = torch.randint(1, 9, (6, 5), generator=draw)
    data = FusionData(batch, labels, words, torch.ones(6, 5).bool())
    train_fusion(model, data, data, budget=Budget(steps=2), how=FusionTraining(seed=1))
    assert asked == [6] * len(asked)
    assert len(asked) == 2 * 5  # steps × (joint, joint of a subset, three modalities)


@pytest.mark.usefixtures("added")
def test_an_export_format(tmp_path):
    found = FindingRecord(
        id="ascites", name="ascites", group="other", probability=0.25, calibrated=True, assessed=True
    )
    prediction = Prediction(
        case_id="a",
        simulated=True,
        in_domain=True,
        modalities={},
        images=[],
        findings=[found],
        lesions=[],
        refused=[],
        bundle="b",
        bundle_hash="0",
    )
    report = Report(
        case_id="a",
        language="en",
        simulated=True,
        in_domain=True,
        banner=[],
        sections=[],
        bundle="b",
        bundle_hash="0",
    )
    request = ExportRequest(
        folder=tmp_path,
        prediction=prediction,
        report=report,
        case=Case("a"),
        task=load_task("upper-abdomen"),
    )
    assert "csv" in formats_named("all")
    assert write_exports(request, formats_named("csv")).names == ("findings.csv",)
    assert (tmp_path / "findings.csv").read_text() == "finding,probability\nascites,0.25\n"


def viewer() -> None:
    import importlib
    import sys

    import streamlit as st

    sys.modules.pop("apps.viewer.app", None)
    importlib.import_module("apps.viewer.app")
    st.write(st.session_state["pages"]["mine"].title)

    from apps.viewer.registry import PAGES

    PAGES[-1].show()


@pytest.mark.usefixtures("added")
def test_a_page(tmp_path, monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path))
    app = AppTest.from_function(viewer, default_timeout=90).run()
    assert not app.exception
    assert [m.value for m in app.markdown][-2:] == ["Mine", "a page of one's own"]
