"""encoder.yaml beside a user's weights: what the encoder takes and gives. What decides right from wrong has
no default."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from ...errors import UserError, fault_of
from ...foreign import yaml_as_json
from ...modalities import MODALITIES, is_cine, unknown

NAME = "encoder.yaml"
OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
PLANES = {"axial": "SI", "coronal": "AP", "sagittal": "RL"}
TOKENS = re.compile(r"(cls|mean)(\+(\d+x\d+x\d+|\d+))?|grid|clip")
MOST_VOXELS = 1 << 28  # of one input: 645³, a GiB as float32
GREATEST_GRID = 512  # tokens an image


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightsFile(_Strict):
    """Where the tensors are.

    file: beside encoder.yaml; empty where the folder itself is the model. key: of the entry that holds them,
    where the file has several. prefix: of the names that are this encoder's. drop: beginnings of names, after
    the prefix, that are not wanted. sha256: of the file; empty where it is not compared.
    """

    file: str = ""
    key: str = ""
    prefix: str = ""
    drop: tuple[str, ...] = ()
    sha256: str = ""


class Takes(_Strict):
    """Which images enter.

    modality: their code. roles: the series that enter; any for all. series: each enters by itself, or the
    roles are channels of one input.
    """

    modality: str
    roles: tuple[str, ...] | Literal["any"] = "any"
    series: Literal["each", "channels"] = "each"


class EncoderGeometry(_Strict):
    """How an image is laid out for the network.

    dims: 3 volumes, 2 slices or frames, 2+t clips. orientation: where the axes of the array point, in its
    order (slices, rows, columns where dims is 2), as in SPL; null of frames without a place. spacing_mm:
    along these axes; null keeps the image's. size: voxels or pixels of one input. fit: how an image of
    another size becomes that. overlap: of sliding windows, as a share. foreground: whether the empty border
    is cut first. plane: of slices. slices: how many. choose: which of them. frames: of a clip. stride:
    between them. clips: how many at most.
    """

    dims: Literal[2, 3, "2+t"]
    orientation: str | None
    spacing_mm: tuple[float, float, float] | None
    size: tuple[int, ...]
    fit: Literal["sliding_window", "crop", "resize"] = "crop"
    overlap: float = Field(default=0.0, ge=0, lt=1)
    foreground: bool = False
    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    slices: int = Field(default=32, gt=0)
    choose: Literal["even", "middle", "all"] = "even"
    frames: int = Field(default=16, gt=0)
    stride: int = Field(default=1, gt=0)
    clips: int = Field(default=4, gt=0)

    @model_validator(mode="after")
    def _sized(self) -> EncoderGeometry:
        wanted = 3 if self.dims == 3 else 2
        if len(self.size) != wanted or min(self.size) < 1:
            raise ValueError(f"size needs {wanted} numbers from 1 up, not {list(self.size)}")
        if prod(self.size) > MOST_VOXELS:
            raise ValueError(f"size {list(self.size)} has more than {MOST_VOXELS} voxels or pixels an input")
        return self

    @model_validator(mode="after")
    def _oriented(self) -> EncoderGeometry:
        letters = self.orientation
        if letters is not None and sorted(min(c, OPPOSITE.get(c, "?")) for c in letters) != ["A", "I", "L"]:
            raise ValueError(f"orientation {letters} does not name three axes, one of R/L, A/P and S/I each")
        if self.dims == 2 and letters is not None and letters[0] not in PLANES[self.plane]:
            raise ValueError(
                f"orientation {letters} begins with the axis of slices, which is not {self.plane}"
            )
        return self

    @model_validator(mode="after")
    def _spaced(self) -> EncoderGeometry:
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise ValueError("spacing_mm needs three numbers above 0")
        return self


class EncoderIntensity(_Strict):
    """How values enter.

    kind: what they are; hu, unit (of the modality), byte, or percentiles of the image's own values. windows:
    lowest and highest value of each channel, or percentiles. to: what these become. mean, std: subtracted and
    divided after that, one a channel. channels: of the input; one window may fill several.
    """

    kind: Literal["hu", "unit", "byte", "percentiles"]
    windows: tuple[tuple[float, float], ...]
    to: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: int = Field(default=1, gt=0)

    @model_validator(mode="after")
    def _windowed(self) -> EncoderIntensity:
        if not self.windows or any(low >= high for low, high in self.windows):
            raise ValueError("windows needs a lowest and a highest value, in this order, for each")
        if len(self.windows) not in (1, self.channels):
            raise ValueError(f"{len(self.windows)} windows do not fill {self.channels} channels")
        if self.kind == "percentiles" and not all(0 <= v <= 100 for w in self.windows for v in w):
            raise ValueError("windows of percentiles lie between 0 and 100")
        return self

    @model_validator(mode="after")
    def _scaled(self) -> EncoderIntensity:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, self.channels):
                raise ValueError(f"{name} needs one number a channel, not {len(values)}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError("std needs numbers above 0")
        return self


class Gives(_Strict):
    """What comes out.

    output: place of the wanted output, or its name, or the name of the module inside that gives it. width:
    numbers a token. tokens: cls, mean, grid (each place of the map) or clip; +2x2x2 adds the means of so many
    parts of a volume, +4 of so many runs of slices or clips. axes: whether it must tell a flip of left and
    right, front and back, head and feet (of frames: time, rows, columns); false for one that was trained on
    mirror images.
    """

    output: int | str
    width: int = Field(gt=0)
    tokens: str = "mean"
    axes: tuple[bool, bool, bool] = (True, True, True)

    @model_validator(mode="after")
    def _consistent(self) -> Gives:
        if not TOKENS.fullmatch(self.tokens):
            raise ValueError(f"tokens {self.tokens}: give cls, mean, grid, clip, or mean+2x2x2 or mean+4")
        return self

    @property
    def parts(self) -> tuple[int, ...]:
        """Into how many parts tokens are pooled beside the mean, an axis each; () for none."""
        after = self.tokens.partition("+")[2]
        return tuple(int(n) for n in after.split("x")) if after else ()


class Compute(_Strict):
    """What it costs.

    precision: of a GPU that has it. batch: inputs at a time. memory_mb: that a GPU must have.
    """

    precision: Literal["bf16", "f32"] = "f32"
    batch: int = Field(default=1, gt=0)
    memory_mb: int = Field(default=0, ge=0)


class EncoderFile(_Strict):
    """encoder.yaml beside an encoder's weights.

    id: its name. loader: one of the registry. weights: where its tensors are. arguments: of the network.
    takes: which images enter. geometry: how they are laid out. intensity: how their values enter. gives:
    what comes out. compute: what it costs. licence: of the weights. check: file with an input and the
    vector that is expected of it.
    """

    id: str
    loader: str
    weights: WeightsFile = WeightsFile()
    arguments: dict[str, JsonValue] = Field(default_factory=dict)
    takes: Takes
    geometry: EncoderGeometry
    intensity: EncoderIntensity
    gives: Gives
    compute: Compute = Compute()
    licence: str = Field(default="", max_length=500)
    check: str = "reference.npz"

    @model_validator(mode="after")
    def _known(self) -> EncoderFile:
        if self.takes.modality not in MODALITIES:
            raise ValueError(unknown(self.takes.modality))
        if not self.id.strip() or self.id == "own":
            raise ValueError("id needs a name, and own is the name of the encoder that training makes")
        return self

    @model_validator(mode="after")
    def _fits_the_modality(self) -> EncoderFile:
        code = self.takes.modality
        if is_cine(code) and (self.geometry.dims == 3 or self.geometry.orientation is not None):
            raise ValueError(f"{code} has frames without a place: dims 2 or 2+t, and orientation null")
        if not is_cine(code) and (self.geometry.dims == "2+t" or self.geometry.orientation is None):
            raise ValueError(f"{code} has volumes: dims 2 or 3, and an orientation such as RAS")
        return self

    @model_validator(mode="after")
    def _tokens_fit(self) -> EncoderFile:
        if "x" in self.gives.tokens and self.geometry.dims != 3:
            raise ValueError(
                f"tokens {self.gives.tokens} are parts of a volume, and dims is {self.geometry.dims}"
            )
        if len(self.gives.parts) == 1 and self.geometry.dims == 3:
            raise ValueError(f"tokens {self.gives.tokens} are runs of slices or clips, and dims is 3")
        return self

    @model_validator(mode="after")
    def _inside(self) -> EncoderFile:
        for name in (self.weights.file, self.check):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"{name} lies outside the folder; files of an encoder are in its folder")
        return self

    @model_validator(mode="after")
    def _channels(self) -> EncoderFile:
        roles = self.takes.roles
        if self.takes.series == "channels" and (roles == "any" or len(roles) != self.intensity.channels):
            raise ValueError("series channels needs roles, as many as intensity has channels")
        return self


def read_contract_file(folder: Path) -> EncoderFile:
    """encoder.yaml of a folder. Raises UserError that names the file and the field."""
    path = folder / NAME
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds the weights and {NAME}")
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no {NAME}; copy a template (docs/pretrained.md) there and complete it"
        )
    try:
        data = yaml_as_json(path.read_text(encoding="utf-8"))
        return EncoderFile.model_validate(data)
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        raise UserError(f"{path}: {fault_of(e)}; compare with a template (docs/pretrained.md)") from e
