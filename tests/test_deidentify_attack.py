"""De-identification attacked: names planted in every place, in and around the pixels, and broken files."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image as Picture
from PIL import ImageDraw
from planted import Planted, leaks, plant, plant_all
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit
from slices import write_slice, write_stack

from medfuse.deidentify import lettering
from medfuse.deidentify.folder import Deidentified, deidentify_folder
from medfuse.deidentify.profile import Options
from medfuse.deidentify.values import spells_text
from medfuse.io.cases import find_cases

KEY = b"k" * 32
SECRET = "Zebulon"


def run(source: Path, out: Path, *, retain_uids: bool = False) -> Deidentified:
    return deidentify_folder(source, out, key=KEY, options=Options(retain_uids=retain_uids))


def written(out: Path) -> list[Path]:
    return sorted(out.rglob("*.dcm"))


def holds(folder: Path, text: str) -> bool:
    found = [p.read_bytes() for p in folder.rglob("*") if p.is_file()]
    return any(text.encode() in b for b in found) or any(text in str(p) for p in folder.rglob("*"))


@pytest.mark.attack
def test_four_hundred_tokens_are_planted_and_none_is_left(tmp_path):
    planted = Planted()
    plant(tmp_path / "in", planted)
    assert len(planted.where) >= 400
    assert len({p for p in planted.where.values() if p[0].isupper() and " " not in p}) >= 120
    assert set(planted.where) == set(leaks(planted, tmp_path / "in"))  # the search finds every one of them
    found = run(tmp_path / "in", tmp_path / "out")
    report = found.report
    assert report.written == 1, found.refused
    assert leaks(planted, tmp_path / "out") == {}
    kept = run(tmp_path / "in", tmp_path / "kept", retain_uids=True).report
    assert kept.written == 1
    assert leaks(planted, tmp_path / "kept") == {}
    assert "clean" not in (tmp_path / "out" / "report.json").read_text().lower().replace(
        '"clean_descriptors"', ""
    )
    assert report.files[0].unjudged


@pytest.mark.attack
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_attribute_of_the_dictionary_keeps_a_token(tmp_path):
    planted = Planted()
    assert plant_all(tmp_path / "in", planted) > 3500
    report = run(tmp_path / "in", tmp_path / "out").report
    assert report.written == len(list((tmp_path / "in").iterdir())), report.refused
    assert leaks(planted, tmp_path / "out") == {}


@pytest.mark.attack
@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("FL", b"ZEBULONA"),
        ("FL", b"ANNA"),
        ("FL", b"QZXGGLNS"),  # one of the two has few digits by chance
        ("FL", b"1.0\0ZEBULONA"),
        ("FL", b"\0\0\x80?ZEBU\0\0\x80?"),
        ("FD", b"JULIANNA"),
        ("FD", b"\0\0\0\0\0\0\xf0?ZEBULONA"),
        ("SL", b"ZEBULONA"),
        ("US", b"ZEBULONA"),
    ],
)
def test_numbers_that_spell_a_name_are_seen(vr, text):
    form = {"FL": "f", "FD": "d", "SL": "i", "US": "H"}[vr]
    assert spells_text(vr, struct.unpack(f"<{len(text) // struct.calcsize(form)}{form}", text))


@pytest.mark.parametrize("vr", ["FL", "FD"])
def test_numbers_that_are_numbers_stay(vr):
    for values in (
        [0.5],
        [12.34],
        [120.0, 55.5],
        [1e-6, 350.25],
        [511.5, 511.5],
        [8.1],
        [63.864],
        [123200.0],
    ):
        kept = np.array(values, np.float32 if vr == "FL" else np.float64)
        assert not spells_text(vr, kept.tolist()), values
    measured = np.random.default_rng(0).uniform(0, 2000, (500, 3)).astype(np.float32)
    assert sum(spells_text("FL", row) for row in measured.tolist()) <= 1


def test_values_that_scanners_write_stay(tmp_path):
    (tmp_path / "in").mkdir()
    kept = {
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
        "Manufacturer": "SIEMENS",
        "ManufacturerModelName": "SOMATOM Definition AS+",
        "ScanOptions": "HELICAL MODE",
        "BodyPartExamined": "ABDOMEN",
        "SequenceName": "*tfl3d1_16ns",
        "PatientPosition": "HFS",
        "KVP": "120",
        "EchoTime": "2.46",
    }
    write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0), **kept)
    run(tmp_path / "in", tmp_path / "out")
    ds = pydicom.dcmread(written(tmp_path / "out")[0])
    assert {k: str(ds[k].value) for k in kept} == {k: str(as_element(k, v)) for k, v in kept.items()}


def as_element(keyword: str, value: object) -> object:
    ds = Dataset()
    setattr(ds, keyword, value)
    return ds[keyword].value


def test_codes_keep_the_words_of_their_scheme(tmp_path):
    (tmp_path / "in").mkdir()
    item = Dataset()
    item.CodeValue = "10200004"
    item.CodingSchemeDesignator = "SCT"
    item.CodeMeaning = SECRET
    other = Dataset()
    other.CodeValue = "4711"
    other.CodingSchemeDesignator = "99HOSPITAL"
    other.CodeMeaning = SECRET
    write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0), AnatomicRegionSequence=Sequence([item, other]))
    run(tmp_path / "in", tmp_path / "out")
    ds = pydicom.dcmread(written(tmp_path / "out")[0])
    (code,) = ds.AnatomicRegionSequence
    assert code.CodeValue == "10200004"
    assert code.CodeMeaning.startswith("Liver")


@pytest.mark.attack
def test_a_plane_above_the_stored_bits_goes_and_values_stay(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = np.arange(30, dtype=np.uint16).reshape(6, 5) * 100
    hidden = (pixels | 0x8000 | 0x1000).astype("<u2")
    write_slice(
        tmp_path / "in" / "a.dcm", position=(0, 0, 0), BitsStored=12, HighBit=11, PixelData=hidden.tobytes()
    )
    report = run(tmp_path / "in", tmp_path / "out").report
    ds = pydicom.dcmread(written(tmp_path / "out")[0])
    assert np.array_equal(np.frombuffer(ds.PixelData, "<u2").reshape(6, 5), pixels)
    assert "113101" not in report.files[0].codes


def test_signed_values_keep_their_sign(tmp_path):
    (tmp_path / "in").mkdir()
    pixels = (np.arange(30).reshape(6, 5) - 15).astype("<i2")
    extra = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "PixelData": pixels.tobytes()}
    write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0), **extra)
    run(tmp_path / "in", tmp_path / "out")
    assert np.array_equal(pydicom.dcmread(written(tmp_path / "out")[0]).pixel_array, pixels)


def jpeg(path: Path, comment: bytes, end: bool = True) -> None:
    """A colour secondary frame whose JPEG has a comment, EXIF and bytes behind its end."""
    buffer = io.BytesIO()
    exif = Picture.Exif()
    exif[0x010E] = SECRET
    grey = Picture.fromarray(np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1)))
    grey.save(buffer, "JPEG", comment=comment, exif=exif)
    data = buffer.getvalue()
    data = data + SECRET.encode() + b"\0" if end else data[: len(data) // 2]
    ds = write_slice(path, position=(0, 0, 0), size=(64, 64), BitsAllocated=8, BitsStored=8, HighBit=7)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([data])
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)


@pytest.mark.attack
def test_comments_inside_compressed_pixels_go(tmp_path):
    (tmp_path / "in").mkdir()
    jpeg(tmp_path / "in" / "a.dcm", SECRET.encode())
    before = pydicom.dcmread(tmp_path / "in" / "a.dcm")
    assert SECRET.encode() in before.PixelData
    report = run(tmp_path / "in", tmp_path / "out").report
    assert report.written == 1, report.refused
    assert not holds(tmp_path / "out", SECRET)
    after = pydicom.dcmread(written(tmp_path / "out")[0]).pixel_array
    assert np.abs(after.astype(int) - before.pixel_array).max() <= 1  # decoders round alike but for one level


@pytest.mark.attack
def test_cut_short_is_refused_and_the_others_go_on(tmp_path):
    source = tmp_path / SECRET
    write_stack(source, [(0, 0, 2.5 * k) for k in range(3)])
    whole = (source / "002.dcm").read_bytes()
    (source / f"{SECRET}.dcm").write_bytes(whole[:-10])
    (source / "header.dcm").write_bytes(whole[:400] + SECRET.encode() * 20)
    jpeg(source / "half.dcm", b"x", end=False)
    (source / "report.txt").write_text(SECRET)
    found = run(source, tmp_path / "out")
    assert found.report.written == 3
    assert {r.path.name for r in found.refused} == {f"{SECRET}.dcm", "header.dcm", "half.dcm"}
    assert all(r.reason for r in found.report.refused)
    assert not holds(tmp_path / "out", SECRET)
    again = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(again["refused"]) == 3
    assert again["skipped"] == {"not_dicom": 1}


@pytest.mark.attack
@pytest.mark.parametrize(
    ("sop", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.33", "Comprehensive SR Storage"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "Encapsulated PDF Storage"),
        ("1.2.840.10008.5.1.4.1.1.7", "Secondary Capture Image Storage"),
        (f"1.2.3.{SECRET}", "unknown SOP class"),
    ],
)
def test_documents_are_refused_by_name(tmp_path, sop, kind):
    (tmp_path / "in").mkdir()
    ds = write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0))
    with pydicom.config.disable_value_validation():
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop
        ds.save_as(tmp_path / "in" / "a.dcm")
    found = run(tmp_path / "in", tmp_path / "out")
    assert found.report.written == 0
    assert found.refused[0].path == tmp_path / "in" / "a.dcm"
    assert kind in found.report.refused[0].reason
    assert not holds(tmp_path / "out", SECRET)


@pytest.mark.attack
@pytest.mark.parametrize(
    "extra",
    [
        {"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "SAVE"]},
        {"ImageType": ["DERIVED", "SECONDARY", "DOSE_INFO"]},
        {"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CT_SOM5 PROT"]},
        {"ImageType": ["DERIVED", "SECONDARY", "snapshot"]},
        {"ImageType": ["DERIVED", "PRIMARY", "Worksheet"]},
        {"ImageType": ["DERIVED", "SECONDARY", "SCANNED"]},
        {"ImageType": ["DERIVED", "SECONDARY", "PRINT"]},
        {"ConversionType": "WSD"},
    ],
)
def test_screens_are_refused(tmp_path, extra):
    (tmp_path / "in").mkdir()
    write_slice(tmp_path / "in" / "a.dcm", position=(0, 0, 0), **extra)
    assert run(tmp_path / "in", tmp_path / "out").report.written == 0


def ultrasound(path: Path, *, photometric: str, text_at: tuple[int, int], trace: bool = False) -> None:
    """A sector of speckle with a name somewhere; with ``trace`` an M-mode region covers the whole picture."""
    rng = np.random.default_rng(0)
    picture = np.zeros((200, 260), np.uint8)
    picture[50:190, 50:210] = rng.integers(30, 140, (140, 160))
    canvas = Picture.fromarray(picture)
    ImageDraw.Draw(canvas).text(text_at, "ZEBULON DOE 1960", fill=255)
    grey = np.asarray(canvas)
    grey = 255 - grey if photometric == "MONOCHROME1" else grey
    ds = write_slice(path, position=(0, 0, 0), size=(200, 260), Modality="US", BitsAllocated=8, BitsStored=8)
    ds.HighBit = 7
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
    ds.PhotometricInterpretation = photometric
    ds.PixelData = grey.tobytes()
    if trace:
        region = Dataset()
        region.RegionSpatialFormat = 2
        region.RegionDataType = 1
        region.PhysicalUnitsXDirection = 4
        region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
        region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
        region.RegionLocationMaxX1 = 259
        region.RegionLocationMaxY1 = 199
        region.RegionFlags = 0
        ds.SequenceOfUltrasoundRegions = Sequence([region])
    ds.save_as(path)


@pytest.mark.attack
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_banner_goes_in_either_grey(tmp_path, photometric):
    (tmp_path / "in").mkdir()
    ultrasound(tmp_path / "in" / "a.dcm", photometric=photometric, text_at=(10, 8))
    report = run(tmp_path / "in", tmp_path / "out").report
    assert report.written == 1, report.refused
    pixels = pydicom.dcmread(written(tmp_path / "out")[0]).pixel_array
    assert np.ptp(pixels[:30]) == 0
    assert np.ptp(pixels[60:180, 60:200]) > 50
    assert report.files[0].text_boxes
    assert ("113101" in report.files[0].codes) == lettering.available()


@pytest.mark.attack
def test_a_name_in_an_m_mode_region_is_refused_where_no_word_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(lettering, "available", lambda: False)
    (tmp_path / "in").mkdir()
    ultrasound(tmp_path / "in" / "a.dcm", photometric="MONOCHROME2", text_at=(10, 8), trace=True)
    assert run(tmp_path / "in", tmp_path / "out").report.written == 0


@pytest.mark.attack
def test_uids_with_one_tail_do_not_overwrite(tmp_path):
    (tmp_path / "in").mkdir()
    for n in range(1, 4):
        uid = f"1.2.{n}.1234567890123456789"
        write_slice(tmp_path / "in" / f"{n}.dcm", position=(0, 0, n), number=n, sop=uid)
    write_slice(tmp_path / "in" / "9.dcm", position=(0, 0, 9), sop="1.2.1.1234567890123456789")
    found = run(tmp_path / "in", tmp_path / "out", retain_uids=True)
    assert found.report.written == len(written(tmp_path / "out")) == 3
    assert [r.path.name for r in found.refused] == ["9.dcm"]


def test_private_scaling_of_philips_stays(tmp_path):
    for n in range(3):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        extra = {"Manufacturer": "Philips Medical Systems", "Modality": "MR"}
        ds = write_slice(
            folder / f"{n}.dcm", position=(0, 0, 2.5 * n), number=n, slope=1 + n, intercept=0.0, **extra
        )
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        for creator in ("SOMEBODY", "Philips MR Imaging DD 001"):  # the block is moved to 11
            block = ds.private_block(0x2005, creator, create=True)
        block.add_new(0x0E, "FL", 0.5 + n)
        block.add_new(0x10, "LO", SECRET)
        ds.save_as(folder / f"{n}.dcm")
    report = run(tmp_path / "in", tmp_path / "out").report
    assert report.written == 3, report.refused
    assert "113111" in report.files[0].codes
    assert not holds(tmp_path / "out", SECRET)
    before = find_cases(tmp_path / "in").cases[0].images[0]
    after = find_cases(tmp_path / "out").cases[0].images[0]
    assert np.array_equal(before.pixels, after.pixels)


@pytest.mark.attack
def test_nifti_keeps_voxels_and_geometry_only(tmp_path):
    (tmp_path / SECRET).mkdir()
    affine = np.diag([2.0, 3, 4, 1])
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image.header["descrip"] = SECRET.encode()
    image.header["db_name"] = SECRET.encode()
    image.header["aux_file"] = SECRET.encode()
    image.header.extensions.append(nib.nifti1.Nifti1Extension(6, SECRET.encode()))
    path = tmp_path / SECRET / f"{SECRET}.nii"
    nib.save(image, path)
    with path.open("ab") as f:
        f.write(SECRET.encode())
    with gzip.open(tmp_path / SECRET / "short.nii.gz", "wb") as f:
        f.write(path.read_bytes()[:360])
    found = run(tmp_path / SECRET, tmp_path / "out")
    assert found.report.written == 1
    assert [r.path.name for r in found.refused] == ["short.nii.gz"]
    (copy,) = (tmp_path / "out" / "nifti").iterdir()
    again = nib.load(copy)
    assert np.array_equal(np.asarray(again.dataobj), np.asarray(image.dataobj))
    assert np.array_equal(again.affine, affine)
    assert SECRET.encode() not in gzip.decompress(copy.read_bytes())
    assert not holds(tmp_path / "out", SECRET)
    assert "header extensions" in found.report.files[0].removed


@pytest.mark.shared
@pytest.mark.parametrize(
    ("folder", "count"),
    [
        ("deid-ct-screen-save", 0),
        ("deid-overlay-bits", 6),
        ("deid-retain-uids-overwrites", 6),
        ("deid-us-monochrome1", None),
        ("deid-path-in-report", None),
    ],
)
def test_inputs_of_public_reports(shared, tmp_path, folder, count):
    retain = "retain" in folder
    found = run(shared / "reports_of_others" / folder / "input", tmp_path / "out", retain_uids=retain)
    copies = written(tmp_path / "out")
    assert found.report.written == len(copies)
    assert count is None or len(copies) == count
    assert not holds(tmp_path / "out", "DOE_JANE")
    for ds in map(pydicom.dcmread, copies):
        if ds.Modality == "US":
            assert np.ptp(ds.pixel_array[:25]) == 0
        elif ds.BitsStored == 12:
            assert not (np.frombuffer(ds.PixelData, "<u2") & 0xF000).any()
