"""Groups of cases → train, val, test: no group in two, findings and presence patterns alike in all."""

from __future__ import annotations

from collections import Counter

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from ..io.manifest import ManifestRow

FOLDS = 5  # one for validation, one for test, the rest for training


def strata(rows: list[ManifestRow]) -> np.ndarray:
    """(B,) a number a case: its rarest finding that is present and which modalities it has; what is rarer
    than the folds counts as one."""
    often = Counter(f for r in rows for f, v in r.labels.items() if v == 1)
    names = []
    for r in rows:
        present = sorted((often[f], f) for f, v in r.labels.items() if v == 1)
        names.append(f"{present[0][1] if present else ''}|{'+'.join(sorted({i.modality for i in r.images}))}")
    common = Counter(names)
    kept = [n if common[n] >= FOLDS else "rare" for n in names]
    numbers = {n: i for i, n in enumerate(sorted(set(kept)))}
    return np.array([numbers[n] for n in kept])


def folds_of(rows: list[ManifestRow], folds: int, seed: int) -> np.ndarray:
    """(B,) the fold of each case; cases of one group share it (scikit-learn's StratifiedGroupKFold)."""
    import warnings

    groups = np.array([r.group or r.patient_id or r.case_id for r in rows])
    folds = min(folds, len(set(groups)))
    out = np.zeros(len(rows), int)
    if folds < 2:
        return out
    maker = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # a stratum with fewer cases than folds is no fault here
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held) in enumerate(maker.split(np.zeros(len(rows)), strata(rows), groups)):
            out[held] = fold
    return out


def split_rows(rows: list[ManifestRow], seed: int) -> None:
    """Set ``split`` of each row: one fold of five validates, one tests, three train."""
    fold = folds_of(rows, FOLDS, seed)
    names = {0: "val", 1: "test"} if fold.max(initial=0) > 1 else {1: "val"}
    for row, f in zip(rows, fold, strict=True):
        row.split = names.get(int(f), "train")
