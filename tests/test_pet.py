"""PET: body-weight SUV from what a file states and from nothing else, outlines of an RTSTRUCT, and the way of
a CT + PET task to a prediction."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import yaml
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from slices import write_slice

from apps.viewer.pixels import encode
from medfuse.bundles.bundle import load_bundle
from medfuse.display.views import windows_of
from medfuse.errors import UnreadableError, UnsupportedError
from medfuse.io.export import write_nifti
from medfuse.io.manifest import ManifestImage, ManifestRow, read_manifest
from medfuse.io.nifti import read_nifti
from medfuse.io.read import open_case
from medfuse.io.rows import labelled
from medfuse.io.rtstruct import STORAGE, read_rtstruct
from medfuse.io.suv import NoSuv, uptake_of
from medfuse.prediction import Prediction
from medfuse.task import load_task
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.workflows.predict import PredictOptions, PredictRequest, predict_command

PET_STORAGE = "1.2.840.10008.5.1.4.1.1.128"
F18 = 6586.2  # s


def header(**changed) -> Dataset:
    """70 kg, 350 MBq of F-18 at 10:00, scan at 11:00, values corrected to the scan's start."""
    item = Dataset()
    item.RadionuclideTotalDose = 350e6
    item.RadionuclideHalfLife = F18
    item.RadiopharmaceuticalStartTime = "100000"
    ds = Dataset()
    ds.Units = "BQML"
    ds.DecayCorrection = "START"
    ds.CorrectedImage = ["DECY", "ATTN", "SCAT"]
    ds.PatientWeight = 70
    ds.SeriesDate = ds.AcquisitionDate = "20260105"
    ds.SeriesTime = ds.AcquisitionTime = "110000"
    for key, value in changed.items():
        where = item if key.startswith("Radio") else ds
        if value is None:
            delattr(where, key)
        else:
            setattr(where, key, value)
    ds.RadiopharmaceuticalInformationSequence = Sequence([item])
    return ds


def hours(n: float) -> float:
    """SUV of 1 Bq/ml with the dose decayed for n hours."""
    return 70e3 / (350e6 * 0.5 ** (n * 3600 / F18))


@pytest.mark.parametrize(
    ("changed", "factor"),
    [
        ({}, hours(1)),
        ({"DecayCorrection": "ADMIN"}, hours(0)),
        (
            {"RadiopharmaceuticalStartTime": "233000", "SeriesTime": "003000", "AcquisitionTime": "003100"},
            hours(1),
        ),
        ({"RadiopharmaceuticalStartDateTime": "20260105090000.000000+0800"}, hours(2)),
        ({"SeriesTime": "150000"}, hours(1)),  # made later: the acquisition's own time counts
        ({"Units": "GML", "DecayCorrection": None}, 1.0),
        ({"Units": "GML", "SUVType": "BW"}, 1.0),
    ],
    ids=["start", "admin", "midnight", "datetime", "later series", "suv", "suv by weight"],
)
def test_suv_is_activity_by_decayed_dose_and_weight(changed, factor):
    assert uptake_of(header(**changed)).factor == pytest.approx(factor, rel=1e-9)


def test_a_later_series_starts_before_its_beds_by_their_reference_times():
    """One bed of several, 10 min into the scan: FrameReferenceTime says so, by the mean rate."""
    ds = header(
        SeriesTime="150000", AcquisitionTime="111000", FrameReferenceTime=690e3, ActualFrameDuration=180e3
    )
    mean = np.log((np.log(2) / F18 * 180) / (1 - 2 ** (-180 / F18))) / (np.log(2) / F18)
    assert 85 < mean < 90
    assert uptake_of(ds).factor == pytest.approx(hours(1 + (600 + mean - 690) / 3600), rel=1e-9)


def test_values_without_decay_correction_are_of_their_own_frame():
    ds = header(DecayCorrection="NONE", CorrectedImage=["ATTN"], AcquisitionTime="113000")
    ds.ActualFrameDuration = 2000  # so short that its middle is its mean
    found = uptake_of(ds)
    assert found.decay == "NONE"
    assert found.factor == pytest.approx(hours(1.5 + 1 / 3600), rel=1e-6)


