"""One simulated patient from (seed, index): anatomy, acquisitions, words. The same numbers give the same patient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import ct, labs, mr, us, wording
from .anatomy import Anatomy, draw_anatomy
from .grid import Grid
from .parameters import FOCAL, SOLID

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
    reports: dict[str, str]  # by language, with sections: findings and impression
    indication: str
    labs: list[dict]
    risk: str

    @property
    def case_id(self) -> str:
        return f"SIM-{self.seed}-{self.number:05d}"

    def of(self, modality: str) -> list[Acquisition]:
        return [a for a in self.acquisitions if a.modality == modality]


def labels_of(anatomy: Anatomy) -> dict[str, int]:
    labels = {name: int(present) for name, present in anatomy.findings.items()}
    labels["solid_lesion"] = int(any(labels[k] for k in SOLID))
    labels["focal_lesion"] = int(any(labels[k] for k in FOCAL))
    return labels


def _streams(seed: int, index: int) -> list[np.random.Generator]:
    """Anatomy, protocol, CT, MR, US, words, what lies beside the images, more words: the first six are those of version 1."""
    return [np.random.default_rng(s) for s in np.random.SeedSequence([seed, index]).spawn(8)]


def report_of(seed: int, index: int, *, held_out: bool) -> str:
    """The report of a patient without acquiring any image (not of the control population)."""
    streams = _streams(seed, index)
    return wording.report(streams[5], draw_anatomy(streams[0]), held_out=held_out)


def without_lesions(anatomy: Anatomy) -> Anatomy:
    findings = {k: v and k not in FOCAL for k, v in anatomy.findings.items()}
    return replace(anatomy, lesions=[], findings=findings)


def simulate(
    seed: int, index: int, *, missing: float = 0.0, shifted: bool = False, control: bool = False, held_out: bool = False,
    erase: bool = False,
) -> SimulatedPatient:  # fmt: skip
    """Simulate patient ``index`` of stream ``seed``.

    missing: chance that each modality was not acquired (at least one always is).
    shifted: another scanner park (3 T, sharper kernel, more noise, higher ultrasound frequency).
    control: MR is enough: every sequence, the whole liver, and no finding that only another modality shows. Fusion should
    gain nothing here.
    held_out: ``report`` and ``reports`` use phrasings that are never trained on.
    erase: the same patient without focal lesions, acquired in the same way: what a model says of lesions must fall.
    """
    anatomy_rng, protocol, ct_rng, mr_rng, us_rng, words, beside, more = _streams(seed, index)
    anatomy = draw_anatomy(anatomy_rng)
    while control and any(anatomy.findings[f] for f in NOT_IN_MR):
        anatomy = draw_anatomy(anatomy_rng)
    if erase:
        anatomy = without_lesions(anatomy)
    wanted = [m for m in ("US", "CT", "MR") if protocol.random() >= missing]
    if not wanted:
        wanted = [str(protocol.choice(["US", "CT", "MR"]))]
    cut = {m: protocol.random() < 0.05 for m in ("CT", "MR")}
    phases, sequences = ct.draw_protocol(protocol), mr.draw_protocol(protocol)
    if control:
        cut["MR"], sequences = False, list(mr.SEQUENCES)
    out: list[Acquisition] = []
    if "CT" in wanted:
        grid = ct.draw_grid(ct_rng, anatomy, cut=cut["CT"])
        for phase, volume, dense in ct.render(ct_rng, anatomy, grid, phases, shifted=shifted):
            out.append(Acquisition("CT", phase, volume, dense, grid))
    if "MR" in wanted:
        grid = mr.draw_grid(mr_rng, anatomy, cut=cut["MR"])
        for sequence, volume, dense in mr.render(mr_rng, anatomy, grid, sequences, shifted=shifted):
            out.append(Acquisition("MR", sequence, volume, dense, grid))
    if "US" in wanted:
        cine = us.render(us_rng, anatomy, shifted=shifted)
        out.append(Acquisition("US", "cine", cine.frames, cine.dense, cine=cine))
    text = wording.report(words, anatomy, held_out=held_out)
    reports = {x: wording.sectioned(more, anatomy, held_out=held_out, language=x) for x in wording.languages()}
    indication = labs.draw_indication(beside, anatomy.findings)
    values, risk = labs.draw_labs(beside, anatomy.findings), labs.draw_risk(beside, anatomy.findings)
    return SimulatedPatient(index, seed, anatomy, out, labels_of(anatomy), text, reports, indication, values, risk)
