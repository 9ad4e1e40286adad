"""Sample → property maps that CT, MR and ultrasound share: one look-up from tissue and lesion to physics."""

from __future__ import annotations

import numpy as np

from .anatomy import Anatomy
from .parameters import Property, table
from .shapes import TISSUES, Sample, T


def lookup(anatomy: Anatomy, key: Property, index: int | None = None) -> np.ndarray:
    """Value of ``key`` for every tissue label, DUCT included (float32, len(TISSUES) + 1)."""
    names = (*TISSUES, "bile")  # a duct holds bile
    return np.asarray([anatomy.tissues[name].value(key, index) for name in names], np.float32)


def lesion_blend(
    sample: Sample, anatomy: Anatomy, base: np.ndarray, key: Property, index: int | None = None
) -> np.ndarray:
    """Write each lesion's ``key`` into ``base``: core and rim, septa and scar where the kind has them."""
    for i, lesion in enumerate(anatomy.lesions):
        hit = sample.lesion == i
        if not hit.any():
            continue
        rho = sample.rho[hit]
        core = lesion.physics.core.value(key, index)
        rim = lesion.physics.rim.value(key, index)
        width = 0.25 if lesion.kind in ("haemangioma", "metastasis_like", "abscess") else 0.16
        weight = np.clip((rho - (1 - width)) / 0.08 + 0.5, 0, 1)
        value = core * (1 - weight) + rim * weight
        row = table().lesions[lesion.kind]
        if row.scar:  # a central scar: late enhancing, T2 bright
            scar = rho < 0.22
            shift = {"t2": 35.0, "hu": -8.0, "iodine": (-35.0, -25.0, 14.0)[index or 0], "t1": 250.0}.get(
                key, 0.0
            )
            value = np.where(scar, value + shift, value)
        if row.septa:  # two crossing sheets, thin against the lesion
            wave = np.abs(np.sin(rho * 5.5 + np.float32(lesion.wave[0])))
            value = np.where((wave < 0.16) & (rho < 0.9), rim, value)
        base[hit] = value
    return base


def liver_like(sample: Sample) -> np.ndarray:
    """Where diffuse liver disease acts: parenchyma outside lesions."""
    return (sample.tissue == T["liver"]) & (sample.lesion < 0)
