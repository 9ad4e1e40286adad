"""One simulated upper abdomen: organs as analytic shapes, lesions, and what lies at any point in mm.

Patient coordinates are RAS+ mm about the body's centre; every modality samples the same anatomy on its own grid.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .parameters import DENSE, FOCAL, draw_lesion, draw_tissues, table

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
    centre: np.ndarray
    radii: np.ndarray

    def _scaled(self, p: np.ndarray, power: int) -> np.ndarray:
        return sum(
            ((p[c] - np.float32(self.centre[c])) * np.float32(1 / self.radii[c] ** power)) ** 2 for c in range(3)
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
    points: np.ndarray  # (N, 3) mm
    radius: float

    def inside(self, p: np.ndarray) -> np.ndarray:
        """Indices of the points (3, N) inside the tube."""
        lo, hi = self.points.min(0) - self.radius, self.points.max(0) + self.radius
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
    kind: str
    centre: np.ndarray
    radii: np.ndarray
    physics: dict  # core and rim tissue of this lesion
    wave: np.ndarray  # lobulation of its surface

    @property
    def diameter(self) -> float:
        """Longest diameter in mm."""
        return float(2 * self.radii.max())

    def rho(self, p: np.ndarray) -> np.ndarray:
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


@dataclass
class Anatomy:
    tissues: dict[str, dict]
    findings: dict[str, bool]
    lesions: list[Lesion]
    body: np.ndarray  # half-width, half-depth in mm
    fat_mm: float
    liver: list[Ellipsoid]
    organs: dict[str, list]
    pdff: float
    r2s: float
    ascites_mm: float
    nodule_mm: float
    surface_mm: float
    us_echo_db: float
    us_attenuation: float
    sex: str
    age: int
    habitus: float
    extra: dict = field(default_factory=dict)

    def liver_distance(self, p: np.ndarray) -> np.ndarray:
        """Signed distance in mm to the liver's surface, negative inside. p (3, N) mm."""
        a, b = (e.distance(p) for e in self.liver)
        k = np.float32(12.0)  # smooth union of the lobes
        h = np.clip(0.5 + 0.5 * (b - a) / k, 0, 1)
        d = b * (1 - h) + a * h - k * h * (1 - h)
        if self.surface_mm:
            d = d + np.float32(self.surface_mm) * self._ripple(p)
        return d

    def _ripple(self, p: np.ndarray) -> np.ndarray:
        s = np.float32(2 * np.pi / self.nodule_mm / 1.6)
        x, y, z = p
        return np.sin(s * x + 1.3 * np.sin(s * 0.7 * y)) * np.sin(s * y + 0.9 * np.sin(s * 0.6 * z)) * np.sin(s * z)

    def sample(self, points: np.ndarray, shift: np.ndarray | None = None) -> Sample:
        """Look the anatomy up. points (..., 3) RAS+ mm; shift (3,) mm of the organs by breathing."""
        shape = points.shape[:-1]
        p = np.ascontiguousarray(points.reshape(-1, 3).T, np.float32)
        tissue = np.zeros(p.shape[1], np.uint8)
        wall = (np.abs(p[0] / self.body[0]) ** 2.4 + np.abs(p[1] / self.body[1]) ** 2.4) ** np.float32(1 / 2.4)
        depth = (1 - wall) * np.float32(self.body[1])  # mm under the skin, about
        tissue[wall < 1] = T["fat"]
        tissue[depth > self.fat_mm] = T["muscle"]
        self._paint_wall(tissue, p, depth)
        cavity = np.flatnonzero(depth > self.fat_mm + 14)
        tissue[cavity] = np.where(tissue[cavity] == T["bone"], T["bone"], T["fat"])
        offset = np.asarray(shift if shift is not None else (0, 0, 0), np.float32)
        inner = self._paint_cavity(np.ascontiguousarray(p[:, cavity]), offset, tissue[cavity])
        tissue[cavity] = inner[0]
        lesion, rho = np.full(len(tissue), -1, np.int8), np.zeros(len(tissue), np.float32)
        nodules = np.zeros(len(tissue), np.float32)
        lesion[cavity], rho[cavity], nodules[cavity] = inner[1:]
        return Sample(tissue.reshape(shape), lesion.reshape(shape), rho.reshape(shape), nodules.reshape(shape))

    def _paint_wall(self, tissue: np.ndarray, p: np.ndarray, depth: np.ndarray) -> None:
        shell = np.flatnonzero(np.abs(depth - self.fat_mm - 8) < 4)
        x, y, z = p[:, shell]
        rib = (np.abs((z + 0.35 * np.abs(x)) % 27 - 5) < 5) & (z > -70 + 0.5 * y)
        tissue[shell[rib]] = T["bone"]

    def _paint_cavity(self, p: np.ndarray, shift: np.ndarray, tissue: np.ndarray):
        """Organs, vessels, lesions, painted in order. p (3, N) inside the abdominal wall."""
        back = p[1] + np.float32(self.body[1])
        tissue[(p[0] / 48) ** 2 + ((back - 50) / 30) ** 2 < 1] = T["muscle"]
        spine = p[0] ** 2 + (back - 62) ** 2 < 21**2
        tissue[spine] = T["bone"]
        q = p - shift[:, None]
        dome = self.extra["dome"] - 0.0027 * ((q[0] - 70) ** 2 + q[1] ** 2)
        tissue[q[2] > dome] = T["lung"]
        liver_d = self.liver_distance(q)
        if self.ascites_mm:
            tissue[(liver_d < self.ascites_mm) & (q[2] < dome + 6)] = T["fluid"]
            flank = np.abs(q[0]) > self.body[0] - self.fat_mm - 42 - self.ascites_mm
            tissue[flank & (q[2] < -15)] = T["fluid"]
        for name, value in (("bowel", T["bowel"]), ("gas", T["air"]), ("spleen", T["spleen"])):
            for shape in self.organs[name]:
                tissue[(shape.rho2(q) < 1) & ~spine] = value
        for kidney in self.organs["kidney"]:
            r2 = kidney.rho2(q)
            tissue[r2 < 1] = T["kidney"]
            tissue[r2 < 0.38**2] = T["fat"]
        tissue[liver_d < 0] = T["liver"]
        in_gb = self.organs["gallbladder"][0].rho2(q) < 1
        tissue[in_gb] = T["bile"]
        for stone in self.organs["stones"]:
            tissue[in_gb & (stone.rho2(q) < 1)] = T["stone"]
        for name, value in (("artery", T["artery"]), ("vein", T["vein"])):
            for tube in self.organs[name]:
                tissue[tube.inside(q)] = value
        for tube in self.organs["duct"]:
            at = tube.inside(q)
            tissue[at[tissue[at] == T["liver"]]] = DUCT
        lesion, rho = np.full(len(tissue), -1, np.int8), np.zeros(len(tissue), np.float32)
        for i, one in enumerate(self.lesions):
            reach = one.radii.max() * 1.15
            box = np.flatnonzero(np.all([np.abs(q[c] - one.centre[c]) < reach for c in range(3)], axis=0))
            r = one.rho(q[:, box].T)
            hit = box[r < 1]
            lesion[hit], rho[hit] = i, r[r < 1]
            tissue[hit] = T["liver"]
        nodules = self._ripple(q) if self.surface_mm else np.zeros(len(tissue), np.float32)
        return tissue, lesion, rho, nodules


