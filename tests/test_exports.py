"""What leaves the house: DICOM that its validators and other readers accept, FHIR that validates, PDFs in both languages."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle as FhirBundle

from medfuse.drafting import draft
from medfuse.errors import UserError
from medfuse.models.bundle import load_bundle
from medfuse.models.lesions import LesionMask
from medfuse.pipeline import PredictOptions, predict_command, read_case
from medfuse.predict import predict_case
from medfuse.reporting.dicom_source import headers_of
from medfuse.reporting.exports import FORMATS, write_exports
from medfuse.reporting.pdf import report_pdf
from medfuse.reporting.seg import native_mask
from medfuse.reporting.sr import region_of


def tool(name):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} (.ci/install-debian)")


@pytest.fixture(scope="module")
def made(patient_dicom):
    """Case, prediction, report of a simulated patient with lesions."""
    bundle, case = load_bundle(), read_case(patient_dicom)
    predicted = predict_case(case, bundle)
    assert predicted.prediction.lesions
    return case, predicted, draft(predicted, case, bundle), bundle.task


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    case, predicted, report, task = made
    folder = tmp_path_factory.mktemp("exports")
    names, problems = write_exports(folder, predicted.prediction, report, case, task, predicted.masks)
    return folder, names, problems


def test_every_format_is_written_and_ultrasound_masks_are_said_to_be_missing(files):
    _, names, problems = files
    assert {"report.txt", "report.json", "report.pdf", "report.pdf.dcm", "report.fhir.json", "report.sr.dcm"} <= set(
        names
    )
    assert any(n.endswith(".seg.dcm") for n in names)
    assert all("ultrasound" in p for p in problems)


@tool("dciodvfy")
def test_dicom_objects_have_no_error(files):
    folder, names, _ = files
    for name in (n for n in names if n.endswith(".dcm")):
        done = subprocess.run(["dciodvfy", str(folder / name)], capture_output=True, text=True, check=False)
        assert not [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("Error")], name


def test_the_sr_is_read_back_by_highdicom(files, made):
    folder, _, _ = files
    case, predicted, report, _ = made
    sr = hd.sr.srread(folder / "report.sr.dcm")
    assert (sr.VerificationFlag, sr.CompletionFlag, sr.PreliminaryFlag) == ("UNVERIFIED", "PARTIAL", "PRELIMINARY")
    groups = sr.content.get_planar_roi_measurement_groups()
    ids = {g.tracking_identifier for g in groups}
    assert ids == {x.id for x in predicted.prediction.lesions}
    for g in groups:
        lesion = next(x for x in predicted.prediction.lesions if x.id == g.tracking_identifier)
        values = {m.name.meaning: m.value for m in g.get_measurements()}
        assert values["Long Axis"] == pytest.approx(lesion.long_axis_mm)
        image = case.images[lesion.place.image]
        roi = g.roi
        if lesion.modality == "US":
            assert roi.value_type == hd.sr.ValueTypeValues.SCOORD
        else:
            assert (
                roi.FrameOfReferenceUID
                if "FrameOfReferenceUID" in roi
                else roi.ReferencedFrameOfReferenceUID == image.frame_of_reference
            )
    texts = [item.TextValue for item in walk(sr) if item.get("ValueType") == "TEXT"]
    assert report.banner[0] in texts
    assert all(x.text in texts for s in report.sections for x in s.sentences)


def walk(item):
    for child in item.get("ContentSequence", []):
        yield child
        yield from walk(child)


@tool("dsrdump")
def test_the_sr_is_read_by_dcmtk(files):
    folder, _, _ = files
    done = subprocess.run(
        ["dsrdump", str(folder / "report.sr.dcm")], capture_output=True, text=True, errors="replace", check=True
    )  # it cuts long texts in mid-character
    assert "Long Axis" in done.stdout
    assert "RESEARCH DRAFT" in done.stdout


def test_places_are_lps_millimetres_on_their_slice(made):
    """The polygon of a volume lies in the plane of its slice: against the header's own position and orientation."""
    case, predicted, _, _ = made
    lesion = next(x for x in predicted.prediction.lesions if x.modality != "US")
    image = case.images[lesion.place.image]
    region = region_of(lesion.place, image)
    header = headers_of(image)[lesion.place.slice]
    origin = np.array(header.ImagePositionPatient, float)
    row, column = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
    spacing = np.array(header.PixelSpacing, float)
    (x0, y0, _), (x1, y1, _) = lesion.place.box_voxels
    for corner, (i, j) in zip(region.value, [(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], strict=True):
        assert corner == pytest.approx(origin + row * spacing[1] * i + column * spacing[0] * j, abs=1e-3)


def test_the_seg_holds_the_mask_at_the_source_pixels(files, made):
    folder, names, _ = files
    case, predicted, _, _ = made
    for name in (n for n in names if n.endswith(".seg.dcm")):
        seg = hd.seg.segread(folder / name)
        modality = name.split(".")[1].upper()
        lesions = [x for x in predicted.prediction.lesions if x.modality == modality]
        image = case.images[lesions[0].place.image]
        headers = headers_of(image)
        sources = [h.SOPInstanceUID for h in headers]
        stacked = seg.get_pixels_by_source_instance(sources, assert_missing_frames_are_empty=True)
        assert seg.segment_descriptions if hasattr(seg, "segment_descriptions") else seg.SegmentSequence
        for n, lesion in enumerate(lesions[: seg.number_of_segments]):
            expected = native_mask(image, predicted.masks[lesion.id]).transpose(2, 1, 0)
            assert np.array_equal(stacked[..., n].astype(bool), expected)
            low, high = lesion.place.box_voxels
            at = np.argwhere(expected)[:, ::-1]
            assert (at.min(0) >= np.array(low) - 2).all()
            assert (at.max(0) <= np.array(high) + 2).all()
        raw = pydicom.dcmread(folder / name)  # a second reader agrees on the number of voxels
        assert int(raw.pixel_array.sum()) == sum(
            int(native_mask(image, predicted.masks[x.id]).sum()) for x in lesions[: seg.number_of_segments]
        )


def test_a_mask_lands_where_its_millimetres_say(made):
    case, *_ = made
    image = next(i for i in case.images if i.modality == "CT")
    ball = np.zeros((9, 9, 9), bool)
    ball[2:7, 2:7, 2:7] = True
    middle = image.affine @ np.array([20, 15, 8, 1.0])
    to_mm = np.diag([3.0, 3.0, 3.0, 1.0])
    to_mm[:3, 3] = middle[:3] - 12.0
    at = np.argwhere(native_mask(image, LesionMask(ball, to_mm)))
    mm = at @ image.affine[:3, :3].T + image.affine[:3, 3]
    assert np.abs(mm.mean(0) - middle[:3]).max() < 2.0
    assert np.abs(mm - middle[:3]).max() <= 3 * 2.5 + 1e-6 + np.abs(image.affine[:3, :3]).max()


def test_fhir_validates_and_stays_preliminary(files, made):
    folder, _, _ = files
    case, predicted, report, _ = made
    bundle = FhirBundle.model_validate_json((folder / "report.fhir.json").read_text())
    by_kind = {}
    for entry in bundle.entry:
        by_kind.setdefault(entry.resource.get_resource_type(), []).append(entry.resource)
    (diagnostic,) = by_kind["DiagnosticReport"]
    assert diagnostic.status == "preliminary"
    assert all(o.status == "preliminary" for o in by_kind["Observation"])
    assert {s.identifier[0].value for s in by_kind["ImagingStudy"]} == {f"urn:oid:{u}" for u in case.study_uids}
    urls = {e.fullUrl for e in bundle.entry}
    assert {r.reference for r in diagnostic.result} <= urls
    assert report.banner[0] in diagnostic.conclusion
    text = json.loads((folder / "report.fhir.json").read_text())
    assert text["resourceType"] == "Bundle"


@tool("pdftotext")
@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_pdf_text_can_be_read_in_both_languages(made, tmp_path, language):
    case, predicted, _, _ = made
    report = draft(predicted, case, load_bundle(), language)
    try:
        first, second = (report_pdf(report, case, [], letterhead="Test Hospital") for _ in range(2))
    except UserError as e:
        pytest.skip(str(e))
    assert first == second
    (tmp_path / "r.pdf").write_bytes(first)
    text = subprocess.run(
        ["pdftotext", "-layout", str(tmp_path / "r.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    squeezed = "".join(text.split())
    assert "TestHospital" in squeezed
    for section in report.sections:
        for x in section.sentences:
            assert "".join(x.text.split())[:18] in squeezed
    fonts = subprocess.run(["pdffonts", str(tmp_path / "r.pdf")], capture_output=True, text=True, check=True).stdout
    used = [line for line in fonts.splitlines()[2:] if not line.startswith("Helvetica")]
    assert used
    assert all(" yes " in line for line in used)  # embedded


def test_a_signed_report_is_verified_and_names_who_signed(made, tmp_path):
    case, predicted, report, task = made
    signed = report.model_copy(update={"state": "final", "signed_by": "Dr A Reader"})
    write_exports(tmp_path, predicted.prediction, signed, case, task, {}, ("sr", "fhir"))
    sr = hd.sr.srread(tmp_path / "report.sr.dcm")
    assert (sr.VerificationFlag, sr.CompletionFlag) == ("VERIFIED", "COMPLETE")
    assert sr.VerifyingObserverSequence[0].VerifyingObserverName == "Reader^Dr A"
    assert report.banner[0] in [i.TextValue for i in walk(sr) if i.get("ValueType") == "TEXT"]  # the banner stays
    fhir = FhirBundle.model_validate_json((tmp_path / "report.fhir.json").read_text())
    (diagnostic,) = [e.resource for e in fhir.entry if e.resource.get_resource_type() == "DiagnosticReport"]
    assert diagnostic.status == "final"


def test_rejected_sentences_do_not_leave(made, tmp_path):
    case, predicted, report, task = made
    edited = report.model_copy(deep=True)
    gone = next(x for x in edited.section("findings").sentences if x.finding)
    gone.state = "rejected"
    write_exports(tmp_path, predicted.prediction, edited, case, task, {}, ("text", "sr", "pdf"))
    assert gone.text not in (tmp_path / "report.txt").read_text()
    assert gone.text not in [
        i.TextValue for i in walk(hd.sr.srread(tmp_path / "report.sr.dcm")) if i.get("ValueType") == "TEXT"
    ]


def test_nifti_has_no_dicom_objects_and_says_so(patient_nifti, tmp_path):
    done = predict_command(
        None, {"CT": [patient_nifti / "CT_portal.nii.gz"] if (patient_nifti / "CT_portal.nii.gz").exists() else sorted(patient_nifti.glob("CT*.nii.gz"))[:1]},
        out=tmp_path, bundle=None, options=PredictOptions(), add=False, window=30, log=print,
    )  # fmt: skip
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert not (folder / "report.sr.dcm").exists()
    not_made = json.loads((folder / "run.json").read_text())["not_made"]
    assert any(n.startswith("sr:") and "without DICOM identifiers" in n for n in not_made)
    assert done.exit_code == 0
    assert (folder / "report.pdf").exists()


def test_a_source_that_is_gone_or_another_is_named(made, tmp_path):
    case, *_ = made
    image = next(i for i in case.images if i.modality == "CT")
    lost = replace(image, source=replace(image.source, files=(str(tmp_path / "gone.dcm"), *image.source.files[1:])))
    with pytest.raises(UserError, match="is gone"):
        headers_of(lost)
    swapped = replace(image, source=replace(image.source, files=(image.source.files[1], *image.source.files[1:])))
    with pytest.raises(UserError, match="another image"):
        headers_of(swapped)
    assert set(FORMATS) >= {"text", "json", "pdf", "sr", "seg", "fhir"}


def test_what_a_reader_measured_stands_in_the_sr_at_its_place(patient_dicom, tmp_path):
    """A length on CT comes back as mm between its two points in LPS, one on ultrasound as pixels of its frame."""
    import highdicom as hd

    from medfuse.library import accounts, store, workbench
    from medfuse.library.ingest import ingest
    from medfuse.models.bundle import load_bundle
    from medfuse.pipeline import PredictOptions, export_report, predict_library_case

    (case_id,) = ingest(patient_dicom).cases
    predict_library_case(case_id, load_bundle(), tmp_path / "r", PredictOptions(formats=("json",)))
    case = store.load_case(case_id)
    ct = next(i for i, x in enumerate(case.images) if x.modality == "CT")
    us = next(i for i, x in enumerate(case.images) if x.modality == "US")
    spacing = case.images[ct].spacing
    author = accounts.add_account("ari", "long enough", "author")
    common = {"series_uid": "", "text": "", "plane": "axial"}
    workbench.add_measurement(case_id, {**common, "kind": "distance", "image": ct, "slice": 5, "points": [[10, 12], [40, 12]], "value": 30 * spacing[0], "unit": "mm"}, author)  # fmt: skip
    workbench.add_measurement(case_id, {**common, "kind": "roi", "image": ct, "plane": "coronal", "slice": 30, "points": [[10, 8], [20, 16]], "value": 55.0, "sd": 3.0, "unit": "HU", "area": 99.0, "area_unit": "mm2"}, author)  # fmt: skip
    workbench.add_measurement(case_id, {**common, "kind": "distance", "image": us, "slice": 2, "points": [[5, 6], [8, 10]], "value": 5.0, "unit": "px"}, author)  # fmt: skip
    names, problems = export_report(case_id, ("sr",), tmp_path / "out")
    assert (names, problems) == (["report.sr.dcm"], [])
    sr = hd.sr.srread(tmp_path / "out" / case_id / "report.sr.dcm")
    groups = [g for g in sr.content.get_image_measurement_groups() if "reader ari" in (g.tracking_identifier or "")]
    assert [g.get_measurements()[0].name.meaning for g in groups] == ["Length", "Area", "Length"]
    assert groups[1].get_measurements()[1].value == 55.0
    length = groups[0].get_measurements()[0]
    (where,) = length.referenced_coordinates
    ends = where.value
    assert length.value == pytest.approx(float(np.linalg.norm(ends[1] - ends[0])), rel=1e-4)
    assert groups[2].get_measurements()[0].unit.value == "{pixels}"
