"""What a series is (CT phase, MR weighting, contrast, fat saturation, b-value), from its headers, with a
confidence.

"unknown" is an answer. `traits` says what the headers support; `role_of` names the role that a task asks for.
"""

from __future__ import annotations

import re
from functools import cache

from pydicom.dataset import Dataset

from ..modalities import modality_of
from . import private
from .acquired import acquired
from .clinical_words import acquisition_words

# In these patterns < and > are the borders of a word: an underscore or a digit beside a letter is one as
# well ("t1_venous", "3Dart"), so that "venous" is not found in "intravenous", nor "op" in "biopsy".
PHASE_WORDS = (
    (
        "unenhanced",
        r"<unenh|<non.?(con|contrast)>|(?<!and )(?<!with/)<without contrast>|<nativ(e|)>|<plain>"
        r"|(?<!w/)(?<!and )<w/?o contrast>|<pre.?(con|contrast|gd)>(?!.*<post)",
    ),
    ("arterial", r"<arterial|<art>|<hap>"),
    ("portal", r"<portal|<venous|<pvp?>|<ven>"),
    ("delayed", r"<delay|<equilib|<late phase>|(?<![\d.])<5 ?min"),
)
FAT_WORDS = r"<fat.?sat|<fs>|<spir>|<spair>|<chess>|<water.?only>|<stir>|<tirm>|<dixon.*<w>"
WEIGHT_WORDS = (
    ("FLAIR", r"(?<!t1)(?<!t1.)flair>|<dark.?fluid"),
    ("T2*", r"<t2.?\*|<t2star|<gre>.*<hemo|<swi>|<bold>|<fmri>"),
    ("DWI", r"<dwi>|<diff(usion)?>|<ep2?d?_b\d|<dti>|<tensor>"),
    ("T2", r"<t2(?!\d)|<haste>|<ssfse>|<mrcp>"),
    ("T1", r"<t1(?!\d)|<mprage>|<mpr_|<vibe|<lava|<thrive>|<spgr>|<bravo>"),
    ("PD", r"<pd>|<proton.?(dens|weigh|w>)"),
)
NO_PHASE = r"<(non|not|no).?(portal|venous|arterial|delayed)"
# Numbers computed from images, each voxel a physical quantity or what two of them differ by: no picture that
# a role asks for
MAP_WORDS = (
    r"<(e|d|exp.?)?adc>|<apparent diffusion|<fractional anisotropy>|<(col(ou?r)?.?)?fa>(?!.?\d)|<ivim>"
    r"|<(t1|t2|t2star|t2\*|perfusion|r2|r2\*|r2star|fa|md|rd|ad|mk|colou?r|b0|b1|field|pd).?maps?>"
    r"|<(mean|radial|axial).?(diffusivity|kurtosis)>|<fat.?fraction|<pdff>"
    r"|<(dti|dki|dtensor|tensor).{0,12}<(md|rd|ad|mk|ak|rk|eigen\w*|l[123])>"
    r"|<sub(tr|tract(ed|ion)?)?>(?!-|.?\d)"
    r"|<(rel)?r?(cbf|cbv|mtt|ttp|tmax|ktrans)>|<tractograph\w*|<fib(er|re).?track\w*"
)
MAP_KINDS = {
    *("ADC", "EADC", "EXPADC", "EXP ADC", "DADC", "FA", "COLFA", "COL FA", "MD", "RD", "MK"),
    *("TRACEW MAP", "TENSOR", "T1 MAP", "T2 MAP", "T2 STAR MAP", "R2 MAP", "R2 STAR MAP"),
    *("PERFUSION MAP", "PD MAP", "B0 MAP", "B1 MAP", "FIELD MAP", "FAT FRACTION", "IVIM"),
    *("SUBTRACTION", "SUBTRACT", "SUBTRACTED"),
    *("DIFFUSION MAP", "CBF", "CBV", "MTT", "TTP", "TMAX", "KTRANS"),
}
# AcquisitionContrast of enhanced MR, PS3.3 C.8.13.3.1.2
CONTRASTS = {
    "T1": "T1",
    "T2": "T2",
    "T2_STAR": "T2*",
    "DIFFUSION": "DWI",
    "PROTON_DENSITY": "PD",
    "FLUID_ATTENUATED": "FLAIR",
}

