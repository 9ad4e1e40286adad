"""Bytes of a small text file → text, whichever program wrote it."""

from __future__ import annotations

import json


def decoded(data: bytes) -> str:
    """Text in UTF-8, 16 or 32, with or without a mark before it, else in Windows-1252. Raises ValueError."""
    try:
        return data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        return data.decode("cp1252")
