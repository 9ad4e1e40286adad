"""Pixel-level fusion: metrics against independent implementations, fusions that keep their promises, files
for looking only."""

from __future__ import annotations

import json
import shutil
import subprocess

import jsonschema
import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image as Picture
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import entropy as scipy_entropy
from skimage.metrics import structural_similarity
from sklearn.metrics import mutual_info_score
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.pixelfusion.metrics import WARNINGS, qabf, scd, score, spatial_frequency, ssim, vif
from medfuse.pixelfusion.network import (
    BASELINES,
    PixelFusion,
    fuse,
    fuse_learned,
    fusion_loss,
    load_fusion,
    save_fusion,
    scaled,
)
from medfuse.pixelfusion.train import simulated_pairs, train_pixel_fusion
from medfuse.training.budget import Budget
from medfuse.workflows.schemas import schemas_json


@pytest.fixture
def pictures(rng):
    """A bright ring (bone) and soft texture, 0 to 255, and noise."""
    y, x = np.mgrid[:96, :96] - 48
    r = np.hypot(x, y)
    ct = np.where((r > 34) & (r < 40), 240.0, np.where(r < 34, 60.0, 0.0))
    mr = np.where(r < 40, 90 + 50 * np.sin(x / 5) * np.cos(y / 7), 0.0)
    return gaussian_filter(ct, 0.7), np.clip(gaussian_filter(mr, 0.7), 0, 255)


def test_metrics_equal_independent_ones(pictures):
    a, b = pictures
    f = np.maximum(a, b)
    got = score(a, b, f)
    levels = [np.round(v).astype(int) for v in (a, b, f)]
    assert got["en"] == pytest.approx(
        scipy_entropy(np.bincount(levels[2].ravel(), minlength=256), base=2), abs=0.02
    )
    mi = sum(mutual_info_score(levels[k].ravel(), levels[2].ravel()) for k in (0, 1)) / np.log(2)
    assert got["mi"] == pytest.approx(mi, abs=0.05)
    reference = sum(
        structural_similarity(
            v, f, data_range=255, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for v in (a, b)
    )
    assert ssim(a, f) + ssim(b, f) == pytest.approx(reference, abs=1e-3)
    rows = f[:, 1:] - f[:, :-1]
    columns = f[1:] - f[:-1]
    assert spatial_frequency(f) == pytest.approx(np.sqrt(np.mean(rows**2) + np.mean(columns**2)))
    assert scd(a, b, f) == pytest.approx(
        np.corrcoef((f - b).ravel(), a.ravel())[0, 1] + np.corrcoef((f - a).ravel(), b.ravel())[0, 1],
        abs=1e-9,
    )
    assert set(got) == set(WARNINGS)


def test_qabf_against_a_plain_loop(rng):
    """Xydeas and Petrovic's formula, pixel by pixel."""
    a, b, f = (gaussian_filter(rng.uniform(0, 255, (24, 24)), 1.5) for _ in range(3))
    kx = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], float)
    edge = {}
    for name, image in (("a", a), ("b", b), ("f", f)):
        h = convolve(image, kx[::-1, ::-1], mode="constant")
        v = convolve(image, kx.T[::-1, ::-1], mode="constant")
        edge[name] = (h, v)
    total = kept = 0.0
    for y in range(24):
        for x in range(24):
            hf = edge["f"][0][y, x]
            vf = edge["f"][1][y, x]
            gf = np.hypot(hf, vf)
            df = np.pi / 2 if hf == 0 else np.arctan(vf / hf)
            for s in "ab":
                h = edge[s][0][y, x]
                v = edge[s][1][y, x]
                g = np.hypot(h, v)
                d = np.pi / 2 if h == 0 else np.arctan(v / h)
                strength = gf / g if g > gf else (gf if g == gf else g / gf)
                angle = 1 - abs(d - df) / (np.pi / 2)
                q = 0.9994 / (1 + np.exp(-15 * (strength - 0.5))) * 0.9879 / (1 + np.exp(-22 * (angle - 0.8)))
                kept = kept + q * g
                total = total + g
    assert qabf(a, b, f) == pytest.approx(kept / total, abs=1e-9)


def test_vif_knows_itself_and_its_limits(pictures, rng):
    a, _ = pictures
    assert vif(a, a) == pytest.approx(1.0, abs=1e-6)
    assert vif(a, gaussian_filter(a, 3)) < 0.5
    assert vif(a, a + rng.normal(0, 20, a.shape)) < 0.8
    assert vif(a, 1.3 * a) > 1.0  # more contrast than the reference: the known habit of VIF


def test_every_warning_is_true(pictures, rng):
    a, b = pictures
    f = np.round((a + b) / 2 / 32) * 32  # few levels, as flat areas have
    noisy = f + rng.normal(0, 12, f.shape) * (np.maximum(a, b) > 1)
    plain = score(a, b, f)
    worse = score(a, b, noisy)
    assert worse["en"] > plain["en"]
    assert worse["sf"] > plain["sf"]
    clipped = score(a, b, np.clip(a + b, 0, 255))
    assert clipped["sd"] > plain["sd"]
    assert clipped["scd"] > plain["scd"]
    copied = score(a, b, a)
    assert copied["mi"] > plain["mi"]
    assert copied["vif"] > plain["vif"]


@pytest.mark.parametrize("method", list(BASELINES))
def test_baselines_keep_shape_and_range(pictures, method):
    a, b = (v / 255 for v in pictures)
    out = fuse([a, b], method=method)
    assert out.shape == a.shape
    assert out.min() >= 0
    assert out.max() <= 1 + 1e-9
    assert np.allclose(fuse([a, a], method=method), a, atol=0.05)


