"""What others drew over images, their presentation states and key images, in the viewer."""

from __future__ import annotations

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import viewers
from isal import igzip
from playwright.sync_api import expect
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from slices import write_slice
from test_objects import HEAD, drawn, sources, state_of
from test_pet import square, write_outline
from viewers import CHROMIUM, browsing, serving, settled, viewport

from medfuse.case import Image, Source
from medfuse.display.contract import CaseImages
from medfuse.library import Library, store
from medfuse.library.ingest import ingest
from medfuse.library.integrity import image_names
from medfuse.library.referring import LABEL_MAP, objects_of

NODE, ORGAN = "<i>node</i> [a](b)", "organ"


@pytest.fixture
def marked(home, tmp_path):
    """A library with a series that is drawn over on its third slice, a state with a window, and key images;
    the case's id."""
    folder = tmp_path / "mr"
    slices = sources(folder)
    drawn(slices[2], origin=(2, 1))
    slices[2].save_as(folder / "2.dcm")
    state = state_of(slices)
    window = Dataset()
    window.WindowCenter, window.WindowWidth = 123.0, 456.0
    state.SoftcopyVOILUTSequence = [window]
    state.ImageRotation = 90
    text = Dataset()
    text.UnformattedTextValue = "<b>nodule</b>"
    text.AnchorPoint, text.AnchorPointVisibility, text.AnchorPointAnnotationUnits = [2.0, 3.0], "Y", "PIXEL"
    state.GraphicAnnotationSequence[0].TextObjectSequence = [text]
    state.DisplayedAreaSelectionSequence[0].DisplayedAreaTopLeftHandCorner = [1, 4]
    state.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner = [3, 1]
    state.ShutterShape, state.CenterOfCircularShutter, state.RadiusOfCircularShutter = "CIRCULAR", [2, 2], 1
    state.save_as(folder / "state.dcm")
    content = hd.ko.KeyObjectSelection(
        document_title=codes.DCM.OfInterest, referenced_objects=[slices[2]], description="the mass"
    )
    named = {k: HEAD[k] for k in ("series_instance_uid", "series_number", "manufacturer")}
    key = hd.ko.KeyObjectSelectionDocument(
        content=content,
        evidence=slices[:3],
        sop_instance_uid=generate_uid(),
        instance_number=1,
        institution_name="",
        **named,
    )
    key.save_as(folder / "key.dcm")
    (case_id,) = ingest(Library(), folder).cases
    return case_id


def test_the_browser_gets_the_bits_in_the_order_of_the_pixels(tmp_path):
    from apps.viewer import overlays

    mask = np.zeros((5, 6, 4), bool)
    mask[1, 2, 3] = True
    affine = np.diag([1.0, 1, -2, 1])  # to the patient's right, back to front, downward
    image = Image("MR", np.zeros(mask.shape, np.float32), Source("x"), affine=affine, overlay=mask)
    assert overlays.write(image, tmp_path, 7)
    bits = np.frombuffer(igzip.decompress((tmp_path / "7.overlay.gz").read_bytes()), np.uint8)
    shown = np.unpackbits(bits, bitorder="little")[: mask.size].reshape(4, 6, 5)
    assert np.argwhere(shown).tolist() == [[0, 3, 3]]
    image.overlay = np.zeros_like(mask)
    assert not overlays.write(image, tmp_path, 8)


