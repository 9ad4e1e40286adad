"""The words of a PDF (pypdf), read in a child process that can be stopped."""

from __future__ import annotations

import io
import logging

from ..errors import UserError
from ..io.child import ChildFailed, children

SECONDS = 30
PAGES = 200


def pdf_text(data: bytes) -> str:
    """All its words. Raises UserError for a PDF that is damaged, locked, or holds pictures of words alone."""
    try:
        text, fault = children().run(extract, data, limit=SECONDS)
    except ChildFailed as e:
        raise UserError(f"its PDF {e}") from e
    if fault:
        raise UserError(f"its PDF cannot be read ({fault}); send the report as text")
    if not text.strip():
        raise UserError("its PDF holds no words, only pictures; send the report as text")
    return text


def extract(data: bytes) -> list[str]:
    """Words, and what is wrong where there are none. Runs in the child."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)
    try:
        pages = PdfReader(io.BytesIO(data)).pages
        return ["\n".join(p.extract_text() for p in pages[:PAGES]), ""]
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, OSError) as e:
        return ["", (str(e).splitlines() or [type(e).__name__])[0][:80]]
