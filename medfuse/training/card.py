"""The validated domain and the model card, from what was trained on."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict

import torch

from .. import __version__
from ..bundles.contracts import Card
from ..bundles.domain import Domain, longest_side
from ..io.read import open_case
from ..models.feature_set import FeatureSet
from ..models.model import FusionModel
from ..simulation.parameters import digest
from .calibrate import SubsetFigures
from .options import TrainingRun
from .stages.encoders import encoder_note


def domain_of(run: TrainingRun, every: FeatureSet) -> Domain:
    """The modalities, roles and body parts that the training's cases show."""
    task = run.task
    roles = {
        m: tuple(sorted({i.role for r in run.rows for i in r.images if i.modality == m and i.role}))
        for m in task.image_senses
    }
    return Domain(
        run.simulated,
        tuple(m for m in task.image_senses if every.has(m).any()),
        task.body_part,
        roles,
        body_parts=task.body_parts,
        extent_mm=_extents(run) if task.around else {},
    )


def role_notes(run: TrainingRun) -> list[str]:
    """One sentence a modality most of whose images have no known role: images of a known role then lie
    outside the validated domain."""
    out = []
    for modality in run.task.image_senses:
        roles = [i.role for r in run.rows for i in r.images if i.modality == modality]
        unknown = roles.count("unknown")
        if 2 * unknown > len(roles):
            known = sorted(set(roles) - {"", "unknown"})
            further = f" and of {', '.join(known)}" if known else " alone"
            out.append(
                f"{modality}: {unknown} of {len(roles)} images have an unknown role, so the validated domain "
                f"holds images of unknown role{further}; state roles in the manifest where they are known"
            )
    return out


def _extents(run: TrainingRun) -> dict[str, tuple[float, float]]:
    """Modality → least and greatest longest side of its volumes in mm, a fifth beyond what was seen."""
    sides: dict[str, list[float]] = {}
    for row in run.rows:
        for image in (i for i in open_case(row).images if not i.source.synthetic):
            sides.setdefault(image.modality, []).append(longest_side(image))
    return {m: (round(0.8 * min(seen), 1), round(1.2 * max(seen), 1)) for m, seen in sides.items()}


def _borrowed(model: FusionModel) -> dict[str, object]:
    """Rows on the encoders from disk, whose weights the bundle does not hold; none without any."""
    foreign = model.config.foreign
    if not foreign:
        return {}
    return {
        "encoders_from_disk": [
            {"id": f.id, "modality": f.modality, "sha256": f.hash, "licence": f.licence_words}
            | ({"tuned": f.tuning} if f.tuning else {})
            for f in foreign
        ],
        "licences": "; ".join(f"{f.id}: {f.licence_words}" for f in foreign),
    }


def card_of(
    run: TrainingRun, model: FusionModel, figures: dict[str, SubsetFigures], notes: list[str]
) -> Card:
    """card.json: how the model was trained, its validation by subset, and what its domain lacks."""
    task = run.task
    is_train = run.is_train
    of_simulator = {"simulator_parameters_sha256": digest()} if run.simulated else {}
    rows = {
        "name": run.out.name,
        "summary": (
            f"{task.title['en']}. Fusion of {', '.join(task.senses)} by {type(model.fusion).__name__}."
        ),
        "trained_on": (
            f"{'simulated' if run.simulated else 'real'} cases: {int(is_train.sum())} train, "
            f"{int((~is_train).sum())} validation"
        ),
        "command": run.command,
        "seed": run.options.seed,
        "encoders": {
            m: note.model_dump() for m in task.image_senses if (note := encoder_note(run.work, m)) is not None
        },
        **_borrowed(model),
        "minutes_of_the_last_call": round((time.monotonic() - run.started) / 60, 1),
        "machine": (
            f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {run.options.device}"
        ),
        "versions": {"medfuse": __version__, "torch": torch.__version__},
        "parameters": sum(p.numel() for p in model.parameters()),
        "validation": {subset: asdict(found) for subset, found in figures.items()},
        **({"validated_domain": "; ".join(notes)} if notes else {}),
        "known_limits": "Outside its validated domain it drafts nothing."
        + (
            ""
            if task.whole_images or task.around
            else " Small lesions and ultrasound windows in shadow are missed."
        ),
    }
    return Card.model_validate({**rows, **task.about, **of_simulator})