def test_the_windows_of_a_state_are_among_those_of_its_images(marked):
    from apps.viewer import pixels, referred

    data = CaseImages.model_validate_json((pixels.case_pixels(marked) / "case.json").read_text())
    (image,) = referred.with_windows(marked, data.images)
    assert image.drawn
    assert image.presets["MARKED"] == (123.0, 456.0)
    assert next(iter(image.presets)) == next(iter(data.images[0].presets))  # what is shown first stays
    uids = store.load_case(Library(), marked).images[0].source.instance_uids
    assert [data.instances[u] for u in uids] == [(0, k) for k in range(4)]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_marks_of_others_are_drawn_and_their_objects_listed(marked, home):
    with serving(home) as url, browsing(url) as page:
        page.goto(f"{url}/read?case={marked}")
        viewport(page, "MR").wait_for()
        chip = page.locator("[data-referred] .chip", has_text="MR slice 3").last
        listed = page.locator("[data-referred]")
        expect(listed).to_have_count(2, timeout=30_000)
        said = " ".join(listed.all_inner_texts())
        for words in ("Of Interest — the mass", "MARKED — seen by A", "window 123 / 456", "turned by 90°"):
            assert words in said
        assert "writes “<b>nodule</b>”" in said
        chip.click()
        canvas = viewport(page, "MR")
        expect(canvas).to_have_attribute("data-index", "2")
        expect(canvas).to_have_attribute("data-drawn", "4")  # one voxel has four edges
        page.get_by_role("button", name="Drawn over the image").click()
        expect(canvas).to_have_attribute("data-drawn", "0")
        page.locator(".pane[data-modality=MR] select[title=Window]").select_option("MARKED")
        expect(canvas).to_have_attribute("data-window", "123,456")
        assert not page.problems


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_a_state_is_drawn_on_its_image_and_shown_as_its_author_saw_it(marked, home):
    with serving(home) as url, browsing(url) as page:
        page.goto(f"{url}/read?case={marked}")
        canvas = viewport(page, "MR")
        line = page.locator("[data-referred]", has_text="MARKED")
        line.locator(".chip", has_text="MR slice 1").click(timeout=30_000)
        expect(canvas).to_have_attribute("data-stated", "points,text")
        line.get_by_role("button", name="Drawn").click()
        expect(canvas).to_have_attribute("data-stated", "")
        line.get_by_role("button", name="Drawn").click()
        expect(canvas).to_have_attribute("data-stated", "points,text")
        fit = canvas.get_attribute("data-fit")
        line.locator(".chip", has_text="MR slice 2").click()
        expect(canvas).to_have_attribute("data-stated", "")  # it is drawn on the first alone
        line.get_by_role("button", name="As shown there").click()
        expect(canvas).to_have_attribute("data-index", "0")
        expect(canvas).to_have_attribute("data-stated", "shutter circle,points,text")
        expect(canvas).to_have_attribute("data-window", "123,456")
        assert canvas.get_attribute("data-fit") != fit  # turned, and a part of it
        expect(line.get_by_role("button", name="As shown there")).to_have_attribute("aria-pressed", "true")
        line.get_by_role("button", name="As shown there").click()
        expect(canvas).to_have_attribute("data-stated", "points,text")
        expect(canvas).to_have_attribute("data-fit", fit)
        page.get_by_role("button", name="Drawn over the image").click()
        expect(canvas).to_have_attribute("data-stated", "")
        assert not page.problems


def ct_of(folder, size=40, places=8):
    """A CT of 1 × 1 × 3 mm voxels from (0, 0, 0) LPS."""
    folder.mkdir()
    for k in range(places):
        ds = write_slice(
            folder / f"{k}.dcm",
            position=(0, 0, 3.0 * k),
            number=k + 1,
            size=(size, size),
            spacing=(1.0, 1.0),
            PixelData=np.full((size, size), 1000, np.uint16).tobytes(),
        )
        for name in ("PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber"):
            setattr(ds, name, ds.get(name, ""))
        ds.ReferringPhysicianName, ds.StudyDate, ds.PatientName = "", "20260101", "X^"
        ds.save_as(folder / f"{k}.dcm")
    return [pydicom.dcmread(folder / f"{k}.dcm") for k in range(places)]


def write_segmentation(path, slices):
    """Two segments that overlap: a node at columns 10 to 14, rows 20 to 27 of slices 3 and 4, in an organ."""
    pixels = np.zeros((len(slices), 40, 40, 2), np.uint8)
    pixels[2:4, 20:28, 10:15, 0] = 1
    pixels[1:6, 15:35, 5:25, 1] = 1
    described = [
        hd.seg.SegmentDescription(
            segment_number=n,
            segment_label=name,
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Neoplasm,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for n, name in enumerate((NODE, ORGAN), 1)
    ]
    hd.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=described,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        content_creator_name="Lee^Ann",
        series_description="drawn <b>by hand</b>",
        **{**HEAD, "manufacturer": "Hand & Co"},
    ).save_as(path)


