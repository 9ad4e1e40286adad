"""The sound of `medfuse demo`: one simulated patient is listened to, and found among the pictures by the
sound alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundles.beside import SenseBeside, load_beside, shipped_beside
from ..bundles.bundle import Bundle
from ..bundles.calibration import calibrated
from ..evaluation.space import agreement, asked_findings
from ..io.names import path_below
from ..models.features import CaseFeatures
from ..models.senses import add_senses
from ..prediction import Prediction
from ..simulation.doppler import write_doppler
from ..simulation.patient import Variant, simulate

SENSE = "AUDIO"


@dataclass(frozen=True, kw_only=True)
class FoundBySound:
    """files: what was written. patient: whose sound it is. ranked: case ids, the likeliest first. place: of
    the right one, from 1. picture: of the likeliest one."""

    files: list[str]
    patient: str
    ranked: list[str]
    place: int
    picture: str

    @property
    def sentence(self) -> str:
        """What came of it, whether it is right or wrong."""
        which = (
            "the right patient"
            if self.place == 1
            else f"a wrong one: the right patient is number {self.place}"
        )
        return (
            f"simulated Doppler sound of {self.patient}: {self.files[0]}; of {len(self.ranked)} pictures it "
            f"fits {self.picture} best, {which} (by guessing 1 time in {len(self.ranked)} right). "
            "The sound is simulated, and no training brought sounds and pictures together"
        )


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """The manifest's side of a sense: sounds and nothing else."""

    heard: list[str]
    indication: str = ""
    risk: str = ""
    labs: Sequence[None] = ()


def sounds_of_demo(bundle: Bundle) -> SenseBeside | None:
    """The shipped sense of this bundle; None where there is none."""
    folder = shipped_beside(bundle.name, SENSE)
    return load_beside(folder, bundle.task) if folder.is_dir() else None


def find_by_sound(
    sense: SenseBeside, bundle: Bundle, sounds: list[Path], predictions: Mapping[str, Prediction]
) -> list[str]:
    """Case ids of the predictions, the one first that says most of what the sounds say: each side tells how
    likely each finding is, and a pair is ranked by how much likelier those are of one patient than of
    two."""
    case = CaseFeatures()
    add_senses(case, (sense.file.sense,), _Heard(heard=[str(p) for p in sounds]))  # type: ignore[arg-type]
    asked = asked_findings(bundle.task)
    ids = [bundle.task.findings[n].id for n in asked]
    prior = np.array([sense.file.prior[i] for i in ids])
    by_sound = calibrated(sense.model.logits([case]).numpy(), sense.file.temperature)[:, asked]
    by_image = np.stack([_chances(p, ids, prior) for p in predictions.values()])
    score = agreement(by_sound, by_image, prior)[0]
    return [list(predictions)[n] for n in np.argsort(-score, kind="stable")]


def _chances(prediction: Prediction, ids: list[str], prior: np.ndarray) -> np.ndarray:
    """(F,) of a prediction; what was not assessed is as likely as ever."""
    said = {f.id: f.probability for f in prediction.findings}
    chances = [said.get(i) for i in ids]
    return np.array([p if c is None else c for c, p in zip(chances, prior.tolist(), strict=True)])


def sound_of_demo(
    bundle: Bundle, out: Path, *, seed: int, folders: Mapping[str, Path]
) -> FoundBySound | None:
    """Write the sounds of one of the demo's patients into OUT/sound, the one that the seed draws, and find
    its picture. folders: of the results, by case id. None where there are not two patients, or no sense of
    sound for this bundle."""
    sense = sounds_of_demo(bundle)
    if sense is None or len(folders) < 2:
        return None
    predictions = {
        case_id: Prediction.model_validate_json((folder / "prediction.json").read_text(encoding="utf-8"))
        for case_id, folder in folders.items()
    }
    chosen = int(np.random.default_rng(seed).integers(len(predictions)))
    patient = simulate(seed, chosen, Variant(sounds="only"))
    place = path_below(out / "sound", patient.case_id)
    written = [place.parent / name for name in write_doppler(patient.sounds, place)]
    ranked = find_by_sound(sense, bundle, written, predictions)
    right = [n for n, case_id in enumerate(ranked, 1) if case_id.startswith(patient.case_id)]
    pictures = sorted((folders[ranked[0]] / "overlays").glob("view_*.png"))
    return FoundBySound(
        files=[str(p) for p in written],
        patient=patient.case_id,
        ranked=ranked,
        place=right[0],
        picture=str(pictures[0] if pictures else folders[ranked[0]]),
    )
