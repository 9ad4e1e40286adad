"""Types of the front end, from the models of medfuse.display.contract: `python -m apps.viewer.typedefs`
writes frontend/contract.d.ts, which is committed and checked by tsc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from medfuse.display.contract import (
    Asked,
    CaseImages,
    FindingsData,
    Keyed,
    Measured,
    ReaderData,
    ReportChange,
    ReportData,
    Typing,
)
from medfuse.display.hanging import Hung, Windowed
from medfuse.display.referred import ReferredData
from medfuse.display.tags import TagsAsked

MESSAGES: tuple[type[BaseModel], ...] = (
    CaseImages,
    ReaderData,
    FindingsData,
    ReportData,
    ReferredData,
    Measured,
    ReportChange,
    Typing,
    Hung,
    Keyed,
    Asked,
    TagsAsked,
    Windowed,
)
TARGET = Path(__file__).parent / "frontend" / "contract.d.ts"
HEAD = "// Written by `python -m apps.viewer.typedefs` from medfuse/display/contract.py. Do not edit.\n"
PLAIN = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean", "null": "null"}


def typedefs() -> str:
    """One exported interface a model, in the order of their names."""
    _, whole = models_json_schema([(m, "serialization") for m in MESSAGES])
    parts = [_interface(name, schema) for name, schema in sorted(whole["$defs"].items())]
    return HEAD + "\n" + "\n".join(parts)


def _interface(name: str, schema: dict[str, Any]) -> str:
    about = schema.get("description", "").replace("\n", " ")
    fields = [
        f"  {field}{'' if field in schema.get('required', ()) else '?'}: {_type(value)}\n"
        for field, value in schema.get("properties", {}).items()
    ]
    return f"/** {about} */\nexport interface {name} {{\n{''.join(fields)}}}\n"


def _type(schema: dict[str, Any]) -> str:
    """A JSON Schema as a TypeScript type."""
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " | ".join(json.dumps(v) for v in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(_type(s) for s in schema[key])
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"[{', '.join(_type(s) for s in schema['prefixItems'])}]"
        inner = _type(schema.get("items", {}))
        return f"({inner})[]" if "|" in inner else f"{inner}[]"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"Record<string, {_type(values) if isinstance(values, dict) else 'any'}>"
    return PLAIN.get(str(kind), "any")


if __name__ == "__main__":
    TARGET.write_text(typedefs(), encoding="utf-8")
