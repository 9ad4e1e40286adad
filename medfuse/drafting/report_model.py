"""report_model.yaml beside a model that reads images and writes: what it is shown, and what it is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import UserError, fault_of
from ..foreign import yaml_as_json
from ..modalities import MODALITIES, is_cine, unknown

NAME = "report_model.yaml"
FACTS = "{facts}"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ShownImages(_Strict):
    """How the images of one modality are shown.

    plane: of slices. max: pictures of a case at most, spread evenly over its series. windows: lowest and
    highest value, one for grey or three for red, green and blue. percentiles: of the image's own values, in
    place of windows.
    """

    plane: Literal["axial", "coronal", "sagittal"] = "axial"
    max: int = Field(default=16, gt=0)
    windows: tuple[tuple[float, float], ...] = ()
    percentiles: tuple[float, float] = (1.0, 99.0)

    @model_validator(mode="after")
    def _consistent(self) -> ShownImages:
        if len(self.windows) not in (0, 1, 3) or any(low >= high for low, high in self.windows):
            raise ValueError("windows needs one pair or three, each with its lowest value first")
        return self


class ReportModelFile(_Strict):
    """report_model.yaml in the folder of an image-text model.

    id: its name. images: by modality; others are not shown. prompt: by language; {facts} stands for what the
    findings say of the shown modalities. max_new_tokens: that it may write. dtype: of its weights. licence:
    of the weights.
    """

    id: str
    images: dict[str, ShownImages]
    prompt: dict[str, str] = Field(default_factory=dict)
    max_new_tokens: int = Field(default=512, gt=0)
    dtype: Literal["f32", "bf16"] = "f32"
    licence: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> ReportModelFile:
        if not self.images:
            raise ValueError("images names no modality, so nothing would be shown")
        for code, how in self.images.items():
            if code not in MODALITIES:
                raise ValueError(unknown(code))
            if is_cine(code) and len(how.windows) > 0:
                raise ValueError(f"{code} has frames as they are: leave windows out")
        if any(FACTS not in text for text in self.prompt.values()):
            raise ValueError(f"prompt must hold {FACTS}")
        return self


def is_report_model(folder: Path) -> bool:
    """Whether a folder holds a model that is shown images."""
    return (folder / NAME).is_file()


def read_report_model(folder: Path) -> ReportModelFile:
    """report_model.yaml of a folder. Raises UserError that names the file and the field."""
    path = folder / NAME
    try:
        return ReportModelFile.model_validate(yaml_as_json(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, UnicodeDecodeError, OSError) as e:
        raise UserError(f"{path}: {fault_of(e)}; see Report models in docs/pretrained.md") from e
