"""One modality on another, where a registration exists: overlay, checkerboard or fused picture, under its
quality verdict.

A failed registration is named and never drawn. Values of moved or fused pixels are not shown as measurements.
"""

from __future__ import annotations

import html
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import streamlit as st
from PIL import Image as Picture

from apps.viewer import jobs, people
from apps.viewer.desk import library
from apps.viewer.words import plain, w
from medfuse.case import Image
from medfuse.display.contract import CineImage, VolumeImage
from medfuse.display.views import view_of
from medfuse.errors import UserError
from medfuse.library import store
from medfuse.library.registrations import (
    RegistrationNote,
    accept_registration,
    known_registrations,
    withdraw_registration,
)

BADGES = {"no fault found": "present", "check": "limited", "failed": "failed"}
TINT = np.array([1.0, 0.72, 0.15])


@st.fragment
def show(case_id: str, images: list[VolumeImage | CineImage]) -> None:
    """A banner where the volumes of a case were never registered."""
    by_uid = {i.series_uid: i for i in images if isinstance(i, VolumeImage) and i.affine and i.series_uid}
    known = known_registrations(library(), set(by_uid))
    if not known:
        if len({i.frame_of_reference for i in by_uid.values()}) > 1:
            st.caption(w("reader.not_registered"))
        return
    for row in known:
        if row.stands:
            pair = f"{_name(by_uid[row.moving])} → {_name(by_uid[row.fixed])}"
            st.caption(plain(w("overlay.accepted", pair=pair, name=row.accepted_by, time=row.accepted[:16])))
    if not st.toggle(w("overlay.title"), key=f"overlay-{case_id}"):
        return
    names = [f"{_name(by_uid[r.moving])} → {_name(by_uid[r.fixed])}" for r in known]
    n = st.selectbox(
        w("overlay.registration"), range(len(known)), format_func=lambda i: names[i], key=f"reg-{case_id}"
    )
    row = known[n]
    reasons = "; ".join(row.reasons)
    st.markdown(
        f'<span class="badge {BADGES[row.verdict]}">{row.verdict}</span> {html.escape(reasons)}',
        unsafe_allow_html=True,
    )
    if row.verdict == "failed":
        st.warning(w("overlay.failed"))
        return
    folder = Path(row.folder)
    _picture(case_id, row.moving, row.fixed, folder, f"{case_id}-{n}")
    quality = json.loads((folder / "quality.json").read_text(encoding="utf-8"))
    _acceptance(case_id, row)
    facts = [
        (k, quality[k.replace(" ", "_")]) for k in ("overlap", "shared information", "inverse consistency mm")
    ]
    st.caption(
        " · ".join(f"{k} {v:.2f}" for k, v in facts if v is not None) + " · " + w("overlay.not_measuring")
    )


def _acceptance(case_id: str, row: RegistrationNote) -> None:
    """Who may says that the two lie on each other, or no longer; the images follow."""
    who = people.account()
    if who is None or not people.may_edit():
        st.caption(w("overlay.accept_login"))
        return
    change = withdraw_registration if row.stands else accept_registration
    word = "overlay.withdraw" if row.stands else "overlay.accept"
    if not st.button(w(word), help=w("overlay.accept_hint"), key=f"accept-registration-{case_id}"):
        return
    try:
        change(library(), row.moving, row.fixed, who)
    except UserError as e:
        st.error(plain(e))
    else:
        st.rerun()


def _name(image: VolumeImage) -> str:
    return f"{image.modality} {image.role.replace('_', ' ')}"


@st.cache_data(max_entries=2, show_spinner="…")
def _pair(
    case_id: str, moving: str, fixed: str, folder: str, _stamp: float
) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """Fixed and moved volume in 0 to 1 in display order (left, back, up), and the spacing in mm."""
    from medfuse.registration.volume import to_array, to_sitk
    from medfuse.workflows.fuse import scaled_volume

    by_uid = {i.source.series_uid: i for i in store.load_case(library(), case_id).images}
    stored = nib.load(Path(folder) / "moved.nii.gz")
    moved = np.asarray(stored.dataobj, np.float32)  # type: ignore[attr-defined]
    grid, affine = to_array(to_sitk(by_uid[fixed]))
    parts = []
    for uid, pixels in ((fixed, grid), (moving, moved)):
        view = view_of(Image(by_uid[uid].modality, pixels, by_uid[uid].source, affine=affine))
        parts.append(scaled_volume(by_uid[uid], view.pixels).astype(np.float32))
    return parts[0], parts[1], view.spacing


def fused(fixed: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """In the model's process: the pixel fusion network on one slice."""
    from medfuse.pixelfusion.network import fuse

    return fuse([fixed.astype(np.float64), moved.astype(np.float64)])


def _picture(case_id: str, moving: str, fixed: str, folder: Path, key: str) -> None:
    a, b, spacing = _pair(case_id, moving, fixed, str(folder), (folder / "moved.nii.gz").stat().st_mtime)
    left, middle, right = st.columns(3)
    ways = {k: w(f"overlay.{k}") for k in ("overlay", "checkerboard", "fused")}
    how = left.radio(
        w("overlay.shown_as"), list(ways), format_func=ways.__getitem__, horizontal=True, key=f"how-{key}"
    )
    at = middle.slider(w("reader.slice"), 1, a.shape[2], a.shape[2] // 2 + 1, key=f"regslice-{key}") - 1
    share = right.slider(w("overlay.opacity"), 0.0, 1.0, 0.5, key=f"opacity-{key}", disabled=how != "overlay")
    f = a[..., at].T
    m = b[..., at].T
    if how == "overlay":
        pixels = (1 - share) * f[..., None] + share * m[..., None] * TINT
    elif how == "checkerboard":
        y, x = np.mgrid[: f.shape[0], : f.shape[1]]
        pixels = np.where((y * 8 // f.shape[0] + x * 8 // f.shape[1]) % 2 == 0, f, m)[..., None].repeat(3, -1)
    else:
        grey = jobs.call(fused, f, m) if np.ptp(f) and np.ptp(m) else f
        pixels = grey[..., None].repeat(3, -1)
    shown = Picture.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    height = 480
    width = max(1, round(height * f.shape[1] * spacing[0] / (f.shape[0] * spacing[1])))
    st.image(shown.resize((width, height), Picture.Resampling.BICUBIC), caption=w("overlay.caption"))
