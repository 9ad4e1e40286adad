"""Outlines of the lesions of a prediction, for the viewer: beside its cached pixels, as predicting again
makes them anew."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Bool, Float

from ..prediction import LesionRecord, Prediction

if TYPE_CHECKING:
    from .library import Library

log = logging.getLogger(__name__)


class Outlined(Protocol):
    """mask: of a lesion on a grid of its own. to_place: (4, 4) from its index to RAS+ mm."""

    @property
    def mask(self) -> np.ndarray: ...
    @property
    def to_place(self) -> np.ndarray: ...


@dataclass(frozen=True)
class KeptOutline:
    """mask: (I, J, K) of a lesion on a grid of its own. to_place: from its index to RAS+ mm."""

    mask: Bool[np.ndarray, "i j k"]
    to_place: Float[np.ndarray, "4 4"]


def outlines_file(library: Library, prediction: Prediction) -> Path:
    """Where the outlines of a prediction lie, whether or not they are there."""
    whose = "\n".join([prediction.case_id, prediction.bundle_hash])
    return library.home / "cache" / "outlines" / f"{hashlib.sha256(whose.encode()).hexdigest()}.npz"


def keep_outlines(library: Library, prediction: Prediction, masks: Mapping[str, Outlined]) -> None:
    """Keep the outlines of a prediction's lesions, in place of those of an earlier run. A disk that is full
    leaves boxes."""
    path = outlines_file(library, prediction)
    part = path.with_name(f".{os.getpid()}.{secrets.token_hex(4)}.npz")
    known = [x for x in prediction.outlined if x.id in masks]
    arrays: dict[str, np.ndarray] = {"whose": np.array([_whose(x) for x in known], dtype="U64")}
    for n, lesion in enumerate(known):
        arrays[f"mask{n}"] = masks[lesion.id].mask.astype(bool)
        arrays[f"place{n}"] = np.asarray(masks[lesion.id].to_place, float)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(part, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    except OSError as e:
        log.warning("outlines cannot be kept (%s): lesions are shown as boxes", e.strerror)
        part.unlink(missing_ok=True)


def _whose(lesion: LesionRecord) -> str:
    """A lesion and where it lies: ids are counted anew by each prediction, and an outline of an earlier one
    must not be drawn for another lesion of its name."""
    return hashlib.sha256(f"{lesion.id}\n{lesion.place.model_dump_json()}".encode()).hexdigest()


def outlines_of(library: Library, prediction: Prediction) -> dict[str, KeptOutline]:
    """The kept outlines of a prediction's lesions by their id; none where there are none, they are of other
    lesions, or the file is damaged."""
    ids = {_whose(x): x.id for x in prediction.outlined}
    try:
        with (
            outlines_file(library, prediction).open("rb") as file,
            np.load(file) as kept,  # numpy's default: no pickle is read
        ):
            return {
                ids[str(whose)]: KeptOutline(kept[f"mask{n}"].astype(bool), kept[f"place{n}"].reshape(4, 4))
                for n, whose in enumerate(kept["whose"])
                if str(whose) in ids
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
