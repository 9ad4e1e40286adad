"""Pictures that show a report's evidence: one a lesion (those of one finding on one slice share it), one a
non-focal finding, and one plain view a modality."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

from PIL import Image as Picture

from ..case import Case
from ..io.names import plain_name
from ..prediction import Place, Prediction
from .draw import render
from .places import display_slice
from .views import count

MAX_PICTURES = 12


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a picture shows, to be said in any language: a finding ("" for none) on a modality, in a series
    of a role, at slice or frame ``n`` (from 1)."""

    finding: str
    modality: str
    role: str
    n: int
    frame: bool


@dataclass(frozen=True)
class KeyImage:
    """png: the picture as PNG bytes; name: of its file, without ending; label: one line of what it shows."""

    name: str
    png: bytes
    label: str
    plain: bool = False  # shows a modality, not evidence
    shows: Shown | None = None


def key_images(prediction: Prediction, case: Case, *, most: int = MAX_PICTURES) -> list[KeyImage]:
    """At most ``most`` pictures of evidence, what several sensors outline together first, then the
    likeliest lesions, and the middle of each modality.

    No score stands on a lesion: it is the detector's own, and would read like the calibrated probability of
    the finding."""
    wanted: list[tuple[str, Place, str, str]] = [
        (f"lesion_{x.id}", x.place, x.finding.replace("_", " "), x.finding)
        for x in (
            *(t.lesion for t in prediction.together),
            *sorted(prediction.lesions, key=lambda x: -x.probability),
        )
    ]
    for finding in prediction.findings:
        if finding.group != "focal" and finding.evidence and finding.assessed:
            label = f"{finding.id} {finding.probability:.2f}"
            wanted.append((f"finding_{finding.id}", finding.evidence[0], label, finding.id))
    out = []
    for name, about, boxes in _once(wanted[:most], case):
        place, label = boxes[0]
        image = case.images[place.image]
        index = display_slice(image, place)
        caption = _caption(case, place.image, index)
        picture = render(image, index, places=boxes, caption=caption)
        line = f"{label.replace('_', ' ')}: {caption}"
        shows = _shown(case, place.image, index, about)
        out.append(KeyImage(plain_name(name), _png(picture), line, shows=shows))
    for modality in prediction.modalities:
        images = [i for i, image in enumerate(case.images) if image.modality == modality]
        if images:
            index = count(case.images[images[0]]) // 2
            caption = _caption(case, images[0], index)
            out.append(
                KeyImage(
                    f"view_{modality}",
                    _png(render(case.images[images[0]], index, caption=caption)),
                    caption,
                    True,
                    _shown(case, images[0], index, ""),
                )
            )
    return out


def _once(
    wanted: list[tuple[str, Place, str, str]], case: Case
) -> list[tuple[str, str, list[tuple[Place, str]]]]:
    """Name, finding and boxes of each picture: what is of one finding on one slice stands in one picture."""
    rows: dict[tuple[int, int, str], tuple[str, str, list[tuple[Place, str]]]] = {}
    for name, place, label, about in wanted:
        at = (place.image, display_slice(case.images[place.image], place), about)
        rows.setdefault(at, (name, about, []))[2].append((place, label))
    return list(rows.values())


def _shown(case: Case, index: int, at: int, finding: str) -> Shown:
    image = case.images[index]
    return Shown(
        finding=finding, modality=image.modality, role=image.role, n=at + 1, frame=image.kind == "cine"
    )


def _png(picture: Picture.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "PNG", compress_level=3)  # a third larger, four times faster
    return out.getvalue()


def _caption(case: Case, index: int, at: int) -> str:
    image = case.images[index]
    what = "frame" if image.kind == "cine" else "slice"
    simulated = "SIMULATED, " if image.source.simulated else ""
    role = "" if image.role == "unknown" else f" {image.role}"
    return f"{simulated}{image.modality}{role}, {what} {at + 1}, research use"
