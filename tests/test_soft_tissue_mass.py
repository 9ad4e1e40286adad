"""The task of a known mass in CT, MR and PET: windows without a border, measures, agreement, what is outside
of its domain."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from medfuse.bundles.domain import Domain
from medfuse.case import Case, Geometry, Image, Source
from medfuse.drafting.compose import compose
from medfuse.drafting.matches import agreement
from medfuse.drafting.templates import sentences
from medfuse.errors import UserError, WrongUse
from medfuse.inference.lesions import diameters
from medfuse.inference.matching import match_lesions
from medfuse.inference.measures import measured_in, peak
from medfuse.io.manifest import read_manifest
from medfuse.library import Library, store
from medfuse.models.encoders import build_encoder, in_windows
from medfuse.prediction import FindingRecord, ImageRecord, LesionRecord, Measurement, Place, Prediction
from medfuse.preprocess.volume import volume_inputs
from medfuse.task import Task, load_task
from medfuse.training.stages.dense import crop_volume
from medfuse.workflows.public_sets import lay_out_sarcoma

TASK = load_task("soft-tissue-mass")
_WINDOW = {"window": (32, 32, 32), "centred": False, "encoder": "segresnet", "filters": 8}
WINDOWED = TASK.model_copy(
    update={"modalities": {m: s.model_copy(update=_WINDOW) for m, s in TASK.modalities.items()}}
)


def _image(modality: str, pixels: np.ndarray, mm: float = 2.0, frame: str = "one") -> Image:
    affine = np.diag([mm, mm, mm, 1.0])
    return Image(
        modality,
        pixels.astype(np.float32),
        Source(path="x"),
        affine=affine,
        geometry=Geometry("exact"),
        frame_of_reference=frame,
    )


def test_a_window_shows_no_border_of_the_volume():
    spec = TASK.modalities["CT"]
    image = _image("CT", np.full((50, 40, 70), 40.0))
    (made,) = volume_inputs([image], [0], "CT", spec)
    assert np.ptp(made.values) == 0  # what lies beyond the volume is its mirror image
    assert made.covered is not None
    assert not made.covered.all()
    dense = np.zeros((20, 20, 20), np.uint8)
    dense[8:12, 8:12, 8:12] = 1
    rng = np.random.default_rng(0)
    x, _, y = crop_volume(np.zeros((1, 20, 20, 20)), np.ones(1, bool), dense, WINDOWED, rng, "CT")
    assert x.shape[1:] == y.shape == (32, 32, 32)
    assert (y == 1).any()


def test_windows_give_what_the_whole_gives_where_a_volume_is_one_window():
    torch.manual_seed(0)
    encoder = build_encoder(WINDOWED, "CT").eval()
    values = torch.randn(2, 1, 32, 32, 32)
    present = torch.ones(2, 1, dtype=torch.bool)
    with torch.no_grad():
        whole = encoder(values, present)
        parts = in_windows(encoder, (32, 32, 32), values, present)
        large = in_windows(encoder, (32, 32, 32), torch.randn(1, 1, 40, 24, 48), present[:1])
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, atol=1e-4)
    assert large[0].shape == (1, 2, 40, 24, 48)
    assert large[2].shape[2:] == (5, 3, 6)


def test_measures_are_those_of_the_voxels_inside():
    pixels = np.full((20, 20, 20), -100.0)
    pixels[5:15, 5:15, 5:15] = 30.0
    mask = np.zeros((20, 20, 20), bool)
    mask[5:15, 5:15, 5:15] = True
    (density,) = measured_in(_image("CT", pixels), mask, np.diag([2.0, 2, 2, 1]), ("density",))
    assert (density.value, density.unit) == (30.0, "[hnsf'U]")
    hot = np.where(mask, 2.0, 0.0)
    hot[10, 10, 10] = 50.0
    found = {
        m.kind: m.value
        for m in measured_in(
            _image("PT", hot), mask, np.diag([2.0, 2, 2, 1]), ("suv_max", "suv_mean", "suv_peak", "tlg")
        )
    }
    assert found["suv_max"] == 50.0
    assert found["suv_mean"] == pytest.approx(2.048, abs=0.01)
    assert found["tlg"] == pytest.approx(2.048 * 8, abs=0.1)  # 10 × 10 × 10 voxels of 8 mm³ are 8 ml
    assert 2.0 < found["suv_peak"] < 3.0  # one hot voxel among about 120 of a millilitre
    assert measured_in(_image("MR", pixels), mask, np.eye(4), ("density",)) == []
    assert peak(np.full((9, 9, 9), 3.0), np.ones((9, 9, 9), bool), np.full(3, 2.0)) == pytest.approx(3.0)


def test_a_large_outline_is_measured_exactly():
    at = np.argwhere(np.hypot(*(np.mgrid[:201, :201] - 100)) <= 100) * 0.5
    assert diameters(at, 0.5) == pytest.approx((100.5, 100.5), abs=0.3)


def _lesion(modality: str, long: float, x: float, measured: tuple[Measurement, ...] = ()) -> LesionRecord:
    place = Place(image=0, frame_of_reference="one", centre_mm=[x, 0, 0], slice=3)
    return LesionRecord(
        id=f"{modality}-1",
        modality=modality,
        finding="soft_tissue_mass",
        probability=0.99,
        long_axis_mm=long,
        short_axis_mm=long / 2,
        volume_ml=200.0,
        measured=list(measured),
        place=place,
    )


def _words(lesions: list[LesionRecord], language: str = "en") -> str:
    record = FindingRecord(
        id="soft_tissue_mass",
        name="",
        group="focal",
        probability=0.99,
        calibrated=True,
        assessed=True,
        assessed_by=["CT", "MR", "PT"],
    )
    prediction = Prediction(
        case_id="a",
        simulated=False,
        in_domain=True,
        modalities={m: "present" for m in TASK.image_senses},
        images=[
            ImageRecord(path="", modality=m, in_domain=True, why="", code="inside") for m in TASK.image_senses
        ],
        findings=[record],
        lesions=lesions,
        matches=match_lesions(lesions, {}, TASK),
        bundle="b",
        bundle_hash="",
    )
    report = compose(prediction, Case("a", "", []), TASK, language)
    told = [x.text for section in report.sections for x in section.sentences]
    return " ".join([*told, *report.footer])


@pytest.mark.parametrize(("language", "said"), [("en", "No mass was outlined"), ("zh-TW", "未描繪出腫塊")])
def test_a_mass_that_nothing_outlines_is_not_called_outlined(language, said):
    """ "… is outlined; no lesion could be outlined" stood there, and was the impression too."""
    text = _words([], language)
    assert text.count(said) == 2
    assert "nown soft-tissue mass" not in text
    assert "已知之軟組織腫塊" not in text


def test_the_draft_says_what_was_measured_and_whether_the_sensors_agree():
    suv = Measurement(kind="suv_max", value=9.96, unit="g/ml")
    three = [_lesion("CT", 100, 0), _lesion("MR", 104, 14), _lesion("PT", 98, 3, (suv,))]
    text = _words(three)
    assert "Known soft-tissue mass: MRI 104 × 52 mm (200 ml), CT 100 × 50 mm (200 ml), PET" in text
    assert text.count("Known soft-tissue mass") == 2  # once found, once concluded
    assert "SUVmax 10.0" in text
    assert "The sensors agree on the long axis: CT 100, MRI 104, PET 98 mm." in text.replace(
        "MR 104", "MRI 104"
    )
    assert "One lesion on CT (slice 4), MRI (slice 4) and PET (slice 4)" in text
    assert "Whether there is one was not asked" in text
    apart = _words([_lesion("CT", 100, 0), _lesion("PT", 60, 70)])
    assert "The sensors disagree on the long axis by 40 mm" in apart
    assert "CT and PET outline different places" in apart
    assert "no mass was outlined, unlike on the other images" in apart
    assert "各影像之長徑一致" in _words(three, "zh-TW")


def test_the_draft_says_which_sensor_was_not_used_and_why():
    images = [
        ImageRecord(path="", modality="CT", in_domain=False, why="", code="appearance"),
        ImageRecord(path="", modality="MR", in_domain=True, why="", code="inside"),
    ]
    prediction = Prediction(
        case_id="a",
        simulated=False,
        in_domain=True,
        modalities={"CT": "present", "MR": "present"},
        images=images,
        findings=[],
        lesions=[],
        bundle="b",
        bundle_hash="",
    )
    said = "CT: not used, outside the validated domain: the images look unlike"
    for lesions in ([_lesion("MR", 100, 0)], []):
        (notice,) = [x for x in agreement(prediction, sentences(TASK, "en"), lesions) if "not used" in x.text]
        assert notice.text.startswith(said)


def test_a_volume_of_another_extent_is_outside_the_domain():
    domain = Domain(False, ("CT",), "limb", extent_mm={"CT": (90.0, 300.0)})
    assert domain.holds(_image("CT", np.zeros((60, 60, 60))))[0]
    inside, code, why = domain.holds(_image("CT", np.zeros((60, 60, 200))))
    assert not inside
    assert code == "extent"
    assert "400 mm" in why
    features = SimpleNamespace(features={"CT": np.zeros((2, 3))}, mask={"CT": np.zeros(2, bool)})
    seen = Domain(False, ("CT",), "limb", features={"CT": {"limit": 9.0}})
    assert seen.looks_familiar("CT", features)[1] == "appearance"  # type: ignore[arg-type]


def test_a_task_with_a_window_that_does_not_fit_is_refused():
    data = TASK.model_dump()
    data["modalities"]["CT"]["window"] = (30, 32, 32)
    with pytest.raises(ValueError, match="multiples of 8"):
        Task(**data)
    with pytest.raises(ValueError, match="around names"):
        Task(**(TASK.model_dump() | {"around": "stone"}))


def _set(folder: Path) -> Path:
    """A set laid out as the public one is, of two made-up patients."""
    (folder / "nifti").mkdir(parents=True)
    for patient in ("STS_001", "STS_004"):
        for sensor in ("CT", "MR_T1", "PET"):
            for end in ("", "_mask"):
                image = nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4))
                nib.save(image, folder / "nifti" / f"{patient}_{sensor}{end}.nii.gz")
    return folder


def test_a_copy_of_the_public_set_becomes_a_manifest(tmp_path):
    manifest = lay_out_sarcoma(_set(tmp_path / "set"), tmp_path / "out")
    rows = read_manifest(manifest)
    assert [(r.case_id, r.split) for r in rows] == [("STS_001", "train"), ("STS_004", "val")]
    assert len({i.frame_of_reference for i in rows[0].images}) == 1
    assert json.loads((tmp_path / "out/STS_001/STS_001_PT.json").read_text())["Units"] == "SUVbw"
    with pytest.raises(WrongUse, match="no folder nifti"):
        lay_out_sarcoma(tmp_path / "out", tmp_path / "again")
    (tmp_path / "set/nifti/STS_001_PET_mask.nii.gz").unlink()
    with pytest.raises(UserError, match="PET_mask"):
        lay_out_sarcoma(tmp_path / "set", tmp_path / "again")


def test_the_library_keeps_what_a_sidecar_says(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    lay_out_sarcoma(_set(tmp_path / "set"), tmp_path / "out")
    home = tmp_path / "out/STS_001"
    case_id = store.add_nifti(Library(), [(home / f"STS_001_{m}.nii.gz", m) for m in ("CT", "PT")])
    case = store.load_case(Library(), case_id)
    assert not case.refused
    assert {i.frame_of_reference for i in case.images} == {"soft-tissue-sarcoma-STS_001"}
