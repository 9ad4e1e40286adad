"""What a reader measured in the viewer, for the structured report: lengths and regions with their place (PS3.16 TID 300).

SCOORD3D in LPS mm for volumes with geometry, SCOORD in pixels of the frame for ultrasound. A length without calibration has the
unit pixels; regions carry their area, and the mean in Hounsfield units where the image is CT.
"""

from __future__ import annotations

import numpy as np
from highdicom.sr import (
    CoordinatesForMeasurement,
    CoordinatesForMeasurement3D,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    SourceImageForRegion,
    TrackingIdentifier,
)
from highdicom.sr.coding import CodedConcept

from ..case import Case, Image
from .codes import MM
from .dicom_source import from_dicom, uid_of
from .display import view_of

LENGTH = CodedConcept("410668003", "SCT", "Length")
AREA = CodedConcept("42798000", "SCT", "Area")
ATTENUATION = CodedConcept("112031", "DCM", "Attenuation Coefficient")
MEAN = CodedConcept("373098007", "SCT", "Mean")
UNITS = {
    "mm": MM,
    "px": CodedConcept("{pixels}", "UCUM", "pixels"),
    "mm2": CodedConcept("mm2", "UCUM", "square millimeter"),
    "px2": CodedConcept("{pixels}", "UCUM", "pixels"),
    "HU": CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit"),
}
US_CLASSES = {True: "1.2.840.10008.5.1.4.1.1.3.1", False: "1.2.840.10008.5.1.4.1.1.6.1"}


def reader_groups(measured: list[dict], case: Case, key: str) -> list[MeasurementsAndQualitativeEvaluations]:
    """One group a measurement (see `medfuse.library.workbench`); those on images without DICOM identifiers are left out."""
    out = []
    for m in measured:
        image = case.images[m["image"]] if 0 <= m["image"] < len(case.images) else None
        if image is None or not from_dicom(image):
            continue
        place = _coordinates(m, image)
        values = [Measurement(LENGTH, float(m["value"]), UNITS[m["unit"]], referenced_coordinates=place)] if m["kind"] == "distance" else [Measurement(AREA, float(m["area"]), UNITS[m["area_unit"]], referenced_coordinates=place)]  # fmt: skip
        if m["kind"] == "roi" and m["unit"] == "HU":
            values.append(Measurement(ATTENUATION, float(m["value"]), UNITS["HU"], derivation=MEAN))
        name = f"reader {m['author']} {m['kind']} {m['id']}"
        out.append(
            MeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(uid=uid_of("measured", key, str(m["id"])), identifier=name[:64]),
                measurements=values,
            )
        )
    return out


def _coordinates(m: dict, image: Image) -> list | None:
    """The two ends of a length, or the outline of an ellipse."""
    points = np.asarray(m["points"], float)
    if m["kind"] == "roi":
        angle = np.linspace(0, 2 * np.pi, 33)
        centre, radius = points.mean(0), np.abs(np.diff(points, axis=0))[0] / 2
        points = centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    if image.modality == "US":
        frames = [int(m["slice"]) + 1] if len(image.pixels) > 1 else None
        source = SourceImageForRegion(US_CLASSES[len(image.pixels) > 1], image.source.instance_uids[0], frames)
        return [CoordinatesForMeasurement("POLYLINE", points, source)]
    if image.affine is None or not image.frame_of_reference[:1].isdigit():
        return None
    view = view_of(image)
    mm = _voxels(points - 0.5, m["plane"], int(m["slice"]), view.pixels.shape[2])
    affine = image.affine @ np.linalg.inv(view.to_view)
    ras = mm @ affine[:3, :3].T + affine[:3, 3]
    return [CoordinatesForMeasurement3D("POLYLINE", ras * np.array([-1.0, -1.0, 1.0]), image.frame_of_reference)]


def _voxels(points: np.ndarray, plane: str, n: int, slices: int) -> np.ndarray:
    """Pixels (u, v) of a plane of the viewer → display voxels (x, y, z); coronal and sagittal planes have the head at the top."""
    u, v = points.T
    level = np.full_like(u, n)
    if plane == "coronal":
        return np.stack([u, level, slices - 1 - v], 1)
    if plane == "sagittal":
        return np.stack([level, u, slices - 1 - v], 1)
    return np.stack([u, v, level], 1)
