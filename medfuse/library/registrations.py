"""Where registrations of the library's series lie: one JSON note each under MEDFUSE_HOME/registrations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..case import Case
from ..settings import settings


def registrations_folder() -> Path:
    return settings().home / "registrations"


def known_registrations(series: set[str]) -> list[dict]:
    """What the library knows of registrations between these series. A failed one is listed, and not to be used."""
    folder = registrations_folder()
    if not folder.is_dir():
        return []
    rows = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    return [r for r in rows if r["moving"] in series and r["fixed"] in series and Path(r["folder"]).is_dir()]


def links_of(case: Case) -> dict[tuple[str, str], np.ndarray]:
    """(frame of the moving image, of the fixed one) → (4, 4) RAS+ mm to RAS+ mm, of linear registrations in which no fault was found."""
    frames = {i.source.series_uid: i.frame_of_reference for i in case.images if i.source.series_uid}
    rows = known_registrations(set(frames))
    if not rows:
        return {}
    import SimpleITK as sitk  # takes a third of a second, and most cases have none

    from ..registration.register import matrix_of
    from ..registration.volume import LPS

    out = {}
    for row in rows:
        if row["verdict"] != "no fault found":
            continue
        transform = sitk.ReadTransform(str(Path(row["folder"]) / "transform.tfm"))
        if not transform.IsLinear():
            continue
        to_fixed = np.linalg.inv(LPS @ matrix_of(transform) @ LPS)  # the file maps fixed points to the moving image
        out[frames[row["moving"]], frames[row["fixed"]]] = to_fixed
    return out
