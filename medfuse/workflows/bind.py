"""`medfuse bind BUNDLE --sense S`: a further sense beside a bundle whose own weights stay as they are, bound
through claims, and the pairs of senses that come of it without any training together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from ..bundles.bound import bound_copy, bound_temperatures
from ..bundles.bundle import Bundle, load_bundle
from ..errors import UserError, WrongUse
from ..evaluation.evaluate import features_of
from ..evaluation.results import Space
from ..evaluation.space import space_of_bundle
from ..io.manifest import ManifestRow, read_manifest
from ..models.feature_set import FeatureSet, label_matrix
from ..models.features import CaseFeatures
from ..models.senses import SENSES, add_senses
from ..training.budget import Budget
from ..training.checkpoint import Resume
from ..training.identity import Identity
from ..training.stages.bind import SensedCases, bind_sense
from .outputs import check_folder

FEWEST = 10  # training cases that have the sense and a label
Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class BindResult:
    """sense: what was bound. bundle: where. pairs: the new pairs, by ``A->B``, with their chance by number of
    cases. train, scored: cases. refused: what could not be read."""

    sense: str
    bundle: str
    space: Space
    train: int
    scored: int
    refused: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """As JSON data."""
        out = {k: v for k, v in asdict(self).items() if k != "space"}
        matrix = self.space.as_json()
        return {**out, "refused": list(self.refused), "pairs": matrix["matrix"], "chance": matrix["chance"]}


def bind(
    name: str,
    sense: str,
    manifest: Path,
    out: Path,
    *,
    seed: int = 1,
    minutes: float = 10.0,
    progress: Progress = lambda done, total: None,
) -> BindResult:
    """Train, write and score. Pairs are scored on the split test where there is one, else on val. Raises
    WrongUse for a sense that is unknown or there already, UserError where there is too little to learn
    from."""
    bundle = load_bundle(name)
    code = _known(sense, bundle)
    check_folder(out)
    if out.exists():
        raise WrongUse(f"--out {out}: is there already; give the name of a new folder")
    rows = read_manifest(manifest)
    train, val = (_sensed(bundle, code, [r for r in rows if r.split == s]) for s in ("train", "val"))
    for split, found in (("train", train), ("val", val)):
        if len(found.cases) < FEWEST:
            raise UserError(
                f"{manifest}: {len(found.cases)} cases of split {split} have {code} and a label of "
                f"{bundle.task.name}; {FEWEST} are needed"
            )
    work = out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    made_from = _made_from(bundle, code, rows, seed)
    bound = bind_sense(
        code,
        train,
        val,
        seed=seed,
        budget=Budget(minutes=minutes),
        resume=Resume(work / "bind.resume", made_from),
    )
    note: dict[str, object] = {
        "cases": len(train.cases),
        "seed": seed,
        "validation_log_likelihood": round(bound.score, 4),
        "simulated": all(r.simulated for r in rows),
        "use": "retrieval through claims; findings and reports do not use it",
    }
    bound_copy(bundle, out, bound.model, bound.temperature, note)
    if not any(work.iterdir()):
        work.rmdir()
    return _scored(out, code, rows, len(train.cases), progress)


def _known(sense: str, bundle: Bundle) -> str:
    """The registered name of a sense that the bundle has not yet."""
    code = next((s for s in SENSES if s == sense.upper()), "")
    if not code:
        raise WrongUse(f"--sense {sense}: there is no such sense; give one of {', '.join(SENSES)}")
    if code in bundle.task.senses or code in bound_temperatures(bundle):
        raise WrongUse(f"--sense {code}: bundle {bundle.name} has it already")
    return code


def _sensed(bundle: Bundle, sense: str, rows: list[ManifestRow]) -> SensedCases:
    """The cases that have the sense and some label."""
    labels = label_matrix(bundle.task, rows)
    cases: list[CaseFeatures] = []
    kept = []
    for n, row in enumerate(rows):
        case = CaseFeatures()
        add_senses(case, (sense,), row)
        if case.has(sense) and (labels[n] >= 0).any():
            cases.append(case)
            kept.append(n)
    return SensedCases(cases, torch.from_numpy(labels[kept]))


def _made_from(bundle: Bundle, sense: str, rows: list[ManifestRow], seed: int) -> Identity:
    return Identity.of(
        {
            "the bundle": bundle.hash,
            "the sense": sense,
            "the cases and their labels": [[r.case_id, r.split, r.labels] for r in rows],
            "the seed": seed,
        }
    )


def _without_images(bundle: Bundle, rows: list[ManifestRow]) -> FeatureSet:
    """Cases of which no image was acquired: their further senses alone."""
    cases = [CaseFeatures() for _ in rows]
    for case, row in zip(cases, rows, strict=True):
        add_senses(case, (*bundle.task.further, *bound_temperatures(bundle)), row)
    labels = label_matrix(bundle.task, rows)
    words = [r.report for r in rows], [r.rephrased for r in rows]
    return FeatureSet([r.case_id for r in rows], cases, labels, *words)


def _joined(a: FeatureSet, b: FeatureSet) -> FeatureSet:
    return FeatureSet(
        [*a.case_ids, *b.case_ids],
        [*a.features, *b.features],
        np.concatenate([a.labels, b.labels]),
        [*a.reports, *b.reports],
        [*a.rephrased, *b.rephrased],
    )


def _scored(out: Path, sense: str, rows: list[ManifestRow], train: int, progress: Progress) -> BindResult:
    """The pairs of the new sense with every other."""
    bundle = load_bundle(out)
    wanted = "test" if any(r.split == "test" for r in rows) else "val"
    rows = [r for r in rows if r.split == wanted]
    data, refused = features_of(bundle, [r for r in rows if r.images], "cpu", progress)
    data = _joined(data, _without_images(bundle, [r for r in rows if not r.images]))
    whole = space_of_bundle(bundle, data)
    matrix = {pair: row for pair, row in whole.matrix.items() if sense in pair.split("->")}
    chance = {str(row.n): whole.chance[str(row.n)] for row in matrix.values()}
    return BindResult(
        sense=sense,
        bundle=str(out),
        space=Space(senses=whole.senses, matrix=matrix, chance=chance),
        train=train,
        scored=len(data.case_ids),
        refused=tuple(refused),
    )
