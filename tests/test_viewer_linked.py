"""CT and MR of one patient in two frames of reference: what a registration that a person accepted changes."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from playwright.sync_api import expect
from viewers import (
    CHROMIUM,
    browsing,
    drawn,
    open_case,
    serving,
    settled,
    shot,
    sign_in,
    until,
    viewport,
)

from medfuse.affine import transform_in_other_frame
from medfuse.case import Image
from medfuse.display.views import view_of
from medfuse.errors import WrongUse
from medfuse.library import Library, accounts, store
from medfuse.library import registrations as registered
from medfuse.library.audit import entries


def noted(home, case, to_fixed: np.ndarray, verdict: str = "check") -> tuple[Image, Image]:
    """A note that the first MR lies on the first CT by ``to_fixed`` (4, 4; RAS+ mm); the two."""
    moving, fixed = (next(i for i in case.images if i.modality == m) for m in ("MR", "CT"))
    folder = home / "registered"
    folder.mkdir(exist_ok=True)
    matrix = transform_in_other_frame(np.linalg.inv(to_fixed))
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(matrix[:3, :3].ravel().tolist())
    transform.SetTranslation(matrix[:3, 3].tolist())
    sitk.WriteTransform(transform, str(folder / "transform.tfm"))
    quality = {"overlap": 0.9, "shared_information": 0.3, "inverse_consistency_mm": 0.4}
    (folder / "quality.json").write_text(json.dumps(quality))
    view = view_of(fixed)
    sitk.WriteImage(sitk.GetImageFromArray(view.pixels.T.astype(np.float32)), str(folder / "moved.nii.gz"))
    note = registered.RegistrationNote(
        moving=moving.source.series_uid, fixed=fixed.source.series_uid, folder=str(folder), verdict=verdict
    )
    notes = registered.registrations_folder(Library(home))
    notes.mkdir(exist_ok=True)
    (notes / "a.json").write_text(note.model_dump_json())
    return moving, fixed


def turned(patient) -> np.ndarray:
    """(4, 4) from the MR's frame to the CT's: as the patient lay, and three degrees about the body's axis."""
    ct, mr = (patient.of(m)[0].grid for m in ("CT", "MR"))
    shift = np.eye(4)
    shift[:3, 3] = mr.to_body - ct.to_body
    angle = np.deg2rad(3)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return shift @ turn


@pytest.fixture
def desk(viewer_library, tmp_path, patient):
    """A copy of the library with an author and a registration that nobody accepted: its home, the case, the
    two images and the matrix."""
    home = tmp_path / "home"
    shutil.copytree(viewer_library[0], home)
    accounts.add_account(Library(home), "bo", "long enough", "author", full_name="Bo Chen")
    accounts.add_account(Library(home), "lo", "long enough", "reader", full_name="Lo Wu")
    case = viewer_library[2]
    return home, case, *noted(home, case, turned(patient)), turned(patient)


def test_a_registration_counts_once_an_author_accepted_it_and_as_long_as_it_is_the_same(desk):
    home, case, moving, fixed, matrix = desk
    library = Library(home)
    bo, lo = sorted(accounts.list_accounts(library), key=lambda a: a.name)
    frames = {i.source.series_uid: i.frame_of_reference for i in (moving, fixed)}
    pair = moving.source.series_uid, fixed.source.series_uid
    assert registered.accepted_links(library, frames) == []
    assert registered.links_of(library, case) == {}
    with pytest.raises(WrongUse, match="takes the role author"):
        registered.accept_registration(library, *pair, lo)
    with pytest.raises(WrongUse, match="not registered"):
        registered.accept_registration(library, *pair[::-1], bo)
    registered.accept_registration(library, *pair, bo)
    (link,) = registered.accepted_links(library, frames)
    assert (link.source, link.target, link.by) == (*frames.values(), "bo")
    np.testing.assert_allclose(link.matrix, matrix, atol=1e-6)
    np.testing.assert_allclose(registered.links_of(library, case)[tuple(frames.values())], matrix, atol=1e-6)
    assert [e.event for e in entries(library)].count("registration accepted") == 1
    transform = home / "registered" / "transform.tfm"
    kept = transform.read_bytes()
    sitk.WriteTransform(sitk.AffineTransform(3), str(transform))  # another one in its place
    assert registered.accepted_links(library, frames) == []
    transform.write_bytes(kept)
    registered.withdraw_registration(library, *pair, bo)
    assert registered.accepted_links(library, frames) == []
    sitk.WriteTransform(sitk.BSplineTransform(3), str(transform))
    with pytest.raises(WrongUse, match="bends space"):
        registered.accept_registration(library, *pair, bo)
    noted(home, case, matrix, "failed")
    with pytest.raises(WrongUse, match="failed"):
        registered.accept_registration(library, *pair, bo)


def shown_affine(image: Image) -> np.ndarray:
    """(4, 4) from a voxel as it is displayed to RAS+ mm."""
    return image.affine @ np.linalg.inv(view_of(image).to_view)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="Debian's chromium is not installed")
def test_crosshair_lines_and_fusion_go_through_an_accepted_registration(desk):
    home, case, _, _, matrix = desk
    case_id = case.case_id
    store.load_case(Library(home), case_id)
    with serving(home) as url, browsing(url) as page:
        open_case(page, url, case_id)
        sign_in(page, "bo", "long enough")
        ct, mr = viewport(page, "CT"), viewport(page, "MR")
        fused = page.locator(".pane[data-modality=CT] select[aria-label=Fused]")
        page.locator(".acts").first.wait_for()
        settled(ct)
        assert fused.count() == 0  # two frames of reference, and nobody says how they lie
        stood = mr.get_attribute("data-index")
        ct.hover()
        page.keyboard.press("ArrowUp")
        page.wait_for_timeout(300)
        expect(mr).to_have_attribute("data-index", stood)
        page.get_by_text("One modality on another").click()
        page.get_by_role("button", name="Accept this registration").click()
        page.get_by_text("accepted by bo").wait_for()
        fused.wait_for()
        box = settled(ct)
        page.mouse.click(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.55)
        page.keyboard.press("ArrowDown")
        images = {n: case.images[int(c.get_attribute("data-image"))] for n, c in (("CT", ct), ("MR", mr))}
        x, y, sx, sy = (float(v) for v in ct.get_attribute("data-fit").split(","))
        u, v = (box["width"] * 0.45 - x) // sx, (box["height"] * 0.55 - y) // sy
        mm = shown_affine(images["CT"]) @ [u, v, int(ct.get_attribute("data-index")), 1]
        at = np.linalg.inv(shown_affine(images["MR"])) @ np.linalg.inv(matrix) @ mm
        expect(mr).to_have_attribute("data-index", str(round(at[2])))
        expect(mr).not_to_have_attribute("data-reference", "")

        def coloured() -> np.ndarray:
            red, _, blue = (drawn(ct)[..., n].astype(int) for n in range(3))
            return red - blue > 60

        assert coloured().mean() < 0.01
        fused.select_option(index=1)
        until(lambda: coloured().mean() > 0.02, "the MR lies over the CT", page)
        page.get_by_text("by a registration that bo accepted").wait_for()
        shot(page, "registered-en-1600")
        ct.hover()
        expect(page.locator(".pane[data-modality=CT] .readout")).to_contain_text("MR")
        page.get_by_role("button", name="Withdraw the acceptance").click()
        fused.first.wait_for(state="detached")
        until(lambda: coloured().mean() < 0.01, "the CT stands alone again", page)
        assert not page.problems
