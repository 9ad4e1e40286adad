"""Volumes without label maps: CT with phases, MR, a picture and laboratory values of one patient, through the
same commands."""

from __future__ import annotations

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from medfuse.bundles.bundle import load_bundle
from medfuse.case import Lab
from medfuse.evaluation.evaluate import evaluate
from medfuse.io.manifest import read_manifest
from medfuse.models.encoders import ImageEncoder, _grown
from medfuse.models.features import CaseFeatures
from medfuse.task import load_task
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.training.stages.whole import WholeImages, cut_volume, tokens_of
from medfuse.workflows.predict import PredictOptions, PredictRequest, predict_command

BREAST = load_task("breast-ultrasound")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """A task of one's own: no label maps, two findings, three senses."""
    folder = tmp_path_factory.mktemp("task")
    shutil.copytree(f"{BREAST.folder}/templates", folder / "templates")
    hu = {"kind": "hu", "centre": 60.0, "width": 80.0}
    (folder / "task.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "knots",
                "title": {"en": "Knots"},
                "body_part": "thorax",
                "further": ["LABS"],
                "modalities": {
                    "CT": {
                        "roles": ["unenhanced", "portal"],
                        "spacing_mm": [4, 4, 4],
                        "filters": 8,
                        "intensity": hu,
                    },
                    "MR": {
                        "roles": ["t2"],
                        "spacing_mm": [4, 4, 4],
                        "filters": 8,
                        "intensity": {"kind": "robust"},
                    },
                },
                "findings": [
                    {"id": "knot", "name": {"en": "a knot"}, "group": "other", "modalities": ["CT", "MR"]},
                    {
                        "id": "fever",
                        "name": {"en": "inflammation"},
                        "group": "other",
                        "modalities": ["CT", "MR"],
                    },
                ],
            }
        )
    )
    return load_task(folder / "task.yaml")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Generated volumes, not patients: a bright ball (knot) in both modalities, C-reactive protein for the
    other finding."""
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(0)
    rows = []
    x = np.stack(np.meshgrid(*[np.arange(n) for n in (34, 32, 32)], indexing="ij"))
    for n in range(36):
        knot = n % 2
        fever = n // 2 % 2
        images = []
        for modality, roles in (("CT", ("unenhanced", "portal")), ("MR", ("t2",))):
            for role in roles[: 1 + (n % 3 > 0)]:
                a = rng.normal(50, 15, (34, 32, 32))
                if knot:
                    c = rng.uniform(10, 22, 3)
                    a[((x - c[:, None, None, None]) ** 2).sum(0) < 49] += 150
                name = f"{n}_{modality}_{role}.nii.gz"
                nib.save(nib.Nifti1Image(a.astype(np.float32), np.diag([4.0, 4, 4, 1])), folder / name)
                side = {"Modality": modality, "medfuse_role": role}
                (folder / name.replace(".nii.gz", ".json")).write_text(json.dumps(side))
                images.append(
                    {"path": name, "modality": modality, "role": role, "frame_of_reference": f"{n}{modality}"}
                )
        if n % 5 == 4:
            images = images[:1]  # CT alone
        rows.append(
            {
                "case_id": f"v{n}",
                "split": ("train", "train", "val", "test")[n // 4 % 4],
                "images": images,
                "labels": {"knot": knot, "fever": fever},
                "labs": [
                    {
                        "loinc": "1988-5",
                        "value": float(np.exp(rng.normal(4 if fever else 0.5, 0.4))),
                        "unit": "mg/L",
                    }
                ],
            }
        )
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in rows))
    return path


@pytest.fixture(scope="module")
def bundle(task, manifest, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "knots"
    talk: list[str] = []
    train(
        task,
        manifest,
        out,
        TrainOptions(seed=1, encoder_steps=25, fusion_steps=40),
        command="test",
        log=talk.append,
    )
    assert any("macro AUROC" in t for t in talk)
    return load_bundle(out)


def test_it_learns_from_volumes_and_numbers_and_stands_beside_its_baselines(bundle, manifest):
    table = evaluate(bundle, manifest).as_json()
    assert set(table["subsets"]) >= {"CT", "MR", "LABS", "CT+LABS", "CT+MR+LABS"}
    assert table["per_finding"]["fever"]["LABS"] > 0.9  # the images say nothing of it
    assert set(table["baselines"]["late_concat"]) >= {"CT", "LABS"}
    assert bundle.baselines() is not None


def test_predict_takes_laboratory_values_from_a_file(bundle, manifest, tmp_path, home):
    row = next(r for r in read_manifest(manifest) if r.split == "test" and len(r.images) > 2)
    seen = {}
    for name, value in (("high", "90"), ("low", "0.5")):
        (tmp_path / f"{name}.csv").write_text(f"loinc,value,unit\n1988-5,{value},mg/L\n")
        parts = {"US": [], "CT": [manifest.parent / row.images[0].path], "MR": []}
        done = predict_command(
            PredictRequest(
                parts=parts,
                out=tmp_path / name,
                bundle=str(bundle.path),
                options=PredictOptions(outside_domain=True),
                labs=tmp_path / f"{name}.csv",
            ),
            log=print,
        )
        seen[name] = {f["id"]: f for f in done.data["findings"]}
        assert "LABS" in seen[name]["fever"]["contribution"]
    assert seen["high"]["fever"]["probability"] > seen["low"]["fever"]["probability"] + 0.1


def test_another_unit_is_not_read(bundle):
    from medfuse.models.senses import labs

    class Said:
        indication = risk = ""
        labs = [Lab("1988-5", 9.0, "mg/dL")]  # noqa: RUF012

    values, kind = labs.read(Said)
    tokeniser = bundle.model.tokenisers["LABS"]
    token = tokeniser(
        torch.tensor(values).float()[None], torch.ones(1, 1, dtype=torch.bool), torch.tensor(kind)[None]
    )
    assert not token.mask.any()
    assert tokeniser.seen.sum() == 1


def test_volumes_are_read_when_needed_cut_a_little_and_never_mirrored(bundle, rng):
    values = np.zeros((2, 40, 40, 40), np.float32)
    values[:, :20] = 5.0
    for _ in range(8):
        cut, present = cut_volume(values, np.array([True, False]), rng)
        assert present.tolist() == [True, False]
        assert min(cut.shape[1:]) >= 32
        assert cut[0, :12].mean() > cut[0, -12:].mean()
    encoder = ImageEncoder(8, dims=3, roles=2).eval()
    x = torch.randn(1, 2, 32, 32, 32)
    with torch.inference_mode():
        a = encoder(x, torch.tensor([[True, False]]))
        x[:, 1] = 99.0
        # noise in a role that was not acquired
        assert torch.equal(a, encoder(x, torch.tensor([[True, False]])))
    assert a.shape == (1, 9, encoder.width)
    images = WholeImages(
        bundle.task, bundle.path, [], [{"CT": [], "MR": []}] * 2, [CaseFeatures(), CaseFeatures()]
    )
    batch = tokens_of(bundle.model, images, torch.tensor([0, 1]))
    assert not any(mask.any() for _, mask, _ in batch.values())  # nothing at all is a batch too


def test_small_volumes_have_tokens_and_others_stay_as_they_are(rng):
    """A crop around a small tumour is a few voxels thick: real sarcomas ended training in a pooling layer."""
    torch.manual_seed(0)
    encoder = ImageEncoder(4, dims=3).eval()
    there = torch.ones(1, 1, dtype=torch.bool)
    for shape in ((20, 9, 30), (1, 1, 1), (28, 40, 33)):
        tokens = encoder(torch.from_numpy(rng.normal(size=(1, 1, *shape))).float(), there)
        assert torch.isfinite(tokens).all()
    assert _grown(values := torch.zeros(1, 1, 29, 32, 40)) is values