def _tree(rng, root: np.ndarray, ends: list[np.ndarray], radius: float) -> list[Tube]:
    tubes = []
    for end in ends:
        mid = (root + end) / 2 + rng.normal(0, 6, 3)
        tubes.append(Tube(np.stack([root, mid, end]).astype(np.float32), radius))
    return tubes


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
    n = int(rng.choice([0, 1, 2, 3], p=[0.3, 0.38, 0.22, 0.1]))
    weights = np.array([1.3, 0.8, 1.2, 1.1, 1.2, 0.9, 0.9, 0.8])
    if findings["cirrhosis"]:
        weights = weights * np.array([0.7, 0.7, 0.6, 2.6, 0.5, 0.5, 1, 0.7])
    kinds = [str(rng.choice(FOCAL, p=weights / weights.sum())) for _ in range(n)]
    if "metastasis_like" in kinds:
        kinds = ["metastasis_like" if rng.random() < 0.6 else k for k in kinds] + ["metastasis_like"]
    return kinds


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw one patient. Position, pose and coverage are drawn apart from, and so independent of, the findings."""
    tissues, findings = draw_tissues(rng), draw_findings(rng)
    diffuse = table()["diffuse"]
    habitus = float(rng.normal(1, 0.07))
    body = np.array([rng.uniform(150, 178), rng.uniform(105, 128)]) * habitus
    fat_mm = float(np.clip(rng.normal(17, 6) * habitus, 6, 36))
    cirrhosis = findings["cirrhosis"]
    right = rng.uniform(*diffuse["cirrhosis"]["right_lobe"]) if cirrhosis else 1.0
    wall_x = body[0] - fat_mm - 16
    centre = np.array([wall_x - 78 * right + rng.normal(0, 3), rng.normal(4, 5), rng.normal(0, 6)])
    right_lobe = Ellipsoid(centre, np.array([76 * right, 74, 82]) * rng.normal(1, 0.05, 3))
    left_scale = 1.18 if cirrhosis else 1.0
    left_lobe = Ellipsoid(
        np.array([rng.normal(8, 6), 34 + rng.normal(0, 5), 22 + rng.normal(0, 6)]),
        np.array([58, 36, 42]) * left_scale * rng.normal(1, 0.06, 3),
    )
    spleen_scale = rng.uniform(*diffuse["cirrhosis"]["spleen"]) if cirrhosis else 1.0
    spleen = Ellipsoid(
        np.array([-(wall_x - 34), -38 + rng.normal(0, 6), 18 + rng.normal(0, 8)]),
        np.array([30, 42, 50]) * spleen_scale * rng.normal(1, 0.08, 3),
    )
    kidneys = [
        Ellipsoid(np.array([s * 62.0, -body[1] + fat_mm + 62, z]), np.array([27, 30, 52]) * rng.normal(1, 0.06, 3))
        for s, z in ((1, -78 + rng.normal(0, 5)), (-1, -55 + rng.normal(0, 6)))
    ]
    gallbladder = Ellipsoid(
        np.array([centre[0] - 30, 44 + rng.normal(0, 5), centre[2] - 62 + rng.normal(0, 4)]),
        np.array([15, 22, 28]) * rng.normal(1, 0.12),
    )
    stones = []
    if findings["gallstone"]:
        for _ in range(int(rng.integers(1, 4))):
            r = rng.uniform(3.5, 8)
            offset = np.array([rng.normal(0, 5), -gallbladder.radii[1] + r + rng.uniform(1, 5), rng.normal(0, 9)])
            stones.append(Ellipsoid(gallbladder.centre + offset, np.full(3, r)))
        # a third of stones are calcified, a third iso- to hypodense at CT (cholesterol)
        tissues["stone"]["hu"] = float(rng.choice([rng.uniform(150, 500), rng.uniform(40, 90), rng.uniform(-20, 25)]))
    hilum = centre + np.array([-62 * right, 6, -12])
    vein_ends = [
        centre + np.array([30, 20, 20]) * right,
        centre + np.array([20, -25, -10]) * right,
        left_lobe.centre + np.array([-15, 5, 0]),
        centre + np.array([5, 10, 45]) * right,
    ]
    ivc = np.array([[22, -body[1] + 95, -110], [22, -body[1] + 96, 70]], np.float32)
    aorta = np.array([[-10, -body[1] + 92, -110], [-8, -body[1] + 90, 110]], np.float32)
    veins = [
        Tube(ivc, 10.5),
        *_tree(rng, hilum, vein_ends, 4.5),
        *_tree(
            rng,
            np.array([24.0, -body[1] + 100, 55]),
            [centre + np.array([10, 0, 40]), centre + np.array([0, 25, 30])],
            4.0,
        ),
    ]
    ducts = (
        _tree(rng, hilum + np.array([2, 9, 3]), [e + 9 for e in vein_ends], rng.uniform(2.6, 4.5))
        if findings["dilated_ducts"]
        else []
    )
    gas_at = np.array([-45 + rng.normal(0, 10), 55 + rng.normal(0, 6), -20 + rng.normal(0, 20)])
    bowel = [
        Ellipsoid(np.array([-60 + rng.normal(0, 8), 25.0, 20]), np.array([42, 36, 46])),
        Ellipsoid(np.array([rng.normal(0, 10), 40.0, -85]), np.array([75, 34, 26])),
    ]
    gas = [
        Ellipsoid(gas_at, np.array([22, 14, 18])),
        Ellipsoid(np.array([rng.normal(0, 30), 52, -85.0]), np.array([30, 14, 14])),
    ]
    anatomy = Anatomy(
        tissues=tissues,
        findings=findings,
        lesions=[],
        body=body,
        fat_mm=fat_mm,
        liver=[right_lobe, left_lobe],
        organs={
            "bowel": bowel,
            "gas": gas,
            "spleen": [spleen],
            "kidney": kidneys,
            "gallbladder": [gallbladder],
            "stones": stones,
            "artery": [Tube(aorta, 10.0)],
            "vein": veins,
            "duct": ducts,
        },
        pdff=float(rng.uniform(*diffuse["steatosis"]["pdff"]) if findings["steatosis"] else rng.uniform(0.01, 0.045)),
        r2s=float(rng.uniform(*diffuse["iron"]["r2s"]) if findings["iron"] else rng.normal(38, 5)),
        ascites_mm=float(rng.uniform(*diffuse["ascites"]["thickness_mm"]) if findings["ascites"] else 0),
        nodule_mm=float(rng.uniform(*diffuse["cirrhosis"]["nodule_mm"]) if cirrhosis else 10),
        surface_mm=float(rng.uniform(*diffuse["cirrhosis"]["surface_mm"]) if cirrhosis else 0),
        us_echo_db=float(rng.uniform(*diffuse["steatosis"]["echo"]) if findings["steatosis"] else rng.normal(0, 1.0)),
        us_attenuation=float(
            rng.uniform(*diffuse["steatosis"]["att"]) if findings["steatosis"] else rng.normal(0, 0.04)
        ),
        sex=str(rng.choice(["F", "M"])),
        age=int(rng.integers(28, 84)),
        habitus=habitus,
        extra={"dome": centre[2] + 92},
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
            if deep and clear and anatomy.organs["gallbladder"][0].distance(at[:, None])[0] > radius:
                wave = rng.normal(0, 1.2, 3).astype(np.float32)
                placed.append(Lesion(kind, at, radii, draw_lesion(kind, rng), wave))
                break
    return placed
