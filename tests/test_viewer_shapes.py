"""Outlines of evidence, planes turned out of their stack, and the report in a window of its own."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    browsing,
    drawn,
    measure,
    open_case,
    sampled,
    serving,
    settled,
    shot,
    sign_in,
    take_tool,
    until,
    viewport,
)

from medfuse.display.views import view_of, window_of
from medfuse.inference.second_look import LesionMask
from medfuse.library import Library, accounts, reports, results
from medfuse.library.outlines import keep_outlines, outlines_file, outlines_of


def ball(image, centre: np.ndarray, radius: float) -> LesionMask:
    """A ball in RAS+ mm on a grid of one mm."""
    n = int(np.ceil(radius)) + 1
    at = np.mgrid[-n : n + 1, -n : n + 1, -n : n + 1]
    place = np.eye(4)
    place[:3, 3] = centre - n
    return LesionMask((at**2).sum(0) <= radius**2, place)


@pytest.fixture(scope="module")
def desk(viewer_library, tmp_path_factory):
    """A served copy of the library with an author, whose CT lesion has an outline: its home, address, case,
    the ball and the number of its image."""
    home = tmp_path_factory.mktemp("shapes") / "home"
    shutil.copytree(viewer_library[0], home)
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    case = viewer_library[2]
    prediction, _ = results.load_result(Library(home), case.case_id)
    lesion = next(x for x in prediction.lesions if x.id == "CT-true")
    image = case.images[lesion.place.image]
    low, high = np.array(lesion.place.box_mm)
    mask = ball(image, (low + high) / 2, 22.0)
    keep_outlines(Library(home), prediction, {"CT-true": mask, "of no lesion": mask})
    with serving(home) as url:
        yield home, url, case, mask, lesion.place.image


def test_outlines_are_kept_and_a_damaged_file_is_none(viewer_library, tmp_path):
    prediction = viewer_library[1].prediction
    mask = ball(None, np.zeros(3), 5.0)
    keep_outlines(Library(tmp_path), prediction, {"CT-true": mask})
    kept = outlines_of(Library(tmp_path), prediction)
    assert list(kept) == ["CT-true"]
    np.testing.assert_array_equal(kept["CT-true"].mask, mask.mask)
    np.testing.assert_array_equal(kept["CT-true"].to_place, mask.to_place)
    case_id = prediction.case_id
    stored, _ = results.load_result(Library(viewer_library[0]), case_id)
    assert list(outlines_of(Library(tmp_path), stored)) == ["CT-true"]  # also as the database holds it
    elsewhere = [x.model_copy(update={"place": prediction.lesions[-1].place}) for x in prediction.lesions[:1]]
    again = prediction.model_copy(update={"lesions": elsewhere})
    assert [x.id for x in again.lesions] == ["CT-true"]
    assert outlines_of(Library(tmp_path), again) == {}  # another lesion of its name
    path = outlines_file(Library(tmp_path), prediction)
    path.write_bytes(path.read_bytes()[:100])
    assert outlines_of(Library(tmp_path), prediction) == {}
    path.unlink()
    assert outlines_of(Library(tmp_path), prediction) == {}


def edges_of(inside: np.ndarray) -> int:
    """Sides between pixels that lie in it and others."""
    padded = np.pad(inside.astype(int), 1)
    return int(np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum())


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_evidence_is_an_outline_on_each_plane_and_planes_turn(desk):
    _, url, case, mask, index = desk
    image = case.images[index]
    view = view_of(image)
    affine = image.affine @ np.linalg.inv(view.to_view)
    shown = np.zeros(view.pixels.shape, bool)
    where, inside = mask.on_grid(affine, shown.shape)
    shown[where] = inside
    with browsing(url) as page:
        open_case(page, url, case.case_id)
        pane = page.locator(".pane[data-modality=CT]")
        canvas = viewport(page, "CT")
        settled(canvas)
        assert int(canvas.get_attribute("data-image")) == index
        z = int(canvas.get_attribute("data-index"))
        expect(canvas).to_have_attribute("data-outlined", str(edges_of(shown[:, :, z])))
        coloured = sampled(canvas, shown.shape[1::-1])
        page.locator("select[aria-label='How evidence is drawn']").select_option("filled")
        until(
            lambda: (sampled(canvas, shown.shape[1::-1]) != coloured).sum() > 30,
            "the outline is filled",
            page,
        )
        page.locator("select[aria-label='How evidence is drawn']").select_option("box")
        expect(canvas).to_have_attribute("data-outlined", "0")
        page.locator("select[aria-label='How evidence is drawn']").select_option("outline")

        canvas.hover()
        for _ in range(4):
            page.keyboard.press("]")
        expect(canvas).to_have_attribute("data-tilt", "20.0")
        expect(canvas).not_to_have_attribute("data-outlined", "0")  # the ball lies on the turned plane too
        page.locator("[data-action=evidence]").click()
        _matches(canvas, image, view, 20.0)
        stood = int(canvas.get_attribute("data-index"))
        canvas.hover()
        page.keyboard.press("ArrowUp")
        expect(canvas).to_have_attribute("data-index", str(stood + 1))
        pane.locator("select[aria-label='Thick slab']").select_option("mip")  # a slab of the turned plane
        settled(canvas)
        expect(canvas).to_have_attribute("data-tilt", "20.0")
        take_tool(page, "probe")
        canvas.click()
        page.get_by_text("On a turned plane lengths").wait_for()
        _, _, sx, sy = (float(v) for v in canvas.get_attribute("data-fit").split(","))
        measure(page, canvas, (-80, -40), (80, 40))
        stood = canvas.get_attribute("data-index")
        page.locator(".marks summary").click()
        page.locator(".mark", has_text="oblique 20°").wait_for()
        along = np.hypot(160 / sx * view.spacing[0], 80 / sy * view.spacing[1])
        said = re.search(r"Distance ([\d.]+) mm", page.locator(".mark .jump").inner_text())
        assert said
        assert float(said[1]) == pytest.approx(along, rel=2e-3, abs=0.1)
        page.locator("[data-action=reset]").click()
        expect(canvas).to_have_attribute("data-tilt", "0.0")
        until(lambda: not _green(canvas), "no plane of the image shows it", page)
        page.locator(".mark .jump").click()
        expect(canvas).to_have_attribute("data-tilt", "20.0")
        expect(canvas).to_have_attribute("data-index", stood)
        until(lambda: _green(canvas), "the turned plane shows it", page)
        shot(page, "oblique-en-1600")
        take_tool(page, "tilt")
        box = settled(canvas)
        page.mouse.move(box["x"] + 150, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 150, box["y"] + 190, steps=4)
        page.mouse.up()
        expect(canvas).not_to_have_attribute("data-tilt", "20.0")
        page.locator("[data-action=reset]").click()
        expect(canvas).to_have_attribute("data-tilt", "0.0")
        assert not page.problems


def _green(canvas) -> bool:
    """Whether a measurement is drawn, chosen or not."""
    red, ink, blue = drawn(canvas).astype(int).transpose(2, 0, 1)
    chosen = (red > 230) & (ink > 220) & (blue < 150)
    return bool(((ink > red + 40) & (ink > blue + 40) | chosen).sum() > 60)


def _matches(canvas, image, view, degrees: float) -> None:
    """The turned plane shows what lies there: values between voxels, by scipy."""
    from scipy.ndimage import map_coordinates

    nx, ny, nz = view.pixels.shape
    z = int(canvas.get_attribute("data-index"))
    sx, sy, sz = view.spacing
    pivot = np.array([float(v) for v in canvas.get_attribute("data-pivot").split(",")])
    u, v = np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij")
    flat = (np.stack([u, v, np.full_like(u, z)], -1) - pivot) * [sx, sy, sz]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turned = np.stack(
        [flat[..., 0] * c + flat[..., 2] * s, flat[..., 1], flat[..., 2] * c - flat[..., 0] * s], -1
    )
    at = turned / [sx, sy, sz] + pivot
    inside = ((at >= 1) & (at <= np.array([nx, ny, nz]) - 2)).all(-1)
    values = map_coordinates(view.pixels.astype(float), at.reshape(-1, 3).T, order=1).reshape(nx, ny)
    centre, width = (float(x) for x in canvas.get_attribute("data-window").split(","))
    grey = np.clip((values - (centre - width / 2)) / width, 0, 1) * 255
    shown = sampled(canvas, (ny, nx)).T
    ours = inside & (np.abs(u - nx / 2) < nx * 0.3) & (np.abs(v - ny / 2) < ny * 0.3)
    assert ours.sum() > 500
    assert np.median(np.abs(shown - grey)[ours]) <= 2
    assert window_of(image)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_a_jump_shows_what_was_measured_however_the_plane_was_turned(desk):
    _, url, case, _, _ = desk
    with browsing(url) as page:
        open_case(page, url, case.case_id)
        canvas = viewport(page, "CT")
        page.locator("[data-action=evidence]").click()
        measure(page, canvas, (-60, -20), (60, 20))
        stood = canvas.get_attribute("data-index")
        page.locator(".marks summary").click()
        jump = page.locator(".mark .jump").first
        canvas.hover()
        page.keyboard.press("ArrowUp")
        for _ in range(4):
            page.keyboard.press("]")
        expect(canvas).to_have_attribute("data-tilt", "20.0")
        until(lambda: not _green(canvas), "the turned plane is another one", page)
        jump.click()
        expect(canvas).to_have_attribute("data-tilt", "0.0")
        expect(canvas).to_have_attribute("data-index", stood)
        until(lambda: _green(canvas), "it is drawn where it was measured", page)

        canvas.hover(position={"x": 20, "y": 20})  # zoomed into a corner, it lies outside
        page.keyboard.down("Control")
        for _ in range(14):
            page.mouse.wheel(0, -100)
        page.keyboard.up("Control")
        until(lambda: not _green(canvas), "the corner alone is seen", page)
        jump.click()
        until(lambda: _green(canvas), "the whole plane again", page)

        page.keyboard.press("]")  # turned, then alone with all planes, which are those of the image
        page.locator("[data-action=one]").click()
        expect(canvas).to_have_attribute("data-tilt", "0.0")
        page.locator("[data-action=one]").click()
        page.locator(".pane[data-modality=CT] select[aria-label=Plane]").select_option("coronal")
        canvas = viewport(page, "CT", "coronal")
        page.keyboard.press("]")
        expect(canvas).to_have_attribute("data-tilt", "5.0")
        page.locator("[data-action=one]").click()
        page.locator("[data-action=one]").click()
        expect(canvas).to_have_attribute("data-tilt", "0.0")  # as it was before it stood alone
        canvas = viewport(page, "CT")
        jump.click()
        expect(canvas).to_have_attribute("data-index", stood)
        until(lambda: _green(canvas), "its own plane is back", page)
        assert not page.problems


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_the_report_in_a_window_of_its_own_keeps_step(desk):
    home, url, case, _, _ = desk
    with browsing(url) as page:
        open_case(page, url, case.case_id)
        sign_in(page, "bo", "long enough")
        page.locator(".acts").first.wait_for()
        wide = page.locator(".board").bounding_box()["width"]
        with page.expect_popup() as opening:
            page.locator("[data-action=second]").click()
        second = opening.value
        second.set_default_timeout(60_000)
        second.locator(".sentence .chip").first.wait_for()
        assert second.locator(".viewport").count() == 0
        second.get_by_text(case.patient_id).first.wait_for()  # whose report it is
        page.locator(".report").wait_for(state="hidden")
        until(
            lambda: page.locator(".board").bounding_box()["width"] > wide * 1.2, "images take the room", page
        )
        canvas = viewport(page, "CT")
        settled(canvas)
        canvas.hover()
        for _ in range(3):
            page.keyboard.press("ArrowUp")
        elsewhere = canvas.get_attribute("data-index")
        second.locator(".chip", has_text=re.compile("^CT ")).first.click()  # a place, from the other window
        expect(canvas).not_to_have_attribute("data-index", elsewhere)
        before = second.locator(".sentence.accepted").count()
        page.keyboard.press("a")  # a key of the first window decides in the second
        until(lambda: second.locator(".sentence.accepted").count() > before, "it is accepted there", second)
        accepted = lambda: [  # noqa: E731
            x
            for s in reports.current(Library(home), case.case_id).report.sections
            for x in s.sentences
            if x.state == "accepted"
        ]
        until(accepted, "the library has it", page)
        second.close()
        page.locator(".report").wait_for()
        page.locator(".report .sentence.accepted").first.wait_for()  # as it was left there
        assert not page.problems
