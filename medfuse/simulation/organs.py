"""The organs of one simulated patient, drawn one after the other: shapes in RAS+ mm about the body's centre.

The order of the draws is part of the patient: another order is another population.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .parameters import table
from .shapes import Ellipsoid, Tube


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The body that the organs lie in."""

    habitus: float  # 1 is average
    body: np.ndarray  # half-width, half-depth in mm
    fat_mm: float

    @property
    def wall_x(self) -> float:
        """Half-width in mm inside the abdominal wall."""
        return self.body[0] - self.fat_mm - 16


@dataclass(frozen=True, kw_only=True)
class Liver:
    """Right and left lobe, and by how much the right one has shrunk."""

    right: Ellipsoid
    left: Ellipsoid
    right_scale: float


@dataclass(frozen=True, kw_only=True)
class Organs:
    """Everything in the abdominal cavity but the liver and its lesions."""

    bowel: list[Ellipsoid]
    gas: list[Ellipsoid]
    spleen: Ellipsoid
    kidneys: list[Ellipsoid]
    gallbladder: Ellipsoid
    stones: list[Ellipsoid]
    arteries: list[Tube]
    veins: list[Tube]
    ducts: list[Tube]  # dilated ones only


@dataclass(frozen=True, kw_only=True)
class Stones:
    """Gallstones, and their attenuation in HU."""

    shapes: list[Ellipsoid]
    hu: float


def draw_frame(rng: np.random.Generator) -> Frame:
    """Size of the body and thickness of its fat."""
    habitus = float(rng.normal(1, 0.07))
    body = np.array([rng.uniform(150, 178), rng.uniform(105, 128)]) * habitus
    fat_mm = float(np.clip(rng.normal(17, 6) * habitus, 6, 36))
    return Frame(habitus=habitus, body=body, fat_mm=fat_mm)


def draw_liver(rng: np.random.Generator, frame: Frame, *, cirrhosis: bool) -> Liver:
    """Two lobes; in cirrhosis the right one shrinks and the left one grows."""
    scale = rng.uniform(*table().diffuse.cirrhosis.right_lobe) if cirrhosis else 1.0
    centre = np.array([frame.wall_x - 78 * scale + rng.normal(0, 3), rng.normal(4, 5), rng.normal(0, 6)])
    right = Ellipsoid(centre, np.array([76 * scale, 74, 82]) * rng.normal(1, 0.05, 3))
    left_scale = 1.18 if cirrhosis else 1.0
    left = Ellipsoid(
        np.array([rng.normal(8, 6), 34 + rng.normal(0, 5), 22 + rng.normal(0, 6)]),
        np.array([58, 36, 42]) * left_scale * rng.normal(1, 0.06, 3),
    )
    return Liver(right=right, left=left, right_scale=scale)


def draw_spleen(rng: np.random.Generator, frame: Frame, *, cirrhosis: bool) -> Ellipsoid:
    """The spleen, larger in cirrhosis."""
    scale = rng.uniform(*table().diffuse.cirrhosis.spleen) if cirrhosis else 1.0
    return Ellipsoid(
        np.array([-(frame.wall_x - 34), -38 + rng.normal(0, 6), 18 + rng.normal(0, 8)]),
        np.array([30, 42, 50]) * scale * rng.normal(1, 0.08, 3),
    )


def draw_kidneys(rng: np.random.Generator, frame: Frame) -> list[Ellipsoid]:
    """The right kidney, lower, and the left one."""
    heights = [(1, -78 + rng.normal(0, 5)), (-1, -55 + rng.normal(0, 6))]
    y = -frame.body[1] + frame.fat_mm + 62
    return [
        Ellipsoid(np.array([side * 62.0, y, z]), np.array([27, 30, 52]) * rng.normal(1, 0.06, 3))
        for side, z in heights
    ]


def draw_gallbladder(rng: np.random.Generator, liver: Liver) -> Ellipsoid:
    """The gallbladder, under the right lobe."""
    centre = liver.right.centre
    return Ellipsoid(
        np.array([centre[0] - 30, 44 + rng.normal(0, 5), centre[2] - 62 + rng.normal(0, 4)]),
        np.array([15, 22, 28]) * rng.normal(1, 0.12),
    )


def draw_stones(rng: np.random.Generator, gallbladder: Ellipsoid) -> Stones:
    """One to three stones on the floor of the gallbladder. A third of patients have calcified ones, a third
    iso- to hypodense ones at CT (cholesterol)."""
    shapes = []
    for _ in range(int(rng.integers(1, 4))):
        r = rng.uniform(3.5, 8)
        offset = np.array([rng.normal(0, 5), -gallbladder.radii[1] + r + rng.uniform(1, 5), rng.normal(0, 9)])
        shapes.append(Ellipsoid(gallbladder.centre + offset, np.full(3, r)))
    hu = rng.choice([rng.uniform(150, 500), rng.uniform(40, 90), rng.uniform(-20, 25)])
    return Stones(shapes=shapes, hu=float(hu))


def _tree(rng: np.random.Generator, root: np.ndarray, ends: list[np.ndarray], radius: float) -> list[Tube]:
    tubes = []
    for end in ends:
        mid = (root + end) / 2 + rng.normal(0, 6, 3)
        tubes.append(Tube(np.stack([root, mid, end]).astype(np.float32), radius))
    return tubes


def draw_veins_and_ducts(
    rng: np.random.Generator, frame: Frame, liver: Liver, *, dilated: bool
) -> tuple[list[Tube], list[Tube]]:
    """Vena cava, portal and hepatic veins; and the bile ducts beside the portal vein if dilated."""
    centre = liver.right.centre
    scale = liver.right_scale
    hilum = centre + np.array([-62 * scale, 6, -12])
    ends = [
        centre + np.array([30, 20, 20]) * scale,
        centre + np.array([20, -25, -10]) * scale,
        liver.left.centre + np.array([-15, 5, 0]),
        centre + np.array([5, 10, 45]) * scale,
    ]
    back = -frame.body[1]
    cava = np.array([[22, back + 95, -110], [22, back + 96, 70]], np.float32)
    hepatic = [centre + np.array([10, 0, 40]), centre + np.array([0, 25, 30])]
    veins = [
        Tube(cava, 10.5),
        *_tree(rng, hilum, ends, 4.5),
        *_tree(rng, np.array([24.0, back + 100, 55]), hepatic, 4.0),
    ]
    if not dilated:
        return veins, []
    radius = rng.uniform(2.6, 4.5)
    return veins, _tree(rng, hilum + np.array([2, 9, 3]), [e + 9 for e in ends], radius)


def aorta(frame: Frame) -> Tube:
    """The aorta, left of the spine."""
    back = -frame.body[1]
    return Tube(np.array([[-10, back + 92, -110], [-8, back + 90, 110]], np.float32), 10.0)


def draw_bowel(rng: np.random.Generator) -> tuple[list[Ellipsoid], list[Ellipsoid]]:
    """Stomach and colon; and the gas in them."""
    gas_at = np.array([-45 + rng.normal(0, 10), 55 + rng.normal(0, 6), -20 + rng.normal(0, 20)])
    bowel = [
        Ellipsoid(np.array([-60 + rng.normal(0, 8), 25.0, 20]), np.array([42, 36, 46])),
        Ellipsoid(np.array([rng.normal(0, 10), 40.0, -85]), np.array([75, 34, 26])),
    ]
    gas = [
        Ellipsoid(gas_at, np.array([22, 14, 18])),
        Ellipsoid(np.array([rng.normal(0, 30), 52, -85.0]), np.array([30, 14, 14])),
    ]
    return bowel, gas