# what is written where no contrast agent was given
NO_AGENT = {
    *("NONE", "NO", "N", "NIL", "N/A", "NA", "-", "--", "0", "WITHOUT", "W/O", "WO", "NOT GIVEN"),
    *("FALSE", "NO CONTRAST", "WITHOUT CONTRAST", "NON CONTRAST", "NON-CONTRAST", "NONCONTRAST"),
    *("UNENHANCED", "PLAIN", "NATIVE", "OHNE", "KEIN", "KEINES", "UNKNOWN"),
}

Trait = tuple[str, float]  # value, confidence 0 to 1
UNKNOWN: Trait = ("unknown", 0.0)


def _text(ds: Dataset) -> str:
    keys = ("SeriesDescription", "ProtocolName", "SequenceName", "ContrastBolusAgent")
    return " ".join(acquisition_words(str(ds.get(k, "") or "").lower()) for k in keys)


def _number(ds: Dataset, key: str) -> float | None:
    value = ds.get(key)
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        return None


@cache
def _pattern(words: str) -> re.Pattern[str]:
    return re.compile(
        re.sub(r"(?<!\?)<", r"(?<![a-z])", words).replace(">", r"(?![a-z])")
    )  # (?<! is no border


def _named(text: str, table: tuple[tuple[str, str], ...]) -> list[str]:
    return [name for name, words in table if _pattern(words).search(text)]


def _phase(text: str) -> str:
    """One phase, or none where the words name several."""
    found = _named(_pattern(NO_PHASE).sub(" ", text), PHASE_WORDS)
    return found[0] if len(found) == 1 else ""


def traits(ds: Dataset, modality: str) -> dict[str, Trait]:
    """What the headers say: contrast (CT, MR), phase, and for MR weighting, fat saturation, echo (in,
    opposed), b-value. What may be unknown says so; a number that is not stated is not there."""
    text = _text(ds)
    found: dict[str, Trait] = {}
    roles_from = modality_of(modality).roles_from
    if roles_from in ("phase", "weighting"):
        found |= _contrast(ds, _phase(text))
    if roles_from == "weighting":
        found["weighting"] = _weighting(ds, text)
        found["fat_saturation"] = _fat_saturation(ds, text)
        found["echo"] = _echo(ds, text)
        found |= _named_b_value(text)  # what the header says stands over it
    return found | _acquisition(ds)


def _contrast(ds: Dataset, phase: str) -> dict[str, Trait]:
    """Contrast and phase, which may contradict each other."""
    agent = str(ds.get("ContrastBolusAgent", "") or "").strip()
    plain = phase == "unenhanced"
    if agent and agent.upper().rstrip(".") not in NO_AGENT:
        contrast: Trait = ("no", 0.5) if plain else ("yes", 0.9)
    elif phase:
        contrast = ("no", 0.9) if plain else ("yes", 0.7)
    else:
        contrast = UNKNOWN
    agreed = contrast[0] == ("no" if plain else "yes")
    return {"contrast": contrast, "phase": (phase, contrast[1] if agreed else 0.5) if phase else UNKNOWN}


def _named_b_value(text: str) -> dict[str, Trait]:
    """A number that is not known is not there, so that who reads one gets a number."""
    named = re.search(r"\bb_?(\d{2,4})\b|_b(\d{2,4})", text)
    return {"b_value": (named[1] or named[2], 0.6)} if named else {}


def _acquisition(ds: Dataset) -> dict[str, Trait]:
    """What tells one volume of a series from the next, where the headers say it: numbers as text."""
    facts = acquired(ds)
    told = {
        "echo_ms": facts.echo_ms,
        "trigger_ms": facts.trigger_ms,
        "kvp": facts.kvp,
        "temporal_index": facts.temporal_index,
        "b_value": facts.b_value,
    }
    numbers = private.numbers(ds, private.GE_ECHO)
    if numbers:  # GE writes EchoTime and EchoNumbers alike for every echo
        told["echo_number"] = numbers[0]
    found = {name: (f"{value:g}", 1.0) for name, value in told.items() if value is not None}
    if any(facts.direction):
        found["direction"] = (", ".join(f"{v:.6g}" for v in facts.direction), 1.0)
    return found


def _kinds(ds: Dataset) -> set[str]:
    return {str(v).upper() for v in (ds.get("ImageType") or [])}


def _is_map(ds: Dataset, text: str) -> bool:
    """Whether its voxels are a quantity, or a difference, that was computed from images."""
    kinds = {k.replace("_", " ") for k in _kinds(ds)}
    return bool(kinds & MAP_KINDS) or bool(_pattern(MAP_WORDS).search(text))


