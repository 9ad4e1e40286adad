"""Lesion masks → DICOM Segmentation objects, one for each source image that has lesions (highdicom; PS3.3
A.51).

Masks are those of the dense prediction, sampled at the source's own pixels; nothing of the source is
resampled.
"""

from __future__ import annotations

import highdicom as hd
import numpy as np
from pydicom.sr.codedict import codes

from .. import __version__
from ..affine import Affine
from ..case import Case, Image
from ..inference.second_look import LesionMask
from ..modalities import is_cine, modality_of
from ..prediction import LesionRecord, Prediction
from ..task import Task
from .codes import ABNORMALITY, code_of, site_of
from .dicom_source import MANUFACTURER, MODEL, dicom_images, from_dicom, headers_of, odd_names, uid_of


def native_mask(image: Image, mask: LesionMask) -> np.ndarray:
    """(I, J, K) bool: the lesion at the volume's own voxels."""
    assert image.affine is not None
    out = np.zeros(image.pixels.shape, bool)
    found = mask.on_grid(image.affine, out.shape)
    if found is not None:
        out[found[0]] = found[1]
    return out


def write_segs(
    prediction: Prediction, case: Case, task: Task, masks: dict[str, LesionMask]
) -> tuple[dict[str, hd.seg.Segmentation], list[str]]:
    """{name of the part, such as "ct": Segmentation}, and why something could not be made. Raises UserError
    without DICOM sources."""
    dicom_images(case, "DICOM SEG")
    by_image: dict[int, list[LesionRecord]] = {}
    for lesion in prediction.outlined:
        if lesion.id in masks or is_cine(lesion.modality):
            by_image.setdefault(lesion.place.image, []).append(lesion)
    out: dict[str, hd.seg.Segmentation] = {}
    problems = []
    for index, lesions in sorted(by_image.items()):
        image = case.images[index]
        if not from_dicom(image):
            problems.append(f"{image.source.path}: no SEG, it came without DICOM identifiers")
            continue
        if image.kind == "cine":  # no frame of reference to lie in: the SR shows its lesions on their frames
            what = modality_of(image.modality).word["en"].lower()
            problems.append(
                f"{image.source.path}: no SEG of {what}, its lesions are regions of frames in the SR"
            )
            continue
        if image.affine is None or not image.frame_of_reference[:1].isdigit():
            problems.append(f"{image.source.path}: no SEG, its slices have no common frame of reference")
            continue
        name = image.modality.lower()
        name += "" if name not in out else f"-{index}"
        made = _segmentation(image, lesions, masks, prediction, task)
        if made is None:
            problems.append(f"{image.source.path}: no SEG, its lesions are smaller than a pixel")
        else:
            out[name] = made
    return out, problems


def _segmentation(
    image: Image,
    lesions: list[LesionRecord],
    masks: dict[str, LesionMask],
    prediction: Prediction,
    task: Task,
) -> hd.seg.Segmentation | None:
    sources = headers_of(image)
    planes = []
    kept = []
    for lesion in lesions:
        mask = native_mask(image, masks[lesion.id])
        if not mask.any():
            continue
        planes.append(mask.transpose(2, 1, 0))  # (K, rows, columns)
        kept.append(lesion)
    if not kept:
        return None
    algorithm = hd.AlgorithmIdentificationSequence(
        name=prediction.bundle,
        version=prediction.bundle_hash[:16],
        family=codes.DCM.ArtificialIntelligence,
        source=f"medfuse {__version__}",
    )
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=n,
            segment_label=f"{x.id} {task.finding(x.finding).label('en')}"[:64],
            segmented_property_category=ABNORMALITY,
            segmented_property_type=code_of(task.finding(x.finding)),
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
            tracking_id=x.id,
            tracking_uid=uid_of(prediction.case_id, prediction.bundle_hash, x.id, image.source.sha256),
            anatomic_regions=[site] if (site := site_of(task)) is not None else None,
        )
        for n, x in enumerate(kept, 1)
    ]
    stacked = np.stack(planes, -1).astype(np.uint8)
    pixels: np.ndarray | hd.Volume = stacked
    if len(sources) == 1:  # enhanced: the volume says where it lies, whatever the order of frames
        swap = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
        channels: dict = {"SegmentNumber": list(range(1, len(kept) + 1))}
        assert image.affine is not None
        pixels = hd.Volume(
            stacked, Affine(image.affine).lps @ swap, "PATIENT", image.frame_of_reference, channels=channels
        )
    key = (
        prediction.case_id,
        prediction.bundle_hash,
        image.source.sha256,
        [x.model_dump_json() for x in kept],
    )
    with odd_names():
        seg = hd.seg.Segmentation(
            source_images=sources,
            pixel_array=pixels,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=descriptions,
            series_instance_uid=uid_of("seg-series", *key),
            series_number=901,
            sop_instance_uid=uid_of("seg", *key),
            instance_number=1,
            manufacturer=MANUFACTURER,
            manufacturer_model_name=MODEL,
            software_versions=__version__,
            device_serial_number=prediction.bundle_hash[:16],
            content_label="EVIDENCE",
            content_description="Lesions of a research draft, not for clinical use",
            series_description="medfuse evidence, RESEARCH DRAFT",
        )
    return seg
