"""Headers of one series → Images. What truly differs inside a series is split; what cannot be stacked is refused by name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..case import Geometry, Image, Refusal, Source
from ..errors import UnreadableError
from .decode import read_pixels
from .geometry import check_orientation, normal_of, same_places, stack_slices
from .headers import FileEntry
from .roles import role_of
from .ultrasound import frame_ms, regions

Grouped = list[FileEntry]


def split_key(ds: Dataset) -> tuple:
    orientation = tuple(round(float(v), 3) for v in ds.get("ImageOrientationPatient") or ())
    kinds = tuple(str(v) for v in (ds.get("ImageType") or [])[2:4])
    echo = ds.get("EchoNumbers")
    values = tuple(str(ds.get(k, "")) for k in ("DiffusionBValue", "TemporalPositionIdentifier", "StackID"))
    spacing = tuple(round(float(v), 4) for v in ds.get("PixelSpacing") or ())
    return (int(ds.Rows), int(ds.Columns), orientation, spacing, kinds, str(echo or ""), *values)


def read_series(entries: Grouped) -> tuple[list[Image], list[Refusal]]:
    """All images of one SeriesInstanceUID. Entries whose pixels fail are marked damaged in place."""
    images: list[Image] = []
    refused: list[Refusal] = []
    modality = entries[0].modality
    groups: dict[tuple, Grouped] = {}
    for entry in entries:
        assert entry.header is not None
        alone = modality == "US" or "PerFrameFunctionalGroupsSequence" in entry.header
        key = (str(entry.path),) if alone else split_key(entry.header)
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        try:
            header = group[0].header
            assert header is not None
            if modality == "US":
                images.append(_ultrasound(group[0]))
            elif "PerFrameFunctionalGroupsSequence" in header:
                from .enhanced import read_enhanced

                images += read_enhanced(group[0])
            else:
                found = _stack(group, modality, split=len(groups) > 1)
                images += found
        except UnreadableError as e:
            bad = next((entry for entry in group if str(entry.path) == e.path), None)
            if bad is not None and len(group) > 1:
                bad.status, bad.reason = "damaged", e.reason
                where = f"{group[0].path.parent}"
                refused.append(
                    Refusal(
                        where,
                        f"{modality} series not used, because its slice {bad.path.name} {e.reason}",
                        modality,
                    )
                )
            else:
                group[0].status, group[0].reason = ("damaged" if bad is not None else "unsupported"), e.reason
                refused.append(Refusal(e.path, e.reason, modality))
    return images, refused


def simulated(ds: Dataset) -> bool:
    kinds = {str(v).upper() for v in (ds.get("ImageType") or [])}
    return "SIMULATED" in kinds or "SIMULATED" in str(ds.get("ImageComments", ""))


def source_of(group: Grouped) -> Source:
    ds = group[0].header
    assert ds is not None
    digest = hashlib.sha256()
    for uid in sorted(str(e.header.SOPInstanceUID) for e in group if e.header is not None):
        digest.update(uid.encode())
    return Source(
        path=str(group[0].path if len(group) == 1 else group[0].path.parent),
        sha256=digest.hexdigest(),
        study_uid=str(ds.get("StudyInstanceUID", "")),
        series_uid=str(ds.get("SeriesInstanceUID", "")),
        instance_uids=tuple(str(e.header.SOPInstanceUID) for e in group if e.header is not None),
        description=str(ds.get("SeriesDescription", "")),
        manufacturer=" ".join(str(ds.get(k, "")) for k in ("Manufacturer", "ManufacturerModelName")).strip(),
        date=str(ds.get("StudyDate", "")),
        simulated=simulated(ds),
    )


def _ultrasound(entry: FileEntry) -> Image:
    ds = entry.header
    assert ds is not None
    pixels = read_pixels(entry.path, ds)
    if ds.get("PhotometricInterpretation") == "MONOCHROME1":
        pixels = np.iinfo(pixels.dtype).max - pixels
    if pixels.dtype != np.uint8:
        top = float(pixels.max()) or 1.0
        pixels = np.clip(pixels.astype(np.float32) / top * 255, 0, 255).astype(np.uint8)
    if (
        pixels.ndim == 4
        and np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 0], pixels[..., 2])
    ):
        pixels = np.ascontiguousarray(pixels[..., 0])
    found = regions(ds)
    role, confidence = role_of(ds, "US")
    notes = () if found else ("uncalibrated: no region with centimetres, so lengths stay in pixels",)
    return Image("US", pixels, source_of([entry]), role=role, role_confidence=confidence, regions=found,
                 frame_ms=frame_ms(ds), warnings=notes)  # fmt: skip


def rescale(pixels: np.ndarray, ds: Dataset) -> np.ndarray:
    """Stored values → float32 by RescaleSlope and RescaleIntercept of this very slice."""
    slope = float(ds.get("RescaleSlope") or 1.0)
    intercept = float(ds.get("RescaleIntercept") or 0.0)
    out = pixels.astype(np.float32)
    if slope != 1.0:
        out *= np.float32(slope)
    if intercept != 0.0:
        out += np.float32(intercept)
    return out


def _floats(ds: Dataset, key: str, n: int, path: Path) -> np.ndarray:
    value = ds.get(key)
    if value is None or len(value) != n:
        raise UnreadableError(path, f"has no {key}, so its pixels have no place in the patient")
    return np.array([float(v) for v in value])


def _stack(group: Grouped, modality: str, *, split: bool) -> list[Image]:
    """Slices of one orientation and size → one image, or several where each place was acquired several times."""
    headers = [e.header for e in group if e.header is not None]
    first = headers[0]
    orientation = _floats(first, "ImageOrientationPatient", 6, group[0].path)
    wrong = check_orientation(orientation)
    if wrong:
        raise UnreadableError(group[0].path, wrong)
    spacing = _floats(first, "PixelSpacing", 2, group[0].path)
    if (spacing <= 0).any():
        raise UnreadableError(group[0].path, f"PixelSpacing {spacing.tolist()} is not positive")
    positions = np.array([_floats(h, "ImagePositionPatient", 3, e.path) for e, h in zip(group, headers, strict=True)])
    places = same_places(positions, normal_of(orientation))
    repeats = {len(p) for p in places}
    if repeats == {1}:
        sets = [list(range(len(group)))]
    elif len(repeats) == 1:  # the whole stack was acquired several times: one image each, in order of acquisition
        ordered = [sorted(p, key=lambda i: _acquired(headers[i])) for p in places]
        sets = [[p[k] for p in ordered] for k in range(repeats.pop())]
    else:
        many = max(len(p) for p in places)
        raise UnreadableError(
            group[0].path.parent,
            f"{sum(len(p) > 1 for p in places)} of {len(places)} slice places hold up to {many} slices and others one; "
            "separate the acquisitions into series",
        )
    return [
        _one_stack([group[i] for i in s], positions[s], orientation, spacing, modality, split=split or len(sets) > 1)
        for s in sets
    ]


def _acquired(ds: Dataset) -> tuple:
    return (
        int(ds.get("AcquisitionNumber") or 0),
        str(ds.get("AcquisitionTime", "")),
        int(ds.get("InstanceNumber") or 0),
    )


def _one_stack(group: Grouped, positions, orientation, spacing, modality: str, *, split: bool) -> Image:
    first = group[0].header
    assert first is not None
    thickness = float(first.get("SliceThickness") or 0.0)
    stack = stack_slices(positions, orientation, (spacing[0], spacing[1]), thickness)
    rows, columns = int(first.Rows), int(first.Columns)
    volume = np.empty((columns, rows, len(group)), np.float32)
    for k, i in enumerate(stack.order):
        header = group[i].header
        assert header is not None
        pixels = read_pixels(group[i].path, header)
        if pixels.shape != (1, rows, columns):
            raise UnreadableError(
                group[i].path, f"holds pixels {pixels.shape} where one {rows} × {columns} grey slice is due"
            )
        volume[:, :, k] = rescale(pixels[0], header).T
    role, confidence = role_of(first, modality)
    geometry = stack.geometry
    if split and geometry.outcome == "exact":
        geometry = Geometry("split", geometry.measured, geometry.allowed)
    notes = () if geometry.outcome in ("exact", "split") else (f"geometry {geometry.outcome}: {geometry.measured}",)
    image = Image(
        modality,  # type: ignore[arg-type]
        volume,
        source_of([group[i] for i in stack.order]),
        affine=stack.affine,
        frame_of_reference=str(first.get("FrameOfReferenceUID", "") or f"series:{first.SeriesInstanceUID}"),
        role=role,
        role_confidence=confidence,
        geometry=geometry,
        warnings=notes,
    )
    image.plane = stack.plane
    return image
