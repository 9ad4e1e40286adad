"""A known mass in several sensors: what they outline together, through prediction.json, the report, the
exports and the viewer; and the encoder that reads a scale space."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medfuse.case import Case, Geometry, Image, Source
from medfuse.display.key_images import key_images
from medfuse.drafting.compose import compose
from medfuse.errors import UserError
from medfuse.inference.lesions import find_lesions
from medfuse.inference.matching import match_lesions
from medfuse.inference.together import SURE, joined, outlined_together
from medfuse.models.encoders import build_encoder
from medfuse.models.features import DenseOutput
from medfuse.models.regions import lesion_components
from medfuse.models.scale_space import ScaleSpaceEncoder, blurred
from medfuse.prediction import FindingRecord, ImageRecord, Prediction, Together
from medfuse.preprocess.tensors import VolumeInput
from medfuse.task import load_task
from medfuse.workflows.schemas import schemas_json

TASK = load_task("soft-tissue-mass")
GRID = np.diag([5.0, 5.0, 5.0, 1.0])
SIDE = 24


def _ball(radius: float, middle: tuple[float, float, float] = (12.0, 12.0, 12.0)) -> np.ndarray:
    """(SIDE, SIDE, SIDE) sure inside of a ball of ``radius`` voxels."""
    away = np.linalg.norm(np.indices((SIDE,) * 3).T - np.array(middle), axis=-1).T
    return np.where(away <= radius, 0.95, 0.05).astype(np.float32)


def _output(modality: str, image: int, p: np.ndarray, frame: str = "one") -> DenseOutput:
    source = VolumeInput(
        modality, np.zeros((1, *p.shape), np.float32), np.ones(1, bool), GRID, frame, (image,)
    )
    components = lesion_components(p)
    per_class = np.tile([0.0, 1.0], (len(components), 1))
    return DenseOutput(modality, source, 0, (p > 0.5).astype(np.uint8), p, components, per_class)


def _case(*modalities: str) -> Case:
    pixels = np.full((SIDE,) * 3, 40.0, np.float32)
    images = [
        Image(
            m,
            pixels,
            Source(path=f"{m}.nii.gz"),
            affine=GRID,
            geometry=Geometry("exact"),
            frame_of_reference="one",
        )
        for m in modalities
    ]
    return Case("a", "", images)


def _together(outputs: list[DenseOutput], case: Case) -> list[Together]:
    return [t for t, _ in outlined_together(outputs, case, TASK, lambda finding, modality: True)]


def test_who_is_sure_outvotes_who_is_not():
    sure, unsure = np.full((4, 4, 4), 0.99, np.float32), np.full((4, 4, 4), 0.3, np.float32)
    p = joined([_output("CT", 0, sure), _output("MR", 1, unsure)], GRID, (4, 4, 4))
    odds = (np.log(0.99 / 0.01) + np.log(0.3 / 0.7)) / 2
    assert p == pytest.approx(1 / (1 + np.exp(-odds)), abs=1e-6)
    certain = joined([_output("CT", 0, np.ones((4, 4, 4), np.float32))], GRID, (4, 4, 4))
    assert certain == pytest.approx(SURE)  # no sensor decides alone


def test_beyond_its_volume_a_sensor_says_nothing():
    small = _output("PT", 0, np.full((4, 4, 4), 0.9, np.float32))
    large = _output("CT", 1, np.full((8, 4, 4), 0.2, np.float32))
    p = joined([small, large], GRID, (8, 4, 4))
    assert p[6, 0, 0] == pytest.approx(0.2, abs=1e-6)
    assert p[1, 0, 0] > 0.5
    far = GRID.copy()
    far[0, 3] = 1000.0
    assert not joined([small], far, (4, 4, 4)).any()


def test_one_mass_is_outlined_from_the_sensors_of_one_frame():
    case = _case("CT", "MR", "PT")
    outputs = [_output("CT", 0, _ball(5)), _output("MR", 1, _ball(6)), _output("PT", 2, _ball(7))]
    (found,) = _together(outputs, case)
    assert found.modalities == ["CT", "MR", "PT"]
    assert found.lesion.id == "together-1"
    assert found.lesion.modality == "MR"  # on whose grid it lies
    assert found.lesion.place.image == 1
    assert found.lesion.long_axis_mm == pytest.approx(62, abs=6)  # two of three say so
    assert _together([outputs[0]], case) == []
    elsewhere = _output("MR", 1, _ball(6), frame="two")
    assert _together([outputs[0], elsewhere], case) == []


def _prediction(outputs: list[DenseOutput], case: Case) -> Prediction:
    def can_show(finding: object, modality: str) -> bool:
        return True

    lesions = [x.record for x in find_lesions(outputs, case, TASK, can_show)]
    record = FindingRecord(
        id="soft_tissue_mass",
        name="",
        group="focal",
        probability=0.99,
        calibrated=True,
        assessed=True,
        assessed_by=[i.modality for i in case.images],
    )
    return Prediction(
        case_id="a",
        simulated=False,
        in_domain=True,
        modalities={i.modality: "present" for i in case.images},
        images=[
            ImageRecord(path="", modality=i.modality, in_domain=True, why="", code="inside")
            for i in case.images
        ],
        findings=[record],
        lesions=lesions,
        matches=match_lesions(lesions, {}, TASK),
        together=_together(outputs, case),
        bundle="soft-tissue-mass-real",
        bundle_hash="",
    )


@pytest.fixture(scope="module")
def seen() -> tuple[Prediction, Case]:
    case = _case("CT", "MR", "PT")
    balls = [_output(m, n, _ball(r)) for n, (m, r) in enumerate({"CT": 5, "MR": 6, "PT": 7}.items())]
    return _prediction(balls, case), case


def test_the_joint_outline_is_in_the_file_and_in_the_draft(seen):
    prediction, case = seen
    data = json.loads(prediction.model_dump_json())
    jsonschema.validate(data, schemas_json()["prediction"])
    assert Prediction.model_validate(data) == prediction
    assert [x.id for x in prediction.outlined] == ["CT-1", "MR-1", "PT-1", "together-1"]
    joint = prediction.together[0].lesion
    axes = f"{joint.long_axis_mm:.0f} × {joint.short_axis_mm:.0f} mm"
    sentences = [x for s in compose(prediction, case, TASK, "en").sections for x in s.sentences]
    (said,) = [x for x in sentences if x.text.startswith("Outlined together from CT, MRI, PET")]
    assert f"{axes} in the axial plane, {joint.volume_ml:.0f} ml" in said.text
    assert said.evidence == [joint.place]
    (concluded,) = [x for x in sentences if ", from CT, MRI, PET together" in x.text]
    assert f"Known soft-tissue mass: {axes} ({joint.volume_ml:.0f} ml)" in concluded.text
    pictures = [x for x in key_images(prediction, case) if not x.plain]
    assert pictures[0].name == "lesion_together-1"
    assert len({x.shows for x in pictures}) == len(pictures)  # one slice stood there twice, said alike
    alone = prediction.model_copy(update={"together": []})
    assert "ogether" not in compose(alone, case, TASK, "en").model_dump_json()


def test_the_viewer_draws_and_lists_the_joint_outline(seen):
    from apps.viewer.evidence import Places
    from apps.viewer.pages.findings import lesion_lines
    from medfuse.display.contract import VolumeImage

    prediction, case = seen
    known = {"role": "", "to_view": np.eye(4).tolist(), "affine": None, "numbers": [], "shape": (SIDE,) * 3}
    shown = [VolumeImage.model_construct(modality=i.modality, **known) for i in case.images]
    places = Places(shown, prediction)
    assert [b.id for b in places.boxes] == ["CT-1", "MR-1", "PT-1", "together-1"]
    assert places.boxes[3].image == 1
    assert [b.label.split("(")[1] for b in places.boxes] == ["CT)", "MR)", "PT)", "CT+MR+PT)"]
    lines = lesion_lines(prediction, places, {"soft_tissue_mass": "soft-tissue mass"})
    assert lines[3].id == "together-1"
    assert all(x.said.startswith("detector ") for x in lines)  # beside probabilities a score is called one
    assert "CT+MR+PT together" in lines[3].where
    assert "together" not in lines[1].where


def test_a_scale_space_shows_no_border_and_no_absent_role():
    flat = torch.full((1, 1, 12, 10, 14), 3.0)
    assert torch.allclose(blurred(flat, 2.0), flat, atol=1e-4)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(12, 10, 14))).float()
    mirrored = gaussian_filter(noise.numpy(), 2.0, mode="reflect", truncate=4.0)
    assert np.allclose(blurred(noise[None, None], 2.0)[0, 0].numpy(), mirrored, atol=1e-4)
    torch.manual_seed(0)
    encoder = ScaleSpaceEncoder(roles=2, classes=2, filters=8).eval()
    values = torch.randn(1, 2, 12, 10, 14)
    other = values.clone()
    other[:, 1] = 99.0
    present = torch.tensor([[True, False]])
    with torch.no_grad():
        logits, fine, deep = encoder(values, present)
        assert torch.equal(encoder(other, present)[0], logits)
    assert logits.shape == (1, 2, 12, 10, 14)
    assert fine.shape == (1, 8, 12, 10, 14)
    assert deep.shape == (1, 64, 2, 2, 2)


def test_a_scale_space_does_not_know_left_from_right():
    encoder = build_encoder(TASK, "CT").eval()
    assert isinstance(encoder, ScaleSpaceEncoder)
    values = torch.randn(1, 1, 16, 12, 10)
    present = torch.ones(1, 1, dtype=torch.bool)
    with torch.no_grad():
        torch.nn.init.normal_(encoder.correction.weight)
        straight = encoder(values, present)[0]
        for axis in (2, 3, 4):
            turned = encoder(values.flip(axis), present)[0].flip(axis)
            assert torch.allclose(turned, straight, atol=1e-3)


def test_a_scale_space_learns_an_outline_and_refuses_cines():
    torch.manual_seed(0)
    encoder = ScaleSpaceEncoder(roles=1, classes=2, filters=8)
    truth = torch.from_numpy(_ball(6) > 0.5).long()[None]
    values = truth[:, None].float() * 2 + 0.1 * torch.randn(1, 1, SIDE, SIDE, SIDE)
    present = torch.ones(1, 1, dtype=torch.bool)
    rate = torch.optim.Adam(encoder.parameters(), 0.01)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(encoder(values, present)[0], truth)
        rate.zero_grad()
        loss.backward()
        rate.step()
    found = encoder.eval()(values, present)[0].argmax(1)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9
    with_us = load_task("upper-abdomen")
    spec = with_us.modalities["US"].model_copy(update={"encoder": "scale-space"})
    wrong = with_us.model_copy(update={"modalities": {**with_us.modalities, "US": spec}})
    with pytest.raises(UserError, match="takes volumes"):
        build_encoder(wrong, "US")
