"""Dense predictions → lesions with diameters in mm. Lesions come only from here, never from attention
maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.ndimage import label, zoom
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from ..case import Case
from ..models.features import DenseOutput
from ..prediction import LesionRecord, Place
from ..preprocess.tensors import CineInput, VolumeInput
from ..task import Finding, Task
from .measures import measured_in
from .second_look import LesionMask, OutlinedFrame, outline_in_frame, outline_in_volume
from .tracks import best_first, tracks

THRESHOLD = 0.5  # of a voxel, for the mask
PEAK = 0.85  # of a lesion's surest voxel, where a bundle has no threshold from its validation cases
UPSAMPLE = 3
CanShow = Callable[[Finding, str], bool]


@dataclass
class FoundLesion:
    """A lesion, and its outline: ``mask`` of a volume, ``in_frame`` of a cine that was looked at twice."""

    record: LesionRecord
    mask: LesionMask | None = None
    in_frame: OutlinedFrame | None = None


def find_lesions(
    outputs: list[DenseOutput],
    case: Case,
    task: Task,
    can_show: CanShow,
    peaks: dict[str, float] | None = None,
    *,
    twice: bool = True,
) -> list[FoundLesion]:
    """All lesions whose surest voxel is above their modality's threshold in ``peaks`` (default PEAK); that
    voxel's probability is the lesion's. ``can_show(finding, modality)``: whether the acquisition can support
    the finding. ``twice``: outlined and measured on the images' own grids (`second_look`), else on the
    network's; what was cut out around a known mass is outlined on the network's alone."""
    found: list[FoundLesion] = []
    twice = twice and not task.around
    peaks = peaks or {}
    clips: dict[int, list[DenseOutput]] = {}
    for output in outputs:
        if isinstance(output.source, CineInput):
            clips.setdefault(id(output.source), []).append(output)
        else:
            peak = peaks.get(output.modality, PEAK)
            found += volume_lesions(output, output.source, case, task, can_show, peak, twice=twice)
    if task.around:
        found = largest(found)
    for frames in clips.values():
        peak = peaks.get(frames[0].modality, PEAK)
        found += _cine_lesions(frames, case, task, can_show, peak, twice=twice)
    counts: dict[str, int] = {}
    for lesion in found:
        modality = lesion.record.modality
        counts[modality] = counts.get(modality, 0) + 1
        lesion.record.id = f"{modality}-{counts[modality]}"
    return found


def largest(found: list[FoundLesion]) -> list[FoundLesion]:
    """The largest lesion of each image: volumes that were cut out around a known lesion show that one."""
    kept: dict[int, FoundLesion] = {}
    for x in found:
        other = kept.get(x.record.place.image)
        if other is None or (x.record.volume_ml or 0) > (other.record.volume_ml or 0):
            kept[x.record.place.image] = x
    return list(kept.values())


def name_lesion(per_class: Float[np.ndarray, " k"], task: Task, modality: str, can_show: CanShow) -> Finding:
    """The most probable lesion class, or the nearest wider finding that this modality can support."""
    lesion_class = task.lesion_classes[int(np.argmax(per_class[task.lesion_indices]))]
    own = task.lesion_finding(lesion_class)
    assert own is not None  # Task sees to it
    names = [own, *task.wider(own.id)]
    return next((f for f in names if can_show(f, modality)), names[-1])


def _patch(
    output: DenseOutput, box: tuple[slice, ...], mask: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(fine mask, grid coordinates of its first voxel, step): the component on an upsampled grid, thresholded
    there."""
    grown = tuple(
        slice(max(0, s.start - 1), min(n, s.stop + 1))
        for s, n in zip(box, output.lesion_probability.shape, strict=True)
    )
    p = output.lesion_probability[grown].copy()
    inside = np.zeros(p.shape, bool)
    inside[tuple(slice(s.start - g.start, s.stop - g.start) for s, g in zip(box, grown, strict=True))] = mask
    grown_inside = zoom(inside.astype(np.float32), UPSAMPLE, order=0, grid_mode=True, mode="nearest") > 0.5
    fine = zoom(p, UPSAMPLE, order=1, grid_mode=True, mode="nearest")
    labels, n = label(fine > THRESHOLD)
    if n:
        sizes = np.bincount(labels[grown_inside], minlength=n + 1)
        sizes[0] = 0
        fine_mask = labels == int(sizes.argmax()) if sizes.any() else np.zeros(fine.shape, bool)
    else:
        fine_mask = np.zeros(fine.shape, bool)
    start = np.array([g.start for g in grown], float) - 0.5 + 0.5 / UPSAMPLE
    return fine_mask, start, np.full(fine.ndim, 1 / UPSAMPLE)


