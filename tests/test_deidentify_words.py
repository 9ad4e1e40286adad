"""Names burned into pictures of every kind: gone, or the file is refused; and nothing is claimed that was not
done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from burned import letters, noise, patient, written_on
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from slices import write_slice

from medfuse.deidentify import lettering
from medfuse.deidentify.folder import Deidentified, deidentify_folder
from medfuse.deidentify.profile import Options

NAME = "DOE^JANE 12.3.1960"
needs_reader = pytest.mark.skipif(not lettering.available(), reason="the extra ocr is not installed")
US = {"Modality": "US", "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
ULTRASOUND_MULTI = "1.2.840.10008.5.1.4.1.1.3.1"


def write(folder: Path, pixels: np.ndarray, **extra: object) -> None:
    """One file of (H, W) or (T, H, W) pixels of 8 or 16 bits."""
    folder.mkdir(parents=True, exist_ok=True)
    ds = write_slice(folder / "a.dcm", position=(0, 0, 0), size=pixels.shape[-2:], **extra)
    if extra.get("Modality") == "US":
        sop = ULTRASOUND_MULTI if pixels.ndim == 3 else "1.2.840.10008.5.1.4.1.1.6.1"
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
        ds.FrameTime = 40
    ds.PixelData = pixels.tobytes()
    ds.save_as(folder / "a.dcm")


def run(tmp_path: Path) -> Deidentified:
    return deidentify_folder(tmp_path / "in", tmp_path / "out", key=b"k" * 32, options=Options())


def copy_of(tmp_path: Path) -> Dataset:
    (path,) = (tmp_path / "out").rglob("*.dcm")
    return pydicom.dcmread(path)


def full_frame(height: int, width: int) -> np.ndarray:
    """Speckle from edge to edge: a scan without an outside."""
    return noise((height, width), 0).clip(20, 200).astype(np.uint8)


@pytest.mark.attack
@needs_reader
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [12, 16])
def test_a_name_on_a_ct_goes_and_the_rest_stays(tmp_path, photometric, bits):
    plain = patient((256, 256), top=1500)
    named = written_on(plain, NAME, at=(30, 200), height=12, value=(1 << bits) - 1 if bits == 12 else 3000)
    top = (1 << bits) - 1
    stored = (top - named if photometric == "MONOCHROME1" else named).astype(np.uint16)
    extra = {"BitsStored": bits, "HighBit": bits - 1, "PhotometricInterpretation": photometric}
    write(tmp_path / "in", stored, **extra)
    report = run(tmp_path).report
    assert report.written == 1, report.refused
    (file,) = report.files
    ds = copy_of(tmp_path)
    found = top - ds.pixel_array.astype(int) if photometric == "MONOCHROME1" else ds.pixel_array.astype(int)
    spelt = letters(plain, named)
    assert (found[spelt] == plain.min()).all()
    changed = found != plain
    assert changed.mean() < 0.1
    assert "113101" in file.codes
    assert ds.BurnedInAnnotation == "NO"
    assert file.words
    assert any("words" in u for u in file.unjudged)  # a reader of letters is no proof
    assert "DOE" not in (tmp_path / "out" / "report.json").read_text()


@pytest.mark.attack
@needs_reader
def test_a_name_on_a_scan_that_fills_the_picture_goes_from_every_frame(tmp_path):
    plain = np.stack([full_frame(240, 320) for _ in range(5)])
    named = np.stack([written_on(f, NAME, at=(40, 100), height=14, value=255) for f in plain])
    write(tmp_path / "in", named, **US)
    report = run(tmp_path).report
    assert report.written == 1, report.refused
    found = copy_of(tmp_path).pixel_array
    assert (found[letters(plain, named)] == named.min()).all()
    assert "113101" in report.files[0].codes


@pytest.mark.attack
@needs_reader
def test_a_name_in_an_m_mode_region_goes_or_the_file_is_refused(tmp_path):
    plain = full_frame(240, 320)
    named = written_on(plain, NAME, at=(40, 100), height=14, value=255)
    region = Dataset()
    region.RegionSpatialFormat = 2
    region.RegionDataType = 1
    region.PhysicalUnitsXDirection = 4
    region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.01
    region.RegionLocationMinX0 = region.RegionLocationMinY0 = 0
    region.RegionLocationMaxX1 = 319
    region.RegionLocationMaxY1 = 239
    region.RegionFlags = 0
    write(tmp_path / "in", named, SequenceOfUltrasoundRegions=Sequence([region]), **US)
    found = run(tmp_path)
    if found.report.written:
        assert (copy_of(tmp_path).pixel_array[letters(plain, named)] == named.min()).all()
    else:
        assert "M-mode" in found.report.refused[0].reason


@pytest.mark.attack
@needs_reader
def test_a_name_over_the_echoes_of_a_masked_cine_goes(tmp_path):
    plain = np.zeros((240, 320), np.uint8)
    plain[40:220, 60:260] = full_frame(180, 200)
    named = written_on(plain, NAME, at=(80, 120), height=12, value=255)
    write(tmp_path / "in", named, **US)
    report = run(tmp_path).report
    assert report.written == 1, report.refused
    assert (copy_of(tmp_path).pixel_array[letters(plain, named)] == 0).all()
    assert report.files[0].words
    assert "113101" in report.files[0].codes


@pytest.mark.attack
@needs_reader
def test_who_says_words_are_there_is_believed(tmp_path):
    plain = patient((256, 256), top=1500)
    write(tmp_path / "in", plain.astype(np.uint16), BurnedInAnnotation="YES")
    report = run(tmp_path).report
    assert report.written == 0
    assert "none was found" in report.refused[0].reason
    named = written_on(plain, NAME, at=(30, 200), height=12, value=3000).astype(np.uint16)
    write(tmp_path / "in", named, BurnedInAnnotation="YES")
    assert run(tmp_path).report.written == 1


@pytest.mark.attack
@pytest.mark.parametrize(
    ("says", "is_written"), [({}, True), ({"BurnedInAnnotation": "YES"}, False), (US, False)]
)
def test_without_the_reader_nothing_is_claimed(tmp_path, monkeypatch, says, is_written):
    monkeypatch.setattr(lettering, "available", lambda: False)
    eight = says is US
    plain = full_frame(256, 256) if eight else patient((256, 256), top=1500).astype(np.uint16)
    write(tmp_path / "in", plain, **says)
    report = run(tmp_path).report
    assert (report.written == 1) == is_written
    if is_written:
        assert "113101" not in report.files[0].codes
        assert any("not looked for" in u for u in report.files[0].unjudged)
        assert "BurnedInAnnotation" not in copy_of(tmp_path)


@pytest.mark.attack
def test_a_masked_scan_claims_nothing_without_the_reader(tmp_path, monkeypatch):
    monkeypatch.setattr(lettering, "available", lambda: False)
    plain = np.zeros((240, 320), np.uint8)
    plain[40:220, 60:260] = full_frame(180, 200)
    write(tmp_path / "in", plain, **US)
    report = run(tmp_path).report
    assert report.masked == report.written == 1
    assert "113101" not in report.files[0].codes
