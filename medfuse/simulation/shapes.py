"""What an anatomy is made of: tissues, analytic shapes, lesions, and what lies at asked points. RAS+ mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parameters import DENSE, LesionTissue

TISSUES = (
    "air",
    "muscle",
    "fat",
    "bone",
    "lung",
    "liver",
    "spleen",
    "kidney",
    "bile",
    "artery",
    "vein",
    "bowel",
    "fluid",
    "stone",
)
T = {name: i for i, name in enumerate(TISSUES)}
DUCT = len(TISSUES)  # bile inside a dilated duct: bile's physics, its own mask
LABEL_TO_DENSE = np.zeros(len(TISSUES) + 1, np.uint8)
for _tissue, _dense in {
    "liver": "liver",
    "spleen": "spleen",
    "kidney": "kidney",
    "bile": "gallbladder",
    "artery": "vessel",
    "vein": "vessel",
    "fluid": "fluid",
    "stone": "gallstone_mass",
}.items():
    LABEL_TO_DENSE[T[_tissue]] = DENSE.index(_dense)
LABEL_TO_DENSE[DUCT] = DENSE.index("duct")


@dataclass
class Ellipsoid:
    """centre (3,) and radii (3,) in mm, along the patient's axes."""

    centre: np.ndarray
    radii: np.ndarray

    def _scaled(self, p: np.ndarray, power: int) -> np.ndarray:
        return sum(
            ((p[c] - np.float32(self.centre[c])) * np.float32(1 / self.radii[c] ** power)) ** 2
            for c in range(3)
        )

    def rho2(self, p: np.ndarray) -> np.ndarray:
        """Squared normalised radius, 1 on the surface. p (3, N) mm."""
        return self._scaled(p, 1)

    def distance(self, p: np.ndarray) -> np.ndarray:
        """Approximate signed distance in mm, negative inside (first-order bound). p (3, N) mm."""
        k0 = np.sqrt(self._scaled(p, 1))
        return k0 * (k0 - 1) / np.maximum(np.sqrt(self._scaled(p, 2)), 1e-6)


@dataclass
class Tube:
    """A vessel or duct: a line of points with one radius in mm."""

    points: np.ndarray  # (N, 3) mm
    radius: float

    def inside(self, p: np.ndarray) -> np.ndarray:
        """Indices of the points (3, N) inside the tube."""
        lo = self.points.min(0) - self.radius
        hi = self.points.max(0) + self.radius
        box = np.flatnonzero((p[2] > lo[2]) & (p[2] < hi[2]) & (p[0] > lo[0]) & (p[0] < hi[0]))
        q = p[:, box].T
        near = np.full(len(q), np.inf, np.float32)
        for a, b in zip(self.points[:-1], self.points[1:], strict=True):
            ab = b - a
            t = np.clip((q - a) @ ab / (ab @ ab), 0, 1)
            near = np.minimum(near, np.linalg.norm(q - (a + t[:, None] * ab), axis=1))
        return box[near < self.radius]


@dataclass
class Lesion:
    """One focal lesion: centre (3,) and radii (3,) in mm, and the physics of its tissue."""

    kind: str
    centre: np.ndarray
    radii: np.ndarray
    physics: LesionTissue
    wave: np.ndarray  # lobulation of its surface

    @property
    def diameter(self) -> float:
        """Longest diameter in mm."""
        return float(2 * self.radii.max())

    def rho(self, p: np.ndarray) -> np.ndarray:
        """Normalised radius of the points (N, 3) mm, 1 on the lobulated surface."""
        d = (p - self.centre) / self.radii
        r = np.linalg.norm(d, axis=-1)
        return r * (1 + 0.08 * np.sin(d @ self.wave * 2.2))


@dataclass
class Sample:
    """What lies at each of the asked points. All arrays have the points' shape."""

    tissue: np.ndarray  # uint8 index into TISSUES, or DUCT
    lesion: np.ndarray  # int8, -1 or the lesion's index
    rho: np.ndarray  # float32 normalised radius inside a lesion
    nodules: np.ndarray  # float32 texture of the liver parenchyma, about -1..1

    def dense(self, lesions: list[Lesion]) -> np.ndarray:
        """Label map (uint8) of the dense classes."""
        out = LABEL_TO_DENSE[self.tissue]
        for i, lesion in enumerate(lesions):
            out[self.lesion == i] = DENSE.index(lesion.kind)
        return out
