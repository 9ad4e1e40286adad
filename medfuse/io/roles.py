"""The role of a series (CT phase, MR weighting) from its headers, with a confidence. 'unknown' is an answer."""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

PHASE_WORDS = (
    ("unenhanced", r"unenh|non.?con|without contrast|native|plain|w/?o contrast|nativ"),
    ("arterial", r"arter|\bart\b|late art|\bhap\b"),
    ("portal", r"portal|venous|\bpvp?\b|\bven\b"),
    ("delayed", r"delay|equilib|late phase|5 ?min|\bdel\b"),
)


def _text(ds: Dataset) -> str:
    return " ".join(
        str(ds.get(k, "")) for k in ("SeriesDescription", "ProtocolName", "SequenceName", "ContrastBolusAgent")
    ).lower()


def role_of(ds: Dataset, modality: str) -> tuple[str, float]:
    """(role, confidence 0 to 1)."""
    if modality == "CT":
        return _ct(ds)
    if modality == "MR":
        return _mr(ds)
    return ("cine" if int(ds.get("NumberOfFrames") or 1) > 1 else "still"), 1.0


def _phase_by_words(text: str) -> str:
    found = [name for name, pattern in PHASE_WORDS if re.search(pattern, text)]
    return found[0] if len(found) == 1 else ""


def _ct(ds: Dataset) -> tuple[str, float]:
    phase = _phase_by_words(_text(ds))
    agent = str(ds.get("ContrastBolusAgent", "")).strip()
    if phase == "unenhanced":
        return phase, 0.5 if agent else 0.9
    if phase:
        return phase, 0.9 if agent else 0.7
    return "unknown", 0.0


def _number(ds: Dataset, key: str) -> float | None:
    value = ds.get(key)
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


def _mr(ds: Dataset) -> tuple[str, float]:
    text, kinds = _text(ds), {str(v).upper() for v in (ds.get("ImageType") or [])}
    te, tr = _number(ds, "EchoTime"), _number(ds, "RepetitionTime")
    b = _number(ds, "DiffusionBValue")
    if (b or 0) > 50 or re.search(r"\bdwi\b|diff|\bep_b\d{3}", text):
        return ("unknown", 0.0) if "ADC" in kinds or "adc" in text else ("dwi", 0.9)
    if kinds & {"IN_PHASE", "IP"} or re.search(r"in.?phase|\bip\b", text):
        return "t1_in", 0.9
    if kinds & {"OPP_PHASE", "OUT_PHASE", "OP"} or re.search(r"(out|opp).{0,4}phase|opposed|\bop\b", text):
        return "t1_opposed", 0.9
    agent = str(ds.get("ContrastBolusAgent", "")).strip()
    phase = _phase_by_words(text)
    if phase in ("arterial", "portal", "delayed") and (agent or "t1" in text):
        return f"t1_{phase}", 0.9 if agent else 0.7
    spin_echo = "SE" in str(ds.get("ScanningSequence", ""))
    if re.search(r"\bt2", text) and "flair" not in text:
        return "t2", 0.9
    if te is not None and tr is not None and te >= 70 and tr > 1500 and spin_echo:
        return "t2", 0.8
    return "unknown", 0.0
