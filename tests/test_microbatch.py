"""Cases that pass the encoders together come out as they do alone."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from medfuse.bundles.bundle import load_bundle
from medfuse.cli import app
from medfuse.inference.microbatch import MicroBatches
from medfuse.inference.predictor import Predictor
from medfuse.io.manifest import read_manifest
from medfuse.io.read import open_case
from medfuse.models.features import encode, encode_many
from medfuse.preprocess.prepare import prepare
from medfuse.simulation.patient import Variant
from medfuse.simulation.population import write_population


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_population(
        tmp_path_factory.mktemp("pop"), cases=3, seed=36, file_format="nifti", variant=Variant(missing=0.3)
    )


def test_together_as_alone(manifest):
    bundle = load_bundle("upper-abdomen-simulated")
    inputs = [prepare(open_case(row), bundle.task) for row in read_manifest(manifest)]
    calls: list[int] = []
    hook = bundle.model.encoders["US"].register_forward_hook(lambda m, x, y: calls.append(len(x[0])))
    with torch.inference_mode():
        alone = [encode(bundle.model.encoders, i, bundle.task, torch.device("cpu")) for i in inputs]
        clips = sum(len(i.get("US", [])) for i in inputs)
        assert len(calls) == clips
        calls.clear()
        together = encode_many(bundle.model.encoders, inputs, bundle.task, torch.device("cpu"))
    hook.remove()
    assert len(calls) == 1  # frames of one size, whatever the case
    for (a, dense_a), (b, dense_b) in zip(alone, together, strict=True):
        assert set(a.features) == set(b.features)
        for m in a.features:
            assert np.array_equal(a.mask[m], b.mask[m])
            assert np.abs(a.features[m] - b.features[m]).max() < 2e-2
        assert [d.modality for d in dense_a] == [d.modality for d in dense_b]
        assert np.mean([(x.label != y.label).mean() for x, y in zip(dense_a, dense_b, strict=True)]) < 1e-4


def test_what_waits_goes_together_and_a_fault_reaches_everyone_it_concerns():
    gate = threading.Event()

    def many(cases):
        gate.wait(5)
        if any(c == "bad" for c in cases):
            raise RuntimeError("no memory")
        return [c * 2 for c in cases]

    batches = MicroBatches(many, size=3, patience_s=0.1)
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(batches, n) for n in range(5)]
        gate.set()
        assert [f.result(5) for f in futures] == [0, 2, 4, 6, 8]
    assert max(batches.sizes) <= 3
    assert sum(batches.sizes) == 5
    with pytest.raises(RuntimeError, match="no memory"):
        batches("bad")
    assert batches(4) == 8  # it goes on


def test_the_command_takes_it(manifest, tmp_path, home):
    out = tmp_path / "together"
    line = ["batch", str(manifest), "--out", str(out), "--workers", "1", "--micro-batch", "3"]
    done = CliRunner().invoke(app, [*line, "--formats", "json", "--device", "cpu", "--json"])
    assert done.exit_code == 0, done.output
    together = {p.parent.name: json.loads(p.read_text())["findings"] for p in out.glob("*/prediction.json")}
    bundle = load_bundle("upper-abdomen-simulated")
    alone = {row.case_id: Predictor(bundle)(open_case(row)).findings for row in read_manifest(manifest)}
    assert set(alone) == set(together)
    for case, findings in alone.items():
        for x, y in zip(findings, together[case], strict=True):
            assert y["probability"] == pytest.approx(x.probability, abs=5e-3)
