"""Registration: known transforms found again, bit by bit the same twice; faults called by name; files that
others can read."""

from __future__ import annotations

import json
import shutil
import subprocess

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from medfuse.affine import other_frame
from medfuse.case import Case, Image, Source
from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.io.landmarks import read_landmarks
from medfuse.io.read import open_case
from medfuse.library import Library
from medfuse.library.registrations import known_registrations, load_transform
from medfuse.registration.quality import assess, same_patient, shared_information
from medfuse.registration.register import RegisterOptions, by_landmarks, matrix_of, moved, register
from medfuse.registration.volume import clamped, from_array, straightened, to_array, to_sitk
from medfuse.workflows.register import Side, register_command

GRID = np.array(np.meshgrid(*[np.linspace(-30, 30, 4)] * 3)).reshape(3, -1).T


@pytest.fixture(scope="module")
def pair():
    """Two contrasts of one body on 2.5 mm grids, the moving one rotated and shifted; (moving, fixed,
    truth)."""
    rng = np.random.default_rng(4)
    n = 48
    x = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")) - n / 2) * 2.5
    label = np.zeros((n, n, n), int)
    label[(x[0] / 48) ** 2 + (x[1] / 38) ** 2 + (x[2] / 50) ** 2 < 1] = 1
    label[((x[0] - 16) / 22) ** 2 + (x[1] / 20) ** 2 + (x[2] / 24) ** 2 < 1] = 2
    for k in range(10):
        c = rng.uniform(-24, 24, 3)
        r = rng.uniform(6, 12, 3)
        label[sum(((x[i] - c[i]) / r[i]) ** 2 for i in range(3)) < 1] = 3 + k % 3
    a, b = (
        gaussian_filter(np.array(v, np.float32)[label], 0.8) + rng.normal(0, s, label.shape)
        for v, s in (([-900, 40, 90, 200, 0, -60], 10), ([0, 90, 150, 20, 230, 60], 4))
    )
    affine = np.diag([2.5, 2.5, 2.5, 1.0])
    affine[:3, 3] = -2.5 * n / 2
    fixed = from_array(a, affine)
    still = from_array(b, affine)
    truth = sitk.Euler3DTransform()
    truth.SetRotation(0.06, -0.05, 0.08)
    truth.SetTranslation((6.0, -4.0, 3.0))
    return sitk.Resample(still, fixed, truth, sitk.sitkLinear, 0.0), fixed, truth.GetInverse()


def error(found, truth) -> float:
    return float(np.linalg.norm(moved(GRID, found) - moved(GRID, truth), axis=1).mean())


def test_a_known_transform_is_found_and_twice_the_same(pair):
    moving, fixed, truth = pair
    first, second = (register(moving, fixed) for _ in range(2))
    assert error(sitk.Transform(), truth) > 6
    assert error(first.transform, truth) < 0.6
    assert first.transform.GetParameters() == second.transform.GetParameters()
    assert first.metric < first.initial_metric
    assert first.curve


def test_affine_and_deformable_go_through_and_do_not_fold(pair):
    moving, fixed, truth = pair
    assert error(register(moving, fixed, RegisterOptions("affine")).transform, truth) < 1.5
    bent = register(moving, fixed, RegisterOptions("deformable"))
    quality = assess(bent, moving, fixed, same_patient=True, back=False)
    assert quality.jacobian[0] > 0
    assert error(bent.transform, truth) < 3


def test_good_is_no_fault_found_and_faults_are_called(pair):
    moving, fixed, truth = pair
    good = register(moving, fixed, quick=True)
    assert assess(good, moving, fixed, same_patient=True).verdict == "no fault found"
    assert assess(good, moving, fixed, same_patient=None).verdict == "check"
    other = assess(good, moving, fixed, same_patient=False)
    assert (other.verdict, other.reasons[0]) == ("failed", "the identifiers are of two patients")
    array = sitk.GetArrayFromImage(moving)
    mirrored = sitk.GetImageFromArray(array[:, :, ::-1].copy())
    mirrored.CopyInformation(moving)
    assert (
        assess(register(mirrored, fixed, quick=True), mirrored, fixed, same_patient=True).verdict
        != "no fault found"
    )
    noise = sitk.GetImageFromArray(np.random.default_rng(1).normal(0, 50, array.shape).astype(np.float32))
    noise.CopyInformation(moving)
    assert assess(register(noise, fixed, quick=True), noise, fixed, same_patient=True).verdict == "failed"
    half = moving[:, :, :18]
    assert (
        assess(register(half, fixed, quick=True), half, fixed, same_patient=True).verdict != "no fault found"
    )
    marks = (moved(GRID, truth) + 30.0, GRID)
    off = assess(good, moving, fixed, landmarks=marks, same_patient=True, back=False)
    assert off.verdict == "failed"
    right = assess(good, moving, fixed, landmarks=(moved(GRID, truth), GRID), same_patient=True, back=False)
    assert right.tre_mm < 1.5


