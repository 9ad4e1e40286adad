"""What a series is (CT phase, MR weighting, contrast, fat saturation, b-value), from its headers, with a confidence.

"unknown" is an answer. `traits` says what the headers support; `role_of` names the role that a task asks for.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

PHASE_WORDS = (
    ("unenhanced", r"unenh|non.?con|without contrast|native|plain|w/?o contrast|nativ"),
    ("arterial", r"arter|\bart\b|late art|\bhap\b"),
    ("portal", r"portal|venous|\bpvp?\b|\bven\b"),
    ("delayed", r"delay|equilib|late phase|5 ?min|\bdel\b"),
)
FAT_WORDS = r"fat.?sat|\bfs\b|_fs|spir\b|spair|chess|water.?only|\bstir\b|tirm|dixon.*_w\b"
WEIGHT_WORDS = (
    ("FLAIR", r"flair|dark.?fluid"),
    ("T2*", r"t2.?\*|t2star|\bgre\b.*hemo|\bswi\b|bold|\bfmri\b"),
    ("DWI", r"\bdwi\b|diff|\bep2?d?_b\d|\bdti\b|\btensor\b"),
    ("T2", r"\bt2|_t2|haste|ssfse|mrcp"),
    ("T1", r"\bt1|_t1|mprage|mpr_|\bvibe|\blava|thrive|spgr|bravo"),
    ("PD", r"\bpd\b|\bpd_|proton"),
)
# AcquisitionContrast of enhanced MR, PS3.3 C.8.13.3.1.2
CONTRASTS = {"T1": "T1", "T2": "T2", "T2_STAR": "T2*", "DIFFUSION": "DWI", "PROTON_DENSITY": "PD", "FLUID_ATTENUATED": "FLAIR"}  # fmt: skip

Trait = tuple[str, float]  # value, confidence 0 to 1
UNKNOWN: Trait = ("unknown", 0.0)


def _text(ds: Dataset) -> str:
    keys = ("SeriesDescription", "ProtocolName", "SequenceName", "ContrastBolusAgent")
    return " ".join(str(ds.get(k, "")) for k in keys).lower()


def _number(ds: Dataset, key: str) -> float | None:
    value = ds.get(key)
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


def _words(text: str, table: tuple[tuple[str, str], ...]) -> str:
    found = [name for name, pattern in table if re.search(pattern, text)]
    return found[0] if found else ""


def _phase(text: str) -> str:
    """One phase, or none where the words name several."""
    found = [name for name, pattern in PHASE_WORDS if re.search(pattern, text)]
    return found[0] if len(found) == 1 else ""


def traits(ds: Dataset, modality: str) -> dict[str, Trait]:
    """What the headers say: contrast (CT, MR), phase, and for MR weighting, fat saturation, echo (in, opposed), b-value."""
    text = _text(ds)
    agent = str(ds.get("ContrastBolusAgent", "") or "").strip()
    phase = _phase(text)
    found: dict[str, Trait] = {}
    if modality in ("CT", "MR"):
        if agent and agent.upper() not in ("NONE", "NO"):
            found["contrast"] = ("no", 0.5) if phase == "unenhanced" else ("yes", 0.9)
        elif phase:
            found["contrast"] = ("no", 0.9) if phase == "unenhanced" else ("yes", 0.7)
        else:
            found["contrast"] = UNKNOWN
        agreed = found["contrast"][0] == ("no" if phase == "unenhanced" else "yes")
        found["phase"] = (phase, found["contrast"][1] if agreed else 0.5) if phase else UNKNOWN
    if modality == "MR":
        found["weighting"] = _weighting(ds, text)
        found["fat_saturation"] = _fat_saturation(ds, text)
        found["echo"] = _echo(ds, text)
        b = _number(ds, "DiffusionBValue")
        named = re.search(r"\bb_?(\d{2,4})\b|_b(\d{2,4})", text)
        if b is not None:
            found["b_value"] = (f"{b:g}", 1.0)
        else:
            found["b_value"] = (next(g for g in named.groups() if g), 0.6) if named else UNKNOWN
    return found


def _kinds(ds: Dataset) -> set[str]:
    return {str(v).upper() for v in (ds.get("ImageType") or [])}


def _weighting(ds: Dataset, text: str) -> Trait:
    """Words first (0.9), then what the standard attribute says (0.9), then the physics of TE, TR and TI (0.7 to 0.8)."""
    if (_number(ds, "DiffusionBValue") or 0) > 50:
        return "DWI", 1.0
    words = _words(text, WEIGHT_WORDS)
    if words:
        return words, 0.9
    stated = CONTRASTS.get(str(ds.get("AcquisitionContrast", "")).upper(), "")
    if stated:
        return stated, 0.9
    te, tr, ti = (_number(ds, k) for k in ("EchoTime", "RepetitionTime", "InversionTime"))
    sequence = str(ds.get("ScanningSequence", ""))
    spin, gradient, inverted, planar = ("SE" in sequence, "GR" in sequence, "IR" in sequence, "EP" in sequence)
    if te is None or tr is None or planar:  # echo-planar alone may be diffusion, perfusion or activation
        return UNKNOWN
    if (spin or inverted) and not gradient:
        if ti is not None and 1500 <= ti <= 3000 and te > 70 and tr > 4000:
            return "FLAIR", 0.8
        if te >= 70 and tr > 1500:
            return "T2", 0.8
        if te <= 30 and tr <= 800:
            return "T1", 0.8
        if te <= 40 and tr > 1500:
            return "PD", 0.7
    elif gradient:
        if te <= 10 and (inverted or (ti is not None and 300 <= ti <= 1400)):
            return "T1", 0.8  # magnetisation-prepared
        if te >= 15:
            return "T2*", 0.7
        if te <= 10 and (_number(ds, "FlipAngle") or 0) >= 10:
            return "T1", 0.7
    return UNKNOWN


def _fat_saturation(ds: Dataset, text: str) -> Trait:
    options = {v.strip().upper() for v in str(ds.get("ScanOptions", "")).strip("[]").replace("'", "").split(",")}
    if options & {"FS", "SFS", "FATSAT"}:
        return "yes", 0.9
    if re.search(FAT_WORDS, text):
        return "yes", 0.8
    return UNKNOWN


def _echo(ds: Dataset, text: str) -> Trait:
    kinds = _kinds(ds)
    if kinds & {"IN_PHASE", "IP"} or re.search(r"in.?phase|\bip\b", text):
        return "in", 0.9
    if kinds & {"OPP_PHASE", "OUT_PHASE", "OP"} or re.search(r"(out|opp).{0,4}phase|opposed|\bop\b", text):
        return "opposed", 0.9
    return UNKNOWN


def role_of(ds: Dataset, modality: str) -> Trait:
    """(role, confidence 0 to 1): the name that tasks use, see ``roles`` in a task file."""
    if modality == "US":
        return ("cine" if int(ds.get("NumberOfFrames") or 1) > 1 else "still"), 1.0
    found = traits(ds, modality)
    phase, sure = found["phase"]
    if modality == "CT":
        return (phase, sure) if phase != "unknown" else UNKNOWN
    weighting, weight_sure = found["weighting"]
    if weighting == "DWI":
        is_map = "ADC" in _kinds(ds) or "adc" in _text(ds)
        return UNKNOWN if is_map else ("dwi", min(0.9, weight_sure))
    if found["echo"] != UNKNOWN:
        return f"t1_{found['echo'][0]}", found["echo"][1]
    if phase in ("arterial", "portal", "delayed") and (found["contrast"][1] >= 0.9 or weighting == "T1"):
        return f"t1_{phase}", sure
    if weighting == "T2":
        return "t2", weight_sure
    return UNKNOWN
