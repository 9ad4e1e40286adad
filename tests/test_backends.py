"""The same case by torch and by OpenVINO: the same findings within tolerance, the same lesions."""

from __future__ import annotations

import pytest
import torch

from medfuse.bundles.bundle import load_bundle
from medfuse.errors import WrongUse
from medfuse.inference.predictor import Predictor
from medfuse.io.read import open_case

TOLERANCE = 2e-3


@pytest.mark.filterwarnings(
    "ignore"
)  # tracing warns of Python loops, which have the same length for every input
def test_openvino_says_what_torch_says(patient_dicom):
    pytest.importorskip("openvino")
    bundle = load_bundle()
    case = open_case(patient_dicom)
    one = Predictor(bundle)(case)
    two = Predictor(bundle, backend="openvino")(case)
    for a, b in zip(one.findings, two.findings, strict=True):
        assert a.probability == pytest.approx(b.probability, abs=TOLERANCE), a.id
    assert [(x.id, x.finding, x.place.slice, x.place.frame) for x in one.lesions] == [
        (x.id, x.finding, x.place.slice, x.place.frame) for x in two.lesions
    ]
    encoders = bundle.encoders_for("openvino")
    values = torch.randn(2, 1, 128, 128)
    present = torch.ones(2, 1, dtype=torch.bool)
    with torch.inference_mode():
        for a, b in zip(
            bundle.model.encoders["US"](values, present), encoders["US"](values, present), strict=True
        ):
            assert torch.allclose(a, b, atol=2e-3)


def test_an_unknown_backend_is_named(patient_dicom):
    with pytest.raises(WrongUse, match="give torch or openvino"):
        Predictor(load_bundle(), backend="abacus")