def structures_of(case_id):
    """What the browser is told, and by name the places in LPS mm of the voxels that it is sent."""
    from apps.viewer import pixels

    folder = pixels.case_pixels(case_id)
    case = CaseImages.model_validate_json((folder / "case.json").read_text())
    found = {}
    for s in case.structures:
        shape = np.subtract(s.box[1], s.box[0]) + 1
        bits = np.frombuffer(igzip.decompress((folder / f"{s.image}.{s.bits}.gz").read_bytes()), np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[: shape.prod()].reshape(shape[::-1]).transpose(2, 1, 0)
        at = np.argwhere(mask) + s.box[0]
        affine = np.asarray(case.images[s.image].affine)
        found[s.name] = (at @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
    return case, found


def spans(places):
    return [tuple(v) for v in np.stack([places.min(0), places.max(0)], 1).round(3).tolist()]


def test_a_segmentation_lies_where_its_author_drew_it(home, tmp_path):
    """Also where its segments overlap, and where it comes after its images."""
    slices = ct_of(tmp_path / "ct")
    write_segmentation(tmp_path / "seg.dcm", slices)
    (case_id,) = ingest(Library(), tmp_path / "ct").cases
    assert structures_of(case_id)[1] == {}
    done = ingest(Library(), tmp_path / "seg.dcm")
    assert [o["kind"] for o in done.objects] == ["segmentation"]
    case, found = structures_of(case_id)
    assert spans(found[NODE]) == [(10, 14), (20, 27), (6, 9)]
    assert spans(found[ORGAN]) == [(5, 24), (15, 34), (3, 15)]
    assert [s.ml for s in case.structures] == [pytest.approx(5 * 8 * 2 * 3 / 1000), pytest.approx(6)]
    (one,) = objects_of(Library(), case_id)
    assert one.made_by.startswith("Lee Ann, X, Hand & Co")
    with Library().session() as s:
        assert one.file in image_names(s)  # so a backup holds it


def test_a_structure_set_lies_where_its_author_drew_it(home, tmp_path):
    ct_of(tmp_path / "ct")
    write_outline(tmp_path / "ct" / "rs.dcm", "1.2.3", [square(2.5, 12.5, 3.0), square(5.5, 8.5, 6.0)])
    ds = pydicom.dcmread(tmp_path / "ct" / "rs.dcm")
    ds.StudyInstanceUID, ds.SOPInstanceUID = "1.2.9", ds.file_meta.MediaStorageSOPInstanceUID
    ds.save_as(tmp_path / "ct" / "rs.dcm")
    (case_id,) = ingest(Library(), tmp_path / "ct").cases
    assert spans(structures_of(case_id)[1]["mass"]) == [(3, 12), (3, 12), (3, 6)]


def test_a_label_map_lies_on_the_image_that_it_came_with(home, tmp_path):
    affine = np.diag([-2.0, -2, 3, 1])
    nib.save(nib.Nifti1Image(np.zeros((20, 18, 9), np.int16), affine), tmp_path / "ct.nii.gz")
    labels = np.zeros((20, 18, 9), np.uint8)
    labels[3:6, 4:8, 2] = 2
    flipped = affine @ [[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    nib.save(nib.Nifti1Image(labels[::-1], flipped), tmp_path / "organs.nii.gz")
    files = [(tmp_path / "ct.nii.gz", "CT"), (tmp_path / "organs.nii.gz", LABEL_MAP)]
    case_id = store.add_nifti(Library(), files)
    _, found = structures_of(case_id)
    assert spans(found["organs.nii.gz 2"]) == [(6, 10), (8, 14), (6, 6)]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ds: setattr(ds, "FrameOfReferenceUID", "9.9"), "frame of reference of no image here"),
        (
            lambda ds: ds.__delattr__("SharedFunctionalGroupsSequence"),
            "not a segmentation that can be placed",
        ),
    ],
)
def test_outlines_that_cannot_be_placed_are_said(home, tmp_path, spoil, said):
    slices = ct_of(tmp_path / "ct")
    write_segmentation(tmp_path / "ct" / "seg.dcm", slices)
    ds = pydicom.dcmread(tmp_path / "ct" / "seg.dcm")
    spoil(ds)
    ds.save_as(tmp_path / "ct" / "seg.dcm")
    (case_id,) = ingest(Library(), tmp_path / "ct").cases
    case, found = structures_of(case_id)
    assert not found
    assert said in case.unplaced[str(ds.SOPInstanceUID)]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_outlines_of_others_are_shown_by_name_each_with_a_switch(home, tmp_path):
    slices = ct_of(tmp_path / "ct")
    write_segmentation(tmp_path / "ct" / "seg.dcm", slices)
    (case_id,) = ingest(Library(), tmp_path / "ct").cases
    with serving(home) as url, browsing(url) as page:
        page.goto(f"{url}/read?case={case_id}")
        canvas = viewport(page, "CT")
        line = page.locator("[data-referred]")
        expect(line).to_contain_text("drawn <b>by hand</b> — made by Lee Ann, X, Hand & Co", timeout=30_000)
        line.get_by_role("button", name=f"Show where it is largest: {NODE}").click()
        expect(canvas).to_have_attribute("data-others", f"{NODE}: 26\n{ORGAN}: 80")
        box = settled(canvas)
        x, y, sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(","))
        picture = viewers.drawn(canvas).astype(int)
        ratio = picture.shape[1] / box["width"]
        blue = (picture[..., 2] > 180) & (picture[..., 0] < 130) & (picture[..., 1] > 150)
        rows, columns = np.nonzero(blue)
        across, down = (
            (columns / ratio - x) / sx,
            (rows / ratio - y) / sy,
        )  # pixels of 1 mm, from their outer edges
        sides = across[(down > 20.5) & (down < 27.5)]  # its name stands above
        assert [sides.min(), sides.max()] == pytest.approx([10, 15], abs=0.3)
        assert down[(across > 11) & (across < 14) & (down > 20.5)].max() == pytest.approx(28, abs=0.3)
        assert canvas.get_attribute("data-outlined") == "0"  # the model's evidence is another thing
        line.get_by_role("button", name=ORGAN, exact=True).click()
        expect(canvas).to_have_attribute("data-others", f"{NODE}: 26")
        page.get_by_role("button", name="Drawn over the image").click()
        expect(canvas).to_have_attribute("data-others", "")
        assert not page.problems