def test_philips_counts_become_suv_by_their_private_factors():
    ds = header(Units="CNTS")
    ds.add_new(0x70531000, "DS", "0.0002")
    with pytest.raises(NoSuv, match="holds counts"):
        uptake_of(ds)  # no other maker's element means that
    ds.Manufacturer = "Philips Medical Systems"
    assert uptake_of(ds).factor == pytest.approx(0.0002)
    ds[0x70531000].value = "0"
    ds.add_new(0x70531009, "DS", "1.5")
    assert uptake_of(ds).factor == pytest.approx(1.5 * hours(1))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"PatientWeight": None}, "lacks PatientWeight"),
        ({"PatientWeight": 0}, "PatientWeight is 0"),
        ({"RadionuclideTotalDose": None}, "lacks RadionuclideTotalDose"),
        ({"RadionuclideHalfLife": None}, "lacks RadionuclideHalfLife"),
        ({"RadiopharmaceuticalStartTime": None}, "lacks RadiopharmaceuticalStartDateTime and"),
        ({"RadiopharmaceuticalStartDateTime": "20250105090000"}, "one of the times is wrong"),
        ({"Units": None}, "Units is missing"),
        ({"Units": "PROPCNTS"}, "Units is PROPCNTS"),
        ({"Units": "GML", "SUVType": "LBM"}, "SUV by LBM"),
        ({"CorrectedImage": ["DECY"]}, "lacks ATTN"),
        ({"DecayCorrection": "NONE"}, "contradicts itself"),
        ({"DecayCorrection": None}, "DecayCorrection is missing"),
        ({"AcquisitionTime": None}, "lacks AcquisitionTime"),
    ],
)
def test_what_is_missing_is_named(changed, words):
    with pytest.raises(NoSuv, match=words):
        uptake_of(header(**changed))


def write_pet(folder, **changed) -> None:
    """Three slices whose rescaled value is 1000 · (slice + 1), each with a slope of its own."""
    folder.mkdir()
    for n in range(3):
        ds = header(**changed)
        extra = {e.keyword: e.value for e in ds}
        slope = 1.0 + n
        pixels = np.full((6, 5), round(1000 * (n + 1) / slope), np.uint16)
        write_slice(
            folder / f"{n}.dcm",
            position=(0, 0, 3.0 * n),
            number=n + 1,
            slope=slope,
            intercept=0.0,
            SOPClassUID=PET_STORAGE,
            PixelData=pixels.tobytes(),
            **extra | {"Modality": "PT"},
        )


def test_a_series_is_read_in_suv_and_says_how_it_was_corrected(tmp_path):
    write_pet(tmp_path / "pet")
    (image,) = open_case(tmp_path / "pet").images
    assert (image.modality, image.traits["decay_correction"]) == ("PT", ("START", 1.0))
    assert image.traits["stored_unit"] == ("BQML", 1.0)
    np.testing.assert_allclose(image.pixels[0, 0], 1000 * np.array([1, 2, 3]) * hours(1), rtol=1e-5)
    assert next(iter(windows_of(image).values())) == (5.0, 10.0)  # SUV 0 to 10 is shown first
    again = read_nifti(write_nifti(image, tmp_path / "pet.nii.gz"))
    np.testing.assert_array_equal(again.pixels, image.pixels)
    assert again.traits["decay_correction"] == ("START", 1.0)
    (tmp_path / "shown").mkdir()
    shown = encode(image, tmp_path / "shown", 0)
    assert shown.unit == "SUVbw"
    assert next(iter(shown.presets)) == "SUV 10"


def test_a_series_without_weight_is_refused_by_name(tmp_path):
    write_pet(tmp_path / "pet", PatientWeight=None)
    case = open_case(tmp_path / "pet", allow_empty=True)
    assert not case.images
    assert any("lacks PatientWeight" in r.reason for r in case.refused)


