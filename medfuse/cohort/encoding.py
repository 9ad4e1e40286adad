"""Bytes of a table → text: the encoding is found by charset-normalizer, and refused where two would do."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from charset_normalizer import from_bytes

from ..errors import UserError, WrongUse

CHINESE = ["big5", "gb18030"]  # besides UTF: what hospitals of Taiwan and China write
WESTERN = ["cp1252"]  # and of Europe
WIDER = {"big5": "cp950"}  # the same with more characters
CLEAR = 0.02  # of charset-normalizer's mess ratio: nearer than this, two encodings would do
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def decoded(path: Path, data: bytes, encoding: str = "") -> tuple[str, str]:
    """Text and the name of its encoding. Raises UserError where it cannot be told, WrongUse for a stated
    encoding that Python does not know or that does not fit."""
    if encoding:
        try:
            return data.decode(encoding), encoding
        except (LookupError, UnicodeError) as e:
            raise WrongUse(f"{path}: is not {encoding} ({e}); give another --encoding") from e
    stated = next((name for mark, name in MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(stated), stated
    except UnicodeError:
        return _guessed(path, data)


_FOREIGN = re.compile(rb"(?:[\x80-\xff][\x40-\xff]?)+")
TYPOGRAPHY = set("’‘“”–—…•°±µ²³§€£«»©®·½¼¾×")
SURE, UNLIKELY = 0.9, 0.5  # of the characters beyond ASCII, how many stand as a western text has them


def _likely(data: bytes) -> list[str]:
    """Encodings to choose from: western where characters beyond ASCII are letters beside plain letters."""
    text = data.decode("cp1252", "replace")
    high = [m.start() for m in re.finditer(r"[^\x00-\x7f]", text)]
    share = sum(_western(text, at) for at in high) / max(1, len(high))
    return WESTERN if share >= SURE else CHINESE if share <= UNLIKELY else [*CHINESE, *WESTERN]


def _western(text: str, at: int) -> bool:
    """Whether a character is a letter with a mark beside a plain letter of its case, a word of one letter, or
    a sign of typography."""
    c = text[at]
    beside = text[max(0, at - 1) : at] + text[at + 1 : at + 2]
    if c in "ªµº" or not c.isalpha():
        return c in TYPOGRAPHY and c != "µ"
    fits = any(b.isalpha() and b.islower() == c.islower() for b in beside)
    return fits or any(b.islower() for b in beside) or (c in "àÀ" and beside.isspace())


def _guessed(path: Path, data: bytes) -> tuple[str, str]:
    likely = _likely(data)
    telling = data if likely == WESTERN else b"\n".join(_FOREIGN.findall(data))  # plain ASCII tells nothing
    found = sorted(
        ((m.chaos, m.encoding) for m in from_bytes(telling, cp_isolation=likely, threshold=0.4)),
        key=lambda pair: pair[0],
    )
    if not found:
        raise UserError(
            f"{path}: its bytes are no UTF-8, Big5, GB18030 or Latin-1 text; save it as UTF-8 or give "
            "--encoding"
        )
    if len(found) > 1 and found[1][0] - found[0][0] < CLEAR:
        names = " or ".join(name for _, name in found[:2])
        raise UserError(f"{path}: its encoding may be {names}; say which with --encoding")
    name = WIDER.get(found[0][1], found[0][1])
    try:
        return data.decode(name), name
    except UnicodeError as e:
        raise UserError(
            f"{path}: looks like {name} but byte {getattr(e, 'start', 0)} is none; save it as UTF-8 or "
            "give --encoding"
        ) from e
