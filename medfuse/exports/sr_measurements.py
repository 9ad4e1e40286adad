"""What a reader measured in the viewer, for the structured report: lengths, angles, regions and values at a
point with their place (PS3.16 TID 300). Arrows and key images are no measurements.

SCOORD3D in LPS mm for volumes with geometry, SCOORD in pixels of the frame for ultrasound. A length without
calibration has the unit pixels; regions carry their area, and the mean in Hounsfield units where the image is
CT.
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

from ..affine import other_frame
from ..case import Case, Image
from ..display.marks import (
    Angle,
    AnyMark,
    Area,
    Bidirectional,
    Cobb,
    Distance,
    Freehand,
    InPlane,
    Probe,
    Rectangle,
    Region,
)
from ..display.places import _voxels, voxels_of_turned
from ..display.views import view_of
from ..modalities import modality_of
from .codes import MEAN, MM
from .dicom_source import from_dicom, uid_of

LENGTH = CodedConcept("410668003", "SCT", "Length")
AREA = CodedConcept("42798000", "SCT", "Area")
LONG_AXIS = CodedConcept("103339001", "SCT", "Long Axis")
SHORT_AXIS = CodedConcept("103340004", "SCT", "Short Axis")
ANGLE = CodedConcept("1483009", "SCT", "Angle")
DEGREES = CodedConcept("deg", "UCUM", "degrees")
UNITS = {
    "mm": MM,
    "px": CodedConcept("{pixels}", "UCUM", "pixels"),
    "mm2": CodedConcept("mm2", "UCUM", "square millimeter"),
    "px2": CodedConcept("{pixels}", "UCUM", "pixels"),
}


def reader_groups(
    measured: list[AnyMark], case: Case, key: str
) -> list[MeasurementsAndQualitativeEvaluations]:
    """One group a measurement (see `medfuse.library.workbench`); those on images without DICOM identifiers
    are left out."""
    out = []
    for m in measured:
        image = case.images[m.image] if m.image < len(case.images) else None
        if image is None or not from_dicom(image):
            continue
        values = _values(m, image)
        if not values:
            continue
        out.append(
            MeasurementsAndQualitativeEvaluations(
                tracking_identifier=TrackingIdentifier(
                    uid=uid_of("measured", key, str(m.id)),
                    identifier=f"reader {m.author} {m.kind} {m.id}"[:64],
                ),
                measurements=values,
            )
        )
    return out


def _values(m: AnyMark, image: Image) -> list[Measurement]:
    """The numbers of a measurement, each with its place; none for what measures nothing."""
    place = _coordinates(_outline(m), m, image)
    if isinstance(m, Distance):
        return [Measurement(LENGTH, m.value, UNITS[m.unit], referenced_coordinates=place)]
    if isinstance(m, Bidirectional):
        ends = np.asarray(m.points, float)
        return [
            Measurement(name, value, UNITS[m.unit], referenced_coordinates=_coordinates(line, m, image))
            for name, value, line in ((LONG_AXIS, m.value, ends[:2]), (SHORT_AXIS, m.short, ends[2:]))
        ]
    if isinstance(m, Angle | Cobb):
        return [Measurement(ANGLE, m.value, DEGREES, referenced_coordinates=place)]
    values = []
    if isinstance(m, Area):
        values.append(Measurement(AREA, m.area, UNITS[m.area_unit], referenced_coordinates=place))
    unit = modality_of(image.modality).unit
    if isinstance(m, Area | Probe) and unit is not None and m.unit == unit.name:
        quantity = CodedConcept(*unit.quantity)
        of = CodedConcept(*unit.ucum)
        single = isinstance(m, Probe)
        where = place if single else None
        derived = None if single else MEAN
        values.append(Measurement(quantity, m.value, of, derivation=derived, referenced_coordinates=where))
    return values


def _outline(m: AnyMark) -> np.ndarray:
    """(N, 2) the points of a line, or the outline of a region."""
    points = np.asarray(m.points, float).reshape(-1, 2)
    if isinstance(m, Region):
        angle = np.linspace(0, 2 * np.pi, 33)
        centre = points.mean(0)
        radius = np.abs(np.diff(points, axis=0))[0] / 2
        return centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    if isinstance(m, Freehand):
        return np.concatenate([points, points[:1]])
    if isinstance(m, Rectangle):
        (u0, v0), (u1, v1) = points
        return np.array([[u0, v0], [u1, v0], [u1, v1], [u0, v1], [u0, v0]])
    return points


def _coordinates(points: np.ndarray, m: AnyMark, image: Image) -> list | None:
    """Where these pixels lie in the patient, or in the frame of an ultrasound."""
    if not len(points):
        return None
    form = "POINT" if len(points) == 1 else "POLYLINE"
    if image.kind == "cine":
        frames = [m.slice + 1] if len(image.pixels) > 1 else None
        source = SourceImageForRegion(
            modality_of(image.modality).cine_classes[len(image.pixels) > 1],
            image.source.instance_uids[0],
            frames,
        )
        return [CoordinatesForMeasurement(form, points, source)]
    if image.affine is None or not image.frame_of_reference[:1].isdigit():
        return None
    view = view_of(image)
    mm = _voxels(points - 0.5, m.plane, m.slice, view.pixels.shape[2])
    if isinstance(m, InPlane) and m.turned is not None:
        mm = voxels_of_turned(mm, m.turned, view.spacing)
    affine = image.affine @ np.linalg.inv(view.to_view)
    ras = mm @ affine[:3, :3].T + affine[:3, 3]
    return [CoordinatesForMeasurement3D(form, other_frame(ras), image.frame_of_reference)]
