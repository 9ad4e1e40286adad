"""One simulated upper abdomen: organs as analytic shapes, lesions, and what lies at any point in mm.

Patient coordinates are RAS+ mm about the body's centre; every modality samples the same anatomy on its own
grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from . import organs
from .parameters import FOCAL, Tissue, draw_lesion, draw_tissues, table
from .shapes import DUCT, Ellipsoid, Lesion, Sample, T


@dataclass(frozen=True, kw_only=True)
class Diffuse:
    """What diffuse disease does to the liver, in each modality's own measure."""

    pdff: float
    r2s: float
    ascites_mm: float
    nodule_mm: float
    surface_mm: float
    us_echo_db: float
    us_attenuation: float


@dataclass
class Anatomy:
    """One patient: shapes, lesions, and the numbers that the physics of each modality needs."""

    tissues: dict[str, Tissue]
    findings: dict[str, bool]
    lesions: list[Lesion]
    body: np.ndarray  # half-width, half-depth in mm
    fat_mm: float
    liver: list[Ellipsoid]
    organs: organs.Organs
    diffuse: Diffuse
    sex: str
    age: int
    habitus: float
    dome: float  # height of the diaphragm in mm

    def liver_distance(self, p: np.ndarray) -> np.ndarray:
        """Signed distance in mm to the liver's surface, negative inside. p (3, N) mm."""
        a, b = (e.distance(p) for e in self.liver)
        k = np.float32(12.0)  # smooth union of the lobes
        h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
        d = b * (1 - h) + a * h - k * h * (1 - h)
        if self.diffuse.surface_mm:
            d = d + np.float32(self.diffuse.surface_mm) * self._ripple(p)
        return d

    def _ripple(self, p: np.ndarray) -> np.ndarray:
        s = np.float32(2 * np.pi / self.diffuse.nodule_mm / 1.6)
        x, y, z = p
        return (
            np.sin(s * x + 1.3 * np.sin(s * 0.7 * y))
            * np.sin(s * y + 0.9 * np.sin(s * 0.6 * z))
            * np.sin(s * z)
        )

    def sample(self, points: np.ndarray, shift: np.ndarray | None = None) -> Sample:
        """Look the anatomy up. points (..., 3) RAS+ mm; shift (3,) mm of the organs by breathing."""
        shape = points.shape[:-1]
        p = np.ascontiguousarray(points.reshape(-1, 3).T, np.float32)
        tissue = np.zeros(p.shape[1], np.uint8)
        wall = (np.abs(p[0] / self.body[0]) ** 2.4 + np.abs(p[1] / self.body[1]) ** 2.4) ** np.float32(
            1 / 2.4
        )
        depth = (1 - wall) * np.float32(self.body[1])  # mm under the skin, about
        tissue[wall < 1] = T["fat"]
        tissue[depth > self.fat_mm] = T["muscle"]
        self._paint_wall(tissue, p, depth)
        cavity = np.flatnonzero(depth > self.fat_mm + 14)
        tissue[cavity] = np.where(tissue[cavity] == T["bone"], T["bone"], T["fat"])
        offset = np.asarray(shift if shift is not None else (0, 0, 0), np.float32)
        inner = self._paint_cavity(np.ascontiguousarray(p[:, cavity]), offset, tissue[cavity])
        tissue[cavity] = inner[0]
        lesion = np.full(len(tissue), -1, np.int8)
        rho = np.zeros(len(tissue), np.float32)
        nodules = np.zeros(len(tissue), np.float32)
        lesion[cavity], rho[cavity], nodules[cavity] = inner[1:]
        return Sample(
            tissue.reshape(shape), lesion.reshape(shape), rho.reshape(shape), nodules.reshape(shape)
        )

    def _paint_wall(self, tissue: np.ndarray, p: np.ndarray, depth: np.ndarray) -> None:
        shell = np.flatnonzero(np.abs(depth - self.fat_mm - 8) < 4)
        x, y, z = p[:, shell]
        rib = (np.abs((z + 0.35 * np.abs(x)) % 27 - 5) < 5) & (z > -70 + 0.5 * y)
        tissue[shell[rib]] = T["bone"]

    def _paint_cavity(
        self, p: np.ndarray, shift: np.ndarray, tissue: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Organs, vessels, lesions, painted in order. p (3, N) inside the abdominal wall."""
        back = p[1] + np.float32(self.body[1])
        tissue[(p[0] / 48) ** 2 + ((back - 50) / 30) ** 2 < 1] = T["muscle"]
        spine = p[0] ** 2 + (back - 62) ** 2 < 21**2
        tissue[spine] = T["bone"]
        q = p - shift[:, None]
        dome = self.dome - 0.0027 * ((q[0] - 70) ** 2 + q[1] ** 2)
        tissue[q[2] > dome] = T["lung"]
        liver_d = self.liver_distance(q)
        if self.diffuse.ascites_mm:
            tissue[(liver_d < self.diffuse.ascites_mm) & (q[2] < dome + 6)] = T["fluid"]
            flank = np.abs(q[0]) > self.body[0] - self.fat_mm - 42 - self.diffuse.ascites_mm
            tissue[flank & (q[2] < -15)] = T["fluid"]
        self._paint_organs(q, tissue, spine=spine, liver=liver_d < 0)
        self._paint_vessels(q, tissue)
        lesion, rho = self._paint_lesions(q, tissue)
        nodules = self._ripple(q) if self.diffuse.surface_mm else np.zeros(len(tissue), np.float32)
        return tissue, lesion, rho, nodules

    def _paint_organs(
        self, q: np.ndarray, tissue: np.ndarray, *, spine: np.ndarray, liver: np.ndarray
    ) -> None:
        for shapes, value in (
            (self.organs.bowel, T["bowel"]),
            (self.organs.gas, T["air"]),
            ([self.organs.spleen], T["spleen"]),
        ):
            for shape in shapes:
                tissue[(shape.rho2(q) < 1) & ~spine] = value
        for kidney in self.organs.kidneys:
            r2 = kidney.rho2(q)
            tissue[r2 < 1] = T["kidney"]
            tissue[r2 < 0.38**2] = T["fat"]
        tissue[liver] = T["liver"]
        in_gb = self.organs.gallbladder.rho2(q) < 1
        tissue[in_gb] = T["bile"]
        for stone in self.organs.stones:
            tissue[in_gb & (stone.rho2(q) < 1)] = T["stone"]

    def _paint_vessels(self, q: np.ndarray, tissue: np.ndarray) -> None:
        for tubes, value in ((self.organs.arteries, T["artery"]), (self.organs.veins, T["vein"])):
            for tube in tubes:
                tissue[tube.inside(q)] = value
        for tube in self.organs.ducts:
            at = tube.inside(q)
            tissue[at[tissue[at] == T["liver"]]] = DUCT

    def _paint_lesions(self, q: np.ndarray, tissue: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Index of the lesion at each point, -1 outside; and the normalised radius inside it."""
        lesion = np.full(len(tissue), -1, np.int8)
        rho = np.zeros(len(tissue), np.float32)
        for i, one in enumerate(self.lesions):
            reach = one.radii.max() * 1.15
            box = np.flatnonzero(np.all([np.abs(q[c] - one.centre[c]) < reach for c in range(3)], axis=0))
            r = one.rho(q[:, box].T)
            hit = box[r < 1]
            lesion[hit] = i
            rho[hit] = r[r < 1]
            tissue[hit] = T["liver"]
        return lesion, rho


def draw_findings(rng: np.random.Generator) -> dict[str, bool]:
    """Which diffuse and biliary findings this patient has; focal ones follow from the lesions drawn."""
    present = {
        "steatosis": rng.random() < 0.24,
        "cirrhosis": rng.random() < 0.2,
        "iron": rng.random() < 0.15,
        "gallstone": rng.random() < 0.2,
        "dilated_ducts": rng.random() < 0.12,
    }
    present["ascites"] = rng.random() < (0.4 if present["cirrhosis"] else 0.08)
    return present


def draw_lesion_kinds(rng: np.random.Generator, findings: dict[str, bool]) -> list[str]:
    """Which focal lesions this patient is to have, likelier ones where the liver is cirrhotic."""
    n = int(rng.choice([0, 1, 2, 3], p=[0.3, 0.38, 0.22, 0.1]))
    weights = np.array([1.3, 0.8, 1.2, 1.1, 1.2, 0.9, 0.9, 0.8])
    if findings["cirrhosis"]:
        weights = weights * np.array([0.7, 0.7, 0.6, 2.6, 0.5, 0.5, 1, 0.7])
    kinds = [str(rng.choice(FOCAL, p=weights / weights.sum())) for _ in range(n)]
    if "metastasis_like" in kinds:
        kinds = ["metastasis_like" if rng.random() < 0.6 else k for k in kinds] + ["metastasis_like"]
    return kinds


def _draw_diffuse(rng: np.random.Generator, findings: dict[str, bool]) -> Diffuse:
    rows = table().diffuse
    fat = findings["steatosis"]
    cirrhosis = findings["cirrhosis"]
    return Diffuse(
        pdff=float(rng.uniform(*rows.steatosis.pdff) if fat else rng.uniform(0.01, 0.045)),
        r2s=float(rng.uniform(*rows.iron.r2s) if findings["iron"] else rng.normal(38, 5)),
        ascites_mm=float(rng.uniform(*rows.ascites.thickness_mm) if findings["ascites"] else 0),
        nodule_mm=float(rng.uniform(*rows.cirrhosis.nodule_mm) if cirrhosis else 10),
        surface_mm=float(rng.uniform(*rows.cirrhosis.surface_mm) if cirrhosis else 0),
        us_echo_db=float(rng.uniform(*rows.steatosis.echo) if fat else rng.normal(0, 1.0)),
        us_attenuation=float(rng.uniform(*rows.steatosis.att) if fat else rng.normal(0, 0.04)),
    )


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient. Position, pose and coverage are drawn apart from, and so independent of, the
    findings."""
    tissues = draw_tissues(rng)
    findings = draw_findings(rng)
    cirrhosis = findings["cirrhosis"]
    frame = organs.draw_frame(rng)
    liver = organs.draw_liver(rng, frame, cirrhosis=cirrhosis)
    spleen = organs.draw_spleen(rng, frame, cirrhosis=cirrhosis)
    kidneys = organs.draw_kidneys(rng, frame)
    gallbladder = organs.draw_gallbladder(rng, liver)
    stones: list[Ellipsoid] = []
    if findings["gallstone"]:
        drawn = organs.draw_stones(rng, gallbladder)
        stones = drawn.shapes
        tissues["stone"] = replace(tissues["stone"], hu=drawn.hu)
    veins, ducts = organs.draw_veins_and_ducts(rng, frame, liver, dilated=findings["dilated_ducts"])
    bowel, gas = organs.draw_bowel(rng)
    anatomy = Anatomy(
        tissues=tissues,
        findings=findings,
        lesions=[],
        body=frame.body,
        fat_mm=frame.fat_mm,
        liver=[liver.right, liver.left],
        organs=organs.Organs(
            bowel=bowel,
            gas=gas,
            spleen=spleen,
            kidneys=kidneys,
            gallbladder=gallbladder,
            stones=stones,
            arteries=[organs.aorta(frame)],
            veins=veins,
            ducts=ducts,
        ),
        diffuse=_draw_diffuse(rng, findings),
        sex=str(rng.choice(["F", "M"])),
        age=int(rng.integers(28, 84)),
        habitus=frame.habitus,
        dome=liver.right.centre[2] + 92,
    )
    anatomy.lesions = _place_lesions(rng, anatomy, draw_lesion_kinds(rng, findings))
    for kind in FOCAL:
        findings[kind] = any(lesion.kind == kind for lesion in anatomy.lesions)
    return anatomy


def _place_lesions(rng: np.random.Generator, anatomy: Anatomy, kinds: list[str]) -> list[Lesion]:
    """Inside the liver, at least a radius deep, apart from each other and from the large vessels."""
    placed: list[Lesion] = []
    for kind in kinds:
        small = kind == "calcified_granuloma"
        radius = rng.uniform(4, 8) if small else rng.uniform(6, 22)
        radii = (radius * rng.uniform(0.82, 1.0, 3)).astype(np.float32)
        for _ in range(60):
            lobe = anatomy.liver[0 if rng.random() < 0.75 else 1]
            direction = rng.normal(size=3)
            at = lobe.centre + lobe.radii * direction / np.linalg.norm(direction) * rng.random() ** (1 / 3)
            at = at.astype(np.float32)
            deep = anatomy.liver_distance(at[:, None])[0] < -0.8 * radius - 2
            clear = all(np.linalg.norm(at - o.centre) > radius + o.radii.max() + 4 for o in placed)
            if deep and clear and anatomy.organs.gallbladder.distance(at[:, None])[0] > radius:
                wave = rng.normal(0, 1.2, 3).astype(np.float32)
                placed.append(Lesion(kind, at, radii, draw_lesion(kind, rng), wave))
                break
    return placed
