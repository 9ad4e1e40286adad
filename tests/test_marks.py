"""What readers draw, outside of the browser: its form, the structured report, and the pictures of the PDF."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image as Picture

from apps.viewer import keys
from medfuse.case import Case
from medfuse.display.contract import read_measurement
from medfuse.display.marked import line_of, marked_images
from medfuse.display.views import view_of
from medfuse.errors import WrongUse
from medfuse.exports.sr_measurements import reader_groups
from medfuse.io.read import open_case


@pytest.fixture(scope="module")
def case(patient_dicom) -> Case:
    return open_case(patient_dicom)


def mark(case: Case, kind: str, points: list, **more):
    """A mark on slice 5 of the CT."""
    n = next(i for i, x in enumerate(case.images) if x.modality == "CT")
    where = {"image": n, "series_uid": case.images[n].source.series_uid, "plane": "axial", "slice": 5}
    given = {"kind": kind, "text": "", "points": points, **where, **more}
    return read_measurement({**given, "author": "ari", "made": "2026-11-27 03:00"})


def test_every_kind_of_measurement_stands_in_the_structured_report(case):
    square = {"value": 50.0, "unit": "HU", "area": 100.0, "area_unit": "mm2"}
    marks = [
        mark(case, "bidirectional", [[5, 5], [25, 5], [10, 0], [10, 8]], value=20.0, short=8.0, unit="mm"),
        mark(case, "angle", [[5, 5], [10, 5], [10, 10]], value=90.0),
        mark(case, "cobb", [[5, 5], [10, 5], [5, 9], [10, 14]], value=45.0),
        mark(case, "rectangle", [[5, 5], [15, 15]], **square),
        mark(case, "probe", [[7.5, 8.5]], value=40.0, unit="HU"),
        mark(case, "arrow", [[5, 5], [15, 15]], text="look"),
        mark(case, "key", [], window=[40, 400]),
    ]
    groups = [g.get_measurements() for g in reader_groups(marks, case, "k")]
    said = [[(m.name.meaning, float(m.value), m.unit.value) for m in group] for group in groups]
    assert said == [
        [("Long Axis", 20.0, "mm"), ("Short Axis", 8.0, "mm")],
        [("Angle", 90.0, "deg")],
        [("Angle", 45.0, "deg")],
        [("Area", 100.0, "mm2"), ("Attenuation Coefficient", 50.0, "[hnsf'U]")],
        [("Attenuation Coefficient", 40.0, "[hnsf'U]")],
    ]
    (short,) = groups[0][1].referenced_coordinates
    spacing = case.images[marks[0].image].spacing
    assert np.linalg.norm(short.value[1] - short.value[0]) == pytest.approx(8 * spacing[1], rel=1e-3)
    (corners,) = groups[3][0].referenced_coordinates
    assert len(corners.value) == 5


def test_a_length_on_a_turned_plane_has_its_place_in_the_patient(case):
    """Turned by 30° about the axis that runs down an axial plane: what lies across it rises by a half."""
    c, s = np.cos(np.pi / 6), 0.5
    way = {"pivot": [10, 10, 5], "turned": [[c, 0, -s], [0, 1, 0], [s, 0, c]]}
    image = case.images[mark(case, "key", [], window=[40, 400]).image]
    ways = (image.affine @ np.linalg.inv(view_of(image).to_view))[:3, :3]
    length = 40 * np.linalg.norm(ways[:, 0])
    given = {"value": length, "unit": "mm", "text": f"{length:.1f} mm"}
    line = mark(case, "distance", [[10.5, 10.5], [50.5, 10.5]], **given, turned=way)
    ((found,),) = [g.get_measurements() for g in reader_groups([line], case, "k")]
    a, b = found.referenced_coordinates[0].value
    along = ((b - a) * [-1, -1, 1]) @ (ways / np.linalg.norm(ways, axis=0))  # DICOM's x and y are the others
    np.testing.assert_allclose(along, [length * c, 0, length / 2], atol=1e-3 * length)
    assert "oblique axial 6" in line_of(line, case)
    key = mark(case, "key", [], window=[40, 400])
    (plain,) = marked_images(case, [key])
    assert marked_images(case, [key, line])[0].png == plain.png  # it lies on no slice
    with pytest.raises(WrongUse, match="turned by a rotation"):
        mark(case, "distance", [[1, 1], [2, 2]], **given, turned={**way, "turned": [[1, 0, 0]] * 3})


def test_a_key_image_is_a_picture_with_what_was_drawn_on_it(case):
    key = mark(case, "key", [], window=[40, 400])
    line = mark(case, "distance", [[20, 20], [60, 20]], value=40.0, unit="mm", text="40.0 mm")
    elsewhere = line.model_copy(update={"slice": 6})
    gone = key.model_copy(update={"series_uid": "1.2.3"})

    def green(marks: list) -> int:
        (made,) = marked_images(case, marks)
        pixels = np.asarray(Picture.open(BytesIO(made.png)).convert("RGB")).astype(int)
        return int(((pixels[..., 1] > 200) & (pixels[..., 0] < 160) & (pixels[..., 2] < 190)).sum())

    assert green([key, line]) > 50
    assert green([key, elsewhere]) == 0
    assert marked_images(case, [gone, line]) == []
    assert line_of(line, case).startswith("distance 40.0 mm, CT ")
    assert line_of(line, case).endswith("axial 6, ari 2026-11-27 03:00")
    assert "not here" in line_of(line.model_copy(update={"image": 99}), case)


@pytest.mark.parametrize(
    ("kind", "points", "more", "said"),
    [
        ("angle", [[1, 1], [2, 2]], {"value": 10}, "points"),
        ("angle", [[1, 1], [2, 2], [3, 3]], {"value": 190}, "value"),
        ("bidirectional", [[1, 1], [2, 2], [3, 3], [4, 4]], {"value": 3, "unit": "mm"}, "short"),
        ("probe", [[1, 1], [2, 2]], {"value": 3, "unit": "HU"}, "points"),
        ("key", [], {}, "window"),
        ("spline", [], {}, "does not match any of the expected tags"),
    ],
)
def test_a_mark_of_another_form_is_refused_in_one_sentence(case, kind, points, more, said):
    with pytest.raises(WrongUse, match=said):
        mark(case, kind, points, **more)


def test_keys_are_one_table_and_do_one_thing_each():
    table = keys.table()
    assert len(set(table.values())) == len(table)
    assert keys.checked({"distance": "D", "undo": table["undo"]}) == {"distance": "D"}
    with pytest.raises(WrongUse, match="would do two things"):
        keys.checked({"distance": table["angle"]})
    with pytest.raises(WrongUse, match="cannot be used"):
        keys.checked({"format_disk": "Q"})
