"""medfuse: several sensors in, one patient understood, a report a radiologist can check.

    bundle = medfuse.load_bundle()
    case = medfuse.open_case("folder/of/one/patient")
    prediction = medfuse.Predictor(bundle)(case)
    report = medfuse.draft(prediction, case, bundle)

Each name is imported when it is first used, so that ``import medfuse`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .bundles.bundle import load_bundle
    from .drafting.draft import draft
    from .evaluation.evaluate import evaluate
    from .inference.predictor import Predictor
    from .io.read import open_case
    from .library.library import Library

__all__ = ["Library", "Predictor", "__version__", "draft", "evaluate", "load_bundle", "open_case"]
__version__ = version("medfuse")

_HOMES = {
    "Library": ".library.library",
    "Predictor": ".inference.predictor",
    "draft": ".drafting.draft",
    "evaluate": ".evaluation.evaluate",
    "load_bundle": ".bundles.bundle",
    "open_case": ".io.read",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
