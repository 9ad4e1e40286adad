"""What presentation states draw: marks in pixels and in shares of the screen, shutters, layers, turns."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pytest
from frames import Frame, write_enhanced
from highdicom.color import CIELabColor
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from slices import write_slice
from test_objects import HEAD, capture, sources, state_of

from medfuse.case import ReferringObject
from medfuse.io.referring import read_referring
from medfuse.library import Library
from medfuse.library.ingest import ingest
from medfuse.library.referring import objects_of

LAYERS = [
    hd.pr.GraphicLayer("ABOVE", 2),
    hd.pr.GraphicLayer("BELOW", 1, display_color=CIELabColor.from_rgb(255, 0, 0)),
]


def drawing(kind, points, units="PIXEL", **more):
    return hd.pr.GraphicObject(getattr(hd.pr.GraphicTypeValues, kind), np.array(points), units=units, **more)


def annotation(images, layer, *objects, texts=(), **more):
    return hd.pr.GraphicAnnotation(
        referenced_images=images,
        graphic_layer=LAYERS[layer],
        graphic_objects=list(objects) or None,
        text_objects=list(texts) or None,
        **more,
    )


def state(images, *annotations):
    return hd.pr.GrayscaleSoftcopyPresentationState(
        referenced_images=images,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        content_label="DRAWN",
        graphic_layers=LAYERS,
        graphic_annotations=list(annotations),
        **(HEAD | {"series_instance_uid": "1.2.3.52"}),
    )


def read(made, path) -> ReferringObject:
    made.save_as(path)
    found = read_referring(path)
    assert isinstance(found, ReferringObject), found
    return found


def shown_area(first, last):
    item = Dataset()
    item.DisplayedAreaTopLeftHandCorner, item.DisplayedAreaBottomRightHandCorner = first, last
    return [item]


def test_marks_come_in_the_order_of_their_layers_with_their_colours(tmp_path):
    slices = sources(tmp_path / "mr")
    made = state(
        slices,
        annotation(slices[:1], 0, drawing("POLYLINE", [[0.0, 0.0], [5.0, 6.0]])),
        annotation(
            slices[1:3],
            1,
            drawing("CIRCLE", [[2.0, 3.0], [2.0, 4.0]], is_filled=True),
            texts=[hd.pr.TextObject("a\r\nb", units="PIXEL", anchor_point=(1.0, 2.0))],
        ),
    )
    circle, text, line = read(made, tmp_path / "a.dcm").marks
    assert (circle.kind, circle.filled, circle.points) == ("circle", True, ((2.0, 3.0), (2.0, 4.0)))
    red = [int(circle.colour[i : i + 2], 16) for i in (1, 3, 5)]
    assert red[0] > 245
    assert max(red[1:]) < 15
    assert [i.sop_uid for i in circle.images] == [s.SOPInstanceUID for s in slices[1:3]]
    assert (text.text, text.points, text.anchor) == ("a\nb", ((1.0, 2.0),), None)
    assert (line.kind, line.colour) == ("line", "")


@pytest.mark.parametrize(
    ("rotation", "corners", "expected"),
    [
        (0, ([1, 1], [5, 6]), (2.5, 1.5)),
        (0, ([3, 2], [4, 3]), (3.0, 1.5)),
        (180, ([5, 6], [1, 1]), (2.5, 4.5)),
        (90, ([1, 6], [5, 1]), (1.25, 3.0)),
    ],
)
def test_shares_of_the_screen_are_pixels_of_the_area_shown(tmp_path, rotation, corners, expected):
    slices = sources(tmp_path / "mr")
    made = state(slices, annotation(slices[:1], 0, drawing("POINT", [[0.5, 0.25]], "DISPLAY")))
    made.DisplayedAreaSelectionSequence = shown_area(*corners)
    made.ImageRotation = rotation
    found = read(made, tmp_path / "a.dcm")
    assert [m.points for m in found.marks] == [(expected,)]
    assert [i.sop_uid for i in found.marks[0].images] == [slices[0].SOPInstanceUID]


def test_images_that_show_other_areas_have_the_mark_elsewhere(tmp_path):
    slices = sources(tmp_path / "mr")
    made = state(slices, annotation(slices[:2], 0, drawing("POINT", [[0.5, 0.5]], "DISPLAY")))
    areas = shown_area([1, 1], [2, 2]) + shown_area([3, 3], [4, 4])
    for area, ds in zip(areas, slices, strict=False):
        named = Dataset()
        named.ReferencedSOPClassUID, named.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
        area.ReferencedImageSequence = [named]
    made.DisplayedAreaSelectionSequence = areas
    assert [m.points for m in read(made, tmp_path / "a.dcm").marks] == [((1.0, 1.0),), ((3.0, 3.0),)]


def test_what_has_no_place_is_counted(tmp_path):
    slices = sources(tmp_path / "mr")
    made = state(
        slices,
        annotation(slices[:1], 0, drawing("POINT", [[0.5, 0.5]], "DISPLAY"), drawing("POINT", [[1.0, 1.0]])),
    )
    del made.DisplayedAreaSelectionSequence
    first = made.GraphicAnnotationSequence[0].GraphicObjectSequence
    odd = Dataset()
    odd.GraphicAnnotationUnits, odd.GraphicType, odd.GraphicData = "PIXEL", "SPIRAL", [1.0, 2.0]
    far = Dataset()
    far.GraphicAnnotationUnits, far.GraphicType, far.GraphicData = "PIXEL", "POINT", [1e30, float("nan")]
    first.extend([odd, far])
    found = read(made, tmp_path / "a.dcm")
    assert (found.graphics, found.undrawn, len(found.marks)) == (4, 3, 1)


def test_compound_figures_are_drawn_as_their_plain_ones(tmp_path):
    slices = sources(tmp_path / "mr")
    made = state(slices, annotation(slices[:1], 0, drawing("POINT", [[1.0, 1.0]])))
    layer = made.GraphicAnnotationSequence[0]
    layer.GraphicObjectSequence[0].CompoundGraphicInstanceID = 1
    layer.CompoundGraphicSequence = [Dataset(), Dataset()]
    for n, item in enumerate(layer.CompoundGraphicSequence, 1):
        item.CompoundGraphicInstanceID = n
    found = read(made, tmp_path / "a.dcm")
    assert (found.undrawn, len(found.marks)) == (1, 1)


def test_shutters_hide_what_lies_outside(tmp_path):
    made = state_of(sources(tmp_path / "mr"))
    made.ShutterShape = ["RECTANGULAR", "CIRCULAR", "POLYGONAL"]
    made.ShutterLeftVerticalEdge, made.ShutterRightVerticalEdge = 2, 4
    made.ShutterUpperHorizontalEdge, made.ShutterLowerHorizontalEdge = 1, 5
    made.CenterOfCircularShutter, made.RadiusOfCircularShutter = [3, 2], 2
    made.VerticesOfThePolygonalShutter = [1, 1, 1, 5, 6, 5]
    made.ShutterPresentationValue = 0x8000
    *shutters, _ = read(made, tmp_path / "a.dcm").marks
    assert all(m.shutter and m.colour == "#808080" for m in shutters)
    assert [(m.kind, m.points) for m in shutters] == [
        ("line", ((1, 0), (4, 0), (4, 5), (1, 5))),
        ("circle", ((1.5, 2.5), (3.5, 2.5))),
        ("line", ((0.5, 0.5), (4.5, 0.5), (4.5, 5.5))),
    ]


def bitmap(made, group, layer):
    plane = np.zeros((3, 4), np.uint8)
    plane[:2, 1:3] = plane[2, 0] = 1
    for element, vr, value in ((0x10, "US", 3), (0x11, "US", 4), (0x40, "CS", "G"), (0x50, "SS", [2, 3])):
        made.add_new(group << 16 | element, vr, value)
    for element, vr, value in ((0x100, "US", 1), (0x102, "US", 0), (0x1001, "CS", layer)):
        made.add_new(group << 16 | element, vr, value)
    made.add_new(group << 16 | 0x3000, "OW", np.packbits(plane.ravel(), bitorder="little").tobytes())


def test_overlays_of_a_state_are_drawn_where_it_shows_them(tmp_path):
    made = state(sources(tmp_path / "mr"))
    bitmap(made, 0x6000, "BELOW")
    bitmap(made, 0x6002, "")  # on no layer: not shown
    made.ShutterShape, made.ShutterOverlayGroup = "BITMAP", 0x6004
    bitmap(made, 0x6004, "")
    drawn, hidden = read(made, tmp_path / "a.dcm").marks
    assert (drawn.kind, drawn.shutter, drawn.colour[:2]) == ("runs", False, "#f")
    assert drawn.points == ((3, 1), (5, 3), (2, 3), (3, 4))
    assert (hidden.kind, hidden.shutter, hidden.colour) == ("runs", True, "#000000")


def test_a_state_with_a_damaged_shutter_is_listed_and_draws_nothing(tmp_path):
    made = state_of(sources(tmp_path / "mr"))
    made.ShutterShape = "CIRCULAR"
    found = read(made, tmp_path / "a.dcm")
    assert (found.title, found.graphics, found.undrawn, found.marks) == ("MARKED", 1, 1, ())


def drawn_in_viewer(case_id):
    from apps.viewer import pixels, presented
    from medfuse.display.contract import CaseImages

    case = CaseImages.model_validate_json((pixels.case_pixels(case_id) / "case.json").read_text())
    return case, presented.drawn_states(case_id, case)


@pytest.mark.parametrize(
    ("orientation", "step", "plane", "place", "numbers"),
    [
        ((1, 0, 0, 0, 1, 0), (0, 0, 1), "axial", (1.25, 4.0), [0, 2]),
        ((-1, 0, 0, 0, 1, 0), (0, 0, -1), "axial", (3.75, 4.0), [2, 0]),  # seen from above
        ((1, 0, 0, 0, 0, -1), (0, 1, 0), "coronal", (1.25, 4.0), [0, 2]),
        ((0, 1, 0, 0, 0, -1), (1, 0, 0), "sagittal", (1.25, 4.0), [0, 2]),
        ((0, 1, 0, 0, 0, 1), (1, 0, 0), "sagittal", (1.25, 2.0), [0, 2]),  # the head below
    ],
)
def test_a_mark_lies_on_its_pixel_on_every_plane(tmp_path, home, orientation, step, plane, place, numbers):
    slices = []
    for k in range(3):
        at = tuple(3.0 * k * v for v in step)
        slices.append(write_slice(tmp_path / f"{k}.dcm", position=at, orientation=orientation))
    for ds in slices:
        for key in ("PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "AccessionNumber"):
            setattr(ds, key, ds.get(key, ""))
        ds.SeriesNumber, ds.ReferringPhysicianName, ds.PatientName = 1, "", "X^"
        ds.StudyDate, ds.StudyTime = "20260101", "120000"
    made = state(
        slices,
        annotation([slices[0], slices[2]], 0, drawing("POINT", [[1.25, 4.0]])),
    )
    made.save_as(tmp_path / "state.dcm")
    (case_id,) = ingest(Library(), tmp_path).cases
    case, (drawn,) = drawn_in_viewer(case_id)
    (mark,) = drawn.marks
    assert (mark.image, mark.plane, mark.points, mark.slices) == (0, plane, [place], numbers)
    assert drawn.view.slice == numbers[0]
    # the same place by the affine: of the stored pixel and of the voxel as displayed
    image = case.images[0]
    n = mark.slices[0]
    u, v = mark.points[0][0] - 0.5, mark.points[0][1] - 0.5
    nz = image.shape[2]
    voxel = {"axial": (u, v, n), "coronal": (u, n, nz - 1 - v), "sagittal": (n, u, nz - 1 - v)}[plane]
    mm = np.array(image.affine) @ [*voxel, 1]
    spacing = [float(x) for x in slices[0].PixelSpacing]
    x, y = np.array(orientation[:3]) * 0.75 * spacing[1], np.array(orientation[3:]) * 3.5 * spacing[0]
    assert np.allclose(mm[:3], (np.array(slices[0].ImagePositionPatient, float) + x + y) * (-1, -1, 1))


def test_frames_of_enhanced_objects_keep_their_marks_in_any_order(tmp_path, home):
    ds = write_enhanced(tmp_path / "a.dcm", [Frame(z=3.0 * z, value=10 * z) for z in (2, 0, 1)])
    made = state_of(sources(tmp_path / "mr"))
    made.StudyInstanceUID, made.PatientID = ds.StudyInstanceUID, ds.PatientID
    named = made.GraphicAnnotationSequence[0].ReferencedImageSequence[0]
    named.ReferencedSOPInstanceUID, named.ReferencedFrameNumber = ds.SOPInstanceUID, [1, 3]
    series = made.ReferencedSeriesSequence[0]
    series.SeriesInstanceUID = ds.SeriesInstanceUID
    series.ReferencedImageSequence = series.ReferencedImageSequence[:1]
    series.ReferencedImageSequence[0].ReferencedSOPInstanceUID = ds.SOPInstanceUID
    (tmp_path / "alone").mkdir()
    ds.save_as(tmp_path / "alone" / "a.dcm")
    made.save_as(tmp_path / "alone" / "state.dcm")
    (case_id,) = ingest(Library(), tmp_path / "alone").cases
    _, (drawn,) = drawn_in_viewer(case_id)
    assert drawn.marks[0].slices == [1, 2]  # frames 1 and 3 lie highest and in the middle


def test_a_mark_on_a_frame_of_a_cine_stays_on_that_frame(tmp_path, home):
    capture(tmp_path / "us.dcm")
    import pydicom

    ds = pydicom.dcmread(tmp_path / "us.dcm")
    ds.NumberOfFrames, ds.PixelData = 3, ds.PixelData * 3
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    ds.FrameTime = 40.0
    ds.save_as(tmp_path / "us.dcm")
    made = state_of(sources(tmp_path / "mr"))
    made.StudyInstanceUID, made.PatientID = ds.StudyInstanceUID, ds.PatientID
    for item in (
        made.GraphicAnnotationSequence[0].ReferencedImageSequence[0],
        made.ReferencedSeriesSequence[0].ReferencedImageSequence[0],
    ):
        item.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    made.GraphicAnnotationSequence[0].ReferencedImageSequence[0].ReferencedFrameNumber = 2
    made.save_as(tmp_path / "state.dcm")
    library = Library()
    (case_id,) = ingest(library, tmp_path / "us.dcm").cases
    ingest(library, tmp_path / "state.dcm")
    _, (drawn,) = drawn_in_viewer(case_id)
    assert [(m.plane, m.points, m.slices) for m in drawn.marks] == [("axial", [(1.0, 1.0)], [1])]


@pytest.mark.parametrize(
    ("rotation", "flipped", "turn"), [(0, "N", 0), (90, "N", 1), (270, "N", 3), (90, "Y", None)]
)
def test_a_state_says_how_its_image_is_turned_and_which_part_is_shown(
    tmp_path, home, rotation, flipped, turn
):
    slices = sources(tmp_path / "mr")
    made = state_of(slices)
    made.ImageRotation, made.ImageHorizontalFlip = rotation, flipped
    made.DisplayedAreaSelectionSequence = shown_area([2, 2], [4, 5])
    made.PresentationLUTShape = "INVERSE"
    made.save_as(tmp_path / "mr" / "state.dcm")
    (case_id,) = ingest(Library(), tmp_path / "mr").cases
    _, (drawn,) = drawn_in_viewer(case_id)
    assert (drawn.view.turn, drawn.view.inverted, drawn.view.window) == (turn, True, None)
    assert drawn.view.corners == ((1, 1), (4, 5))


def test_states_that_older_versions_kept_are_listed_without_marks(tmp_path, home):
    from medfuse.library.catalogue import ReferringRow

    slices = sources(tmp_path / "mr")
    state_of(slices).save_as(tmp_path / "mr" / "state.dcm")
    library = Library()
    (case_id,) = ingest(library, tmp_path / "mr").cases
    with library.session() as s:
        (row,) = s.query(ReferringRow).all()
        row.said = {k: v for k, v in row.said.items() if k not in ("marks", "areas", "undrawn")}
    (one,) = objects_of(library, case_id)
    assert (one.title, one.marks) == ("MARKED", ())