def test_nifti_says_its_unit_in_a_sidecar(tmp_path):
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.full((4, 4, 4), 1000, np.float32), np.diag([4.0, 4, 4, 1])), path)
    with pytest.raises(UnreadableError, match=r"Units is missing.*give its JSON sidecar"):
        read_nifti(path, "PT")
    side = tmp_path / "a.json"
    side.write_text(json.dumps({"Modality": "PT", "Units": "SUVbw"}))
    assert read_nifti(path).pixels.max() == 1000
    side.write_text(json.dumps({"Modality": "PT", "Units": "Bq/ml"}))
    with pytest.raises(UnreadableError, match="DecayCorrection is missing"):
        read_nifti(path)
    stated = {
        "DecayCorrection": "ADMIN",
        "CorrectedImage": ["DECY", "ATTN"],
        "PatientWeight": 70,
        "RadionuclideTotalDose": 350e6,
    }
    side.write_text(json.dumps({"Modality": "PET", "Units": "Bq/ml"} | stated))
    image = read_nifti(path)
    np.testing.assert_allclose(image.pixels, 1000 * hours(0), rtol=1e-6)
    assert image.traits["decay_correction"] == ("ADMIN", 1.0)


# --- outlines
# ---------------------------------------------------------------------------------------------------------


def write_outline(path, series: str, contours, *, frame="1.2.77") -> None:
    """An RTSTRUCT of one structure; contours: (N, 3) LPS mm each."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = STORAGE
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID = STORAGE
    ds.Modality = "RTSTRUCT"

    def item(**values) -> Dataset:
        out = Dataset()
        for key, value in values.items():
            setattr(out, key, value)
        return out

    of_series = item(SeriesInstanceUID=series)
    study = item(RTReferencedSeriesSequence=Sequence([of_series]))
    there = item(FrameOfReferenceUID=frame, RTReferencedStudySequence=Sequence([study]))
    ds.ReferencedFrameOfReferenceSequence = Sequence([there])
    ds.StructureSetROISequence = Sequence([item(ROINumber=7, ROIName="mass")])
    drawn = [
        item(ContourGeometricType="CLOSED_PLANAR", ContourData=[f"{v:.3f}" for v in np.ravel(c)])
        for c in contours
    ]
    ds.ROIContourSequence = Sequence([item(ReferencedROINumber=7, ContourSequence=Sequence(drawn))])
    ds.save_as(path, enforce_file_format=True)


def square(low: float, high: float, z: float) -> np.ndarray:
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


@pytest.fixture
def outlined(tmp_path):
    """A CT of 20 × 20 × 4 voxels of 1 × 1 × 3 mm, origin (0, 0, 0) LPS."""
    folder = tmp_path / "ct"
    folder.mkdir()
    for n in range(4):
        pixels = np.zeros((20, 20), np.uint16).tobytes()
        write_slice(
            folder / f"{n}.dcm",
            position=(0, 0, 3.0 * n),
            number=n + 1,
            size=(20, 20),
            spacing=(1.0, 1.0),
            PixelData=pixels,
        )
    (image,) = open_case(folder).images
    return image


def test_a_polygon_inside_another_is_a_hole(outlined, tmp_path):
    path = tmp_path / "rs.dcm"
    write_outline(path, "1.2.3", [square(2.5, 12.5, 3.0), square(5.5, 8.5, 3.0), square(2.5, 5.5, 6.0)])
    (structure,) = read_rtstruct(path, [outlined])
    row = ManifestRow(
        case_id="a", images=[ManifestImage(path="ct", mask="rs.dcm", modality="CT")], root=str(tmp_path)
    )
    np.testing.assert_array_equal(labelled(row).masks[0] == 1, structure.mask)
    assert (structure.number, structure.name) == (7, "mass")
    assert structure.mask.sum(axis=(0, 1)).tolist() == [0, 100 - 9, 9, 0]
    assert not structure.mask[7, 7, 1]
    assert structure.mask[3, 4, 1]


def test_a_contour_between_slices_is_refused_by_name(outlined, tmp_path):
    path = tmp_path / "rs.dcm"
    for z in (4.5, 12.0):
        write_outline(path, "1.2.3", [square(2, 12, 3.0), square(2, 12, z)])
        with pytest.raises(UnsupportedError, match="contour 2 of mass lies on no slice"):
            read_rtstruct(path, [outlined])


def test_an_outline_of_another_series_or_frame_is_refused(outlined, tmp_path):
    path = tmp_path / "rs.dcm"
    write_outline(path, "9.9", [square(2, 12, 3.0)])
    with pytest.raises(UnsupportedError, match=r"series 9\.9, which is not among"):
        read_rtstruct(path, [outlined])
    write_outline(path, "1.2.3", [square(2, 12, 3.0)], frame="1.2.78")
    with pytest.raises(UnsupportedError, match="another frame of reference"):
        read_rtstruct(path, [outlined])
    write_outline(path, "1.2.3", [square(2, 12, 3.0)[:2]])
    with pytest.raises(UnreadableError, match="contour 1 of mass is no polygon"):
        read_rtstruct(path, [outlined])


# --- real
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(("kind", "code"), [("PET", "PT"), ("CT", "CT"), ("MR_T1", "MR")])
def test_a_real_patients_pet_and_outlines(shared, kind, code):
    folder = shared / "cohorts" / "sts_ct_mr_pet" / "dicom" / "STS_002" / kind
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    (image,) = open_case(folder / "image").images
    assert image.modality == code
    (structure,) = read_rtstruct(folder / "mask" / "RS.dcm", [image])
    assert structure.mask.sum() > 100
    inside = image.pixels[structure.mask]
    if code == "PT":
        assert image.traits["decay_correction"] == ("ADMIN", 1.0)
        assert image.traits["stored_unit"] == ("GML", 1.0)
        assert inside.mean() > 2 * image.pixels[~structure.mask].mean()  # the tumour takes up more
        assert 1 < inside.max() < 60


# --- all the way
# ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    shipped = load_task("breast-ultrasound")
    folder = tmp_path_factory.mktemp("task")
    shutil.copytree(f"{shipped.folder}/templates", folder / "templates")
    shape = {"spacing_mm": [4, 4, 4], "filters": 8}
    data = {
        "name": "uptake",
        "title": {"en": "Uptake"},
        "body_part": "thorax",
        "modalities": {
            "CT": shape | {"intensity": {"kind": "hu", "centre": 60.0, "width": 80.0}},
            "PT": shape | {"intensity": {"kind": "unit", "centre": 2.5, "width": 2.5}},
        },
        "findings": [{"id": "hot", "name": {"en": "uptake"}, "group": "other", "modalities": ["CT", "PT"]}],
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(data))
    return load_task(folder / "task.yaml")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Generated volumes, not patients: in half of them a ball of SUV 8."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    x = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
    rows = []
    for n in range(16):
        images = []
        for code, level in (("CT", 50.0), ("PT", 1.0)):
            a = rng.normal(level, level / 5, (32, 32, 32))
            if n % 2 and code == "PT":
                c = rng.uniform(10, 22, 3)
                a[((x - c[:, None, None, None]) ** 2).sum(0) < 36] += 8
            name = f"{n}_{code}"
            nib.save(
                nib.Nifti1Image(a.astype(np.float32), np.diag([4.0, 4, 4, 1])), folder / f"{name}.nii.gz"
            )
            (folder / f"{name}.json").write_text(json.dumps({"Modality": code, "Units": "SUVbw"}))
            images.append({"path": f"{name}.nii.gz", "modality": code, "frame_of_reference": f"{n}"})
        split = ("train", "train", "val", "test")[n // 2 % 4]
        rows.append({"case_id": f"p{n}", "split": split, "images": images, "labels": {"hot": n % 2}})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


def test_ct_and_pet_are_fused_predicted_and_exported(task, manifest, tmp_path):
    options = TrainOptions(seed=1, encoder_steps=3, fusion_steps=3)
    train(task, manifest, tmp_path / "bundle", options, command="test", log=lambda _: None)
    bundle = load_bundle(tmp_path / "bundle")
    row = next(r for r in read_manifest(manifest) if r.split == "test")
    parts = {i.modality: [manifest.parent / i.path] for i in row.images}
    done = predict_command(
        PredictRequest(
            parts=parts,
            out=tmp_path / "out",
            bundle=str(bundle.path),
            options=PredictOptions(outside_domain=True),
        ),
        log=lambda _: None,
    )
    (path,) = (tmp_path / "out").rglob("prediction.json")
    written = Prediction.model_validate_json(path.read_text())
    assert written.modalities == {"CT": "present", "PT": "present"}
    record = written.finding("hot")
    assert record.probability is not None
    assert set(record.contribution) == {"CT", "PT"}
    assert set(written.subset_probability) >= {"CT", "PT", "CT+PT"}
    assert done.data["findings"][0]["id"] == "hot"
