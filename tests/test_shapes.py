"""Shapes as annotated: real functions run under a checker, and wrong shapes are refused."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped

from medfuse import affine, case
from medfuse.bundles import calibration, conformal
from medfuse.evaluation import findings, interaction, retrieval
from medfuse.inference.lesions import diameters
from medfuse.models import coordination, feature_set
from medfuse.models.baselines import LateConcat
from medfuse.models.encoders import DenseEncoder, ImageEncoder, in_windows
from medfuse.models.features import CaseFeatures
from medfuse.models.fusion import FUSIONS, Attention
from medfuse.models.model import FusionModel, ModelConfig, exclusive_logits
from medfuse.models.pretrained.networks import InflatedResNet, Taken
from medfuse.models.regions import extract
from medfuse.models.subsets import use_only
from medfuse.models.text import TextTower
from medfuse.models.tokens import CineTokens, KindTokens, RegionTokens, Tokens
from medfuse.models.writer import Writer, WriterConfig
from medfuse.pixelfusion import metrics, network
from medfuse.preprocess import volume
from medfuse.registration.register import by_landmarks, matrix_of, moved
from medfuse.task import Intensity, load_task


def checked(function: Callable) -> Callable[..., Any]:
    """The function, without what decorates it, with its annotations looked at in every call."""
    function = inspect.unwrap(function)
    copy = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__annotations__ = typing.get_type_hints(function, include_extras=True)
    return jaxtyped(typechecker=beartype)(copy)


IDENTITY = np.eye(4)
IDS = torch.zeros(2, 3, dtype=torch.long)
MASK = torch.ones(2, 3, dtype=torch.bool)


def test_frames():
    points = checked(affine.Affine.points)
    assert points(affine.Affine(IDENTITY), np.zeros((5, 3))).shape == (5, 3)
    assert checked(affine.other_frame)(np.zeros(3, np.float32)).shape == (3,)
    with pytest.raises(TypeCheckError, match="points"):
        checked(affine.other_frame)(np.zeros((3, 5)))
    with pytest.raises(TypeCheckError, match="matrix"):
        checked(affine.transform_in_other_frame)(np.eye(3))


def test_images():
    assert checked(case.luminance)(np.zeros((2, 8, 9, 3), np.uint8)).shape == (2, 8, 9)
    with pytest.raises(TypeCheckError):
        checked(case.luminance)(np.zeros((8, 9), np.uint8))


def test_preprocessing():
    resample = checked(volume.resample)
    array = np.zeros((4, 5, 6), np.float32)
    out = resample(array, IDENTITY, np.diag([2.0, 2, 2, 1]), (8, 8, 8), order=1, fill=0.0)
    assert out.shape == (8, 8, 8)
    with pytest.raises(TypeCheckError, match="source"):
        resample(array, np.eye(3), IDENTITY, (8, 8, 8), order=1, fill=0.0)
    how = Intensity(kind="unit", centre=1.0, width=2.0)
    assert checked(volume.normalise)(array, how).dtype == np.float32


@pytest.mark.parametrize("kind", [RegionTokens, KindTokens])
def test_tokens(kind):
    module = kind(4, 2, 8, 0.0).eval()
    forward = checked(kind.forward)
    assert forward(module, torch.rand(2, 3, 4), MASK, IDS).x.shape == (2, 3, 8)
    with pytest.raises(TypeCheckError, match="mask"):
        forward(module, torch.rand(2, 3, 4), MASK[:, :2], IDS)
    with pytest.raises(TypeCheckError, match="kind"):
        forward(module, torch.rand(2, 3, 4), MASK, IDS.float())


def test_cine_tokens():
    module = CineTokens(6, 2, 8, 0.0, pooled=(0,), lesion_kind=1, keep=2).eval()
    assert checked(CineTokens.forward)(module, torch.rand(2, 3, 6), MASK, IDS).x.shape == (2, 3, 8)


def test_encoders():
    dense = DenseEncoder(dims=3, roles=2, classes=3, filters=8).eval()
    forward = checked(DenseEncoder.forward)
    there = torch.ones(1, 2, dtype=torch.bool)
    with torch.inference_mode():
        logits, fine, deep = forward(dense, torch.zeros(1, 2, 16, 16, 16), there)
        assert (logits.shape[1], fine.shape[1], deep.shape[1]) == (3, 8, 64)
        with pytest.raises(TypeCheckError, match="present"):
            forward(dense, torch.zeros(1, 2, 16, 16, 16), there[:, :1])
        whole = ImageEncoder(4).eval()
        assert checked(ImageEncoder.forward)(whole, torch.zeros(2, 1, 64, 64)).shape[:2] == (2, 5)


def test_words_and_findings():
    tower = TextTower(9, 8, layers=1).eval()
    assert checked(TextTower.forward)(tower, IDS, MASK).shape == (2, 8)
    with pytest.raises(TypeCheckError, match="mask"):
        checked(TextTower.forward)(tower, IDS, MASK[:1])
    assert checked(exclusive_logits)(torch.rand(2, 4), [0, 1]).shape == (2, 4)
    with pytest.raises(TypeCheckError):
        checked(exclusive_logits)(torch.rand(4), [])


def test_findings_and_their_measures():
    labels = np.array([[0, 1], [1, 0], [1, -1]])
    scores = np.random.default_rng(0).random((3, 2))
    assert checked(findings.finding_auroc)(labels, scores).shape == (2,)
    with pytest.raises(TypeCheckError, match="scores"):
        checked(findings.finding_auroc)(labels, scores[:2])
    checked(findings.accuracy)(labels, scores, [0, 1])
    checked(findings.macro)(scores[0], [0, 1])
    with pytest.raises(TypeCheckError, match="labels"):
        checked(calibration.fit_temperature)(labels[0], scores)
    for measure in (
        calibration.fit_temperature,
        calibration.expected_calibration_error,
        calibration.reliability,
    ):
        checked(measure)(labels, scores)
    assert checked(calibration.calibrated)(scores, 1.5, np.zeros(2)).shape == (3, 2)
    with pytest.raises(TypeCheckError, match="shift"):
        checked(calibration.calibrated)(scores, 1.5, np.zeros(3))
    quantiles = checked(conformal.fit_quantiles)(labels, scores)
    assert checked(conformal.answer_sets)(scores, quantiles).shape == (3, 2, 2)
    checked(conformal.coverage_of)(labels, scores, quantiles)
    bits = checked(interaction.usable_bits)(labels, scores)
    assert checked(interaction.split_bits)(bits, bits, bits).shape == (4, 2)


def test_retrieval():
    rows = np.eye(3)
    assert checked(retrieval.recall)(rows, rows)["r1"] == 1.0
    with pytest.raises(TypeCheckError, match="gallery"):
        checked(retrieval.recall)(rows, rows[:, :2])
    checked(retrieval.label_oracle)(np.eye(3, dtype=int))


@pytest.mark.parametrize("objective", coordination.OBJECTIVES.values(), ids=list(coordination.OBJECTIVES))
def test_coordination(objective):
    one = torch.ones(())
    rows = torch.eye(3)
    same = checked(coordination.same_findings)(torch.zeros(3, 4, dtype=torch.long))
    assert objective(rows, rows, one, one, same).ndim == 0
    with pytest.raises(TypeCheckError, match=r"\bb\b"):
        checked(coordination.siglip_loss)(rows, rows[:, :2], one, one)
    with pytest.raises(TypeCheckError, match="ignore"):
        checked(coordination.info_nce_loss)(rows, rows, one, same[:2])


def test_linear_coordination():
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    found = checked(coordination.LinearCCA.fit)(x, x @ torch.rand(3, 4) + 0.1, 2, 0.1)
    assert checked(coordination.LinearCCA.embed_a)(found, x).shape == (20, 2)
    assert checked(coordination.LinearCCA.embed_b)(found, torch.rand(5, 4)).shape == (5, 2)
    project = coordination.Projection(8, 4)
    assert checked(coordination.Projection.forward)(project, torch.rand(2, 8)).shape == (2, 4)


@pytest.mark.parametrize("kind", FUSIONS.values(), ids=list(FUSIONS))
def test_fusion(kind):
    made = kind(("CT", "MR"), 8, layers=1, heads=2, dropout=0.0).eval()
    tokens = {m: Tokens(torch.rand(2, 3, 8), MASK) for m in ("CT", "MR")}
    assert checked(kind.forward)(made, tokens)[1].shape == (2, 8)


def test_attention():
    attention = Attention(8, 2, 0.0).eval()
    forward = checked(Attention.forward)
    assert forward(attention, torch.rand(2, 4, 8), torch.rand(2, 3, 8), MASK).shape == (2, 4, 8)
    with pytest.raises(TypeCheckError, match="mask"):
        forward(attention, torch.rand(2, 4, 8), torch.rand(2, 3, 8), MASK[:, :2])
    with pytest.raises(TypeCheckError, match="context"):
        forward(attention, torch.rand(2, 4, 8), torch.rand(2, 3, 4), MASK)


def test_models_of_findings():
    task = load_task("upper-abdomen")
    config = ModelConfig(width=32, layers=1, vocabulary=9)
    model = FusionModel(task, config, encoders=False).eval()
    assert checked(FusionModel.embed_text)(model, IDS, MASK).shape[0] == 2
    batch = {m: (torch.rand(2, 3, n), MASK, IDS) for m, n in model.sizes.items()}
    use = checked(use_only)(("CT",), task.senses, 2)
    with torch.no_grad():
        logits = checked(feature_set.predict_logits)(model, batch, use)
    assert logits.shape == (2, len(task.findings))
    late = LateConcat(task, config).eval()
    assert checked(LateConcat.logits)(late, batch).shape == logits.shape
    assert checked(feature_set.label_matrix)(task, []).shape == (0, len(task.findings))
    cases = [CaseFeatures(), CaseFeatures()]
    data = feature_set.FeatureSet(["a", "b"], cases, np.zeros((2, 1), int), ["", ""])
    assert checked(feature_set.FeatureSet.has)(data, "CT").shape == (2,)
    with pytest.raises(TypeCheckError, match="keep"):
        checked(feature_set.FeatureSet.subset)(data, np.array([0, 1]))


def test_regions_and_windows():
    dense = DenseEncoder(dims=3, roles=1, classes=3, filters=8).eval()
    values = torch.rand(1, 1, 16, 16, 16)
    there = torch.ones(1, 1, dtype=torch.bool)
    with torch.inference_mode():
        logits, fine, deep = checked(in_windows)(dense, (16, 16, 16), values, there)
    pool = checked(extract)
    _, probability, _ = pool(values[0], there[0], logits[0], fine[0], deep[0], organ=1, lesions=[2])
    assert probability.shape == (3, 16, 16, 16)
    with pytest.raises(TypeCheckError, match="fine"):
        pool(values[0], there[0], logits[0], fine[0, :, 1:], deep[0], organ=1, lesions=[2])


def test_writer():
    config = WriterConfig(vocabulary=9, memory=8, modalities=("CT",), findings=2, width=32, layers=1)
    writer = Writer(config).eval()
    memory = checked(Writer.memory)(writer, {"CT": Tokens(torch.rand(2, 3, 8), MASK)}, torch.rand(2, 2))
    logits, states = checked(Writer.forward)(writer, IDS, memory)
    assert (logits.shape, states.shape) == ((2, 3, 9), (2, 3, 32))
    checked(Writer.extend)(writer, IDS, writer.start(memory))
    with pytest.raises(TypeCheckError, match="prefix"):
        checked(Writer.generate)(writer, IDS[0], memory, end=0)


def test_networks_from_disk():
    made = InflatedResNet(layers=(1, 1, 1, 1)).eval()
    with torch.inference_mode():
        assert checked(InflatedResNet.forward)(made, torch.rand(1, 1, 32, 32, 16)).ndim == 5
    taken = Taken(torch.nn.Identity(), 0)
    with pytest.raises(TypeCheckError, match="x"):
        checked(Taken.forward)(taken, torch.zeros(1, 2, dtype=torch.long))


def test_pixel_fusion():
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 1, 24, 20, generator=draw) for _ in range(2))
    f = checked(network.PixelFusion.forward)(network.PixelFusion(4).eval(), a, b)
    assert checked(network.fusion_loss)(a, b, f).ndim == 0
    assert checked(network.gradients)(a).shape == (1, 2, 24, 20)
    with pytest.raises(TypeCheckError):
        checked(network.similarity)(a, b[:, :, 1:])
    x, y = (v[0, 0].numpy().astype(float) for v in (a, b))
    for fuse in (network.fuse_max, network.fuse_average, network.fuse_laplacian, network.fuse_guided):
        assert checked(fuse)(x, y).shape == (24, 20)
    assert checked(network.scaled)(x).shape == x.shape
    with pytest.raises(TypeCheckError):
        checked(metrics.score)(x, y, y[1:])
    for measure in (metrics.entropy, metrics.deviation, metrics.spatial_frequency):
        checked(measure)(x * 255)


def test_places_in_millimetres():
    points = np.random.default_rng(0).random((4, 3))
    transform = checked(by_landmarks)(points, points + 1.0)
    assert checked(moved)(points, transform).shape == (4, 3)
    assert np.allclose(checked(matrix_of)(transform)[:3, 3], -1.0)
    with pytest.raises(TypeCheckError, match="points"):
        checked(moved)(points[:, :2], transform)
    assert checked(diameters)(points[:, :2], 0.1)[0] > 0
    with pytest.raises(TypeCheckError, match="points_mm"):
        checked(diameters)(points, 0.1)
