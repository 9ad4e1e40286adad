"""The viewer's web server: Streamlit's pages, the front end's files, and pixels for the session that may see
them."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # streamlit runs this file as a script

import pandas as pd
import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from streamlit.dataframe_util import convert_anything_to_arrow_bytes

from apps.viewer.desk import library
from apps.viewer.guard import LOOPBACK, Guard, on_this_machine
from apps.viewer.people import browser_may_look
from apps.viewer.pixels import shelf
from apps.viewer.registry import PAGES  # here, so that Streamlit's sessions find every page loaded
from apps.viewer.words import LANGUAGES, table_of
from medfuse.library.health import METRICS_TYPE, healthz, metrics
from medfuse.library.worklist import worklist as rows_of_worklist

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


async def well(request: Request) -> Response:
    """For a probe that keeps the server running: 200, or 503 with the check that fails."""
    code, text = await run_in_threadpool(healthz, library())
    return PlainTextResponse(text, status_code=code)


async def counts(request: Request) -> Response:
    """For Prometheus on this machine; from elsewhere it is not there, as it says how busy a hospital is."""
    if not on_this_machine(request.headers) or not of_this_machine(request):
        return Response(status_code=404)
    return Response(await run_in_threadpool(metrics, library()), media_type=METRICS_TYPE)


def of_this_machine(request: Request) -> bool:
    """Whether the peer itself has a loopback address."""
    return request.client is not None and request.client.host in LOOPBACK


def _warm() -> None:
    """What the first page would otherwise wait for: words, pandas, Arrow, the catalogue."""
    for one in LANGUAGES:
        table_of(one)
    if library().exists:
        convert_anything_to_arrow_bytes(
            pd.DataFrame([{"patient": r.patient_id} for r in rows_of_worklist(library())])
        )


# The pages are those of registry.py. Without this the first visitor of a process would get a navigation made
# of the files in pages/, which Streamlit takes for pages of its own until st.navigation was called once.
st.navigation([PAGES[0].show])
_warm()
app = st.App(
    HERE / "app.py",
    middleware=[
        Middleware(
            Guard,
            address=st.get_option("server.address") or "",
            port=st.get_option("server.port"),
            may_look=browser_may_look,
        )
    ],
    routes=[
        Route("/healthz", well),
        Route("/metrics", counts),
        Route("/medfuse/ui/{name}", front_end),
        Route("/medfuse/pixels/{key}/{name}", pixels),
    ],
)
