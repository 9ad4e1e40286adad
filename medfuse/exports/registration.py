"""What `medfuse register` writes: the transform (ITK and DICOM Spatial Registration), the resampled image,
pictures and quality.json."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from PIL import Image as Picture
from PIL import ImageDraw
from pydantic import BaseModel, ConfigDict
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID
from scipy.ndimage import gaussian_gradient_magnitude

from .. import __version__
from ..case import Case, Image
from ..display.draw import font
from ..errors import OutputError, UserError, os_fault
from ..registration.quality import Quality, Verdict
from ..registration.register import Registration, matrix_of, resampled
from ..registration.volume import to_array
from .dicom_source import from_dicom, headers_of, object_beside

SPATIAL_REGISTRATION = UID("1.2.840.10008.5.1.4.1.1.66.1")
COLOURS = {"no fault found": (60, 170, 110), "check": (230, 160, 30), "failed": (215, 60, 60)}


class RegistrationQuality(BaseModel):
    """quality.json of `medfuse register`: the verdict, what it was measured by (lengths in mm, None where
    it was not measured), and which two series were registered.

    verdict: no fault found, check or failed. reasons: one sentence for each thing that was found. metric,
    initial_metric: what was optimised, at the end and at the start. shared_information: mutual information
    over the smaller entropy, 0 to 1, inside the body. overlap: share of the fixed body that the moving
    image covers. inverse_consistency_mm: how far there and back misses. jacobian: least and greatest change
    of volume. tre_mm, start_tre_mm: error at the landmarks, at the end and at the start.
    mirrored_information: shared information with the moving image mirrored. moved_mm: mean way of the
    body's points. same_patient: None where it is not known. curve: the metric by iteration and level.
    moving, fixed: paths. moving_series, fixed_series: their SeriesInstanceUIDs.
    """

    model_config = ConfigDict(extra="forbid")
    verdict: Verdict
    reasons: list[str]
    metric: float
    initial_metric: float
    shared_information: float
    overlap: float
    inverse_consistency_mm: float | None
    jacobian: tuple[float, float] | None
    tre_mm: float | None
    start_tre_mm: float | None
    mirrored_information: float | None
    moved_mm: float
    same_patient: bool | None
    curve: list[list[float]]
    kind: str
    seconds: float
    moving: str
    fixed: str
    moving_series: str
    fixed_series: str
    medfuse: str
    not_made: list[str]


def write_registration(
    out: Path,
    result: Registration,
    quality: Quality,
    moving: sitk.Image,
    fixed: sitk.Image,
    cases: tuple[Case, Case],
    images: tuple[Image, Image],
) -> tuple[list[str], list[str]]:
    """Files of one registration in ``out``, and what could not be made. Everything is there also when it
    failed, so that one can look."""
    names = []
    problems = []
    try:
        out.mkdir(parents=True, exist_ok=True)
        sitk.WriteTransform(result.transform, str(out / "transform.tfm"))
        warped = resampled(moving, fixed, result.transform)
        pixels, affine = to_array(warped)
        nib.save(nib.Nifti1Image(pixels, affine), out / "moved.nii.gz")
        checkerboard(fixed, warped, quality).save(out / "checkerboard.png")
        edges(fixed, warped, quality).save(out / "edges.png")
        names += ["transform.tfm", "moved.nii.gz", "checkerboard.png", "edges.png"]
        if any(quality.curve):  # nothing was searched where landmarks or a tracker placed it
            curve_plot(quality, out / "metric.png")
            names.append("metric.png")
        try:
            spatial_registration(result, cases, images).save_as(
                out / "registration.dcm", enforce_file_format=True
            )
            names.append("registration.dcm")
        except UserError as e:
            problems.append(str(e))
        kept = {
            **asdict(quality),
            "kind": result.kind,
            "seconds": round(result.seconds, 2),
            "moving": images[0].source.path,
            "fixed": images[1].source.path,
            "moving_series": images[0].source.series_uid,
            "fixed_series": images[1].source.series_uid,
            "medfuse": __version__,
            "not_made": problems,
        }
        (out / "quality.json").write_text(
            RegistrationQuality(**kept).model_dump_json(indent=1), encoding="utf-8"
        )
    except OSError as e:
        raise OutputError(
            f"{out}: the registration cannot be written ({os_fault(e)}); free space or choose another --out"
        ) from e
    return [*names, "quality.json"], problems


def _grey(slice_: np.ndarray) -> np.ndarray:
    low, high = np.percentile(slice_, [1, 99.5])
    return (np.clip((slice_ - low) / max(high - low, 1e-6), 0, 1) * 255).astype(np.uint8)


def middle_slices(image: sitk.Image) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """Middle axial, coronal and sagittal slice in radiological order, with (row, column) spacing; of a
    tracked frame itself alone."""
    if image.GetSize()[2] == 1:
        return [(sitk.GetArrayFromImage(image)[0], (image.GetSpacing()[1], image.GetSpacing()[0]))]
    turned = sitk.DICOMOrient(image, "LPS")
    a = sitk.GetArrayFromImage(turned)
    x, y, z = turned.GetSpacing()
    return [
        (a[a.shape[0] // 2], (y, x)),
        (a[::-1, a.shape[1] // 2], (z, x)),
        (a[::-1, :, a.shape[2] // 2], (z, y)),
    ]


def _panels(
    pictures: list[np.ndarray], spacings: list[tuple[float, float]], quality: Quality, title: str
) -> Picture.Image:
    """Three views side by side at one height, under a line with the verdict."""
    height = 320
    shown = []
    for pixels, (row, column) in zip(pictures, spacings, strict=True):
        h, w = pixels.shape[:2]
        width = max(1, round(height * w * column / (h * row)))
        shown.append(
            Picture.fromarray(pixels).convert("RGB").resize((width, height), Picture.Resampling.BILINEAR)
        )
    page = Picture.new("RGB", (sum(p.width for p in shown) + 8 * (len(shown) - 1), height + 30), (16, 20, 23))
    draw = ImageDraw.Draw(page)
    draw.rectangle([0, 0, 10, 29], fill=COLOURS[quality.verdict])
    draw.text((18, 7), f"{title}: {quality.verdict}", fill=(235, 238, 240), font=font(15))
    x = 0
    # a frame lies as it was acquired
    marked = (("R", "L"), ("R", "L"), ("A", "P")) if len(shown) == 3 else (("", ""),)
    for picture, marks in zip(shown, marked, strict=True):
        page.paste(picture, (x, 30))
        draw.text((x + 5, 30 + height // 2), marks[0], fill=(120, 200, 255), font=font(15))
        draw.text((x + picture.width - 16, 30 + height // 2), marks[1], fill=(120, 200, 255), font=font(15))
        x += picture.width + 8
    return page


def checkerboard(fixed: sitk.Image, warped: sitk.Image, quality: Quality, tiles: int = 8) -> Picture.Image:
    """Fixed and moved image in alternating tiles: a shift shows as steps in what should be continuous."""
    pictures = []
    spacings = []
    for (f, s), (m, _) in zip(middle_slices(fixed), middle_slices(warped), strict=True):
        y, x = np.mgrid[: f.shape[0], : f.shape[1]]
        board = ((y * tiles // f.shape[0]) + (x * tiles // f.shape[1])) % 2 == 0
        pictures.append(np.where(board, _grey(f), _grey(m)))
        spacings.append(s)
    return _panels(pictures, spacings, quality, "checkerboard")


def edges(fixed: sitk.Image, warped: sitk.Image, quality: Quality) -> Picture.Image:
    """Edges of the moved image, in colour, on the fixed one."""
    pictures = []
    spacings = []
    for (f, s), (w, _) in zip(middle_slices(fixed), middle_slices(warped), strict=True):
        e = gaussian_gradient_magnitude(w.astype(np.float32), 1.5)
        grey = _grey(f)
        mark = e > np.percentile(e, 93)
        pictures.append(
            np.stack(
                [np.where(mark, 255, grey), np.where(mark, 190, grey), np.where(mark, 0, grey)], -1
            ).astype(np.uint8)
        )
        spacings.append(s)
    return _panels(pictures, spacings, quality, "edges of the moved image")


def curve_plot(quality: Quality, path: Path) -> None:
    """Draw the metric over the iterations into a PNG."""
    from ..plotting.pyplot import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.add_subplot()
    start = 0
    for n, level in enumerate(quality.curve, 1):
        axes.plot(range(start, start + len(level)), level, label=f"level {n}")
        start += len(level)
    axes.set_xlabel("iteration")
    axes.set_ylabel("metric (less is better)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def spatial_registration(
    result: Registration, cases: tuple[Case, Case], images: tuple[Image, Image]
) -> FileDataset:
    """DICOM Spatial Registration (PS3.3 A.39.1): the matrix from the moving to the fixed frame of reference.
    Raises UserError for a deformation and for images without DICOM identifiers."""
    moving, fixed = images
    if result.kind == "deformable":
        raise UserError(
            "no DICOM Spatial Registration is made of a deformation; the transform is in transform.tfm"
        )
    if not all(from_dicom(i) and i.frame_of_reference[:1].isdigit() for i in images):
        raise UserError("no DICOM Spatial Registration is made: the images came without DICOM identifiers")
    first = headers_of(fixed)[0]
    key = (moving.source.sha256, fixed.source.sha256, result.transform.GetParameters())
    ds = object_beside(first, SPATIAL_REGISTRATION, "REG", 903, "medfuse registration, RESEARCH", *key)
    ds.DeviceSerialNumber = "1"
    ds.ContentLabel = "REGISTRATION"
    ds.ContentDescription = "not for clinical use"
    ds.ContentCreatorName = "medfuse"
    ds.Laterality = ""
    ds.FrameOfReferenceUID = fixed.frame_of_reference
    ds.PositionReferenceIndicator = ""
    ds.RegistrationSequence = Sequence(
        [_item(fixed, np.eye(4)), _item(moving, np.linalg.inv(matrix_of(result.transform)))]
    )
    ds.ReferencedSeriesSequence = Sequence([])
    referenced: dict[str, list[Dataset]] = {}
    for image in images:
        study = image.source.study_uid
        referenced.setdefault(study, []).append(_series(image))
    ds.ReferencedSeriesSequence = Sequence(referenced.pop(str(ds.StudyInstanceUID), []))
    if not ds.ReferencedSeriesSequence:
        del ds.ReferencedSeriesSequence
    others = []
    for study, series in referenced.items():
        item = Dataset()
        item.StudyInstanceUID = study
        item.ReferencedSeriesSequence = Sequence(series)
        others.append(item)
    if others:
        ds.StudiesContainingOtherReferencedInstancesSequence = Sequence(others)
    return ds


def _instances(image: Image) -> list[Dataset]:
    items = []
    for ds in headers_of(image):
        item = Dataset()
        item.ReferencedSOPClassUID = ds.SOPClassUID
        item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
        items.append(item)
    return items


def _series(image: Image) -> Dataset:
    out = Dataset()
    out.SeriesInstanceUID = image.source.series_uid
    out.ReferencedInstanceSequence = Sequence(_instances(image))
    return out


def _item(image: Image, matrix: np.ndarray) -> Dataset:
    out = Dataset()
    kind = Dataset()
    whole = Dataset()
    out.FrameOfReferenceUID = image.frame_of_reference
    out.ReferencedImageSequence = Sequence(_instances(image))
    rigid = np.abs(matrix[:3, :3].T @ matrix[:3, :3] - np.eye(3)).max() < 1e-6
    kind.FrameOfReferenceTransformationMatrixType = "RIGID" if rigid else "AFFINE"
    kind.FrameOfReferenceTransformationMatrix = [float(f"{v:.9g}") for v in matrix.ravel()]
    whole.MatrixSequence = Sequence([kind])
    whole.FrameOfReferenceTransformationComment = "mutual information, medfuse"
    code = Dataset()
    code.CodeValue = "125025"
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = "Visual Alignment"
    if not np.allclose(matrix, np.eye(4)):
        code.CodeValue = "125024"
        code.CodeMeaning = "Image Content-based Alignment"
    whole.RegistrationTypeCodeSequence = Sequence([code])
    out.MatrixRegistrationSequence = Sequence([whole])
    return out
