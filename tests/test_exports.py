"""What leaves the house: DICOM that its validators and other readers accept, FHIR that validates, PDFs in
both languages."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

import highdicom as hd
import jsonschema
import numpy as np
import pydicom
import pytest
from fhir.resources.R4B.bundle import Bundle as FhirBundle

from medfuse.bundles.bundle import load_bundle
from medfuse.display.marks import KeyView
from medfuse.display.views import view_of
from medfuse.drafting.draft import draft
from medfuse.errors import UserError, WrongUse
from medfuse.exports.dicom_source import headers_of
from medfuse.exports.pdf import report_pdf
from medfuse.exports.registry import FORMATS, Format, Written, formats_named, register
from medfuse.exports.request import ExportRequest, write_exports
from medfuse.exports.seg import native_mask
from medfuse.exports.sr import region_of
from medfuse.inference.predictor import Predictor
from medfuse.inference.second_look import LesionMask
from medfuse.io.read import open_case
from medfuse.io.referring import read_referring
from medfuse.library import Library
from medfuse.report import Sentence, SignedOff
from medfuse.workflows.predict import PredictOptions, PredictRequest, predict_command, predict_library_case
from medfuse.workflows.schemas import schemas_json


def tool(name):
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"no {name} (.ci/install-debian)")


@pytest.fixture(scope="module")
def made(patient_dicom):
    """Case, prediction, report of a simulated patient with lesions."""
    bundle = load_bundle()
    case = open_case(patient_dicom)
    predicted = Predictor(bundle).details(case)
    assert predicted.prediction.lesions
    return case, predicted, draft(predicted, case, bundle), bundle.task


def request(made, folder, **more) -> ExportRequest:
    case, predicted, report, task = made
    given = {"prediction": predicted.prediction, "report": report, "case": case, "task": task}
    return ExportRequest(folder=folder, **{**given, **more})


def key_view(case, modality, plane, at):
    n = next(i for i, image in enumerate(case.images) if image.modality == modality)
    return KeyView(kind="key", image=n, plane=plane, slice=at, text="", window=(40, 400), author="bo")


@pytest.fixture(scope="module")
def files(made, tmp_path_factory):
    case, predicted, report, task = made
    folder = tmp_path_factory.mktemp("exports")
    marks = [key_view(case, "CT", "axial", 7)]
    done = write_exports(request(made, folder, masks=predicted.masks, measured=marks))
    return folder, done.names, done.problems


def test_every_format_is_written_and_ultrasound_masks_are_said_to_be_missing(files):
    _, names, problems = files
    assert {
        "report.txt",
        "report.json",
        "report.pdf",
        "report.pdf.dcm",
        "report.fhir.json",
        "report.sr.dcm",
    } <= set(names)
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
    assert (sr.VerificationFlag, sr.CompletionFlag, sr.PreliminaryFlag) == (
        "UNVERIFIED",
        "PARTIAL",
        "PRELIMINARY",
    )
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
    # it cuts long texts in mid-character
    done = subprocess.run(
        ["dsrdump", str(folder / "report.sr.dcm")],
        capture_output=True,
        text=True,
        errors="replace",
        check=True,
    )
    assert "Long Axis" in done.stdout
    assert "RESEARCH DRAFT" in done.stdout


def test_places_are_lps_millimetres_on_their_slice(made):
    """The polygon of a volume lies in the plane of its slice: against the header's own position and
    orientation."""
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
    assert {s.identifier[0].value for s in by_kind["ImagingStudy"]} == {
        f"urn:oid:{u}" for u in case.study_uids
    }
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
    fonts = subprocess.run(
        ["pdffonts", str(tmp_path / "r.pdf")], capture_output=True, text=True, check=True
    ).stdout
    used = [line for line in fonts.splitlines()[2:] if not line.startswith("Helvetica")]
    assert used
    assert all(" yes " in line for line in used)  # embedded


def test_a_signed_report_is_verified_and_names_who_signed(made, tmp_path):
    case, predicted, report, task = made
    signed = report.model_copy(update={"state": "final", "signed_by": "Dr A Reader"})
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    off = SignedOff(name="Dr A Reader", at=at, version=1)
    write_exports(request(made, tmp_path, report=signed, signed=off), ("sr", "fhir", "text", "pdf"))
    line = "Signed electronically by Dr A Reader, 2026-03-04 05:06 UTC, version 1"
    assert line in (tmp_path / "report.txt").read_text()
    words = subprocess.run(
        ["pdftotext", str(tmp_path / "report.pdf"), "-"], capture_output=True, text=True, check=True
    ).stdout
    assert line in " ".join(words.split())
    sr = hd.sr.srread(tmp_path / "report.sr.dcm")
    assert (sr.VerificationFlag, sr.CompletionFlag) == ("VERIFIED", "COMPLETE")
    assert sr.VerifyingObserverSequence[0].VerifyingObserverName == "Reader^Dr A"
    assert sr.VerifyingObserverSequence[0].VerificationDateTime == "20260304050607+0000"
    assert line in [i.TextValue for i in walk(sr) if i.get("ValueType") == "TEXT"]
    # the banner stays
    assert report.banner[0] in [i.TextValue for i in walk(sr) if i.get("ValueType") == "TEXT"]
    fhir = FhirBundle.model_validate_json((tmp_path / "report.fhir.json").read_text())
    (diagnostic,) = [e.resource for e in fhir.entry if e.resource.get_resource_type() == "DiagnosticReport"]
    assert diagnostic.status == "final"
    assert diagnostic.issued == at
    assert line in diagnostic.conclusion


def test_an_impression_stays_on_one_page(made, tmp_path):
    """Whatever stands above it: the page breaks before its title, never within."""
    case, _, report, _ = made
    rows = [Sentence(text=f"Conclusion {n}.", state="accepted") for n in range(6)]
    for more in range(28, 40, 2):
        long = report.model_copy(deep=True)
        long.section("findings").sentences = [Sentence(text=f"Line {n}.") for n in range(more)]
        long.section("impression").sentences = rows
        (tmp_path / "r.pdf").write_bytes(report_pdf(long, case, []))
        text = subprocess.run(
            ["pdftotext", str(tmp_path / "r.pdf"), "-"], capture_output=True, text=True, check=True
        ).stdout
        (page,) = [p for p in text.split("\f") if "Conclusion 0." in p]
        assert "Conclusion 5." in page
        assert "Impression" in page


def test_rejected_sentences_do_not_leave(made, tmp_path):
    case, predicted, report, task = made
    edited = report.model_copy(deep=True)
    gone = next(x for x in edited.section("findings").sentences if x.finding)
    gone.state = "rejected"
    write_exports(request(made, tmp_path, report=edited), ("text", "sr", "pdf"))
    assert gone.text not in (tmp_path / "report.txt").read_text()
    assert gone.text not in [
        i.TextValue for i in walk(hd.sr.srread(tmp_path / "report.sr.dcm")) if i.get("ValueType") == "TEXT"
    ]


def test_nifti_has_no_dicom_objects_and_says_so(patient_nifti, tmp_path):
    done = predict_command(
        PredictRequest(
            parts={
                "CT": [patient_nifti / "CT_portal.nii.gz"]
                if (patient_nifti / "CT_portal.nii.gz").exists()
                else sorted(patient_nifti.glob("CT*.nii.gz"))[:1]
            },
            out=tmp_path,
        ),
        log=print,
    )
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    assert not (folder / "report.sr.dcm").exists()
    run = json.loads((folder / "run.json").read_text())
    jsonschema.validate(run, schemas_json()["run"])
    not_made = run["not_made"]
    assert any(n.startswith("sr:") and "without DICOM identifiers" in n for n in not_made)
    assert done.exit_code == 0
    assert (folder / "report.pdf").exists()


def test_a_source_that_is_gone_or_another_is_named(made, tmp_path):
    case, *_ = made
    image = next(i for i in case.images if i.modality == "CT")
    lost = replace(
        image, source=replace(image.source, files=(str(tmp_path / "gone.dcm"), *image.source.files[1:]))
    )
    with pytest.raises(UserError, match="is gone"):
        headers_of(lost)
    swapped = replace(
        image, source=replace(image.source, files=(image.source.files[1], *image.source.files[1:]))
    )
    with pytest.raises(UserError, match="another image"):
        headers_of(swapped)


def test_the_list_of_formats_is_what_is_written_and_documented(files):
    _, names, _ = files
    words = (Path(__file__).parent.parent / "docs" / "reports.md").read_text()
    for one in FORMATS.values():
        assert any(fnmatch(n, one.file_name) for n in names), one.name
        assert f"`{one.name}`" in words
        assert one.file_name.replace("*", "ct") in words or one.file_name in words
    assert formats_named("all") == tuple(FORMATS)
    with pytest.raises(WrongUse, match="give text, json"):
        formats_named("text,docx")


def test_a_format_of_ones_own_is_one_record(made, tmp_path):

    own = Format(
        name="words",
        title="Words",
        file_name="words.txt",
        writer=lambda r: r.put("words.txt", str(len(r.report.sections)).encode()),
    )
    register(own)
    try:
        assert write_exports(request(made, tmp_path), ("words",)) == Written(names=("words.txt",))
        assert int((tmp_path / "words.txt").read_text()) == len(made[2].sections)
        with pytest.raises(WrongUse, match="choose another"):
            register(own)
    finally:
        del FORMATS["words"]


def test_what_a_reader_measured_stands_in_the_sr_at_its_place(patient_dicom, tmp_path):
    """A length on CT comes back as mm between its two points in LPS, one on ultrasound as pixels of its
    frame."""
    import highdicom as hd

    from medfuse.bundles.bundle import load_bundle
    from medfuse.display.contract import read_measurement
    from medfuse.library import accounts, store, workbench
    from medfuse.library.catalogue import MeasurementRow
    from medfuse.library.ingest import ingest
    from medfuse.workflows.report import export_report

    (case_id,) = ingest(Library(), patient_dicom).cases
    predict_library_case(case_id, load_bundle(), tmp_path / "r", PredictOptions(formats=("json",)))
    case = store.load_case(Library(), case_id)
    ct = next(i for i, x in enumerate(case.images) if x.modality == "CT")
    us = next(i for i, x in enumerate(case.images) if x.modality == "US")
    spacing = case.images[ct].spacing
    author = accounts.add_account(Library(), "ari", "long enough", "author")
    common = {"series_uid": "", "text": "", "plane": "axial"}

    def keep(data):
        return workbench.add_measurement(Library(), case_id, read_measurement(data), author)

    keep(
        {
            **common,
            "kind": "distance",
            "image": ct,
            "slice": 5,
            "points": [[10, 12], [40, 12]],
            "value": 30 * spacing[0],
            "unit": "mm",
        }
    )
    keep(
        {
            **common,
            "kind": "roi",
            "image": ct,
            "plane": "coronal",
            "slice": 30,
            "points": [[10, 8], [20, 16]],
            "value": 55.0,
            "sd": 3.0,
            "unit": "HU",
            "area": 99.0,
            "area_unit": "mm2",
        }
    )
    keep(
        {
            **common,
            "kind": "distance",
            "image": us,
            "slice": 2,
            "points": [[5, 6], [8, 10]],
            "value": 5.0,
            "unit": "px",
        }
    )
    done = export_report(case_id, ("sr",), tmp_path / "out")
    assert (done.names, done.problems) == (("report.sr.dcm",), ())
    sr = hd.sr.srread(tmp_path / "out" / case_id / "report.sr.dcm")
    groups = [
        g for g in sr.content.get_image_measurement_groups() if "reader ari" in (g.tracking_identifier or "")
    ]
    assert [g.get_measurements()[0].name.meaning for g in groups] == ["Length", "Area", "Length"]
    assert groups[1].get_measurements()[1].value == 55.0
    length = groups[0].get_measurements()[0]
    (where,) = length.referenced_coordinates
    ends = where.value
    assert length.value == pytest.approx(float(np.linalg.norm(ends[1] - ends[0])), rel=1e-4)
    assert groups[2].get_measurements()[0].unit.value == "{pixels}"

    # as an older version kept it: no area
    bad = {
        **common,
        "kind": "roi",
        "image": ct,
        "slice": 3,
        "points": [[1, 2], [9, 8]],
        "value": 55,
        "unit": "HU",
    }
    with Library().session() as s:
        s.add(MeasurementRow(case_id=case_id, author="ari", data=bad))
    done = export_report(case_id, ("sr",), tmp_path / "again")
    assert done.names == ("report.sr.dcm",)
    (problem,) = done.problems
    assert "left out measurement 4 of ari" in problem
    assert "area: Field required" in problem
    sr = hd.sr.srread(tmp_path / "again" / case_id / "report.sr.dcm")
    kept = [str(g.tracking_identifier) for g in sr.content.get_image_measurement_groups()]
    assert len([name for name in kept if "reader ari" in name]) == 3


def test_key_images_name_the_stored_slices_and_frames(made, tmp_path):
    case = made[0]
    marks = [key_view(case, *x) for x in (("CT", "axial", 7), ("CT", "coronal", 40), ("US", "axial", 3))]
    done = write_exports(request(made, tmp_path, measured=marks), ("kos",))
    assert list(done.names) == ["key_images.1.kos.dcm", "key_images.2.kos.dcm"]  # of two studies
    assert len(done.problems) == 1
    assert "coronal 41" in done.problems[0]
    assert "no stored image" in done.problems[0]
    ct, us = (read_referring(tmp_path / name) for name in done.names)
    assert (ct.kind, ct.title) == ("key objects", "Of Interest")
    image = case.images[marks[0].image]
    (named,) = ct.images
    path = image.source.files[image.source.instance_uids.index(named.sop_uid)]
    affine = image.affine @ np.linalg.inv(view_of(image).to_view)
    assert float(pydicom.dcmread(path).ImagePositionPatient[2]) == pytest.approx(
        float((affine @ [*_first_corner(image), 7, 1])[2]), abs=0.01
    )
    assert us.images[0].frames == (4,)
    if shutil.which("dciodvfy"):
        for name in done.names:
            out = subprocess.run(
                ["dciodvfy", str(tmp_path / name)], capture_output=True, text=True, check=False
            )
            assert not [x for x in (out.stdout + out.stderr).splitlines() if x.startswith("Error")], name


def _first_corner(image):
    """Where the first stored pixel of a slice stands in the displayed plane."""
    return (view_of(image).to_view @ [0, 0, 0, 1])[:2]


def test_without_key_images_there_is_no_selection(made, tmp_path):
    assert write_exports(request(made, tmp_path), ("kos",)).names == ()
