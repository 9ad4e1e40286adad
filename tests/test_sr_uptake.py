"""Uptake and density inside an outline as the structured report has them: codes, units, derivation."""

from __future__ import annotations

import shutil
import subprocess

import highdicom as hd
import numpy as np
import pytest
from test_pet import write_pet

from medfuse.drafting.compose import compose
from medfuse.exports.codes import DERIVED, GLYCOLYSIS
from medfuse.exports.fhir import fhir_bundle
from medfuse.exports.sr import write_sr
from medfuse.inference.measures import measured_in
from medfuse.io.read import open_case
from medfuse.prediction import FindingRecord, ImageRecord, LesionRecord, Place, Prediction
from medfuse.task import load_task

TASK = load_task("soft-tissue-mass")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A PET series as DICOM, and a lesion that is measured in its voxels."""
    folder = tmp_path_factory.mktemp("pet") / "series"
    write_pet(folder)
    case = open_case(folder)
    (image,) = case.images
    mask = np.zeros(image.pixels.shape, bool)
    mask[1:4, 1:4, :] = True
    found = measured_in(image, mask, image.affine, TASK.measures["PT"])
    place = Place(
        image=0,
        frame_of_reference=image.frame_of_reference,
        centre_mm=[0, 0, 0],
        slice=1,
        box_voxels=[[1, 1, 0], [3, 3, 2]],
    )
    lesion = LesionRecord(
        id="PT-1",
        modality="PT",
        finding="soft_tissue_mass",
        probability=0.9,
        long_axis_mm=9.0,
        short_axis_mm=6.0,
        volume_ml=2.0,
        measured=found,
        place=place,
    )
    record = FindingRecord(
        id="soft_tissue_mass",
        name="",
        group="focal",
        probability=0.9,
        calibrated=True,
        assessed=True,
        assessed_by=["PT"],
    )
    prediction = Prediction(
        case_id="a",
        simulated=False,
        in_domain=True,
        modalities={m: "present" if m == "PT" else "absent" for m in TASK.image_senses},
        images=[ImageRecord(path="", modality="PT", in_domain=True, why="", code="inside")],
        findings=[record],
        lesions=[lesion],
        matches=[],
        bundle="b",
        bundle_hash="1",
    )
    return case, prediction, compose(prediction, case, TASK, "en")


def test_uptake_stands_in_the_sr_with_codes_units_and_derivation(measured, tmp_path):
    case, prediction, report = measured
    write_sr(prediction, report, case, TASK).save_as(tmp_path / "sr.dcm")
    sr = hd.sr.srread(tmp_path / "sr.dcm")
    (group,) = sr.content.get_planar_roi_measurement_groups()
    read = {
        (m.name.value, m.derivation.value if m.derivation else ""): (m.value, m.unit.value)
        for m in group.get_measurements()
    }
    assert {m.kind for m in prediction.lesions[0].measured} == {"suv_max", "suv_peak", "suv_mean", "tlg"}
    for m in prediction.lesions[0].measured:
        if m.kind == "tlg":
            assert read[GLYCOLYSIS.value, ""] == (m.value, "g")
        else:
            assert read["126401", DERIVED[m.kind].value] == (m.value, "g/ml{SUVbw}")
    assert read["126401", "56851009"][0] == pytest.approx(case.images[0].pixels[1:4, 1:4].max(), abs=0.01)


def test_uptake_stands_in_fhir(measured):
    case, prediction, report = measured
    text = str(fhir_bundle(prediction, report, case, TASK))
    assert all(word in text for word in ("suv_max", "suv_peak", "tlg", "g/ml{SUVbw}"))


@pytest.mark.skipif(shutil.which("dsrdump") is None, reason="no dsrdump (.ci/install-debian)")
def test_dcmtk_reads_the_uptake(measured, tmp_path):
    case, prediction, report = measured
    write_sr(prediction, report, case, TASK).save_as(tmp_path / "sr.dcm")
    done = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], capture_output=True, check=True)
    said = done.stdout.decode(errors="replace")
    for words in ("Total Lesion Glycolysis", "Peak Value Within ROI", "Maximum", "SUVbw"):
        assert words in said
