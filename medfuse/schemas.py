"""JSON Schemas of the files we read and write, generated from the pydantic models: `python -m medfuse.schemas FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pydantic import BaseModel

from .io.manifest import ManifestRow
from .prediction import Prediction
from .report import Report
from .task import Task

MODELS: dict[str, type[BaseModel]] = {
    "prediction": Prediction,
    "report": Report,
    "task": Task,
    "manifest_row": ManifestRow,
}


def schemas() -> dict[str, dict]:
    return {name: model.model_json_schema() for name, model in MODELS.items()}


def main(folder: str) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, schema in schemas().items():
        (Path(folder) / f"{name}.schema.json").write_text(json.dumps(schema, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
