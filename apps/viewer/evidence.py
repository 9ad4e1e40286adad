"""Places of a prediction in the voxels that the viewer shows: what to draw a box around, and where to
jump."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from apps.viewer.words import finding_word, w
from medfuse.display.contract import CineImage, LesionBox, Spot, VolumeImage
from medfuse.inference.second_look import LesionMask
from medfuse.library.outlines import KeptOutline
from medfuse.prediction import Place, Prediction

MOST_RUNS = 100_000  # of one outline: beyond it the box must do


class Places:
    """Evidence of one case, in display voxels (see pixels.py)."""

    def __init__(
        self,
        images: list[VolumeImage | CineImage],
        prediction: Prediction | None,
        outlines: Mapping[str, KeptOutline] | None = None,
    ) -> None:
        self._images = images
        self.modalities = {i.modality for i in images}
        self.boxes: list[LesionBox] = []
        # boxes of one mass lie on each other: each says whose outline it is of
        whose = {t.lesion.id: "+".join(t.modalities) for t in prediction.together} if prediction else {}
        for lesion in prediction.outlined if prediction else []:
            at = self.of(lesion.place)
            if at is not None:
                label = finding_word(lesion.finding)  # its score is the detector's own, not calibrated
                label += f" ({whose.get(lesion.id, lesion.modality)})" if whose else ""
                shape = self._outlined(at, (outlines or {}).get(lesion.id))
                self.boxes.append(LesionBox(**at.model_dump() | {"id": lesion.id} | shape, label=label))

    def _outlined(self, at: Spot, outline: KeptOutline | None) -> dict[str, Any]:
        """The box and the runs of a lesion whose outline is known."""
        image = self._images[at.image]
        if outline is None or not isinstance(image, VolumeImage) or image.affine is None:
            return {}
        mask = LesionMask(outline.mask, outline.to_place)
        found = mask.on_grid(np.asarray(image.affine), image.shape)
        if found is None or not found[1].any():
            return {}
        (x, y, z), inside = found
        flat = inside.transpose(2, 1, 0).ravel()  # across first
        ends = np.flatnonzero(np.diff(flat, prepend=False))
        runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
        if len(runs) > MOST_RUNS:
            return {}
        return {
            "box": ((x.start, y.start, z.start), (x.stop - 1, y.stop - 1, z.stop - 1)),
            "runs": [int(n) for n in runs],
        }

    def of(self, place: Place) -> Spot | None:
        """Where to jump, or None where the place names no point of an image that is
        here."""
        if not 0 <= place.image < len(self._images):
            return None
        image = self._images[place.image]
        if isinstance(image, CineImage):
            frame = place.frame if place.frame is not None else 0
            (x0, y0, *_), (x1, y1, *_) = place.box_voxels or [
                [0, 0],
                [image.shape[0] - 1, image.shape[1] - 1],
            ]
            low = [x0, y0, frame]
            high = [x1, y1, frame]
        elif place.box_voxels:
            to_view = np.asarray(image.to_view)
            corners = np.array(np.meshgrid(*zip(*place.box_voxels, strict=True))).T.reshape(-1, 3)
            at = corners @ to_view[:3, :3].T + to_view[:3, 3]
            low = at.min(0).round().astype(int).tolist()
            high = at.max(0).round().astype(int).tolist()
        else:
            return None
        centre = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
        if place.slice is not None and place.box_voxels and isinstance(image, VolumeImage):
            # the slice that the report names
            x, y, _ = np.mean(place.box_voxels, axis=0)
            centre[2] = round(float(to_view[2, :3] @ [x, y, place.slice] + to_view[2, 3]))
        return Spot(
            id=self._name(place),
            image=place.image,
            centre=(centre[0], centre[1], centre[2]),
            box=((low[0], low[1], low[2]), (high[0], high[1], high[2])),
            box_mm=place.box_mm,
        )

    def _name(self, place: Place) -> str:
        """The lesion at this place, so that its box flashes; else a name of its own."""
        for box in self.boxes:
            if (
                box.image == place.image
                and box.box_mm == place.box_mm
                and (place.frame is None or box.centre[2] == place.frame)
            ):
                return box.id
        return f"{place.image}:{place.box_voxels}:{place.frame}"

    def short(self, place: Place) -> str:
        """Such as "CT slice 37", counted as the viewer counts."""
        at = self.of(place)
        if at is None:
            return ""
        image = self._images[place.image]
        what = w("findings.frame") if isinstance(image, CineImage) else w("findings.slice")
        return f"{image.modality} {what} {at.centre[2] + 1}"

    def where(self, place: Place) -> str:
        """Such as "CT slice 37 · S +12.5 mm · image 9": with the place in the patient, and the number under
        which a PACS shows the slice, where the image has them."""
        at = self.of(place)
        if at is None:
            return ""
        parts = [self.short(place)]
        image = self._images[place.image]
        if isinstance(image, VolumeImage):
            if image.affine is not None and image.exact:
                up = float(np.asarray(image.affine)[2] @ [*at.centre, 1])
                parts.append(f"S {'−' if up < 0 else '+'}{abs(up):.1f} mm")
            number = image.numbers[at.centre[2]] if image.numbers else 0
            if number:
                parts.append(f"{w('findings.instance')} {number}")
        return " · ".join(parts)
