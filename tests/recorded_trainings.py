"""Seeded trainings of the five stages, short enough to be recorded: (name, digest of the weights) of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from medfuse.bundles.bundle import load_bundle
from medfuse.io.manifest import ManifestRow, read_manifest
from medfuse.models.feature_set import FeatureSet, FusionData
from medfuse.models.features import CaseFeatures
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.writer import train_writer_tokenizer
from medfuse.pixelfusion.train import train_pixel_fusion
from medfuse.simulation.population import write_population
from medfuse.task import load_task
from medfuse.training.budget import Budget
from medfuse.training.data.features import extract_features
from medfuse.training.data.tensors import PreparedCases, preprocess_manifest
from medfuse.training.identity import weights_digest
from medfuse.training.stages.dense import CropSource, train_encoder
from medfuse.training.stages.fusion import FusionTraining, train_fusion
from medfuse.training.stages.whole import Labelled, WholeImages, WholeTraining, train_whole
from medfuse.training.stages.writer import WriterTraining, reports_of, train_writer

ABDOMEN = load_task("upper-abdomen")
BREAST = load_task("breast-ultrasound")


def trainings(folder: Path, steps: int) -> Iterator[tuple[str, str]]:
    """Every stage after ``steps`` seeded steps; images are simulated or random numbers, never patients."""
    torch.set_num_threads(1)
    manifest = write_population(folder / "population", cases=6, seed=31, file_format="nifti")
    yield from _encoders(folder, manifest, steps)
    yield "fusion", fusion(steps)
    yield "whole images", whole(steps)
    yield "pixel fusion", pixel_fusion(steps)
    yield "writer", _writer(folder, manifest, steps)


def _encoders(folder: Path, manifest: Path, steps: int) -> Iterator[tuple[str, str]]:
    rows = read_manifest(manifest)
    tensors, entries = preprocess_manifest(ABDOMEN, rows, folder / "tensors", workers=1)
    for modality in ABDOMEN.image_senses:
        names = [name for e in entries for name in e["files"].get(modality, [])]
        source = CropSource(task=ABDOMEN, modality=modality, folder=tensors, names=names, seed=5)
        yield (
            f"encoder {modality}",
            weights_digest(train_encoder(source, budget=Budget(steps=steps)).state_dict()),
        )


def fusion(steps: int) -> str:
    """Digest of a small fusion model's weights, on random features."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    model = FusionModel(ABDOMEN, ModelConfig(width=32, layers=1, vocabulary=9), encoders=False)

    def some(n: int) -> FusionData:
        batch = {
            m: (torch.randn(n, 2, s, generator=draw), torch.ones(n, 2).bool(), torch.ones(n, 2).long())
            for m, s in model.sizes.items()
        }
        labels = torch.randint(0, 2, (n, len(ABDOMEN.findings)), generator=draw)
        words = torch.randint(1, 9, (n, 5), generator=draw)
        return FusionData(batch, labels, words, torch.ones(n, 5).bool())

    train_fusion(model, some(130), some(40), budget=Budget(steps=steps), how=FusionTraining(seed=1))
    return weights_digest(model.state_dict())


def whole(steps: int) -> str:
    """Digest of a small model of whole images, on random frames."""
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(3)
    model = FusionModel(BREAST, ModelConfig(width=32, layers=1, vocabulary=1, grid=3, additive=True))
    frames = [torch.rand(1, 1, 64, 64, generator=draw) for _ in range(40)]
    images = WholeImages(BREAST, Path(), frames, [{} for _ in frames], [CaseFeatures() for _ in frames])
    labels = np.eye(len(BREAST.findings), dtype=np.int64)[np.arange(40) % len(BREAST.findings)]
    data = Labelled(labels, np.arange(40) < 32)
    train_whole(model, images, data, budget=Budget(steps=steps), how=WholeTraining(seed=1))
    return weights_digest(model.state_dict())


def pixel_fusion(steps: int) -> str:
    """Digest of a network that fuses pictures, on random ones."""
    rng = np.random.default_rng(0)
    pairs = [(rng.random((120, 110), np.float32), rng.random((120, 110), np.float32)) for _ in range(3)]
    return weights_digest(train_pixel_fusion(pairs, budget=Budget(steps=steps), seed=1).state_dict())


def _writer(folder: Path, manifest: Path, steps: int) -> str:
    bundle = load_bundle()
    rows = read_manifest(manifest)
    tensors, entries = preprocess_manifest(bundle.task, rows, folder / "tensors", workers=1)
    features = extract_features(
        bundle.task,
        bundle.model.encoders,
        PreparedCases(rows=rows, folder=tensors, entries=entries),
        device=torch.device("cpu"),
        cache=None,
    )
    return writer(features, rows, steps)


def writer(features: FeatureSet, rows: list[ManifestRow], steps: int) -> str:
    """Digest of the weights of the default bundle's new writer."""
    bundle = load_bundle()
    texts = [t for r in rows for t in reports_of(r).values()]
    tokenizer = train_writer_tokenizer(texts, bundle.task, ["en", "zh-TW"])
    pair = (features, rows)
    how = WriterTraining(seed=1, log=lambda line: None)
    learned, _ = train_writer(bundle, tokenizer, pair, pair, budget=Budget(steps=steps), how=how)
    return weights_digest(learned.state_dict())