def _peak(output: DenseOutput, mask: np.ndarray, box: tuple[slice, ...]) -> float:
    return float(output.lesion_probability[box][mask].max())


def diameters(points_mm: Float[np.ndarray, "n 2"], pixel_mm: float) -> tuple[float, float]:
    """Longest diameter and the widest extent perpendicular to it, of points (N, 2) mm that stand for
    pixels."""
    if len(points_mm) < 2:
        return pixel_mm, pixel_mm
    if len(points_mm) > 1500:  # the longest and the widest extent lie between corners of the hull
        points_mm = points_mm[ConvexHull(points_mm).vertices]
    distance = squareform(pdist(points_mm))
    i, j = np.unravel_index(int(distance.argmax()), distance.shape)
    axis = points_mm[j] - points_mm[i]
    axis /= max(float(np.linalg.norm(axis)), 1e-9)
    across = points_mm @ np.array([-axis[1], axis[0]])
    return float(distance[i, j]) + pixel_mm, float(np.ptp(across)) + pixel_mm


def volume_lesions(
    output: DenseOutput,
    source: VolumeInput,
    case: Case,
    task: Task,
    can_show: CanShow,
    threshold: float,
    *,
    twice: bool = False,
) -> list[FoundLesion]:
    """The lesions of a volume whose surest voxel is above ``threshold``; ``twice`` as in `find_lesions`."""
    out = []
    image_index = next(i for i in source.images if i >= 0)
    for n, per_class in enumerate(output.class_probability):
        peak = _peak(output, *output.components[n])
        outline = _first_look(output, source, n) if peak > threshold else None
        if outline is None:
            continue
        if twice:
            outline = outline_in_volume(output, n, case.images, task) or outline
        mm = np.argwhere(outline.mask) @ outline.to_place[:3, :3].T + outline.to_place[:3, 3]
        long_axis, short_axis = axes_of(outline)
        record = LesionRecord(
            id="",
            modality=output.modality,
            finding=name_lesion(per_class, task, output.modality, can_show).id,
            probability=round(peak, 4),
            long_axis_mm=round(long_axis, 1),
            short_axis_mm=round(short_axis, 1),
            volume_ml=round(float(outline.mask.sum() * np.prod(outline.step_mm)) / 1000, 2),
            side=_side(mm.mean(0), output, source, task),
            place=place_of(case, image_index, mm, source.frame_of_reference),
        )
        record.measured = measured_in(
            case.images[image_index], outline.mask, outline.to_place, task.measures.get(output.modality, ())
        )
        out.append(FoundLesion(record, outline))
    return out


def _first_look(output: DenseOutput, source: VolumeInput, number: int) -> LesionMask | None:
    """A candidate on the network's grid; None where it is smaller than a voxel of it."""
    mask, box = output.components[number]
    fine, start, size = _patch(output, box, mask)
    if fine.sum() < UPSAMPLE**3:
        return None
    return LesionMask(fine, source.affine @ _grid(start, size))


def axes_of(outline: LesionMask) -> tuple[float, float]:
    """Long and short axis in mm, in the slice where the outline is largest."""
    at = np.argwhere(outline.mask)
    widest = int(np.bincount(at[:, 2]).argmax())
    step = outline.step_mm
    return diameters(at[at[:, 2] == widest][:, :2] * step[:2], float(step[0]))