def test_images_that_do_not_meet_are_one_sentence(pair):
    moving, fixed, _ = pair
    far = sitk.Image(moving)
    far.SetOrigin((5000.0, 5000.0, 5000.0))
    with pytest.raises(UserError, match="do not overlap"):
        register(far, fixed, start=sitk.Euler3DTransform())


def test_values_are_held_within_the_window_that_is_laid_over_others(pair):
    values = sitk.GetArrayFromImage(clamped(pair[1] * 3, "CT"))
    assert (values.min(), values.max()) == (-160, 400)
    assert clamped(pair[0], "MR") is pair[0]


def test_windowed_reaches_the_search(pair, tmp_path, home, monkeypatch):
    for name, image in (("m", pair[0]), ("f", pair[1] * 3)):
        pixels, affine = to_array(image)
        nib.save(nib.Nifti1Image(pixels, affine), tmp_path / f"{name}.nii.gz")
    seen = []

    def note(moving, fixed, options, **rest):
        seen.append(float(sitk.GetArrayViewFromImage(fixed).max()))
        raise UserError("enough")

    monkeypatch.setattr("medfuse.workflows.register.register", note)
    sides = [
        Side(path=tmp_path / "m.nii.gz", modality="MR"),
        Side(path=tmp_path / "f.nii.gz", modality="CT"),
    ]
    for windowed in (False, True):
        with pytest.raises(UserError, match="enough"):
            register_command(*sides, tmp_path / "o", RegisterOptions(), windowed=windowed)
    assert seen[0] > 400
    assert seen[1] == 400


def test_landmarks_alone(pair):
    _, _, truth = pair
    found = by_landmarks(moved(GRID, truth), GRID)
    assert error(found, truth) < 1e-6
    with pytest.raises(UserError, match="at least 3 pairs"):
        by_landmarks(GRID[:2], GRID[:2])
    assert np.allclose(other_frame(other_frame(GRID)), GRID)


