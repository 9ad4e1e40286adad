"""JSON and YAML that somebody else wrote: damaged, nested without end, or with letters that no file can
hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import yaml


def foreign_json(
    text: str, pairs: Callable[[list[tuple[str, object]]], dict[str, object]] | None = None
) -> object:
    """What a JSON text says. pairs: makes an object of its names and values. Raises ValueError with a clause
    for a person."""
    try:
        found = json.loads(text, object_pairs_hook=pairs)
        json.dumps(found, ensure_ascii=False).encode()
    except RecursionError as e:
        raise ValueError("is nested too deeply") from e
    except UnicodeEncodeError as e:
        raise ValueError("holds half of a character") from e
    except json.JSONDecodeError:
        raise
    except ValueError as e:
        if "integer string" in str(e):
            raise ValueError("holds a number of too many digits") from e
        raise
    return found


def yaml_as_json(text: str) -> Any:
    """What a YAML text says, in values that JSON has too (and dates). Raises yaml.YAMLError, for what
    its parser ends in otherwise too: depth, numbers of too many digits, days that no calendar has."""
    try:
        return yaml.safe_load(text)
    except RecursionError as e:
        raise yaml.YAMLError("is nested too deeply") from e
    except (ValueError, TypeError, OverflowError) as e:
        raise yaml.YAMLError(f"holds a number, a date or a name that is none ({str(e)[:60]})") from e
