"""Simulated patients: replayable, different physics of one anatomy, honest headers, no shortcut."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import WrongUse
from medfuse.io.cases import find_cases
from medfuse.simulation import ct, mr, parameters
from medfuse.simulation.anatomy import draw_anatomy
from medfuse.simulation.parameters import DENSE
from medfuse.simulation.patient import Variant, simulate
from medfuse.simulation.population import write_population

# changing the tissue table is a decision, not an accident: bundles trained before are then of another world
FROZEN = "b7d58519d175"


def anatomy_where(**wanted):
    """The first patient whose findings are as wanted."""
    for seed in range(2000):
        a = draw_anatomy(np.random.default_rng(seed))
        if all(a.findings[k] == v for k, v in wanted.items()):
            return a, np.random.default_rng(seed + 10_000)
    raise AssertionError(f"no patient with {wanted}")


def mean_in(volume, dense, name):
    return float(volume[dense == DENSE.index(name)].mean())


def test_parameters_are_frozen():
    assert parameters.digest().startswith(FROZEN)


def test_every_tissue_names_its_sources():
    table = parameters.table()
    rows = [
        *table.tissues.values(),
        *table.lesions.values(),
        table.diffuse.steatosis,
        table.diffuse.iron,
        table.diffuse.cirrhosis,
        table.diffuse.ascites,
    ]
    for row in rows:
        assert row.source
        assert set(row.source) <= set(table.sources)


def test_same_numbers_same_patient():
    a = simulate(3, 8)
    b = simulate(3, 8)
    assert a.labels == b.labels
    assert a.report == b.report
    for x, y in zip(a.acquisitions, b.acquisitions, strict=True):
        assert np.array_equal(x.pixels, y.pixels)
    assert not np.array_equal(simulate(3, 9).acquisitions[0].pixels, a.acquisitions[0].pixels)


def test_ct_is_in_hounsfield_units():
    a, rng = anatomy_where(steatosis=False, iron=False, gallstone=False)
    grid = ct.draw_grid(rng, a, cut=False)
    (_, plain, dense), (_, portal, _) = ct.render(rng, a, grid, ["unenhanced", "portal"])
    assert 35 < mean_in(plain, dense, "liver") < 80
    assert mean_in(portal, dense, "liver") - mean_in(plain, dense, "liver") > 25
    assert plain.min() < -900  # air outside the body


def test_fat_lowers_ct_and_opposed_phase():
    fat, rng = anatomy_where(steatosis=True, iron=False)
    lean, rng2 = anatomy_where(steatosis=False, iron=False)
    hu = []
    ratio = []
    for a, r in ((fat, rng), (lean, rng2)):
        ((_, volume, dense),) = ct.render(r, a, ct.draw_grid(r, a, cut=False), ["unenhanced"])
        hu.append(mean_in(volume, dense, "liver"))
        (_, inphase, dense), (_, opposed, _) = mr.render(
            r, a, mr.draw_grid(r, a, cut=False), ["t1_in", "t1_opposed"]
        )
        ratio.append(mean_in(opposed, dense, "liver") / mean_in(inphase, dense, "liver"))
    assert hu[0] < hu[1] - 8
    assert ratio[0] < ratio[1] - 0.1


def test_iron_darkens_in_phase_against_opposed():
    a, r = anatomy_where(iron=True, steatosis=False)
    (_, inphase, dense), (_, opposed, _) = mr.render(
        r, a, mr.draw_grid(r, a, cut=False), ["t1_in", "t1_opposed"]
    )
    assert mean_in(inphase, dense, "liver") < mean_in(opposed, dense, "liver")


def test_protocol_and_pose_carry_no_label():
    """Field of view, slices, phases and cuts are drawn apart from the findings: they predict nothing."""
    rng_rows = []
    labels = []
    for i in range(250):
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence([77, i]).spawn(6)]
        a = draw_anatomy(streams[0])
        phases = ct.draw_protocol(streams[1])
        grid = ct.draw_grid(streams[2], a, cut=False)
        rng_rows.append([len(phases), grid.shape[2], grid.affine[0, 3], grid.to_body[0], grid.to_body[2]])
        labels.append(int(bool(a.lesions)))
    x = np.array(rng_rows, float)
    y = np.array(labels)
    for column in x.T:
        assert abs(np.corrcoef(column, y)[0, 1]) < 0.2


def test_ultrasound_windows_are_blind_to_lesions():
    """The same patient with and without lesions is scanned from the same places."""
    from medfuse.simulation.us import render

    a, _ = anatomy_where(haemangioma=True)
    with_lesions = render(np.random.default_rng(1), a, frames=4)
    a.lesions.clear()
    without = render(np.random.default_rng(1), a, frames=4)
    liver = DENSE.index("liver")
    outside = (with_lesions.dense < liver + 8) & (without.dense > 0)
    assert np.array_equal(with_lesions.dense[outside], without.dense[outside])
    assert (with_lesions.dense > len(parameters.ORGANS) - 1).any()


def test_dicom_says_simulated_and_has_three_studies(patient, patient_dicom):
    studies = set()
    accessions = set()
    dates = set()
    frames = {}
    for path in sorted(patient_dicom.rglob("*.dcm")):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert ds.ImageType[2] == "SIMULATED"
        assert "SIMULATED" in str(ds.PatientName)
        assert "SIMULATED" in ds.SeriesDescription
        assert "not a patient" in ds.ImageComments
        studies.add(ds.StudyInstanceUID)
        accessions.add(ds.AccessionNumber)
        dates.add(ds.StudyDate)
        if "FrameOfReferenceUID" in ds:
            frames.setdefault(ds.Modality, set()).add(ds.FrameOfReferenceUID)
    assert len(studies) == len(accessions) == len(dates) == 3
    assert frames["CT"].isdisjoint(frames["MR"])
    cine = pydicom.dcmread(next((patient_dicom / "US").rglob("*.dcm")), stop_before_pixels=True)
    assert cine.NumberOfFrames == 20
    assert cine.SequenceOfUltrasoundRegions[0].PhysicalUnitsXDirection == 3


def test_dicom_reads_back_as_simulated(patient, patient_dicom):
    (case,) = find_cases(patient_dicom).cases
    assert {i.modality for i in case.images} == {"US", "CT", "MR"}
    by = {(i.modality, i.role): i for i in case.images}
    for a in patient.acquisitions:
        image = by[(a.modality, a.role)]
        assert image.source.simulated
        if a.grid is None:
            assert np.array_equal(image.pixels, a.pixels)
            assert image.spacing[0] == pytest.approx(a.cine.mm_per_pixel, abs=1e-6)
            continue
        assert np.abs(image.pixels - a.pixels).max() <= 0.501
        corner = np.array([*np.array(a.grid.shape) - 1, 1])
        assert np.abs(image.affine @ corner - a.grid.affine @ corner).max() < 1e-3


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dicom_passes_dciodvfy(patient_dicom):
    seen = set()
    for path in sorted(patient_dicom.rglob("*.dcm")):
        if path.parent in seen:
            continue
        seen.add(path.parent)
        out = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        errors = [line for line in (out.stdout + out.stderr).splitlines() if line.startswith("Error")]
        assert not errors, (path, errors)


def test_population_manifest(tmp_path):
    manifest = write_population(tmp_path, cases=3, seed=2, file_format="nifti", variant=Variant(missing=0.5))
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [r["case_id"] for r in rows] == [f"SIM-2-{i:05d}" for i in range(3)]
    for row in rows:
        assert row["images"]
        assert row["simulated"]
        assert row["labels"]["focal_lesion"] == int(bool(row["lesions"]))
        for image in row["images"]:
            assert (tmp_path / image["path"]).exists()
            assert (tmp_path / image["mask"]).exists()


def test_one_modality_alone_is_what_it_is_beside_the_others(patient):
    alone = simulate(patient.seed, patient.number, Variant(modalities=("US",)))
    (cine,) = alone.acquisitions
    beside = next(a for a in patient.acquisitions if a.modality == "US")
    assert np.array_equal(cine.pixels, beside.pixels)
    assert alone.labels == patient.labels
    assert alone.report == patient.report


def test_only_what_can_be_acquired_alone_may_be_asked_for(tmp_path):
    for wrong in (["--modality", "PET"], ["--modality", "US", "--missing", "0.2"]):
        said = CliRunner().invoke(app, ["simulate", "--cases", "1", "--out", str(tmp_path / "out"), *wrong])
        assert isinstance(said.exception, WrongUse)
        assert "--modality" in str(said.exception)
    assert not (tmp_path / "out").exists()


def test_held_out_wording_is_never_used_in_training():
    from medfuse.simulation.wording import phrases, report

    POSITIVE = phrases().positive
    NEGATIVE = phrases().negative

    a, _ = anatomy_where(gallstone=True)
    texts = [report(np.random.default_rng(i), a) for i in range(60)]
    kept_back = POSITIVE["gallstone"][-1]
    assert not any(kept_back in t for t in texts)
    assert kept_back in report(np.random.default_rng(0), a, held_out=True)
    assert all(len(v) >= 3 for v in (*POSITIVE.values(), *NEGATIVE.values()))


def test_the_control_population_needs_nothing_but_mr():
    from medfuse.simulation.mr import SEQUENCES

    for index in range(3):
        patient = simulate(91, index, Variant(control=True))
        assert {a.role for a in patient.of("MR")} == set(SEQUENCES)
        assert patient.labels["calcified_granuloma"] == patient.labels["gallstone"] == 0
        assert patient.of("US")
        assert patient.of("CT")


def test_labs_are_coded_dated_and_only_weakly_informed():
    from medfuse.simulation.labs import HINTS, draw_indication, draw_labs, draw_risk, table

    assert all(lab.source and lab.loinc and lab.unit for lab in table())
    rng = np.random.default_rng(0)
    sick = [{x.name: x.value for x in draw_labs(rng, {"abscess": True})} for _ in range(400)]
    well = [{x.name: x.value for x in draw_labs(rng, {})} for _ in range(400)]
    crp = [[d["C-reactive protein"] for d in group if "C-reactive protein" in d] for group in (sick, well)]
    assert np.median(crp[0]) > 10 * np.median(crp[1])
    assert 0.5 < len(crp[1]) / 400 < 0.7  # not everyone has every test
    afp = [[d["alpha-fetoprotein"] for d in group if "alpha-fetoprotein" in d] for group in (sick, well)]
    assert 0.8 < np.median(afp[0]) / np.median(afp[1]) < 1.25  # nothing to do with an abscess
    (lab, *_) = draw_labs(rng, {})
    assert all((lab.name, lab.loinc, lab.value, lab.unit, lab.date))
    told = [draw_indication(rng, {"metastasis_like": True}) == "Staging." for _ in range(2000)]
    assert 1.5 / len(HINTS) < np.mean(told) < 2.2 / len(HINTS)  # a hint, no more
    assert {draw_risk(rng, {"cirrhosis": True}) for _ in range(60)} == {
        "",
        "none known",
        "chronic liver disease",
    }
