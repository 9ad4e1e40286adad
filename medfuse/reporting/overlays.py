"""Pictures that show where: each supported finding's evidence on the image it comes from."""

from __future__ import annotations

from pathlib import Path

from ..case import Case
from ..prediction import Place, Prediction
from .display import count, display_slice, render

MAX_PICTURES = 12


def write_overlays(prediction: Prediction, case: Case, folder: Path) -> list[str]:
    """PNG files under ``folder``; one a lesion, one a non-focal finding with evidence, and one plain view a modality."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    wanted: list[tuple[str, Place, str]] = [
        (f"lesion_{x.id}", x.place, f"{x.finding} {x.probability:.2f}")
        for x in sorted(prediction.lesions, key=lambda x: -x.probability)
    ]
    for finding in prediction.findings:
        if finding.group != "focal" and finding.evidence and finding.assessed:
            wanted.append((f"finding_{finding.id}", finding.evidence[0], f"{finding.id} {finding.probability:.2f}"))
    for name, place, label in wanted[:MAX_PICTURES]:
        image = case.images[place.image]
        index = display_slice(image, place)
        caption = _caption(case, place.image, index)
        render(image, index, places=[(place, label)], caption=caption).save(folder / f"{name}.png")
        names.append(f"{name}.png")
    for modality in prediction.modalities:
        images = [i for i, image in enumerate(case.images) if image.modality == modality]
        if images:
            index = count(case.images[images[0]]) // 2
            render(case.images[images[0]], index, caption=_caption(case, images[0], index)).save(
                folder / f"view_{modality}.png"
            )
            names.append(f"view_{modality}.png")
    return names


def _caption(case: Case, index: int, at: int) -> str:
    image = case.images[index]
    what = "frame" if image.modality == "US" else "slice"
    simulated = "SIMULATED, " if image.source.simulated else ""
    return f"{simulated}{image.modality} {image.role}, {what} {at + 1}, research draft"
