"""What long trainings need: going on after a stop with the same result, less memory with the same gradients,
several processes, scalars."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import shared_trainings
import torch
from conftest import COARSE

from medfuse.bundles.bundle import load_bundle
from medfuse.errors import UserError
from medfuse.io.manifest import read_manifest
from medfuse.models.encoders import DenseEncoder
from medfuse.task import load_task
from medfuse.training import checkpoint, loop
from medfuse.training.budget import Budget
from medfuse.training.data.check import check_manifest
from medfuse.training.data.tensors import preprocess_manifest
from medfuse.training.stages import dense
from medfuse.training.stages.encoders import start_weights

TASK = load_task(COARSE)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tensors(six_patients, tmp_path_factory):
    rows = read_manifest(six_patients)
    folder, entries = preprocess_manifest(TASK, rows, tmp_path_factory.mktemp("tensors"), workers=1)
    return folder, [f for e in entries for f in e["files"].get("US", [])]


def trained(tensors, checkpoint, log=lambda *a: None):
    folder, names = tensors
    source = dense.CropSource(task=TASK, modality="US", folder=folder, names=names, seed=5)
    return dense.train_encoder(source, budget=Budget(steps=6), log=log, checkpoint=checkpoint)


def test_a_stopped_training_goes_on_and_ends_the_same(tensors, tmp_path, monkeypatch):
    straight = trained(tensors, tmp_path / "a.safetensors").state_dict()
    real = loop.learning_rate
    steps = []

    class Killed(BaseException):
        pass

    def stop_at_four(peak, fraction):
        steps.append(fraction)
        if len(steps) == 4:
            raise Killed
        return real(peak, fraction)

    monkeypatch.setattr(dense, "Resume", lambda path, of: checkpoint.Resume(path, of, every_s=0.0))
    monkeypatch.setattr(loop, "learning_rate", stop_at_four)
    with pytest.raises(Killed):
        trained(tensors, tmp_path / "b.safetensors")
    assert (tmp_path / "b.resume").exists()
    assert not (tmp_path / "b.safetensors").exists()
    monkeypatch.setattr(loop, "learning_rate", real)
    resumed = trained(tensors, tmp_path / "b.safetensors").state_dict()
    for a, b in zip(straight.values(), resumed.values(), strict=True):
        assert torch.equal(a, b)
    assert not (tmp_path / "b.resume").exists()
    (tmp_path / "c.resume").write_bytes(b"not a checkpoint")
    with pytest.raises(UserError, match="remove it to start anew"):
        trained(tensors, tmp_path / "c.safetensors")


def test_scalars_can_be_read_by_tensorboard(tensors, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written = dense.Scalars(tmp_path / "tb")
    written.add("loss", 2.5, 50)
    written.close()
    events = EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(50, 2.5)]


def test_less_memory_gives_the_same_gradients_and_statistics():
    results = []
    for thrifty in (False, True):
        torch.manual_seed(0)
        encoder = DenseEncoder(dims=3, roles=2, classes=5, filters=8).train()
        encoder.save_memory(thrifty)
        x = torch.randn(2, 2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
        present = torch.ones(2, 2).bool()
        encoder(x, present)[0].square().mean().backward()
        encoder.save_memory(False)
        results.append(
            (
                {n: p.grad for n, p in encoder.named_parameters() if p.grad is not None},
                dict(encoder.named_buffers()),
            )
        )
        momenta = {m.momentum for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm3d)}
        assert all(abs(m - 0.1) < 1e-9 for m in momenta)
    (a, stats_a), (b, stats_b) = results
    assert set(a) == set(b)
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-6), name
    for name in stats_a:
        if "running" in name:
            assert torch.allclose(stats_a[name], stats_b[name], atol=1e-5), name


def test_training_starts_from_a_bundle_that_fits():
    weights = start_weights("upper-abdomen-simulated", load_task("upper-abdomen"))
    shipped = load_bundle("upper-abdomen-simulated").model.encoders
    assert set(weights) == {"US", "CT", "MR"}
    assert torch.equal(weights["CT"]["role_embedding"], shipped["CT"].role_embedding)
    with pytest.raises(UserError, match="nothing can start from it"):
        start_weights("breast-ultrasound", load_task("upper-abdomen"))


@pytest.mark.slow
def test_torchrun_trains_one_bundle_with_two_processes(six_patients, tmp_path):
    """The encoders' gradients are averaged over processes: both end with the same weights, the first writes
    the bundle."""
    out = tmp_path / "together"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "medfuse",
        "train",
        str(COARSE),
        "--manifest",
        str(six_patients),
        "--out",
        str(out),
        "--encoder-steps",
        "2",
        "--fusion-steps",
        "2",
        "--device",
        "cpu",
        "--json",
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
    assert len(lines) == 1  # one process speaks
    assert json.loads(lines[0])["bundle"] == str(out)
    assert load_bundle(out).card["seed"] == 1


def test_every_stage_is_shared_under_torchrun(tmp_path):
    """Both processes end with the same weights, though each sees its own share of a batch, and with others
    than one process that sees them all. A training that a process ran alone would differ between the two."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    script = str(Path(__file__).parent / "shared_trainings.py")
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *together, script, str(tmp_path / "two")],
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shared_trainings.main(tmp_path / "one")
    alone = json.loads((tmp_path / "one" / "0.json").read_text())
    first, second = (json.loads((tmp_path / "two" / f"{r}.json").read_text()) for r in (0, 1))
    assert set(alone) == {"fusion", "whole images", "pixel fusion", "writer"}
    for stage, weights in first.items():
        assert second[stage] == weights, stage
        assert alone[stage] != weights, stage


def test_check_names_what_cannot_be_read(six_patients, tmp_path):
    rows = read_manifest(six_patients)
    broken = tmp_path / "broken.nii"
    broken.write_bytes(b"nothing")
    rows[0].images[0].path = str(broken)
    problems = " ".join(check_manifest(TASK, rows).problems)
    assert rows[0].case_id in problems
    assert "broken.nii cannot be read" in problems
    other = next(i for i in rows[1].images if i.modality == "CT")
    other.mask = next(i for i in rows[2].images if i.modality == "MR").mask
    assert "different grids" in " ".join(check_manifest(TASK, rows).problems)