def test_the_network_does_not_care_about_order_and_learns(pictures):
    a, b = (v.astype(np.float32) / 255 for v in pictures)
    torch.manual_seed(0)
    model = PixelFusion(8).eval()
    assert np.allclose(fuse_learned(a, b, model), fuse_learned(b, a, model), atol=1e-6)
    x, y = (torch.from_numpy(v)[None, None] for v in (a, b))
    before = float(fusion_loss(x, y, model(x, y)).detach())
    trained = train_pixel_fusion([(a, b)], budget=Budget(steps=25), seed=1, start=model)
    assert float(fusion_loss(x, y, trained(x, y)).detach()) < before
    again = train_pixel_fusion([(a, b)], budget=Budget(steps=3), seed=2)
    twice = train_pixel_fusion([(a, b)], budget=Budget(steps=3), seed=2)
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), twice.parameters(), strict=True))


def test_shipped_weights_fuse_and_saved_ones_come_back(pictures, tmp_path):
    a, b = (v / 255 for v in pictures)
    model = load_fusion()
    assert sum(p.numel() for p in model.parameters()) < 100_000
    save_fusion(model, tmp_path / "w.safetensors")
    assert np.allclose(fuse([a, b], weights=tmp_path / "w.safetensors"), fuse([a, b]), atol=1e-3)
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read as fusion weights"):
        load_fusion(tmp_path / "bad.safetensors")


def test_three_sources_colour_and_volumes(pictures):
    a, b = (v / 255 for v in pictures)
    assert fuse([a, b, np.flip(a, 0)], method="max").shape == a.shape
    colour = np.stack([a, a * 0.5, b * 0.2], -1)
    fused = fuse([colour, b], method="max")
    assert fused.shape == (96, 96, 3)
    grey = fused @ np.array([0.299, 0.587, 0.114])
    assert (grey + 0.02 >= np.minimum(b, 0.9)).mean() > 0.95
    volume = np.stack([a, b], -1)
    assert fuse([volume, np.flip(volume, -1)], method="average").shape == volume.shape
    assert scaled(np.array([[0, 255]], np.uint8)).tolist() == [[0.0, 1.0]]


def test_refusals(pictures):
    a, b = (v / 255 for v in pictures)
    for sources, why, kind in (
        ([a], "two or three", WrongUse),
        ([a, b[:50]], "different sizes", UserError),
        ([a, np.ones_like(a)], "same value everywhere", UserError),
    ):
        with pytest.raises(kind, match=why):
            fuse(sources, method="max")
    with pytest.raises(WrongUse, match="give learned"):
        fuse([a, b], method="magic")


def test_the_contract(pictures, tmp_path):
    for name, v in zip(("a", "b"), pictures, strict=True):
        Picture.fromarray(v.astype(np.uint8)).save(tmp_path / f"{name}.png")
    run = CliRunner().invoke
    done = run(
        app,
        [
            "fuse",
            str(tmp_path / "a.png"),
            str(tmp_path / "b.png"),
            "--out",
            str(tmp_path / "f.png"),
            "--json",
        ],
    )
    assert json.loads(done.stdout)["files"] == [str(tmp_path / "f.png")]
    with Picture.open(tmp_path / "f.png") as made:
        assert made.size == (96, 96)
    for wrong, why in (("f.nii.gz", "pictures fuse into a picture"), ("f.txt", r"end it in \.png")):
        with pytest.raises(WrongUse, match=why):
            run(
                app,
                ["fuse", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--out", str(tmp_path / wrong)],
                catch_exceptions=False,
            )
    with pytest.raises(WrongUse, match="no such file"):
        run(
            app,
            ["fuse", str(tmp_path / "a.png"), str(tmp_path / "x.png"), "--out", str(tmp_path / "f.png")],
            catch_exceptions=False,
        )


def test_dicom_series_of_one_frame_fuse_into_every_kind(patient_dicom, tmp_path, home):
    one, two = sorted((patient_dicom / "MR").iterdir())[:2]
    run = CliRunner().invoke
    for name in ("f.nii.gz", "f.png", "f.dcm"):
        done = run(
            app,
            ["fuse", str(one), str(two), "--out", str(tmp_path / name), "--method", "max", "--json"],
            catch_exceptions=False,
        )
        assert done.exit_code == 0
    facts = json.loads((tmp_path / "f.json").read_text())
    jsonschema.validate(facts, schemas_json()["fused_note"])
    assert "not measurements" in facts["derived"]
    assert len(facts["series"]) == 2
    fused = nib.load(tmp_path / "f.nii.gz").get_fdata()
    assert 0 <= fused.min() <= fused.max() <= 1
    import pydicom

    ds = pydicom.dcmread(tmp_path / "f.dcm")
    assert ds.ImageType[:3] == ["DERIVED", "SECONDARY", "FUSED"]
    assert len(ds.SourceImageSequence) == 2 * ds.NumberOfFrames
    if shutil.which("dciodvfy"):
        checked = subprocess.run(
            ["dciodvfy", str(tmp_path / "f.dcm")], capture_output=True, text=True, check=False
        )
        assert not [x for x in (checked.stdout + checked.stderr).splitlines() if x.startswith("Error")]
    ct = next((patient_dicom / "CT").iterdir())
    with pytest.raises(UserError, match="register them first"):
        run(app, ["fuse", str(one), str(ct), "--out", str(tmp_path / "g.png")], catch_exceptions=False)


def test_simulated_pairs_repeat():
    first = simulated_pairs(1, 3)
    second = simulated_pairs(1, 3)
    assert all(np.array_equal(x[k], y[k]) for x, y in zip(first, second, strict=True) for k in (0, 1))
    assert all(p[0].shape == p[1].shape for p in first)
