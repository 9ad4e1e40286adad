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

THRESHOLD = 0.5  # of a voxel, for the mask
PEAK = 0.85  # of a lesion's surest voxel, where a bundle has no threshold from its validation cases
UPSAMPLE = 3
CanShow = Callable[[Finding, str], bool]


@dataclass(frozen=True)
class LesionMask:
    """Of a lesion in a volume: mask bool on a fine grid of its own, and ``to_place`` (4, 4) from its index to
    RAS+ mm."""

    mask: np.ndarray
    to_place: np.ndarray


@dataclass
class FoundLesion:
    record: LesionRecord
    mask: LesionMask | None = None


def find_lesions(
    outputs: list[DenseOutput],
    case: Case,
    task: Task,
    can_show: CanShow,
    peaks: dict[str, float] | None = None,
) -> list[FoundLesion]:
    """All lesions whose surest voxel is above their modality's threshold in ``peaks`` (default PEAK); that
    voxel's probability is the lesion's. ``can_show(finding, modality)``: whether the acquisition can support
    the finding."""
    found: list[FoundLesion] = []
    peaks = peaks or {}
    clips: dict[int, list[DenseOutput]] = {}
    for output in outputs:
        if isinstance(output.source, CineInput):
            clips.setdefault(id(output.source), []).append(output)
        else:
            found += volume_lesions(
                output, output.source, case, task, can_show, peaks.get(output.modality, PEAK)
            )
    if task.around:
        found = largest(found)
    for frames in clips.values():
        found += _cine_lesions(frames, case, task, can_show, peaks.get(frames[0].modality, PEAK))
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
    output: DenseOutput, source: VolumeInput, case: Case, task: Task, can_show: CanShow, threshold: float
) -> list[FoundLesion]:
    """The lesions of a volume whose surest voxel is above ``threshold``."""
    out = []
    step = np.linalg.norm(source.affine[:3, :3], axis=0)
    for (mask, box), per_class in zip(output.components, output.class_probability, strict=True):
        peak = _peak(output, mask, box)
        if peak <= threshold:
            continue
        fine, start, size = _patch(output, box, mask)
        if fine.sum() < UPSAMPLE**3:
            continue
        at = np.argwhere(fine) * size + start
        mm = at @ source.affine[:3, :3].T + source.affine[:3, 3]
        widest = int(np.bincount(np.argwhere(fine)[:, 2]).argmax())
        in_plane = mm[np.argwhere(fine)[:, 2] == widest][:, :2]
        long_axis, short_axis = diameters(in_plane, float(step[0]) / UPSAMPLE)
        image_index = next(i for i in source.images if i >= 0)
        place = place_of(case, image_index, mm, source.frame_of_reference)
        finding = name_lesion(per_class, task, output.modality, can_show)
        record = LesionRecord(
            id="",
            modality=output.modality,
            finding=finding.id,
            probability=round(peak, 4),
            long_axis_mm=round(long_axis, 1),
            short_axis_mm=round(short_axis, 1),
            volume_ml=round(float(fine.sum() * np.prod(step / UPSAMPLE)) / 1000, 2),
            side=_side(mm.mean(0), output, source, task),
            place=place,
        )
        outline = LesionMask(fine, source.affine @ _grid(start, size))
        record.measured = measured_in(
            case.images[image_index], outline.mask, outline.to_place, task.measures.get(output.modality, ())
        )
        out.append(FoundLesion(record, outline))
    return out


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


Track = list[tuple[DenseOutput, int]]  # a lesion through a clip: frames, and which of its components it is


def _cine_lesions(
    frames: list[DenseOutput], case: Case, task: Task, can_show: CanShow, threshold: float
) -> list[FoundLesion]:
    """Components that overlap in neighbouring frames are one lesion; the frame where it is largest speaks for
    it."""
    found = []
    for track in _tracks(frames):
        peak = max(_peak(o, *o.components[k]) for o, k in track)
        record = _cine_record(track, peak, case, task, can_show) if peak > threshold else None
        if record is not None:
            found.append(FoundLesion(record))
    return found


def _tracks(frames: list[DenseOutput]) -> list[Track]:
    """Components of neighbouring frames whose boxes overlap, joined."""
    tracks: list[Track] = []
    for output in sorted(frames, key=lambda o: o.frame):
        for n, (_, box) in enumerate(output.components):
            for track in tracks:
                last, k = track[-1]
                if output.frame - last.frame == 1 and _overlap(last.components[k][1], box):
                    track.append((output, n))
                    break
            else:
                tracks.append([(output, n)])
    return tracks


def _cine_record(track: Track, peak: float, case: Case, task: Task, can_show: CanShow) -> LesionRecord | None:
    """The lesion as the frame shows it where it is largest; None where it is too small there."""
    output, n = max(track, key=lambda t: float(t[0].components[t[1]][0].sum()))
    source = output.source
    assert isinstance(source, CineInput)
    mask, box = output.components[n]
    fine, start, size = _patch(output, box, mask)
    if fine.sum() < 4 * UPSAMPLE**2:
        return None
    rows_columns = np.argwhere(fine) * size + start
    xy = rows_columns[:, ::-1] * source.scale + np.array(source.offset)
    mm = source.mm_per_pixel
    long_axis = short_axis = None
    if mm is not None:
        long_axis, short_axis = (round(v, 1) for v in diameters(rows_columns * mm, mm / UPSAMPLE))
    image = case.images[source.image]
    place = Place(
        image=source.image,
        series_uid=image.source.series_uid,
        frame=source.frames[output.frame],
        box_voxels=[np.floor(xy.min(0)).astype(int).tolist(), np.ceil(xy.max(0)).astype(int).tolist()],
    )
    return LesionRecord(
        id="",
        modality=output.modality,
        finding=name_lesion(output.class_probability[n], task, output.modality, can_show).id,
        probability=round(peak, 4),
        long_axis_mm=long_axis,
        short_axis_mm=short_axis,
        volume_ml=None,
        place=place,
    )


def _overlap(a: tuple[slice, ...], b: tuple[slice, ...]) -> bool:
    return all(x.start < y.stop and y.start < x.stop for x, y in zip(a, b, strict=True))
