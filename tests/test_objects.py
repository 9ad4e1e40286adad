"""What studies hold beside plain images: parametric maps, presentation states, key objects, Secondary
Captures, ultrasound volumes."""

from __future__ import annotations

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from frames import SIZE, Frame, write_enhanced
from highdicom.sr.coding import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from slices import write_slice
from test_repeats import mr_slice, write_mosaic

from medfuse.deidentify.folder import deidentify_folder
from medfuse.deidentify.profile import Options
from medfuse.errors import WrongUse
from medfuse.io.captures import checked
from medfuse.io.cases import find_cases
from medfuse.io.export import describe, overlay_of, write_nifti
from medfuse.io.headers import WANTED
from medfuse.io.nifti import read_nifti
from medfuse.io.read import open_case
from medfuse.io.scan import scan
from medfuse.library import Library, store
from medfuse.library.ingest import ingest
from medfuse.library.referring import objects_of
from medfuse.library.worklist import worklist

ADC = CodedConcept("113041", "DCM", "Apparent Diffusion Coefficient")
T1 = CodedConcept("113063", "DCM", "T1")
UNIT = CodedConcept("um2/s", "UCUM", "um2/s")
HEAD = {
    "series_instance_uid": "1.2.3.50",
    "series_number": 50,
    "manufacturer": "X",
    "manufacturer_model_name": "X",
    "software_versions": "1",
    "device_serial_number": "1",
}


def sources(folder, count=4):
    folder.mkdir()
    out = []
    for k in range(count):
        ds = mr_slice(folder / f"{k}.dcm", 3.0 * k, 0)
        for key in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"):
            setattr(ds, key, "")
        ds.SeriesNumber = 1
        ds.PatientName = "X^"
        ds.StudyDate, ds.StudyTime = "20260101", "120000"
        ds.ReferringPhysicianName = ""
        ds.save_as(folder / f"{k}.dcm")
        out.append(ds)
    return out


def parametric(path, slices, quantity=ADC, *, slope=1.0, pixels=None, unit=UNIT):
    pixels = np.arange(4 * 6 * 5, dtype=np.float32).reshape(4, 6, 5) / 7 if pixels is None else pixels
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="1",
        lut_explanation="x",
        unit=unit,
        value_range=(0.0, 1e4) if pixels.dtype.kind == "f" else (0, 10000),
        slope=slope,
        intercept=5.0,
        quantity_definition=quantity,
    )
    made = hd.pm.ParametricMap(
        slices,
        pixels,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[hd.VOILUTTransformation(window_center=1, window_width=2)],
        **HEAD,
    )
    made.save_as(path)
    return made, pixels


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
def test_a_parametric_map_is_an_image_of_its_quantity(tmp_path, kind):
    slices = sources(tmp_path / "mr")
    pixels = np.arange(120).reshape(4, 6, 5).astype(kind)
    parametric(tmp_path / "map.dcm", slices, slope=2.0, pixels=pixels)
    (case,) = find_cases(tmp_path / "map.dcm").cases
    (image,) = case.images
    assert image.modality == "MR"
    assert image.role == "unknown"
    assert image.traits["quantity"] == ("Apparent Diffusion Coefficient", 1.0)
    assert image.traits["unit"] == ("um2/s", 1.0)
    assert np.allclose(image.pixels, pixels.transpose(2, 1, 0) * 2 + 5)
    (original,) = find_cases(tmp_path / "mr").cases[0].images
    assert np.allclose(image.affine, original.affine)
    assert write_nifti(image, tmp_path / "out.nii.gz").exists()
    assert "Apparent" in (tmp_path / "out.json").read_text()


