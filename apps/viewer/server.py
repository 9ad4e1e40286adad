"""The viewer's web server: Streamlit's pages, the front end's files, and pixels for the session that may see them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # streamlit runs this file as a script

import pandas as pd
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from streamlit.dataframe_util import convert_anything_to_arrow_bytes

from apps.viewer.pixels import shelf
from apps.viewer.views import accounts, cohort, rating, reading, search, worklist  # noqa: F401  loaded before the first reader comes
from apps.viewer.words import LANGUAGES, table_of
from medfuse.library.worklist import worklist as rows_of_worklist
from medfuse.settings import settings

HERE = Path(__file__).resolve().parent
FRONT_END = HERE / "frontend" / "built"


async def front_end(request: Request) -> Response:
    """Programs only: nothing of a patient lies there."""
    path = FRONT_END / request.path_params["name"]
    if path.parent != FRONT_END or path.suffix != ".js" or not path.exists():
        return Response(status_code=404)
    return FileResponse(path, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


async def pixels(request: Request) -> Response:
    """One chunk of one image. A key that no living session holds opens nothing, and does not say why."""
    path = shelf.find(request.path_params["key"], request.path_params["name"])
    if path is None:
        return Response(status_code=404)
    headers = {"Content-Encoding": "gzip", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return FileResponse(path, media_type="application/octet-stream", headers=headers)


def _warm() -> None:
    """What the first page would otherwise wait for: words, pandas, Arrow, the catalogue."""
    for one in LANGUAGES:
        table_of(one)
    if (settings().home / "library.db").exists():
        convert_anything_to_arrow_bytes(pd.DataFrame([{"patient": r.patient_id} for r in rows_of_worklist()]))


_warm()
app = st.App(
    HERE / "app.py",
    routes=[
        Route("/medfuse/ui/{name}", front_end),
        Route("/medfuse/pixels/{key}/{name}", pixels),
    ],
)
