"""One simulated patient from (seed, index): anatomy, acquisitions, words. The same numbers give the same
patient."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from ..case import Lab
from . import ct, labs, mr, us, wording
from .anatomy import Anatomy, draw_anatomy
from .doppler import DopplerSound, listen
from .grid import Grid
from .parameters import FOCAL, SOLID

Sounds = Literal["none", "too", "only"]
IMAGED = ("US", "CT", "MR")
NOT_IN_MR = ("calcified_granuloma", "gallstone")  # calcium has no signal; small stones drown in it


@dataclass
class Acquisition:
    """One simulated series. pixels: CT/MR (I, J, K) on ``grid``; US (T, H, W)."""

    modality: str
    role: str
    pixels: np.ndarray
    dense: np.ndarray
    grid: Grid | None = None
    cine: us.Cine | None = None


@dataclass
class SimulatedPatient:
    number: int
    seed: int
    anatomy: Anatomy
    acquisitions: list[Acquisition]
    labels: dict[str, int]
    report: str
    rephrased: str  # the report in phrasings that are never trained on
    reports: dict[str, str]  # by language, with sections: findings and impression
    indication: str
    labs: list[Lab]
    risk: str
    sounds: list[DopplerSound]  # where they are asked for

    @property
    def case_id(self) -> str:
        """SIM-SEED-NUMBER."""
        return f"SIM-{self.seed}-{self.number:05d}"

    def of(self, modality: str) -> list[Acquisition]:
        """The acquisitions of one modality."""
        return [a for a in self.acquisitions if a.modality == modality]


def labels_of(anatomy: Anatomy) -> dict[str, int]:
    """0 or 1 of every finding, the derived ones too."""
    labels = {name: int(present) for name, present in anatomy.findings.items()}
    labels["solid_lesion"] = int(any(labels[k] for k in SOLID))
    labels["focal_lesion"] = int(any(labels[k] for k in FOCAL))
    return labels


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How patients of a population differ from the usual ones.

    missing: chance that each modality was not acquired (at least one always is).
    shifted: another scanner park (3 T, sharper kernel, more noise, higher ultrasound frequency).
    control: MR is enough: every sequence, the whole liver, and no finding that only another modality shows.
        Fusion should gain nothing here.
    held_out: ``report`` and ``reports`` use phrasings that are never trained on.
    erase: the same patient without focal lesions, acquired in the same way: what a model says of lesions must
        fall.
    sounds: Doppler sounds too, or only them and no image.
    modalities: what else is left out; the images of these are what they are beside the others.
    """

    missing: float = 0.0
    shifted: bool = False
    control: bool = False
    held_out: bool = False
    erase: bool = False
    sounds: Sounds = "none"
    modalities: tuple[str, ...] = IMAGED


USUAL = Variant()


class _Streams(NamedTuple):
    """Random numbers of one patient, one stream a purpose; the first six are those of version 1."""

    anatomy: np.random.Generator
    protocol: np.random.Generator
    ct: np.random.Generator
    mr: np.random.Generator
    us: np.random.Generator
    words: np.random.Generator
    beside: np.random.Generator  # what lies beside the images
    more_words: np.random.Generator
    sounds: np.random.Generator


def _streams(seed: int, index: int) -> _Streams:
    """The streams of patient ``index`` of population ``seed``."""
    children = np.random.SeedSequence([seed, index]).spawn(len(_Streams._fields))
    return _Streams(*(np.random.default_rng(s) for s in children))


def report_of(seed: int, index: int, *, held_out: bool) -> str:
    """The report of a patient without acquiring any image (not of the control population)."""
    streams = _streams(seed, index)
    return wording.report(streams.words, draw_anatomy(streams.anatomy), held_out=held_out)


def without_lesions(anatomy: Anatomy) -> Anatomy:
    """The same anatomy with no focal lesion."""
    findings = {k: v and k not in FOCAL for k, v in anatomy.findings.items()}
    return replace(anatomy, lesions=[], findings=findings)


def simulate(seed: int, index: int, variant: Variant = USUAL) -> SimulatedPatient:
    """Simulate patient ``index`` of stream ``seed``."""
    streams = _streams(seed, index)
    anatomy = draw_anatomy(streams.anatomy)
    while variant.control and any(anatomy.findings[f] for f in NOT_IN_MR):
        anatomy = draw_anatomy(streams.anatomy)
    if variant.erase:
        anatomy = without_lesions(anatomy)
    protocol = _draw_protocol(streams.protocol, missing=variant.missing, control=variant.control)
    protocol = replace(protocol, modalities=[m for m in protocol.modalities if m in variant.modalities])
    acquisitions = (
        [] if variant.sounds == "only" else _acquire(streams, anatomy, protocol, shifted=variant.shifted)
    )
    text = wording.report(streams.words, anatomy, held_out=variant.held_out)
    rephrased = wording.report(_streams(seed, index).words, anatomy, held_out=True)
    reports = {
        x: wording.sectioned(streams.more_words, anatomy, held_out=variant.held_out, language=x)
        for x in wording.languages()
    }
    return SimulatedPatient(
        number=index,
        seed=seed,
        anatomy=anatomy,
        acquisitions=acquisitions,
        labels=labels_of(anatomy),
        report=text,
        rephrased=rephrased,
        reports=reports,
        indication=labs.draw_indication(streams.beside, anatomy.findings),
        labs=labs.draw_labs(streams.beside, anatomy.findings),
        risk=labs.draw_risk(streams.beside, anatomy.findings),
        sounds=[] if variant.sounds == "none" else listen(streams.sounds, anatomy),
    )


@dataclass(frozen=True, kw_only=True)
class _Protocol:
    """What was acquired of a patient, and whether the top of the liver was left out."""

    modalities: list[str]
    cut: dict[str, bool]
    phases: list[str]
    sequences: list[str]


def _draw_protocol(rng: np.random.Generator, *, missing: float, control: bool) -> _Protocol:
    wanted = [m for m in IMAGED if rng.random() >= missing]
    if not wanted:
        wanted = [str(rng.choice(IMAGED))]
    cut = {m: rng.random() < 0.05 for m in ("CT", "MR")}
    phases = ct.draw_protocol(rng)
    sequences = mr.draw_protocol(rng)
    if control:
        cut["MR"] = False
        sequences = list(mr.SEQUENCES)
    return _Protocol(modalities=wanted, cut=cut, phases=phases, sequences=sequences)


def _acquire(streams: _Streams, anatomy: Anatomy, protocol: _Protocol, *, shifted: bool) -> list[Acquisition]:
    """Every series of the protocol: CT, MR, then ultrasound."""
    out: list[Acquisition] = []
    if "CT" in protocol.modalities:
        grid = ct.draw_grid(streams.ct, anatomy, cut=protocol.cut["CT"])
        for phase, volume, dense in ct.render(streams.ct, anatomy, grid, protocol.phases, shifted=shifted):
            out.append(Acquisition("CT", phase, volume, dense, grid))
    if "MR" in protocol.modalities:
        grid = mr.draw_grid(streams.mr, anatomy, cut=protocol.cut["MR"])
        drawn = mr.render(streams.mr, anatomy, grid, protocol.sequences, shifted=shifted)
        for sequence, volume, dense in drawn:
            out.append(Acquisition("MR", sequence, volume, dense, grid))
    if "US" in protocol.modalities:
        cine = us.render(streams.us, anatomy, shifted=shifted)
        out.append(Acquisition("US", "cine", cine.frames, cine.dense, cine=cine))
    return out
