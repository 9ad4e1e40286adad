"""`medfuse info`: versions, devices, bundles, codecs."""

from __future__ import annotations

from .app import app, emit, verbosity
from .options import Json, Verbose


@app.command()
def info(as_json: Json = False, verbose: Verbose = 0) -> None:
    """Versions, devices, bundles, transfer syntaxes."""
    verbosity(verbose)
    from ..workflows.info import collect_json

    data = collect_json()
    text = [f"{k} {v}" for k, v in data["versions"].items()] + [f"device {d}" for d in data["devices"]]
    text += [f"bundle {b['name']} {b['hash'][:12]} {b['path']}" for b in data["bundles"]]
    text += [f"decodes {c['name']} ({c['uid']}) by {c['decoder']}" for c in data["codecs"]]
    emit(data, as_json, "\n".join(text))
