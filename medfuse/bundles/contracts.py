"""The JSON files of a bundle as types: what is read is checked, and a fault is named with its place."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from ..errors import UserError, fault_of
from ..models.model import ModelConfig
from ..models.writer import WriterConfig

Read = TypeVar("Read", bound=BaseModel)


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid")


class BundleConfig(_Contract):
    """config.json: the sizes of the fusion model, and of the baselines beside it.

    model: of the fusion model. baseline: of late concatenation.
    """

    model: ModelConfig
    baseline: ModelConfig


class WriterFile(RootModel[WriterConfig]):
    """writer/config.json: the sizes of the learned writer."""


class Calibration(_Contract):
    """calibration.json. Keys are presence patterns such as CT+MR.

    temperature: divides the logits. conformal: one threshold a finding. reliability: see
    `calibration.reliability`. lesion_peaks: by modality, the probability from which a lesion is named.
    shift: by finding, what `medfuse tune` learned to add to its calibrated logit.
    """

    temperature: dict[str, float]
    conformal: dict[str, list[float]] = Field(default_factory=dict)
    reliability: dict[str, list[list[int]]] = Field(default_factory=dict)
    lesion_peaks: dict[str, float] = Field(default_factory=dict)
    shift: dict[str, float] = Field(default_factory=dict)


class FeatureModel(_Contract):
    """How the features of one modality were distributed in training, for `domain.distance`.

    mean: of the features. components: the directions that are kept. precision: inverse covariance along them.
    rest: training's length in all other directions, the unit of what the components leave out. limit: the
    distance beyond which an image looks unlike all others.
    """

    mean: list[float]
    components: list[list[float]]
    precision: list[list[float]]
    rest: float
    limit: float


class DomainFile(_Contract):
    """domain.json: where a model was validated; see `domain.Domain`.

    modalities: those it was trained on. body_part, body_parts: what the images may show. roles: by modality.
    features: how they were distributed, by modality. extent_mm: least and greatest longest side of volumes
    that were cut out around something.
    """

    simulated: bool
    modalities: tuple[str, ...]
    body_part: str
    roles: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    features: dict[str, FeatureModel] = Field(default_factory=dict)
    body_parts: tuple[str, ...] = ()
    extent_mm: dict[str, tuple[float, float]] = Field(default_factory=dict)


class VqaExamples(_Contract):
    """examples.json of a bundle that answers questions: what it has seen.

    questions, answers: one each for every training question. organ: of each picture. classes: the answers it
    can give, in the order of the scores. calibration: slope and offset of the chance of being right.
    """

    questions: list[str]
    answers: list[str]
    organ: list[str]
    classes: list[str]
    calibration: tuple[float, float]


class Card(BaseModel):
    """card.json: how a bundle was made, row by row of MODEL_CARD.md; further rows are kept as they are.

    summary: one sentence.
    """

    model_config = ConfigDict(extra="allow")
    name: str
    summary: str = ""


def read_contract(path: Path, kind: type[Read]) -> Read:
    """Read a bundle's JSON file. Raises UserError that names the file and the place of the fault."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as e:
        raise UserError(f"{path}: the bundle is damaged ({fault_of(e)}); copy or train it again") from e
