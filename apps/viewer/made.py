"""Images that a model made from this case: under a banner, each in one picture with the image it came from.

They are not in the reader: nothing is measured, outlined or reported on them.
"""

from __future__ import annotations

import html

import numpy as np
import streamlit as st
from PIL import Image as Picture

from apps.viewer.desk import library
from apps.viewer.words import plain, w
from medfuse.case import Image
from medfuse.display.contract import CineImage, VolumeImage
from medfuse.display.views import view_of
from medfuse.errors import UserError
from medfuse.io.nifti import read_nifti
from medfuse.library import store
from medfuse.library.made import MadeNote, made_from

HEIGHT = 320  # pixels of the picture
FRAME = (190, 60, 50)  # around what a model made


@st.fragment
def show(case_id: str, images: list[VolumeImage | CineImage]) -> None:
    """Nothing where nothing was made; never a made image without its source and the banner."""
    try:
        known = made_from(library(), {i.series_uid for i in images if i.series_uid})
    except UserError as e:
        st.warning(plain(e))
        return
    if not known or not st.toggle(w("made.title"), key=f"made-{case_id}"):
        return
    st.html(f'<div class="banner outside">{html.escape(w("made.banner"))}</div>')
    pairs = [(note, m, path) for note in known for m in note.sources for path in note.images]
    names = [f"{path.name} ← {m} · {note.bundle}" for note, m, path in pairs]
    key = f"which-{case_id}"
    n = st.selectbox(w("made.which"), range(len(pairs)), format_func=names.__getitem__, key=key)
    note, modality, path = pairs[n]
    try:
        source = _source(case_id, note, modality)
        made = read_nifti(path, synthetic=True)
    except UserError as e:
        st.warning(plain(e))
        return
    at = st.slider(w("made.depth"), 0, 100, 50, key=f"depth-{case_id}-{n}") / 100
    left, right = _slice(source, at), _slice(made, at)
    st.image(side_by_side(left, right), caption=w("made.caption"))
    if note.claims:
        told = ", ".join(finding if there else f"no {finding}" for finding, there in note.claims.items())
        st.caption(plain(w("made.claims", claims=told)))


def _source(case_id: str, note: MadeNote, modality: str) -> Image:
    """The image of the case that was given."""
    for image in store.load_case(library(), case_id).images:
        if image.source.series_uid == note.sources[modality]:
            return image
    raise UserError(w("made.source_gone"))


def _slice(image: Image, at: float) -> np.ndarray:
    """(H, W) bytes of one slice or frame at a share of the depth, in isotropic pixels."""
    from medfuse.workflows.fuse import scaled_volume

    if image.kind == "cine":
        frame = image.pixels[round(at * (len(image.pixels) - 1))]
        return np.asarray(Picture.fromarray(frame).convert("L"))
    view = view_of(image)
    whole = scaled_volume(image, view.pixels)
    plane = (255 * whole[:, :, round(at * (whole.shape[2] - 1))].T).astype(np.uint8)
    x, y, _ = view.spacing
    size = (plane.shape[1], max(1, round(plane.shape[0] * y / x)))
    return np.asarray(Picture.fromarray(plane).resize(size))


def side_by_side(source: np.ndarray, made: np.ndarray) -> Picture.Image:
    """One picture: the source on the left; on the right what was made, in a frame."""
    parts = []
    for pixels in (source, made):
        width = max(1, round(HEIGHT * pixels.shape[1] / pixels.shape[0]))
        parts.append(Picture.fromarray(pixels).resize((width, HEIGHT)).convert("RGB"))
    edge = 6
    out = Picture.new("RGB", (parts[0].width + 3 * edge + parts[1].width, HEIGHT + 2 * edge))
    out.paste(parts[0], (0, edge))
    box = (parts[0].width + edge, 0, out.width, out.height)
    out.paste(FRAME, box)
    out.paste(parts[1], (parts[0].width + 2 * edge, edge))
    return out