def test_into_sitk_and_back_and_what_has_no_place(rng):
    affine = np.array([[0, -2.0, 0, 10], [1.5, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    pixels = rng.normal(0, 1, (8, 9, 10)).astype(np.float32)
    image = Image("CT", pixels, Source("x"), affine=affine)
    back, again = to_array(to_sitk(image))
    assert np.array_equal(back, pixels)
    assert np.allclose(again, affine)
    tilted = affine.copy()
    tilted[:3, 2] += [0, 1.0, 0]
    straight, grid = straightened(pixels, tilted)
    directions = grid[:3, :3] / np.linalg.norm(grid[:3, :3], axis=0)
    assert np.allclose(directions.T @ directions, np.eye(3), atol=1e-9)
    place = np.linalg.inv(grid) @ tilted @ np.array([4, 4, 5, 1.0])
    at = tuple(np.round(place[:3]).astype(int))
    assert straight[at] == pytest.approx(pixels[4, 4, 5], abs=2.5)
    for broken, why in (
        (Image("US", np.zeros((3, 8, 8), np.uint8), Source("u")), "cine without tracking"),
        (Image("CT", np.zeros((8, 8, 8), np.float32), Source("c"), affine=np.eye(4)), "the same value"),
        (
            Image("MR", rng.normal(0, 1, (8, 8, 2)).astype(np.float32), Source("m"), affine=np.eye(4)),
            "too few",
        ),
    ):
        with pytest.raises(UserError, match=why):
            to_sitk(broken)


def test_identifiers():
    a = Case("a", "p1", sex="F")
    b = Case("b", "p1", sex="F")
    assert same_patient(a, b) is True
    b.sex = "M"
    assert same_patient(a, b) is False
    assert same_patient(a, Case("c", "p2")) is False
    assert same_patient(a, Case("d")) is None
    assert shared_information(np.zeros(10), np.zeros(10)) == 0.0


def write(image, path):
    pixels, affine = to_array(image)
    nib.save(nib.Nifti1Image(pixels, affine), path)


def test_the_contract(pair, tmp_path, home):
    moving, fixed, truth = pair
    write(moving, tmp_path / "m.nii.gz")
    write(fixed, tmp_path / "f.nii.gz")
    for name, points in (("m", moved(GRID, truth)), ("f", GRID)):
        (tmp_path / f"{name}.csv").write_text(
            "x,y,z\n" + "".join(f"{a},{b},{c}\n" for a, b, c in other_frame(points))
        )
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        [
            "register",
            str(tmp_path / "m.nii.gz"),
            str(tmp_path / "f.nii.gz"),
            "--out",
            str(out),
            "--moving-modality",
            "MR",
            "--fixed-modality",
            "CT",
            "--landmarks",
            str(tmp_path / "m.csv"),
            str(tmp_path / "f.csv"),
            "--json",
        ],
    )
    data = json.loads(done.stdout)
    assert {"verdict", "tre_mm", "metric", "seconds"} <= set(data)
    assert data["verdict"] == "check"  # NIfTI does not say whose it is
    assert done.exit_code == 3
    assert data["tre_mm"] < 1.0
    for name in (
        "transform.tfm",
        "moved.nii.gz",
        "checkerboard.png",
        "edges.png",
        "metric.png",
        "quality.json",
    ):
        assert (out / name).exists()
    again = load_transform(out)
    assert error(again, truth) < 1.0
    resampled = nib.load(out / "moved.nii.gz")
    assert resampled.shape == nib.load(tmp_path / "f.nii.gz").shape
    assert np.allclose(resampled.affine, nib.load(tmp_path / "f.nii.gz").affine, atol=1e-4)


def test_dicom_in_and_a_spatial_registration_out(patient_dicom, tmp_path, home):
    from medfuse.library.ingest import ingest

    ingest(Library(), patient_dicom)
    series = sorted(p for p in (patient_dicom / "MR").iterdir())
    done = register_command(
        Side(path=series[0]), Side(path=series[1]), tmp_path / "out", RegisterOptions(), method="intensity"
    )
    assert done.data["not_made"] == []
    assert "seconds" in done.data
    if shutil.which("dciodvfy"):
        checked = subprocess.run(
            ["dciodvfy", str(tmp_path / "out" / "registration.dcm")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert not [x for x in (checked.stdout + checked.stderr).splitlines() if x.startswith("Error")]
    import pydicom

    ds = pydicom.dcmread(tmp_path / "out" / "registration.dcm")
    matrix = np.array(
        ds.RegistrationSequence[1]
        .MatrixRegistrationSequence[0]
        .MatrixSequence[0]
        .FrameOfReferenceTransformationMatrix,
        float,
    ).reshape(4, 4)
    assert np.allclose(np.linalg.inv(matrix), matrix_of(load_transform(tmp_path / "out")), atol=1e-5)
    uids = {i.source.series_uid for i in open_case(patient_dicom).images}
    (known,) = known_registrations(Library(), uids)
    assert known.verdict == done.data["verdict"]


def test_refusals(patient_dicom, two_patients_dicom, tmp_path, home):
    def refused(moving, fixed):
        sides = [Side(path=p) for p in (moving, fixed)]
        return register_command(*sides, tmp_path / "o", RegisterOptions(), method="intensity")

    with pytest.raises(WrongUse, match=r"holds .* volumes"):
        refused(patient_dicom / "MR", patient_dicom / "CT")
    one = next((two_patients_dicom / "a" / "MR").iterdir())
    other = next((two_patients_dicom / "b" / "MR").iterdir())
    with pytest.raises(WrongUse, match="give --force"):
        refused(one, other)
    with pytest.raises(UserError, match="no volume with geometry"):
        refused(patient_dicom / "US", one)
    (tmp_path / "points.csv").write_text("1,2,3\nnonsense\n")
    with pytest.raises(UserError, match="line 2"):
        read_landmarks(tmp_path / "points.csv")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "quality.json").write_text('{"verdict": "failed", "reasons": ["noise"]}')
    with pytest.raises(UserError, match=r"failed .* is not used"):
        load_transform(tmp_path / "bad")
