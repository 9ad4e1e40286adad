"""Where registrations of the library's series lie: one JSON note each under MEDFUSE_HOME/registrations."""

from __future__ import annotations

import json
from pathlib import Path

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