def test_a_voxel_of_a_map_without_a_number_is_said(tmp_path):
    pixels = np.ones((4, 6, 5), np.float32)
    pixels[0, 0, :2] = np.nan
    parametric(tmp_path / "map.dcm", sources(tmp_path / "mr"), pixels=pixels)
    (image,) = find_cases(tmp_path / "map.dcm").cases[0].images
    assert "2 voxels hold no number and became 0" in image.warnings
    assert np.isfinite(image.pixels).all()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: m.__delattr__("QuantityDefinitionSequence"), "does not say which quantity"),
        (lambda m: m.__delattr__("MeasurementUnitsCodeSequence"), "in no stated unit"),
        (lambda m: setattr(m, "RealWorldValueSlope", 0.0), "RealWorldValueSlope of 0.0"),
    ],
)
def test_a_map_that_does_not_say_what_it_measures_is_set_aside_by_name(tmp_path, spoil, said):
    made, _ = parametric(tmp_path / "map.dcm", sources(tmp_path / "mr"))
    groups = made.SharedFunctionalGroupsSequence[0], *made.PerFrameFunctionalGroupsSequence
    for group in groups:
        for item in group.get("RealWorldValueMappingSequence") or ():
            spoil(item)
    made.save_as(tmp_path / "map.dcm")
    found = find_cases(tmp_path / "map.dcm")
    assert not found.cases
    assert found.scan.entries[0].status == "set_aside"
    assert said in found.scan.entries[0].reason


def test_a_map_of_ct_in_another_unit_is_no_ct(tmp_path):
    made, _ = parametric(tmp_path / "map.dcm", sources(tmp_path / "mr"))
    made.Modality = "CT"
    made.save_as(tmp_path / "map.dcm")
    found = find_cases(tmp_path / "map.dcm")
    assert (
        "holds Apparent Diffusion Coefficient in um2/s, and CT is read in HU" in found.scan.entries[0].reason
    )


def state_of(slices):
    """A presentation state of the first three, with a point on the first."""
    return hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=slices[:3],
        sop_instance_uid=generate_uid(),
        instance_number=1,
        content_label="MARKED",
        content_description="seen by A",
        graphic_layers=[hd.pr.GraphicLayer("ONE", 1)],
        graphic_annotations=[
            hd.pr.GraphicAnnotation(
                referenced_images=slices[:1],
                graphic_layer=hd.pr.GraphicLayer("ONE", 1),
                graphic_objects=[
                    hd.pr.GraphicObject(hd.pr.GraphicTypeValues.POINT, np.array([[1.0, 1.0]]), units="PIXEL")
                ],
            )
        ],
        **(HEAD | {"series_instance_uid": "1.2.3.51"}),
    )


def test_key_objects_and_presentation_states_say_what_they_refer_to(tmp_path, home):
    slices = sources(tmp_path / "mr")
    evidence = {"evidence": slices[:2]}
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest,
        referenced_objects=[slices[1]],
        description="the nodule",
    )
    document = hd.ko.KeyObjectSelectionDocument(
        content=content,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        institution_name="",
        **evidence,
        **{k: HEAD[k] for k in ("series_instance_uid", "series_number", "manufacturer")},
    )
    document.save_as(tmp_path / "mr" / "key.dcm")
    state = state_of(slices)
    state.save_as(tmp_path / "mr" / "state.dcm")
    (tmp_path / "mr" / "3.dcm").unlink()
    (tmp_path / "mr" / "2.dcm").unlink()
    found = find_cases(tmp_path / "mr")
    key, shown = found.cases[0].objects
    assert (key.kind, key.title, key.description) == ("key objects", "Of Interest", "the nodule")
    assert [i.sop_uid for i in key.images] == [slices[1].SOPInstanceUID]
    assert key.images[0].series_uid == slices[1].SeriesInstanceUID
    assert (shown.kind, shown.title, shown.description) == ("presentation state", "MARKED", "seen by A")
    assert [i.sop_uid for i in shown.images] == [s.SOPInstanceUID for s in slices[:3]]
    assert shown.graphics == 1
    reasons = [e.reason for e in found.scan.entries if e.status == "set_aside"]
    assert reasons == [
        "key objects 'Of Interest': of 1 images, 1 of them here",
        "presentation state 'MARKED': of 3 images, 2 of them here",
    ]
    done = ingest(Library(), tmp_path / "mr")
    assert [o["kind"] for o in done.objects] == ["key objects", "presentation state"]


def capture(path, modality="US"):
    ds = write_slice(path, position=(0, 0, 0), size=(64, 64))
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "FrameOfReferenceUID", "PixelSpacing"):
        delattr(ds, key)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    ds.Modality = modality
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelData = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8).tobytes()
    ds.save_as(path)


