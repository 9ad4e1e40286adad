"""docs/reference/files.md: each kind of file and message that medfuse writes, field by field.

What a field means is taken from its description, else from the class's docstring ("name: what it is"), else
from the comment beside the field or above it, else from COMMON.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Iterator
from functools import cache

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from medfuse.workflows.schemas import MODELS

Model = type[BaseModel]

# Names that mean the same wherever they stand.
COMMON = {
    "affine": "(4, 4) voxel to RAS+ mm",
    "author": "the account that made it",
    "bundle": "the bundle that was used",
    "bundle_hash": "SHA-256 over the bundle's files",
    "case_id": "the case",
    "findings": "one record a finding",
    "frame_of_reference": "DICOM FrameOfReferenceUID: images of one frame share their coordinates",
    "group": "focal, diffuse, biliary or other",
    "hash": "SHA-256 over the bundle's files",
    "id": "its name, without spaces",
    "image": "index among the case's images, from 0",
    "images": "one record an image",
    "index": "its number, from 0",
    "kind": "which kind it is",
    "language": "en or zh-TW",
    "lesions": "one record a lesion",
    "machine": "the computer it ran on",
    "manifest": "path of the manifest",
    "medfuse": "version that wrote it",
    "method": "how it was made",
    "modality": "code such as CT",
    "name": "what it is called",
    "not_made": "one sentence for each file that could not be made",
    "path": "of the file or folder",
    "patient_id": "the patient",
    "place": "where it is",
    "probability": "calibrated, 0 to 1; null where nothing was said",
    "python": "version it ran on",
    "reason": "one sentence",
    "refused": "what was not used, with the reason",
    "revision": "counts every change",
    "role": "of the series, such as portal or t2",
    "schema_version": "of this form",
    "seconds": "how long it took",
    "sections": "in their order",
    "seed": "of all draws",
    "sentences": "in their order",
    "serial": "number of the message",
    "series_uid": "DICOM SeriesInstanceUID; empty where it came without one",
    "simulated": "whether it is of a simulated patient",
    "split": "train, val or test",
    "state": "how it stands",
    "text": "the words",
    "title": "as people read it",
    "value": "the number that was measured",
    "warnings": "one sentence for each thing to know",
    "why": "one sentence",
    "words": "of the viewer, in the reader's language",
}


def files_page() -> str:
    """A table for each kind, and one for each part that kinds are made of."""
    parts = [
        "# Files and messages\n\nEach kind has a JSON Schema of its name in `data_schemas/`, which files are "
        "checked against. Kinds that begin with\n`viewer_` are messages between the viewer and the browser, "
        "`task` is a YAML file, `manifest_row` is one line of a manifest.\n"
    ]
    for kind, model in MODELS.items():
        parts.append(f"## {kind}\n\n{purpose(model)}\n\n{_table(model)}\n")
    parts.append("# Parts\n\nRecords inside the files above.\n")
    for model in sorted(parts_of_kinds(), key=lambda m: m.__name__):
        parts.append(f"## {model.__name__}\n\n{purpose(model)}\n\n{_table(model)}\n")
    return "\n".join(parts)


def parts_of_kinds() -> set[Model]:
    """Every record inside a file, at any depth, that is no kind itself."""
    found: set[Model] = set()
    waiting: list[Model] = list(MODELS.values())
    while waiting:
        inner = {m for f in waiting.pop().model_fields.values() for m in _models_in(f.annotation)} - found
        found |= inner
        waiting += inner
    return found - set(MODELS.values())


def _models_in(annotation: object) -> Iterator[Model]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _models_in(inner)


def purpose(model: Model) -> str:
    """The docstring without what it says of single fields; "" where there is none of its own."""
    text = _docstring(model)
    first = next(iter(_said(model)), None)
    return (
        text
        if first is None
        else text[: first.start()].rstrip(" .") + "." * bool(text[: first.start()].strip())
    )


def meaning(model: Model, name: str) -> str:
    """What a field means, "" where nobody says it."""
    field = model.model_fields[name]
    written = (_from_docstring(m, name) for m in model.__mro__ if issubclass(m, BaseModel))
    said = field.description or next(filter(None, written), "") or _comments(model).get(name, "")
    return said or COMMON.get(name, "")


def _docstring(model: Model) -> str:
    own = model.__dict__.get("__doc__") or ""
    return re.sub(r"\s+", " ", inspect.cleandoc(own)).replace("``", "`").strip()


def _said(model: Model) -> list[re.Match[str]]:
    """Each "name: " or "name, name: " of the docstring whose names are all fields."""
    found = re.finditer(r"(?:`?\w+`?, )*`?\w+`?: ", _docstring(model))
    return [m for m in found if set(re.findall(r"\w+", m[0])) <= set(model.model_fields)]


def _from_docstring(model: Model, name: str) -> str:
    text = _docstring(model)
    said = _said(model)
    ends = [*(m.start() for m in said[1:]), len(text)]
    for match, end in zip(said, ends, strict=False):
        if name in re.findall(r"\w+", match[0]):
            return text[match.end() : end].strip(" .")
    return ""


@cache
def _comments(model: Model) -> dict[str, str]:
    """Comments beside a field or above it, by field, of the class and what it inherits from."""
    out: dict[str, str] = {}
    for each in reversed(model.__mro__):
        if isinstance(each, type) and issubclass(each, BaseModel) and each is not BaseModel:
            out |= _comments_in(inspect.getsource(each))
    return out


def _comments_in(source: str) -> dict[str, str]:
    out: dict[str, str] = {}
    above: list[str] = []
    for line in source.splitlines():
        field = re.match(r"    (\w+): [^#]*(?:#\s*(.*))?$", line)
        alone = re.match(r"    #\s*(.*)$", line)
        if field and (field[2] or above):
            out[field[1]] = field[2] or " ".join(above)
        above = [*above, alone[1]] if alone else []
    return out


def _table(model: Model) -> str:
    rows = ["| Field | Type | What it is |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if not field.exclude:
            rows.append(f"| `{field.alias or name}` | {_type(field)} | {_cell(meaning(model, name))} |")
    return "\n".join(rows)


def _type(field: FieldInfo) -> str:
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(_plain(field.annotation)))
    default = field.get_default(call_default_factory=False)
    shown = (
        "" if field.is_required() or default in (PydanticUndefined, None, "") else f", default `{default}`"
    )
    return f"`{text}`".replace("|", r"\|") + shown + ("" if field.is_required() else ", may be left out")


def _plain(annotation: object) -> object:
    return (
        annotation.__name__
        if isinstance(annotation, type) and not typing.get_args(annotation)
        else annotation
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def silent_fields() -> list[str]:
    """Each "Model.field" whose meaning nobody says."""
    models = sorted({*MODELS.values(), *parts_of_kinds()}, key=lambda m: m.__name__)
    return [
        f"{m.__name__}.{n}"
        for m in models
        for n, f in m.model_fields.items()
        if not (f.exclude or meaning(m, n))
    ]
