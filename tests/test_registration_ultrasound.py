"""LC² against its definition, a simulated sweep brought home, a tracked frame cut from a volume, and what is
refused."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.errors import UserError, WrongUse
from medfuse.registration.register import moved
from medfuse.registration.ultrasound import lc2, register_ultrasound
from medfuse.registration.volume import from_array, to_array


def naive(u, mask, a, b, patch):
    """Least squares in every patch, one by one; valid patches only (no border)."""
    half = patch // 2
    top = 0.0
    bottom = 0.0
    for z in range(half, u.shape[0] - half):
        for y in range(half, u.shape[1] - half):
            for x in range(half, u.shape[2] - half):
                box = tuple(slice(c - half, c + half + 1) for c in (z, y, x))
                design = np.stack([a[box].ravel(), b[box].ravel(), np.ones(patch**3)], 1)
                target = u[box].ravel()
                residual = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
                top += target.var() - residual.var()
                bottom += target.var()
    return top / bottom


def test_lc2_is_what_its_definition_says(rng):
    u, a, b = (gaussian_filter(rng.normal(size=(11, 12, 13)), 0.8) * 4 for _ in range(3))
    mask = np.ones(u.shape, bool)
    inner = np.zeros(u.shape, bool)
    inner[2:-2, 2:-2, 2:-2] = True
    # the library's patches at the border use what is inside; compare on a field whose border cannot matter
    whole = lc2(
        np.pad(u, 4, mode="wrap"), np.pad(mask, 4), np.pad(a, 4, mode="wrap"), np.pad(b, 4, mode="wrap"), 5
    )
    assert abs(whole - naive(u, inner, a, b, 5)) < 0.06
    assert lc2(2 * a - 3 * b + 1, mask, a, b, 5) > 0.99
    assert lc2(a + b, mask, a, b, 5) > lc2(u, mask, a, b, 5) + 0.3
    assert lc2(np.ones_like(u), mask, a, b, 5) == 0.0


@pytest.fixture(scope="module")
def scene():
    """(MR volume, sweep at its true place): the ultrasound shows echoes in another order, bright interfaces
    and speckle."""
    rng = np.random.default_rng(2)
    n = 56
    mm = 2.0
    x = (np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij")) - n / 2) * mm
    label = np.where((x[0] / 50) ** 2 + (x[1] / 44) ** 2 + (x[2] / 50) ** 2 < 1, 1, 0)
    for k in range(16):
        c = rng.uniform(-26, 26, 3)
        r = rng.uniform(5, 11, 3)
        label[sum(((x[i] - c[i]) / r[i]) ** 2 for i in range(3)) < 1] = 2 + k % 3
    mr = gaussian_filter(np.array([0, 90, 200, 30, 150.0])[label], 0.7) + rng.normal(0, 3, label.shape)
    echo = np.array([0, 0.5, 0.1, 0.8, 0.35])[label]
    us = (echo * rng.rayleigh(0.8, label.shape) + 1.2 * gaussian_gradient_magnitude(echo, 0.7)) * 200 + 8
    affine = np.diag([mm, mm, mm, 1.0])
    affine[:3, 3] = -mm * n / 2
    part = affine.copy()
    part[:3, 3] += mm * 10
    return (
        from_array(mr.astype(np.float32), affine),
        from_array(us[10:46, 10:46, 10:46].astype(np.float32), part),
        us,
        affine,
    )


def displaced(image: sitk.Image) -> tuple[sitk.Image, sitk.Euler3DTransform]:
    truth = sitk.Euler3DTransform()
    truth.SetRotation(0.05, -0.04, 0.06)
    truth.SetTranslation((4.0, -5.0, 3.0))
    back = truth.GetInverse()
    out = sitk.Image(image)
    out.SetOrigin(back.TransformPoint(image.GetOrigin()))
    turn = np.array(sitk.Euler3DTransform(back).GetMatrix()).reshape(3, 3)
    out.SetDirection((turn @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    return out, truth


def test_a_sweep_comes_home_twice_the_same(scene):
    volume, sweep, *_ = scene
    wrong, truth = displaced(sweep)
    points = np.array(
        [wrong.TransformIndexToPhysicalPoint([a, b, c]) for a in (0, 35) for b in (0, 35) for c in (0, 35)]
    )
    found = register_ultrasound(volume, wrong)
    off = np.linalg.norm(moved(points, found.result.transform) - moved(points, truth), axis=1).mean()
    start = np.linalg.norm(points - moved(points, truth), axis=1).mean()
    assert start > 6
    assert off < 1.5
    assert found.repeat_mm < 1.5
    again = register_ultrasound(volume, wrong)
    assert again.result.transform.GetParameters() == found.result.transform.GetParameters()


def save(image: sitk.Image, path) -> None:
    pixels, affine = to_array(image)
    nib.save(nib.Nifti1Image(pixels.astype(np.float32), affine), path)


def test_the_command_with_a_sweep_and_with_a_tracked_frame(scene, tmp_path, home):
    volume, sweep, us, affine = scene
    wrong, truth = displaced(sweep)
    save(volume, tmp_path / "mr.nii.gz")
    save(wrong, tmp_path / "sweep.nii.gz")
    run = CliRunner().invoke
    common = ["--moving-modality", "MR", "--fixed-modality", "US", "--json"]
    done = run(
        app,
        [
            "register",
            str(tmp_path / "mr.nii.gz"),
            str(tmp_path / "sweep.nii.gz"),
            "--out",
            str(tmp_path / "a"),
            *common,
        ],
    )
    assert done.stdout, done.output
    data = json.loads(done.stdout)
    assert (data["verdict"], done.exit_code) == ("check", 3)
    assert "experimental" in data["reasons"][0]
    # the other way round: the same relation, inverted
    done = run(
        app,
        [
            "register",
            str(tmp_path / "sweep.nii.gz"),
            str(tmp_path / "mr.nii.gz"),
            "--out",
            str(tmp_path / "b"),
            "--moving-modality",
            "US",
            "--fixed-modality",
            "MR",
            "--json",
        ],
    )
    assert done.exit_code == 3, done.output
    one, two = (sitk.ReadTransform(str(tmp_path / d / "transform.tfm")) for d in "ab")
    points = np.array([[0.0, 0, 0], [10, -5, 8]])
    assert np.allclose(moved(moved(points, one), two), points, atol=1e-3)

    frame_affine = affine.copy()
    frame_affine[:3, 3] += affine[:3, :3] @ [0, 0, 30]
    nib.save(nib.Nifti1Image(us[:, :, 30:31].astype(np.float32), frame_affine), tmp_path / "frame.nii.gz")
    done = run(
        app,
        [
            "register",
            str(tmp_path / "mr.nii.gz"),
            str(tmp_path / "frame.nii.gz"),
            "--out",
            str(tmp_path / "c"),
            *common,
        ],
    )
    assert done.exit_code == 3, (done.output, done.exception)
    assert json.loads(done.stdout)["verdict"] == "check"
    cut = nib.load(tmp_path / "c" / "moved.nii.gz")
    assert cut.shape == (56, 56, 1)
    # the volume in the frame's own plane
    assert np.allclose(cut.get_fdata()[..., 0], to_array(volume)[0][:, :, 30], atol=1e-2)
    assert (tmp_path / "c" / "checkerboard.png").exists()
    backwards = run(
        app,
        [
            "register",
            str(tmp_path / "frame.nii.gz"),
            str(tmp_path / "mr.nii.gz"),
            "--out",
            str(tmp_path / "d"),
            "--moving-modality",
            "US",
            "--fixed-modality",
            "MR",
        ],
    )
    assert isinstance(backwards.exception, WrongUse)
    assert "FIXED" in str(backwards.exception)


def test_ultrasound_elsewhere_is_one_sentence(scene):
    volume, sweep, *_ = scene
    far = sitk.Image(sweep)
    far.SetOrigin((900.0, 0.0, 0.0))
    with pytest.raises(UserError, match="outside the volume"):
        register_ultrasound(volume, far)
    with pytest.raises(UserError, match="same value"):
        register_ultrasound(volume, sweep * 0)