def test_ultrasound_as_secondary_capture_is_taken_where_somebody_says_so(tmp_path, home):
    capture(tmp_path / "a.dcm")
    found = scan(tmp_path)
    assert found.ledger["unsupported"] == 1
    assert "state that with --modality US" in found.refused[0].reason
    library = Library()
    assert not ingest(library, tmp_path).cases
    done = ingest(library, tmp_path, captures="US")
    assert done.images[0]["modality"] == "US"
    assert store.load_case(library, done.cases[0]).images[0].pixels.shape == (1, 64, 64)
    assert open_case({"US": [tmp_path]}).images[0].modality == "US"
    with pytest.raises(WrongUse, match="only US is taken"):
        checked("CT")


def test_other_secondary_captures_stay_aside(tmp_path):
    capture(tmp_path / "a.dcm", "CT")
    assert scan(tmp_path, captures="US").ledger["set_aside"] == 1


def ultrasound_volume(path, *, times=1):
    ds = write_slice(path, position=(0, 0, 0), slope=1.0, intercept=0.0)
    for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, key)
    del ds.RescaleIntercept, ds.FrameOfReferenceUID
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.2"
    ds.Modality = "US"
    ds.VolumeFrameOfReferenceUID = "1.2.88"
    pixels = np.random.default_rng(1).integers(0, 255, (4 * times, 6, 5), np.uint8)
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.NumberOfFrames = len(pixels)
    ds.PixelData = pixels.tobytes()
    shared = Dataset()
    measures = Dataset()
    measures.PixelSpacing = [0.4, 0.3]
    measures.SliceThickness = 0.5
    shared.PixelMeasuresSequence = [measures]
    turned = Dataset()
    turned.ImageOrientationVolume = [1.0, 0, 0, 0, 1, 0]
    shared.PlaneOrientationVolumeSequence = [turned]
    frames = []
    for n in range(len(pixels)):
        frame = Dataset()
        placed = Dataset()
        placed.ImagePositionVolume = [0.0, 0.0, 0.5 * (3 - n % 4)]  # from above downward
        frame.PlanePositionVolumeSequence = [placed]
        when = Dataset()
        when.TemporalPositionTimeOffset = 0.2 * (n // 4)
        frame.TemporalPositionSequence = [when]
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = frames
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(path)
    return pixels


def test_an_ultrasound_volume_lies_in_the_frame_of_its_probe(tmp_path, home):
    pixels = ultrasound_volume(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert (image.modality, image.kind, image.role) == ("US", "volume", "volume")
    assert np.array_equal(image.pixels, pixels[::-1].transpose(2, 1, 0))
    assert image.spacing == pytest.approx((0.3, 0.4, 0.5))
    assert image.frame_of_reference == "1.2.88"
    assert "not in the patient" in image.warnings[-1]
    assert image.grey.shape == (4, 6, 5)
    assert np.array_equal(image.grey, pixels[::-1])
    again = read_nifti(write_nifti(image, tmp_path / "out.nii.gz"), tracked=True)
    assert np.array_equal(again.pixels, image.pixels)
    assert "VolumeFrameOfReferenceUID" in WANTED


def drawn(ds, group=0x6000, *, origin=(1, 1), data=None):
    """An overlay of 3 rows and 4 columns with one pixel, at row 1 and column 2 of it."""
    plane = np.zeros((3, 4), np.uint8)
    plane[1, 2] = 1
    ds.add_new(group << 16 | 0x0010, "US", 3)
    ds.add_new(group << 16 | 0x0011, "US", 4)
    ds.add_new(group << 16 | 0x0040, "CS", "G")
    ds.add_new(group << 16 | 0x0050, "SS", list(origin))
    ds.add_new(group << 16 | 0x0100, "US", 1)
    ds.add_new(group << 16 | 0x0102, "US", 0)
    packed = np.packbits(plane.ravel(), bitorder="little").tobytes()
    ds.add_new(group << 16 | 0x3000, "OW", packed if data is None else data)


def test_what_is_drawn_over_slices_is_a_mask_beside_them(tmp_path):
    for k in (2, 0, 1):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 2.0 * k))
        if k == 1:
            drawn(ds, origin=(2, 1))
            drawn(ds, 0x6004, origin=(4, 4))  # partly outside
        ds.save_as(tmp_path / f"{k}.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert image.overlay.shape == image.pixels.shape
    assert np.argwhere(image.overlay).tolist() == [[2, 2, 1]]
    assert "something is drawn over 1 of its slices (overlay 60xx)" in image.warnings[-1]


def test_an_overlay_in_the_bits_of_the_pixels(tmp_path):
    ds = write_slice(tmp_path / "a.dcm", position=(0, 0, 0))
    values = np.frombuffer(ds.PixelData, np.uint16).reshape(6, 5) % 4096
    ds.BitsStored, ds.HighBit = 12, 11
    bit = np.zeros((6, 5), np.uint16)
    bit[4, 3] = 1
    ds.PixelData = (values | bit << 12).tobytes()
    for element, vr, value in ((0x10, "US", 6), (0x11, "US", 5), (0x50, "SS", [1, 1]), (0x100, "US", 16)):
        ds.add_new(0x60000000 | element, vr, value)
    ds.add_new(0x60000102, "US", 12)
    ds.save_as(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert np.argwhere(image.overlay).tolist() == [[3, 4, 0]]
    assert np.array_equal(image.pixels[:, :, 0].T, values - 1024.0)


def test_a_damaged_overlay_draws_nothing_and_is_said(tmp_path):
    ds = write_slice(tmp_path / "a.dcm", position=(0, 0, 0))
    drawn(ds, data=b"")
    ds.save_as(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert image.overlay is None
    assert (
        "cannot be read and is missing in that mask, first a.dcm: group 6000 is damaged" in image.warnings[-1]
    )


def test_an_overlay_that_cannot_be_read_is_said_beside_those_that_can(tmp_path):
    for k in range(3):
        ds = write_slice(tmp_path / f"{k}.dcm", position=(0, 0, 2.0 * k))
        drawn(ds, data=b"" if k == 1 else None)
        ds.save_as(tmp_path / f"{k}.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert sorted({k for _, _, k in np.argwhere(image.overlay).tolist()}) == [0, 2]
    assert "is drawn over 2 of its slices" in image.warnings[-2]
    assert "drawn over 1 of its files (overlay 60xx) cannot be read" in image.warnings[-1]
    assert "first 1.dcm: group 6000 is damaged" in image.warnings[-1]


def test_an_empty_overlay_is_said(tmp_path):
    ds = write_slice(tmp_path / "a.dcm", position=(0, 0, 0))
    drawn(ds, data=bytes(2))
    ds.save_as(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert image.overlay is None
    assert image.warnings[-1] == "its overlay (60xx) is empty: nothing is drawn in it"


def test_what_is_drawn_over_frames_goes_where_they_go(tmp_path):
    frames = [Frame(z=3.0 * z, value=10 * z) for z in (2, 0, 1)]
    ds = write_enhanced(tmp_path / "a.dcm", frames)
    planes = np.zeros((3, *SIZE), np.uint8)
    planes[0, 1, 2] = 1  # over the frame that lies highest
    drawn(ds, data=np.packbits(planes.ravel(), bitorder="little").tobytes())
    ds[0x60000010].value, ds[0x60000011].value = SIZE
    ds.add_new(0x60000015, "IS", 3)
    ds.save_as(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert np.argwhere(image.overlay).tolist() == [[2, 1, 2]]
    assert "drawn over 1 of its slices" in image.warnings[-1]


def test_what_is_drawn_over_a_mosaic_is_parted_like_it(tmp_path):
    write_mosaic(tmp_path / "a.dcm")
    (plain,) = find_cases(tmp_path).cases[0].images
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    drawn(ds, origin=(1, plain.pixels.shape[0] + 1))  # over the second tile
    ds.save_as(tmp_path / "a.dcm")
    (image,) = find_cases(tmp_path).cases[0].images
    assert np.argwhere(image.overlay).tolist() == [[2, 1, 1]]


def test_maps_and_ultrasound_volumes_are_not_copied_without_what_they_mean(tmp_path):
    made, _ = parametric(tmp_path / "map.dcm", sources(tmp_path / "mr"), pixels=np.ones((4, 6, 5), np.uint16))
    made.Modality = "MR"
    made.save_as(tmp_path / "map.dcm")
    ultrasound_volume(tmp_path / "us.dcm")
    for name, what in (("map.dcm", "a parametric map"), ("us.dcm", "an ultrasound volume")):
        options = Options(False, True, True)
        done = deidentify_folder(tmp_path / name, tmp_path / "out", key=bytes(32), options=options)
        assert what in done.refused[0].reason


def test_ultrasound_volumes_in_time_are_parted(tmp_path):
    pixels = ultrasound_volume(tmp_path / "a.dcm", times=3)
    images = find_cases(tmp_path).cases[0].images
    assert len(images) == 3
    assert all(np.array_equal(i.pixels, pixels[4 * n : 4 * n + 4][::-1].T) for n, i in enumerate(images))


def test_what_is_drawn_over_an_image_is_exported_beside_it(tmp_path):
    (tmp_path / "ct").mkdir()
    for k in range(3):
        ds = write_slice(tmp_path / "ct" / f"{k}.dcm", position=(0, 0, 2.0 * k))
        if k == 1:
            drawn(ds)
        ds.save_as(tmp_path / "ct" / f"{k}.dcm")
    (image,) = find_cases(tmp_path / "ct").cases[0].images
    path = write_nifti(image, tmp_path / "out.nii.gz")
    mask = nib.load(overlay_of(path))
    assert (
        np.argwhere(np.asarray(mask.dataobj)).tolist() == np.argwhere(image.overlay).tolist() == [[2, 1, 1]]
    )
    assert np.allclose(mask.affine, image.affine)
    assert describe(image, str(path)).as_json()["overlay"] == str(overlay_of(path))
    image.overlay = None
    assert "overlay" not in describe(image, str(path)).as_json()


def test_what_is_drawn_over_a_cine_is_exported_beside_it(tmp_path):
    capture(tmp_path / "a.dcm")
    ds = pydicom.dcmread(tmp_path / "a.dcm")
    drawn(ds, origin=(5, 9))
    ds.save_as(tmp_path / "a.dcm")
    (image,) = open_case({"US": [tmp_path / "a.dcm"]}).images
    mask = nib.load(overlay_of(write_nifti(image, tmp_path / "out.nii.gz")))
    assert mask.shape == (64, 64, 1, 1)
    assert np.argwhere(np.asarray(mask.dataobj)).tolist() == [[10, 5, 0, 0]]


def test_a_presentation_state_says_window_turn_and_words(tmp_path, home):
    slices = sources(tmp_path / "mr")
    state = state_of(slices)
    state.ImageRotation, state.ImageHorizontalFlip = 90, "Y"
    window = Dataset()
    window.WindowCenter, window.WindowWidth = [40.0, 300.0], [400.0, 1500.0]
    state.SoftcopyVOILUTSequence = [window]
    text = Dataset()
    text.UnformattedTextValue = "nodule\r\nhere"
    state.GraphicAnnotationSequence[0].TextObjectSequence = [text]
    state.save_as(tmp_path / "state.dcm")
    library = Library()
    ingest(library, tmp_path / "mr")
    ingest(library, tmp_path / "state.dcm")  # it comes later, by itself
    (case_id,) = [row.case_id for row in worklist(library)]
    (kept,) = store.load_case(library, case_id).objects
    assert kept.windows == ((40.0, 400.0), (300.0, 1500.0))
    assert (kept.rotation, kept.flipped, kept.texts, kept.graphics) == (90, True, ("nodule here",), 2)
    assert [i.sop_uid for i in kept.images] == [s.SOPInstanceUID for s in slices[:3]]
    assert kept.path == ""
    ingest(library, tmp_path / "state.dcm", reuse=False)
    assert len(objects_of(library, case_id)) == 1


def test_an_object_of_another_patient_is_not_kept_with_a_study(tmp_path, home):
    slices = sources(tmp_path / "mr")
    library = Library()
    (case_id,) = ingest(library, tmp_path / "mr").cases
    state = state_of(slices)
    state.PatientID = "somebody else"
    state.save_as(tmp_path / "state.dcm")
    ingest(library, tmp_path / "state.dcm")
    assert objects_of(library, case_id) == []
