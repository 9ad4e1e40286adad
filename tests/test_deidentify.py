"""De-identification: nothing of the person left, references still resolve, pixels masked on every frame."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from slices import write_slice, write_stack

from medfuse.case import Region
from medfuse.deidentify.folder import deidentify_folder
from medfuse.deidentify.keys import Pseudonyms, load_key
from medfuse.deidentify.pixels import mask_outside
from medfuse.deidentify.profile import Options, clean_words, deidentify
from medfuse.errors import UserError
from medfuse.io.cases import find_cases
from medfuse.io.ultrasound import brightest_frame, scan_area, text_boxes

KEY = b"k" * 32
SECRET = "Zebulon"


def values(ds: Dataset) -> str:
    return "\n".join(str(e.value) for e in ds.iterall() if e.VR not in ("OB", "OW", "OF"))


def everything(table_tags) -> Dataset:
    """A data set that holds every attribute of the profile's table, with a secret in each that can hold
    text."""
    ds = Dataset()
    for tag in table_tags:
        vr = dictionary_VR(tag)
        if vr in ("OB", "OW", "SQ", "OB or OW", "UN", "OF", "OD", "UR", "AT"):
            continue
        value = {
            "UI": generate_uid(),
            "DA": "20240105",
            "TM": "101010",
            "DT": "20240105101010",
            "IS": 77,
            "DS": "77",
            "AS": "077Y",
        }.get(vr)
        if value is None:
            value = (
                77
                if vr in ("US", "UL", "SS", "SL", "FD", "FL", "SV", "UV")
                else SECRET.upper()
                if vr == "CS"
                else SECRET
            )
        try:
            ds.add_new(tag, vr, value)
        except (ValueError, TypeError):
            continue
    return ds


def profile_table() -> dict[str, set]:
    """The tags of PS3.15 Table E.1-1 by action, from an independent implementation."""
    fields = pytest.importorskip("dicomanonymizer.dicom_anonymization_databases.dicomfields_2024b")
    tables = {name: getattr(fields, name) for name in dir(fields) if name.endswith("_TAGS")}
    return {
        name: {t for t in tags if isinstance(t, tuple) and len(t) == 2}
        for name, tags in tables.items()
        if isinstance(tags, list)
    }


@pytest.mark.attack
def test_nothing_of_the_profile_table_survives():
    table = profile_table()
    tags = sorted(set().union(*table.values()))
    assert len(tags) > 300
    known = [t for t in tags if keyword_for_tag(t)]
    ds = everything(known)
    before = {e.tag: str(e.value) for e in ds}
    deidentify(ds, Pseudonyms(KEY), Options(clean_descriptors=False))
    for element in ds.iterall():
        old = before.get(element.tag)
        if old is None or not old:
            continue
        assert SECRET.lower() not in str(element.value).lower(), element
        if element.VR in ("UI", "DA", "TM", "DT"):
            assert str(element.value) != old, element


@pytest.mark.attack
def test_private_overlay_and_nested_names_go():
    ds = Dataset()
    ds.PatientID = "1"
    ds.add_new(0x00091001, "LO", SECRET)
    ds.add_new(0x60000022, "LO", SECRET)
    item = Dataset()
    item.PatientName = SECRET
    item.CodeValue = "T-1"
    ds.AnatomicRegionSequence = Sequence([item])
    ds.RequestAttributesSequence = Sequence([item])
    changes = deidentify(ds, Pseudonyms(KEY), Options())
    assert SECRET not in values(ds)
    assert ds.AnatomicRegionSequence[0].CodeValue == "T-1"
    assert "RequestAttributesSequence" in changes.removed
    assert ds.PatientIdentityRemoved == "YES"
    assert {c.CodeValue for c in ds.DeidentificationMethodCodeSequence} == {"113100"}


def test_references_resolve_and_intervals_stay(tmp_path):
    for n, day in enumerate(("20240105", "20240119")):
        write_stack(
            tmp_path / "in" / str(n),
            [(0, 0, 2.5 * k) for k in range(3)],
            series=f"1.2.{n}",
            study=f"1.9.{n}",
            StudyDate=day,
            SeriesDescription=f"T2 axial liver for {SECRET}",
        )
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", key=KEY, options=Options()).report
    assert report.written == 6
    sets = [pydicom.dcmread(p) for p in sorted((tmp_path / "out").rglob("*.dcm"))]
    assert len({d.FrameOfReferenceUID for d in sets}) == 1
    assert len({d.StudyInstanceUID for d in sets}) == 2
    assert len({d.PatientID for d in sets}) == 1
    days = sorted({int(d.StudyDate) for d in sets})
    from medfuse.io.cases import parse_date

    first, second = (parse_date(str(d)) for d in days)
    assert (second - first).days == 14
    assert {d.SeriesDescription for d in sets} == {"T2 axial liver"}
    assert not any(SECRET in values(d) for d in sets)
    again = deidentify_folder(tmp_path / "in", tmp_path / "again", key=KEY, options=Options()).report
    assert [f.path for f in again.files] == [f.path for f in report.files]  # same key, same names
    other = deidentify_folder(tmp_path / "in", tmp_path / "other", key=b"x" * 32, options=Options()).report
    assert {f.path for f in other.files}.isdisjoint(f.path for f in report.files)
    kept = deidentify_folder(
        tmp_path / "in",
        tmp_path / "kept",
        key=KEY,
        options=Options(retain_uids=True, shift_dates=False, clean_descriptors=False),
    ).report
    assert kept.written == 6
    one = pydicom.dcmread(next((tmp_path / "kept").rglob("*.dcm")))
    assert one.FrameOfReferenceUID == "1.2.77"
    assert not one.get("StudyDate")
    assert "SeriesDescription" not in one


def test_geometry_survives(tmp_path):
    write_stack(tmp_path / "in", [(3, 4, 2.5 * k) for k in range(4)])
    deidentify_folder(tmp_path / "in", tmp_path / "out", key=KEY, options=Options())
    a = find_cases(tmp_path / "in").cases[0].images[0]
    b = find_cases(tmp_path / "out").cases[0].images[0]
    assert np.array_equal(a.pixels, b.pixels)
    assert np.allclose(a.affine, b.affine)


@pytest.mark.attack
def test_banner_goes_on_every_frame():
    rng = np.random.default_rng(0)
    frames = np.zeros((5, 200, 260), np.uint8)
    frames[:, 40:190, 50:210] = rng.integers(30, 200, (5, 150, 160))
    frames[3, 10:22, 10:120] = rng.integers(0, 2, (12, 110)) * 255  # a name that shows on one frame only
    area = scan_area(brightest_frame(frames), ())
    assert area[60:180, 70:190].all()
    assert not area[:30].any()
    (box, *_) = text_boxes(brightest_frame(frames), area)
    assert box[1] < 22
    masked = mask_outside(frames, area)
    assert masked[3, :30].max() == 0
    assert np.array_equal(masked[:, 60:180, 70:190], frames[:, 60:180, 70:190])
    declared = scan_area(brightest_frame(frames), (Region((50, 40, 209, 189), (0.3, 0.3)),))
    assert declared[40:190, 50:210].mean() > 0.99
    assert not declared[:40].any()
    assert not declared[:, :50].any()  # never beyond what the header declares
    assert scan_area(np.zeros((50, 50), np.uint8), ()) is None


@pytest.mark.attack
def test_burned_in_text_that_cannot_be_masked_is_not_written(tmp_path):
    (tmp_path / "in").mkdir()
    write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0), BurnedInAnnotation="YES")
    report = deidentify_folder(tmp_path / "in", tmp_path / "out", key=KEY, options=Options()).report
    assert report.written == 0
    assert "not written" in report.refused[0].reason


def test_vocabulary():
    assert clean_words("T1 vibe fs tra, Mr. Smith 12.3.") == "T1 vibe fs tra Mr"
    assert clean_words("Smith") == ""


def test_key_is_private_and_checked(tmp_path):
    key = load_key(tmp_path / "k" / "secret")
    assert len(key) == 32
    assert (tmp_path / "k" / "secret").stat().st_mode & 0o077 == 0
    assert load_key(tmp_path / "k" / "secret") == key
    (tmp_path / "short").write_bytes(b"x")
    with pytest.raises(UserError, match="at least 16"):
        load_key(tmp_path / "short")


@pytest.mark.shared
@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian dicom3tools) is not installed")
def test_real_files_gain_no_error_and_lose_their_names(shared, tmp_path):
    def errors(path):
        out = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        return {
            line.split("=")[0]
            for line in (out.stdout + out.stderr).splitlines()
            if line.startswith("Error - Missing")
        }

    names = [
        "orthanc_tests/US_HP_cine_34frames_jpegbaseline_Issue16.dcm",
        "orthanc_tests/US_GE_LOGIQ700_bigendian.dcm",
        "tcia_vs_seg_001_t1/1-040.dcm",
    ]
    for n, name in enumerate(names):
        source = shared / "dicom" / name
        report = deidentify_folder(source, tmp_path / str(n), key=KEY, options=Options()).report
        assert report.written == 1, report.refused
        ds = pydicom.dcmread(tmp_path / str(n) / report.files[0].path)
        original = pydicom.dcmread(source)
        assert str(original.PatientName) not in values(ds) or not str(original.PatientName)
        assert not [e for e in ds.iterall() if e.tag.is_private]
        if original.Modality == "US":
            pixels = ds.pixel_array
            assert (
                pixels.shape[:3] == original.pixel_array.shape[:3] or pixels.ndim == original.pixel_array.ndim
            )
        assert errors(tmp_path / str(n) / report.files[0].path) <= errors(source)
    assert json.loads((tmp_path / "0" / "report.json").read_text())["masked"] == 1


def test_a_file_that_is_there_twice_is_written_once(tmp_path):
    write_stack(tmp_path / "in", [(0, 0, 2.5 * k) for k in range(3)])
    first = sorted((tmp_path / "in").iterdir())[0]
    shutil.copy(first, tmp_path / "in" / "again.dcm")
    done = deidentify_folder(tmp_path / "in", tmp_path / "out", key=b"k" * 32, options=Options())
    assert done.report.written == len(list((tmp_path / "out").rglob("*.dcm"))) == 3
    (told,) = done.refused
    assert told.reason == "has the SOP Instance UID of another file; only the first is written"
