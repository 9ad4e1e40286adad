"""What a reader sees: patient's right on the viewer's left, marks always there, boxes where the lesion is."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.case import Image, Source
from medfuse.display.draw import render
from medfuse.display.places import box_on_slice, display_slice
from medfuse.display.views import count, slice_array, view_of, window_of
from medfuse.prediction import Place


def ct(directions, point=None):
    """A 20³ volume with 4 mm voxels whose bright voxel lies at the RAS+ ``point``; directions: signs of the
    axes."""
    affine = np.diag([*(4.0 * np.array(directions)), 1.0])
    affine[:3, 3] = -38.0 * np.array(directions)
    pixels = np.full((20, 20, 20), -1000, np.float32)
    if point is not None:
        i = np.round(np.linalg.inv(affine) @ [*point, 1])[:3].astype(int)
        pixels[tuple(i)] = 1000
    return Image("CT", pixels, Source("x"), affine=affine, frame_of_reference="F", role="portal")


SIGNS = [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)]


@pytest.mark.parametrize("signs", SIGNS)
def test_right_is_on_the_left_whatever_the_storage(signs):
    image = ct(signs, point=(26, 14, -10))  # right, anterior, inferior
    k = next(k for k in range(20) if slice_array(image, k)[0].max() == 255)
    assert view_of(image).pixels.shape == (20, 20, 20)
    assert k == 7  # slices are counted from the feet
    row, column = np.unravel_index(slice_array(image, k)[0][..., 0].argmax(), (20, 20))
    assert column < 10  # patient's right on the viewer's left
    assert row < 10  # anterior on top
    coronal = [slice_array(image, j, plane="coronal")[0][..., 0] for j in range(20)]
    j = int(np.argmax([c.max() for c in coronal]))
    row, column = np.unravel_index(coronal[j].argmax(), (20, 20))
    assert column < 10
    assert row > 10  # inferior below
    sagittal = [slice_array(image, i, plane="sagittal")[0][..., 0] for i in range(20)]
    i = int(np.argmax([s.max() for s in sagittal]))
    assert i < 10
    row, column = np.unravel_index(sagittal[i].argmax(), (20, 20))
    assert row > 10
    assert column < 10  # anterior on the left


@pytest.mark.parametrize("signs", SIGNS)
def test_boxes_follow_the_flips(signs):
    image = ct(signs, point=(26, 14, -10))
    voxel = np.round(np.linalg.inv(image.affine) @ [26, 14, -10, 1])[:3].astype(int).tolist()
    place = Place(image=0, slice=voxel[2], box_voxels=[voxel, voxel])
    k = display_slice(image, place)
    array = slice_array(image, k)[0][..., 0]
    row, column = np.unravel_index(array.argmax(), array.shape)
    assert array.max() == 255
    assert box_on_slice(image, place, k) == pytest.approx((column, row, column, row))
    assert box_on_slice(image, place, (k + 5) % 20) is None


def test_picture_has_marks_box_and_square_millimetres():
    image = ct((1, 1, 1), point=(26, 14, -10))
    plain = np.asarray(render(image, 7, height=200))
    assert plain.shape == (200, 200, 3)
    blue = (plain == (160, 220, 255)).all(-1)
    assert blue[80:120, :30].any()  # R at the left
    assert blue[80:120, -30:].any()  # L at the right
    assert blue[:30, 80:120].any()
    assert blue[-30:, 80:120].any()
    voxel = np.round(np.linalg.inv(image.affine) @ [26, 14, -10, 1])[:3].astype(int).tolist()
    boxed = np.asarray(
        render(image, 7, height=200, places=[(Place(image=0, slice=7, box_voxels=[voxel, voxel]), "x")])
    )
    assert ((boxed == (255, 196, 0)).all(-1)).sum() > 20
    assert not ((plain == (255, 196, 0)).all(-1)).any()


def test_anisotropic_slices_keep_their_shape():
    affine = np.diag([2.0, 2.0, 8.0, 1.0])
    image = Image(
        "MR",
        np.random.default_rng(0).random((40, 40, 10)).astype("f4"),
        Source("x"),
        affine=affine,
        frame_of_reference="F",
    )
    assert render(image, 5, plane="coronal", height=80).size == (80, 80)
    centre, width = window_of(image)
    assert width > 0
    assert 0 < centre < 1


def test_ultrasound_has_no_side_and_irregular_stacks_say_so():
    us = Image("US", np.zeros((5, 50, 70), np.uint8), Source("u"))
    assert count(us) == 5
    assert not (np.asarray(render(us, 2)) == (160, 220, 255)).all(-1).any()
    loose = Image("CT", np.zeros((9, 9, 3), np.float32), Source("x"))
    assert (np.asarray(render(loose, 1)) == (255, 120, 120)).all(-1).any()
