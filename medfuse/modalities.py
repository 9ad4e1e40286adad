"""What medfuse knows of each image modality: one record in MODALITIES, asked everywhere instead of a code.

A new modality is one more record. Its order here is the order of tokens, columns and panes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .errors import WrongUse

Kind = Literal["volume", "cine"]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A display window: ``centre`` and ``width`` in the modality's unit; or two ``percentiles`` of an image's
    own values, for modalities whose values have no unit."""

    centre: float = 0.0
    width: float = 1.0
    percentiles: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """The unit of a modality's pixel values, and what a mean of them measures: (code, scheme, meaning)."""

    name: str
    ucum: tuple[str, str, str]
    quantity: tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Modality:
    """Everything that the code asks about one modality."""

    code: str  # DICOM Modality (0008,0060); also the name in tasks, manifests and files
    word: dict[str, str]  # its name, by language
    kind: Kind  # a volume lies in space (I, J, K); a cine is frames in time (T, H, W), without a place
    sop_classes: tuple[str, ...]
    # of these, one slice a file whose needed attributes are all plain text, which the quick scanner reads
    plain_classes: tuple[str, ...] = ()
    unit: Unit | None = None  # None: the values compare within one image only
    windows: dict[str, Window]  # the first one is shown first
    colour: str  # of its marks in charts, #rrggbb
    aliases: tuple[str, ...] = ()  # other spellings in sidecars
    said: tuple[str, ...] = ()  # beginnings of further words by which reports name it
    roles_from: Literal["frames", "phase", "weighting", ""] = ""  # what tells the role of a series (io/roles)
    values: Literal["scaled", "uptake"] = "scaled"  # stored values → scaled, or further to SUV (io/suv)
    outside: Literal["minimum", "zero"] = "zero"  # the value of what a resampled volume does not cover
    blend: tuple[float, float] | None = None  # values that become 0 and 1 in a fused picture; None: its own

    @property
    def is_cine(self) -> bool:
        """Frames in time, each pixel without a place in the patient."""
        return self.kind == "cine"

    @property
    def cine_classes(self) -> tuple[str, str]:
        """The SOP classes of one frame and of several, of a modality of cines."""
        return self.sop_classes[0], self.sop_classes[1]


MODALITIES: dict[str, Modality] = {}


def add(record: Modality) -> Modality:
    """Make a modality known. Raises ValueError where its code or one of its SOP classes is taken."""
    taken = {uid: m.code for m in MODALITIES.values() for uid in m.sop_classes}
    if record.code in MODALITIES:
        raise ValueError(f"modality {record.code} is there already")
    for uid in record.sop_classes:
        if uid in taken:
            raise ValueError(f"SOP class {uid} belongs to modality {taken[uid]}")
    MODALITIES[record.code] = record
    return record


def codes() -> tuple[str, ...]:
    """The codes of all known modalities, in the one order used everywhere."""
    return tuple(MODALITIES)


def listed(between: str = ", ", last: str = " or ") -> str:
    """The known codes as words: "US, CT or MR"."""
    *first, end = MODALITIES
    return between.join(first) + last + end


def modality_of(code: str) -> Modality:
    """The record of a code. Raises WrongUse that names it and the known ones."""
    found = MODALITIES.get(code)
    if found is None:
        raise WrongUse(unknown(code))
    return found


def unknown(code: str) -> str:
    """The sentence about a modality that nobody has described."""
    return (
        f"modality {code or '(none)'} is not known; medfuse reads {listed(last=' and ')}: give one of these, "
        "or add a record to medfuse/modalities.py"
    )


def stated(text: str) -> str:
    """The code that a person or a sidecar means by ``text`` ("MRI" is MR); unknown words come back in capital
    letters."""
    word = text.strip().upper()
    return next((m.code for m in MODALITIES.values() if word in m.aliases), word)


def code_of_class(sop_class: str) -> str:
    """The code of the modality that an image of this SOP class is of; "" for what is no image of ours."""
    return next((m.code for m in MODALITIES.values() if sop_class in m.sop_classes), "")


def plain_classes() -> frozenset[str]:
    """SOP classes of one slice a file whose headers are plain text."""
    return frozenset(uid for m in MODALITIES.values() for uid in m.plain_classes)


def cines() -> tuple[str, ...]:
    """The codes of the modalities whose images are cines."""
    return tuple(m.code for m in MODALITIES.values() if m.is_cine)


def is_cine(code: str) -> bool:
    """Whether images of a modality are cines. Raises WrongUse for an unknown code."""
    return modality_of(code).is_cine


_STORAGE = "1.2.840.10008.5.1.4.1.1."
_GREY = {"Full": Window(percentiles=(2, 99.5)), "Bright": Window(percentiles=(2, 97))}

add(
    Modality(
        code="US",
        word={"en": "Ultrasound", "zh-TW": "超音波"},
        kind="cine",
        # still, cine, the retired class of each, and a volume
        sop_classes=(f"{_STORAGE}6.1", f"{_STORAGE}3.1", f"{_STORAGE}6", f"{_STORAGE}3", f"{_STORAGE}6.2"),
        windows={"Full": Window(centre=127.5, width=255.0)},
        colour="#e0a458",
        aliases=("ULTRASOUND",),
        said=("sonogra", "echogra"),
        roles_from="frames",
    )
)
add(
    Modality(
        code="CT",
        word={"en": "CT", "zh-TW": "電腦斷層"},
        kind="volume",
        # classic, enhanced, legacy converted enhanced
        sop_classes=(f"{_STORAGE}2", f"{_STORAGE}2.1", f"{_STORAGE}2.2"),
        plain_classes=(f"{_STORAGE}2",),
        unit=Unit(
            name="HU",
            ucum=("[hnsf'U]", "UCUM", "Hounsfield unit"),
            quantity=("112031", "DCM", "Attenuation Coefficient"),
        ),
        windows={
            "Abdomen": Window(centre=40.0, width=400.0),
            "Liver": Window(centre=80.0, width=160.0),
            "Bone": Window(centre=400.0, width=1800.0),
            "Lung": Window(centre=-600.0, width=1500.0),
        },
        colour="#4fb3bf",
        said=("computed tomogra", "computerised tomogra", "computerized tomogra"),
        roles_from="phase",
        outside="minimum",
        blend=(-160.0, 400.0),  # soft tissue, with bone still apart
    )
)
add(
    Modality(
        code="MR",
        word={"en": "MRI", "zh-TW": "磁振造影"},
        kind="volume",
        # classic, enhanced, legacy converted enhanced
        sop_classes=(f"{_STORAGE}4", f"{_STORAGE}4.1", f"{_STORAGE}4.4"),
        plain_classes=(f"{_STORAGE}4",),
        windows=_GREY,
        colour="#b58bd9",
        aliases=("MRI",),
        said=("magnetic resonance",),
        roles_from="weighting",
    )
)
add(
    Modality(
        code="PT",
        word={"en": "PET", "zh-TW": "正子造影"},
        kind="volume",
        sop_classes=(f"{_STORAGE}128",),
        unit=Unit(
            name="SUVbw",
            ucum=("g/ml{SUVbw}", "UCUM", "Standardized Uptake Value body weight"),
            quantity=("126401", "DCM", "SUVbw"),
        ),
        windows={"SUV 10": Window(centre=5.0, width=10.0), "SUV 5": Window(centre=2.5, width=5.0)},
        colour="#d9727b",
        aliases=("PET",),
        said=("positron emission",),
        values="uptake",
        blend=(0.0, 10.0),
    )
)
