"""Studies dropped on the page: the same ingest as the command, then a prediction in the background."""

from __future__ import annotations

import shutil
from pathlib import Path

import streamlit as st

from apps.viewer import jobs, people
from apps.viewer.desk import library
from apps.viewer.words import language, plain, w
from medfuse.errors import UnreadableError, UserError
from medfuse.io.names import sent_name
from medfuse.io.temporary import temporary_folder
from medfuse.io.volume_files import is_volume_file
from medfuse.library import store
from medfuse.library.accounts import acting_as
from medfuse.library.ingest import ingest
from medfuse.library.referring import LABEL_MAP
from medfuse.modalities import MODALITIES, listed


def show(*, empty: bool) -> None:
    """The field for files, open where the library is empty."""
    turn = st.session_state.setdefault("upload-turn", 0)  # another key empties the field after an upload
    with st.expander(w("worklist.upload"), expanded=empty):
        files = st.file_uploader(w("worklist.drop"), accept_multiple_files=True, key=f"files-{turn}") or []
        loose = [f for f in files if is_volume_file(Path(f.name))]
        stated = {}
        said = {LABEL_MAP: w("worklist.label_map"), "": w("worklist.which")}
        for column, file in zip(st.columns(max(1, min(4, len(loose)))) * 16, loose, strict=False):
            stated[file.name] = column.selectbox(
                w("worklist.modality_of") + f": {file.name}",
                ["", *MODALITIES, LABEL_MAP],
                format_func=lambda m: said.get(m, m),
                key=f"modality-{turn}-{file.name}",
            )
        left, right = st.columns([3, 1], vertical_alignment="center")
        then = left.checkbox(w("worklist.predict_after"), value=True, key="predict-after")
        ready = bool(files) and all(stated.values())
        if right.button(
            w("worklist.add"), type="primary", key="add", disabled=not ready or not people.may_add()
        ):
            _add(files, stated, then)
    for level, text in st.session_state.pop("upload-said", []):
        getattr(st, level)(plain(text))


def _add(files: list, stated: dict[str, str], then: bool) -> None:
    """Write what was sent to a folder of its own, read it in, and say what became of it. NIfTI files of one
    drop are one case."""
    said: list[tuple[str, str]] = []
    added: list[str] = []
    loose: list[tuple[Path, str]] = []
    with (
        temporary_folder("upload") as folder,
        st.spinner(w("worklist.reading")),
        acting_as(people.acts()),
    ):
        for n, file in enumerate(files):
            name = Path(file.name).name
            path = folder / str(n) / sent_name(name)
            path.parent.mkdir()
            with path.open("wb") as target:
                shutil.copyfileobj(file, target)
            if name in stated:
                loose.append((path, stated[name]))
                continue
            added += _read(name, path, said)
        if loose:
            try:
                added.append(store.add_nifti(library(), loose))
            except UnreadableError as e:
                said.append(("error", f"{Path(e.path).name}: {e.reason}"))
            except UserError as e:
                said.append(("error", str(e)))
    added = list(dict.fromkeys(added))
    if added:
        said.insert(0, ("success", w("worklist.added", n=len(added))))
        if then:
            jobs.predict(added, language(), people.acts())
    st.session_state["upload-said"] = said
    st.session_state["upload-turn"] += 1
    st.rerun()


def _read(name: str, path: Path, said: list[tuple[str, str]]) -> list[str]:
    """Cases of one zip or DICOM file; what was refused goes to ``said``, by the name that the user knows."""
    try:
        done = ingest(library(), path)
    except UserError as e:
        said.append(("error", f"{name}: {str(e).replace(str(path), '').lstrip(': ')}"))
        return []
    if done.refused:
        reasons = "; ".join(dict.fromkeys(r["reason"].replace(str(path), name) for r in done.refused))
        said.append(("warning", f"{name}: {w('worklist.refused', n=len(done.refused))}: {reasons[:400]}"))
    elif not done.cases and done.objects:
        said.append(("success", f"{name}: {w('worklist.objects', n=len(done.objects))}"))
    elif not done.cases:
        said.append(("error", f"{name}: holds no image that can be read; give DICOM or NIfTI of {listed()}"))
    return done.cases