def _grid(start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """(n+1, n+1) index of the fine grid → index of the network grid."""
    out = np.diag([*step, 1.0])
    out[:-1, -1] = start
    return out


def _side(
    centre: np.ndarray, output: DenseOutput, source: VolumeInput, task: Task
) -> Literal["right", "left", ""]:
    """Which half of the organ a point (3,) RAS+ mm lies in, by its distance from the organ's centre in
    extents."""
    organ = np.argwhere(np.isin(output.label, task.organ_indices))
    if task.right_from is None or len(organ) < 50:
        return ""
    x = organ @ source.affine[0, :3] + source.affine[0, 3]
    return "right" if (centre[0] - x.mean()) / max(float(x.std()), 1.0) >= task.right_from else "left"


def place_of(case: Case, index: int, mm: np.ndarray, frame: str) -> Place:
    """Where points (N, 3) RAS+ mm lie: their box, and the slice and voxel box in the image itself."""
    image = case.images[index]
    low = mm.min(0)
    high = mm.max(0)
    centre = mm.mean(0)
    place = Place(
        image=index,
        series_uid=image.source.series_uid,
        frame_of_reference=frame,
        centre_mm=[round(float(v), 1) for v in centre],
        box_mm=[[round(float(v), 1) for v in low], [round(float(v), 1) for v in high]],
    )
    if image.affine is not None:
        inverse = np.linalg.inv(image.affine)
        voxels = mm @ inverse[:3, :3].T + inverse[:3, 3]
        top = np.array(image.pixels.shape) - 1
        place.slice = int(np.clip(np.round(centre @ inverse[2, :3] + inverse[2, 3]), 0, top[2]))
        place.box_voxels = [
            np.clip(np.floor(voxels.min(0)), 0, top).astype(int).tolist(),
            np.clip(np.ceil(voxels.max(0)), 0, top).astype(int).tolist(),
        ]
    return place


@dataclass(frozen=True, kw_only=True)
class _InFrame:
    """A lesion as one frame shows it: axes in mm where the frame is calibrated, where it lies, its outline on
    the frame's own pixels."""

    axes: tuple[float, float] | None
    place: Place
    outline: OutlinedFrame | None


def _cine_lesions(
    frames: list[DenseOutput], case: Case, task: Task, can_show: CanShow, threshold: float, *, twice: bool
) -> list[FoundLesion]:
    """One lesion a track; the best frame that shows enough of it speaks for it."""
    found = []
    for track in tracks(frames):
        peak = max(_peak(o, *o.components[k]) for o, k in track)
        if peak <= threshold:
            continue
        views = ((seen, _in_frame(*seen, case, task, twice=twice)) for seen in best_first(track))
        (output, n), shown = next(((seen, view) for seen, view in views if view), (track[0], None))
        if shown is None:
            continue
        long_axis, short_axis = shown.axes or (None, None)
        record = LesionRecord(
            id="",
            modality=output.modality,
            finding=name_lesion(output.class_probability[n], task, output.modality, can_show).id,
            probability=round(peak, 4),
            long_axis_mm=None if long_axis is None else round(long_axis, 1),
            short_axis_mm=None if short_axis is None else round(short_axis, 1),
            volume_ml=None,
            place=shown.place,
        )
        found.append(FoundLesion(record, in_frame=shown.outline))
    return found


def _in_frame(output: DenseOutput, n: int, case: Case, task: Task, *, twice: bool) -> _InFrame | None:
    """A component of a frame; None where it is too small there. Measured in the calibrated region alone."""
    source = output.source
    assert isinstance(source, CineInput)
    fine, start, size = _patch(output, output.components[n][1], output.components[n][0])
    if fine.sum() < 4 * UPSAMPLE**2:
        return None
    image = case.images[source.image]
    region = image.region_2d
    outline = outline_in_frame(output, n, image, task) if twice else None
    axes = None
    if outline is not None:
        rows_columns = np.argwhere(outline.mask).astype(float)
        xy = rows_columns[:, ::-1]
        if region is not None:
            x_mm, y_mm = region.mm_per_pixel
            axes = diameters(rows_columns * (y_mm, x_mm), (x_mm + y_mm) / 2)
    else:
        rows_columns = np.argwhere(fine) * size + start
        xy = rows_columns[:, ::-1] * source.scale + np.array(source.offset)
        if source.mm_per_pixel is not None:
            axes = diameters(rows_columns * source.mm_per_pixel, source.mm_per_pixel / UPSAMPLE)
    place = Place(
        image=source.image,
        series_uid=image.source.series_uid,
        frame=source.frames[output.frame],
        box_voxels=[np.floor(xy.min(0)).astype(int).tolist(), np.ceil(xy.max(0)).astype(int).tolist()],
    )
    return _InFrame(axes=axes, place=place, outline=outline)