def _weighting(ds: Dataset, text: str) -> Trait:
    """Words first (0.9), then what the standard attribute says (0.9), then the physics of TE, TR and TI (0.7
    to 0.8). A map has none: the diffusion or relaxation it is made from is no longer its contrast."""
    if _is_map(ds, text):
        return UNKNOWN
    if (_number(ds, "DiffusionBValue") or 0) > 50:
        return "DWI", 1.0
    words = _named(text, WEIGHT_WORDS)
    if words:
        return words[0], 0.9
    stated = CONTRASTS.get(str(ds.get("AcquisitionContrast", "")).upper(), "")
    if stated:
        return stated, 0.9
    return _of_physics(ds)


def _of_physics(ds: Dataset) -> Trait:
    te = _number(ds, "EchoTime")
    tr = _number(ds, "RepetitionTime")
    sequence = str(ds.get("ScanningSequence", ""))
    # echo-planar alone may be diffusion, perfusion or activation
    if te is None or tr is None or "EP" in sequence:
        return UNKNOWN
    ti = _number(ds, "InversionTime") or 0.0
    inverted = "IR" in sequence
    if "GR" in sequence:
        return _of_gradient_echo(te, ti, _number(ds, "FlipAngle") or 0.0, inverted=inverted)
    return _of_spin_echo(te, tr, ti) if "SE" in sequence or inverted else UNKNOWN


def _of_spin_echo(te: float, tr: float, ti: float) -> Trait:
    """By echo, repetition and inversion time in ms (0: none)."""
    if 1500 <= ti <= 3000 and te > 70 and tr > 4000:
        return "FLAIR", 0.8
    if te >= 70 and tr > 1500:
        return "T2", 0.8
    if te <= 30 and tr <= 800:
        return "T1", 0.8
    return ("PD", 0.7) if te <= 40 and tr > 1500 else UNKNOWN


def _of_gradient_echo(te: float, ti: float, flip: float, *, inverted: bool) -> Trait:
    """By echo and inversion time in ms (0: none) and flip angle in degrees."""
    if te <= 10 and (inverted or 300 <= ti <= 1400):
        return "T1", 0.8  # magnetisation-prepared
    if te >= 15:
        return "T2*", 0.7
    return ("T1", 0.7) if te <= 10 and flip >= 10 else UNKNOWN


def _fat_saturation(ds: Dataset, text: str) -> Trait:
    options = {
        v.strip().upper() for v in str(ds.get("ScanOptions", "")).strip("[]").replace("'", "").split(",")
    }
    if options & {"FS", "SFS", "FATSAT"}:
        return "yes", 0.9
    if _pattern(FAT_WORDS).search(text):
        return "yes", 0.8
    return UNKNOWN


def _echo(ds: Dataset, text: str) -> Trait:
    kinds = _kinds(ds)
    if kinds & {"IN_PHASE", "IP"} or _pattern(r"<in.?phase|<ip>").search(text):
        return "in", 0.9
    if kinds & {"OPP_PHASE", "OUT_PHASE", "OP"} or _pattern(r"<(out|opp).{0,4}phase|<opposed").search(text):
        return "opposed", 0.9
    return UNKNOWN


def role_of(ds: Dataset, modality: str) -> Trait:
    """(role, confidence 0 to 1): the name that tasks use, see ``roles`` in a task file."""
    roles_from = modality_of(modality).roles_from
    if roles_from == "frames":
        return ("cine" if int(ds.get("NumberOfFrames") or 1) > 1 else "still"), 1.0
    if not roles_from:
        return UNKNOWN
    if _is_map(ds, _text(ds)):
        return UNKNOWN
    found = traits(ds, modality)
    if roles_from == "phase":
        phase, sure = found["phase"]
        return (phase, sure) if phase != "unknown" else UNKNOWN
    return _weighted_role(found)


def _weighted_role(found: dict[str, Trait]) -> Trait:
    """Of MR, from its weighting, echo and phase."""
    phase, sure = found["phase"]
    weighting, weight_sure = found["weighting"]
    if weighting == "DWI":
        return "dwi", min(0.9, weight_sure)
    if found["echo"] != UNKNOWN:
        return f"t1_{found['echo'][0]}", found["echo"][1]
    if phase in ("arterial", "portal", "delayed") and (found["contrast"][1] >= 0.9 or weighting == "T1"):
        return f"t1_{phase}", sure
    return ("t2", weight_sure) if weighting == "T2" else UNKNOWN
