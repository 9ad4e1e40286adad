"""What each of torchrun's processes ends with: `python -m torch.distributed.run … tests/shared_trainings.py
OUT` writes OUT/RANK.json, a digest of the weights of each stage that is not an encoder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from recorded_trainings import fusion, pixel_fusion, whole, writer

from medfuse.bundles.bundle import load_bundle
from medfuse.io.manifest import ManifestRow
from medfuse.models.feature_set import FeatureSet, label_matrix
from medfuse.models.features import CaseFeatures
from medfuse.training.distributed import rank, start


def random_cases(n: int) -> tuple[FeatureSet, list[ManifestRow]]:
    """Cases of random features with a report each: not patients."""
    bundle = load_bundle()
    rng = np.random.default_rng(0)
    rows = [
        ManifestRow(
            case_id=f"c{i}",
            labels={f.id: int(rng.integers(2)) for f in bundle.task.findings},
            report=f"Liver lesion of {i} mm. No ascites.",
        )
        for i in range(n)
    ]
    cases = []
    for _ in rows:
        case = CaseFeatures()
        for m, size in bundle.model.sizes.items():
            case.add_whole(m, [rng.normal(size=(3, size)).astype(np.float32)])
        cases.append(case)
    labels = label_matrix(bundle.task, rows)
    return FeatureSet([r.case_id for r in rows], cases, labels, [r.report for r in rows]), rows


def main(out: Path, steps: int = 4) -> None:
    """Train each stage, alone or together, and write what came of it."""
    torch.set_num_threads(1)
    start(torch.device("cpu"))
    digests = {
        "fusion": fusion(steps),
        "whole images": whole(steps),
        "pixel fusion": pixel_fusion(steps),
        "writer": writer(*random_cases(31), steps),
    }
    (out / f"{rank()}.json").write_text(json.dumps(digests))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
