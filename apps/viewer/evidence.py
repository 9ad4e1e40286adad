"""Places of a prediction in the voxels that the viewer shows: what to draw a box around, and where to jump."""

from __future__ import annotations

from typing import Any

import numpy as np

from apps.viewer.words import w
from medfuse.prediction import Place, Prediction


class Places:
    """Evidence of one case, in display voxels (see pixels.py)."""

    def __init__(self, images: list[dict], prediction: Prediction | None) -> None:
        self._images = images
        self.boxes: list[dict[str, Any]] = []
        for lesion in prediction.lesions if prediction else []:
            at = self.of(lesion.place)
            if at is not None:
                label = f"{lesion.finding.replace('_', ' ')} {lesion.probability:.2f}"
                self.boxes.append({**at, "id": lesion.id, "label": label, "lesion": True})

    def of(self, place: Place) -> dict[str, Any] | None:
        """{id, image, centre, box, box_mm}, or None where the place names no point of an image that is here."""
        if not 0 <= place.image < len(self._images):
            return None
        image = self._images[place.image]
        if image["kind"] == "cine":
            frame = place.frame if place.frame is not None else 0
            (x0, y0, *_), (x1, y1, *_) = place.box_voxels or [[0, 0], [image["shape"][0] - 1, image["shape"][1] - 1]]
            low, high = [x0, y0, frame], [x1, y1, frame]
        elif place.box_voxels:
            to_view = np.asarray(image["to_view"])
            corners = np.array(np.meshgrid(*zip(*place.box_voxels, strict=True))).T.reshape(-1, 3)
            at = corners @ to_view[:3, :3].T + to_view[:3, 3]
            low, high = at.min(0).round().astype(int).tolist(), at.max(0).round().astype(int).tolist()
        else:
            return None
        centre = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
        if place.slice is not None and image["kind"] == "volume":  # the slice that the report names
            x, y, _ = np.mean(place.box_voxels, axis=0)
            centre[2] = round(float(to_view[2, :3] @ [x, y, place.slice] + to_view[2, 3]))
        return {
            "id": self._name(place),
            "image": place.image,
            "centre": centre,
            "box": [low, high],
            "box_mm": place.box_mm,
        }

    def _name(self, place: Place) -> str:
        """The lesion at this place, so that its box flashes; else a name of its own."""
        for box in self.boxes:
            if (
                box["image"] == place.image
                and box["box_mm"] == place.box_mm
                and (place.frame is None or box["centre"][2] == place.frame)
            ):
                return box["id"]
        return f"{place.image}:{place.box_voxels}:{place.frame}"

    def where(self, place: Place) -> str:
        """Such as "CT slice 37", counted as the viewer counts."""
        at = self.of(place)
        if at is None:
            return ""
        image = self._images[place.image]
        what = w("findings.frame") if image["kind"] == "cine" else w("findings.slice")
        return f"{image['modality']} {what} {at['centre'][2] + 1}"
