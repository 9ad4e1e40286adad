"""What presentation states draw on the images of a case: from pixels of the stored slices to those of the
planes that the browser shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from apps.viewer.desk import library
from medfuse.case import Image, ReferredImage, ReferringObject, StateMark
from medfuse.display.contract import CaseImages, CineImage, VolumeImage
from medfuse.display.presented import DrawnMark, DrawnState, Pixel, StateView
from medfuse.display.views import Plane
from medfuse.library.referring import objects_of

PLANES: tuple[Plane, ...] = ("sagittal", "coronal", "axial")  # by the axis that they lie across
QUARTER = np.array([[0, -1], [1, 0]])  # clockwise, rows downward
MIRROR = np.diag([-1, 1])


def stored_of(image: Image) -> list[tuple[str, int]]:
    """The SOP Instance UID of each slice or frame, and its number in that file; none where that is not known,
    as of the tiles of a mosaic."""
    uids = image.source.instance_uids
    if len(uids) == image.frames:
        return [(uid, 1) for uid in uids]
    if len(uids) == 1 and image.kind == "cine":
        return [(uids[0], n + 1) for n in range(image.frames)]
    return [(uids[0], f) for f in image.source.frames] if len(uids) == 1 else []


def drawn_states(case_id: str, case: CaseImages) -> list[DrawnState]:
    """Each presentation state of a case that draws or shows something on an image that is here."""
    states = [o for o in objects_of(library(), case_id) if o.kind == "presentation state"]
    if not states:
        return []
    sheets = [_Sheet.of(n, image, case.stored[n]) for n, image in enumerate(case.images)]
    found = [DrawnState(id=o.sop_uid, marks=_marks(o, sheets), view=_view(o, sheets)) for o in states]
    return [d for d in found if d.marks or d.view]


@dataclass(frozen=True)
class _Sheet:
    """The plane of an image on which its stored slices are seen.

    turned, origin: (2, 2) and (2,), stored pixel → pixel of the plane. at: by SOP Instance UID, the frames in
    it and the number of the plane of each.
    """

    index: int
    plane: Plane
    turned: np.ndarray
    origin: np.ndarray
    at: dict[str, list[tuple[int, int]]]

    @classmethod
    def of(cls, index: int, image: VolumeImage | CineImage, stored: Sequence[tuple[str, int]]) -> _Sheet:
        if isinstance(image, CineImage):
            return cls(index, "axial", np.eye(2), np.zeros(2), _by_uid(stored, range(len(stored))))
        to_view = np.array(image.to_view)
        axis = int(np.argmax(np.abs(to_view[:3, 2])))
        numbers = [round(float(to_view[axis, 2] * k + to_view[axis, 3])) for k in range(len(stored))]
        # a corner is half a pixel before the middle of the first; coronal and sagittal: head above
        corner = to_view @ np.array([-0.5, -0.5, 0, 1]) + 0.5
        across, down = [i for i in range(3) if i != axis]
        up = -1 if axis != 2 else 1
        turned = np.array([to_view[across, :2], up * to_view[down, :2]])
        height = image.shape[2] if axis != 2 else 0
        origin = np.array([corner[across], height + up * corner[down]])
        return cls(index, PLANES[axis], turned, origin, _by_uid(stored, numbers))

    def pixels(self, points: Iterable[Pixel]) -> list[Pixel]:
        placed = np.array(list(points), float).reshape(-1, 2) @ self.turned.T + self.origin
        return [(round(float(u), 3), round(float(v), 3)) for u, v in placed]

    def slices(self, images: Iterable[ReferredImage]) -> list[int]:
        """Numbers of the planes of those images, in their order."""
        here = [(i, at) for i in images for at in self.at.get(i.sop_uid, ())]
        return list(dict.fromkeys(n for i, (frame, n) in here if not i.frames or frame in i.frames))


def _by_uid(stored: Sequence[tuple[str, int]], numbers: Sequence[int]) -> dict[str, list[tuple[int, int]]]:
    out: dict[str, list[tuple[int, int]]] = {}
    for (uid, frame), number in zip(stored, numbers, strict=True):
        out.setdefault(uid, []).append((frame, number))
    return out


def _marks(one: ReferringObject, sheets: Sequence[_Sheet]) -> list[DrawnMark]:
    return [
        DrawnMark(
            kind=mark.kind,
            points=sheet.pixels(mark.points),
            text=mark.text,
            align=mark.align,
            anchor=sheet.pixels([mark.anchor])[0] if mark.anchor else None,
            filled=mark.filled,
            shutter=mark.shutter,
            colour=mark.colour,
            image=sheet.index,
            plane=sheet.plane,
            slices=slices,
        )
        for mark in one.marks
        for sheet, slices in _where(mark, one, sheets)
    ]


def _where(mark: StateMark, one: ReferringObject, sheets: Sequence[_Sheet]) -> list[tuple[_Sheet, list[int]]]:
    found = [(sheet, sheet.slices(mark.images or one.images)) for sheet in sheets]
    return [(sheet, slices) for sheet, slices in found if slices]


def _view(one: ReferringObject, sheets: Sequence[_Sheet]) -> StateView | None:
    """How it shows the first of its images that is here."""
    for referred in one.images:
        for sheet in sheets:
            if slices := sheet.slices([referred]):
                named = [
                    a for a in one.areas if not a.images or referred.sop_uid in {i.sop_uid for i in a.images}
                ]
                area = sheet.pixels(named[0].corners) if named else None
                return StateView(
                    image=sheet.index,
                    plane=sheet.plane,
                    slice=slices[0],
                    corners=(area[0], area[1]) if area else None,
                    window=one.windows[0] if len(one.windows) == 1 else None,
                    turn=_turn(one, sheet),
                    inverted=one.inverted,
                )
    return None


def _turn(one: ReferringObject, sheet: _Sheet) -> int | None:
    """Quarter turns that show the plane as the state shows the stored image; None where none does."""
    wanted = np.linalg.matrix_power(QUARTER, one.rotation // 90)
    wanted = (MIRROR @ wanted if one.flipped else wanted) @ np.linalg.inv(sheet.turned)
    turns = (n for n in range(4) if np.allclose(np.linalg.matrix_power(QUARTER, n), wanted, atol=0.01))
    return next(turns, None)
