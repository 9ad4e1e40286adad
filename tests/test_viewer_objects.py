"""What others drew over images, their presentation states and key images, in the viewer."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
from isal import igzip
from playwright.sync_api import expect
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid
from test_objects import HEAD, drawn, sources, state_of
from viewers import CHROMIUM, browsing, serving, viewport

from medfuse.case import Image, Source
from medfuse.display.contract import CaseImages
from medfuse.library import Library, store
from medfuse.library.ingest import ingest


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
