"""One modality on another, where a registration exists: overlay, checkerboard or fused picture, under its quality verdict.

A failed registration is named and never drawn. Values of moved or fused pixels are not shown as measurements.
"""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import streamlit as st
from PIL import Image as Picture

from medfuse.case import Case, Image
from medfuse.fusing import scaled_volume
from medfuse.models.pixel_fusion import fuse
from medfuse.registering import known_registrations
from medfuse.registration.volume import to_array, to_sitk
from medfuse.reporting.display import view_of

BADGES = {"no fault found": "present", "check": "limited", "failed": "failed"}
TINT = np.array([1.0, 0.72, 0.15])


def show(case: Case) -> None:
    """Nothing is shown for a case whose series were never registered."""
    by_uid = {i.source.series_uid: i for i in case.images if i.affine is not None and i.source.series_uid}
    known = known_registrations(set(by_uid))
    if not known:
        if len({i.frame_of_reference for i in by_uid.values()}) > 1:
            st.caption("The volumes of this case are not registered: nothing is overlaid. See `medfuse register`.")
        return
    with st.expander("One modality on another", expanded=False):
        names = [f"{_name(by_uid[r['moving']])} on {_name(by_uid[r['fixed']])}" for r in known]
        n = st.selectbox("Registration", range(len(known)), format_func=lambda i: names[i], key=f"reg-{case.case_id}")
        row = known[n]
        reasons = "; ".join(row["reasons"])
        st.markdown(
            f'<span class="badge {BADGES[row["verdict"]]}">{row["verdict"]}</span> {reasons}', unsafe_allow_html=True
        )
        if row["verdict"] == "failed":
            st.warning("This registration failed and is not used.")
            return
        _picture(by_uid[row["moving"]], by_uid[row["fixed"]], Path(row["folder"]), f"{case.case_id}-{n}")
        quality = json.loads((Path(row["folder"]) / "quality.json").read_text())
        facts = [
            ("overlap", quality["overlap"]),
            ("shared information", quality["shared_information"]),
            ("there and back, mm", quality["inverse_consistency_mm"]),
        ]
        st.caption(" · ".join(f"{k} {v:.2f}" for k, v in facts if v is not None) + " · for looking, not for measuring")


def _name(image: Image) -> str:
    return f"{image.modality} {image.role.replace('_', ' ')}"


@st.cache_data(max_entries=4, show_spinner="Bringing the images onto one grid…")
def _pair(
    folder: str, _moving: Image, _fixed: Image, _stamp: float
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Fixed and moved volume in 0 to 1 in display order (left, back, up), and the spacing in mm."""
    stored = nib.load(Path(folder) / "moved.nii.gz")
    moved = np.asarray(stored.dataobj, np.float32)
    grid, affine = to_array(to_sitk(_fixed))
    parts = []
    for image, pixels in ((_fixed, grid), (_moving, moved)):
        view = view_of(Image(image.modality, pixels, image.source, affine=affine))
        parts.append(scaled_volume(image, view.pixels).astype(np.float32))
    return parts[0], parts[1], view.spacing


def _picture(moving: Image, fixed: Image, folder: Path, key: str) -> None:
    a, b, spacing = _pair(str(folder), moving, fixed, (folder / "moved.nii.gz").stat().st_mtime)
    left, middle, right = st.columns(3)
    how = left.radio("Shown as", ["overlay", "checkerboard", "fused"], horizontal=True, key=f"how-{key}")
    at = middle.slider("Slice", 1, a.shape[2], a.shape[2] // 2 + 1, key=f"regslice-{key}") - 1
    share = right.slider("Opacity", 0.0, 1.0, 0.5, key=f"opacity-{key}", disabled=how != "overlay")
    f, m = a[..., at].T, b[..., at].T
    if how == "overlay":
        pixels = (1 - share) * f[..., None] + share * m[..., None] * TINT
    elif how == "checkerboard":
        y, x = np.mgrid[: f.shape[0], : f.shape[1]]
        pixels = np.where((y * 8 // f.shape[0] + x * 8 // f.shape[1]) % 2 == 0, f, m)[..., None].repeat(3, -1)
    else:
        pixels = (
            fuse([f.astype(np.float64), m.astype(np.float64)])[..., None].repeat(3, -1)
            if np.ptp(f) and np.ptp(m)
            else f[..., None].repeat(3, -1)
        )
    shown = Picture.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    height = 420
    width = max(1, round(height * f.shape[1] * spacing[0] / (f.shape[0] * spacing[1])))
    st.image(shown.resize((width, height), Picture.Resampling.BICUBIC), caption="R on the left")
