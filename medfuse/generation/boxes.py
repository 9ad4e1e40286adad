"""Images → boxes: one role a modality, its field of view on one small grid; and a claim vector a case."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from scipy.ndimage import affine_transform, gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from ..io.manifest import ManifestRow
from ..modalities import is_cine
from ..models.feature_set import label_matrix
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Task
from ..training.data.tensors import Preprocessed, load_input
from .config import BOX, FRAME, Generated, GeneratorConfig

OWN_SCALE = (300.0, 100.0)  # centre and width of a modality whose values have no unit


def box_of(
    values: Float32[np.ndarray, "x y z"], spacing: tuple[float, ...], of: Generated
) -> Float32[np.ndarray, "i j k"]:
    """A volume on the grid of a box: middles upon each other; beyond the border its last value goes on."""
    ratio = np.array(of.spacing_mm) / np.array(spacing)
    smooth = gaussian_filter(values.astype(np.float32), 0.5 * np.maximum(ratio - 1, 0))
    offset = (np.array(values.shape) - 1) / 2 - ratio * (np.array(of.shape) - 1) / 2
    return affine_transform(smooth, np.diag(ratio), offset, of.shape, order=1, mode="nearest")


def frame_of(values: Float32[np.ndarray, "t s s"], of: Generated) -> Float32[np.ndarray, "h w"]:
    """The middle frame of a cine, at the size of a generated one."""
    middle = torch.from_numpy(np.asarray(values[len(values) // 2], np.float32))[None, None]
    return F.interpolate(middle, of.shape, mode="area")[0, 0].numpy()


def box_of_input(item: VolumeInput | CineInput, task: Task, of: Generated) -> np.ndarray | None:
    """One prepared image as a box; None where it lacks the role."""
    if isinstance(item, CineInput):
        return frame_of(item.values, of)
    role = task.modalities[item.modality].roles.index(of.role)
    if not item.present[role]:
        return None
    return box_of(item.values[role], tuple(np.diag(item.affine)[:3]), of)


def _roles_of(task: Task, folder: Path, entries: list[Preprocessed]) -> dict[str, Counter[str]]:
    """How many cases have each role, by modality."""
    found: dict[str, Counter[str]] = {m: Counter() for m in task.own_senses}
    for entry in entries:
        for m, names in entry["files"].items():
            roles = task.modalities[m].roles
            with np.load(folder / names[0]) as z:
                present = z["present"]
            found[m].update(
                [roles[0]] if is_cine(m) else [r for r, p in zip(roles, present, strict=True) if p]
            )
    return found


def _sizes(folder: Path, modality: str, entries: list[Preprocessed]) -> np.ndarray:
    """(N, 3) voxels of each case's volume."""
    sizes = []
    for entry in entries:
        if modality in entry["files"]:
            with np.load(folder / entry["files"][modality][0]) as z:
                sizes.append(z["values"].shape[1:])
    return np.array(sizes)


def describe(
    task: Task, folder: Path, rows: list[ManifestRow], entries: list[Preprocessed]
) -> GeneratorConfig:
    """What is generated of these training cases: each modality by the role that most of them have."""
    modalities: dict[str, Generated] = {}
    for m, counted in _roles_of(task, folder, entries).items():
        if not counted:
            continue
        role = max(counted, key=lambda r: (counted[r], r != "unknown"))
        spec = task.modalities[m]
        spacing: tuple[float, ...] = ()
        if not is_cine(m):
            side = np.median(_sizes(folder, m, entries), 0) * np.array(spec.spacing_mm)
            spacing = tuple(round(float(s), 2) for s in side / np.array(BOX))
        own = spec.intensity.kind == "robust"
        low, high = spec.intensity.clip
        modalities[m] = Generated(
            role=role,
            spacing_mm=spacing,
            shape=FRAME if is_cine(m) else BOX,
            centre=OWN_SCALE[0] if own else spec.intensity.centre,
            width=OWN_SCALE[1] if own else spec.intensity.width,
            cases=counted[role],
            low=low,
            high=high,
        )
    labels = label_matrix(task, rows)
    return GeneratorConfig(
        modalities=modalities,
        findings=tuple(f.id for f in task.findings),
        positives={f.id: int((labels[:, n] == 1).sum()) for n, f in enumerate(task.findings)},
        together=(),
    )


class Boxes:
    """Boxes of N cases. values: modality → (N, 1, *shape), zeros where there is none; there (N, M) in the
    order of the config; claims (N, F) of 0, 1, -1."""

    def __init__(self, values: dict[str, Tensor], there: Tensor, claims: Tensor) -> None:
        self.values = values
        self.there = there
        self.claims = claims

    def __len__(self) -> int:
        return len(self.claims)

    def pick(self, index: Tensor) -> Boxes:
        """The cases of these numbers, or of a mask."""
        return Boxes({m: x[index] for m, x in self.values.items()}, self.there[index], self.claims[index])

    def patterns(self, codes: tuple[str, ...]) -> tuple[str, ...]:
        """The sets of modalities that cases have, as CT+MR."""
        seen = {tuple(row) for row in self.there.tolist()}
        named = {"+".join(c for c, has in zip(codes, row, strict=True) if has) for row in seen}
        return tuple(sorted(named - {""}))


def read_boxes(
    task: Task, folder: Path, rows: list[ManifestRow], entries: list[Preprocessed], config: GeneratorConfig
) -> Boxes:
    """The boxes of preprocessed cases."""
    values = {m: torch.zeros(len(rows), 1, *g.shape) for m, g in config.modalities.items()}
    there = torch.zeros(len(rows), len(values), dtype=torch.bool)
    for n, entry in enumerate(entries):
        for k, (m, of) in enumerate(config.modalities.items()):
            for name in entry["files"].get(m, [])[:1]:
                found, present, _ = load_input(folder, name, len(task.modalities[m].roles))
                role = task.modalities[m].roles.index(of.role)
                if is_cine(m):
                    values[m][n, 0] = torch.from_numpy(frame_of(found.astype(np.float32), of))
                elif present[role]:
                    box = box_of(found[role].astype(np.float32), task.modalities[m].spacing_mm, of)
                    values[m][n, 0] = torch.from_numpy(box)
                else:
                    continue
                there[n, k] = True
    return Boxes(values, there, torch.from_numpy(label_matrix(task, rows)).float())
