"""The Doppler sound of the portal vein and the hepatic artery beside it, from one simulated anatomy.
Simulated, and the file says so.

The probe is where the right portal branch of this anatomy runs most along the beam; depth, fat, ascites and
the liver's own attenuation decide how much noise there is. Speed, pulsatility, resistance and direction of
flow follow fat fraction, cirrhosis, ascites and metastases by published values (doppler.yaml): in health a
portal vein flows toward the liver at 16 to 40 cm/s and undulates gently, and a hepatic artery has a resistive
index of .55 to .70 (McNaughton and Abu-Yousef 2011, RadioGraphics 31:161). Blood at a speed v is heard at
f = 2 f0 v cos(angle) / c.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import yaml
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from ..io.sound import write_sound
from .anatomy import Anatomy

PORTAL = "portal_vein"
ARTERY = "hepatic_artery"
SAYS = "SIMULATED Doppler sound by medfuse: not a patient"
GROUPS = 32  # of red cells, each at its own speed
STAYS_S = 0.01  # how long a group stays in the gate
Range = tuple[float, float]  # mean, standard deviation


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Fat(_Row):
    from_pdff: tuple[float, float, float]
    speed: tuple[float, float, float]
    vpi: tuple[float, float, float]


class _Portal(_Row):
    speed: Range
    vpi: Range
    fat: _Fat
    cirrhosis_speed: float
    ascites_speed: float
    reversed: float
    source: list[str]


class _Artery(_Row):
    peak: Range
    ri: Range
    cirrhosis_ri: Range
    fat_ri: tuple[float, float, float]
    metastasis_flow: float
    cirrhosis_flow: float
    source: list[str]


class _Instrument(_Row):
    mhz: float
    sound_m_s: float
    rate: int
    seconds: float
    wall_hz: dict[str, float]
    clear_db: Range
    wall_mm: float


class DopplerTable(_Row):
    """doppler.yaml; its head names the units."""

    portal_vein: _Portal
    hepatic_artery: _Artery
    heart_hz: Range
    breath_hz: Range
    instrument: _Instrument


@cache
def table() -> DopplerTable:
    """The published and assumed values."""
    return DopplerTable(**yaml.safe_load(files("medfuse.simulation").joinpath("doppler.yaml").read_bytes()))


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What flows in one patient. portal: spatial mean speed in cm/s, negative away from the liver. vpi: its
    venous pulsatility index. peak: systolic speed in the artery, cm/s. ri: its resistive index. heart,
    breath: Hz."""

    portal: float
    vpi: float
    peak: float
    ri: float
    heart: float
    breath: float


@dataclass(frozen=True, kw_only=True)
class Beam:
    """How the vessel is met. cosine: of the angle between the flow toward the liver and the way to the probe.
    depth_mm: under the skin. clear_db: signal over noise."""

    cosine: float
    depth_mm: float
    clear_db: float


@dataclass(frozen=True, kw_only=True)
class DopplerSound:
    """samples: (N, 2) float, full scale ±1: left what flows toward the probe, right what flows away."""

    vessel: str
    samples: Float[np.ndarray, "n 2"]
    rate: int


def fat_grade(anatomy: Anatomy) -> int:
    """0 to 3, by the fat fraction."""
    return int(sum(anatomy.diffuse.pdff >= p for p in table().portal_vein.fat.from_pdff))


def draw_flow(rng: np.random.Generator, anatomy: Anatomy) -> Flow:
    """The flow of a patient: the same draws whatever the findings are, so that they move it and nothing
    else."""
    known = table()
    vein, artery = known.portal_vein, known.hepatic_artery
    z = rng.normal(size=6)
    turned = rng.random() < vein.reversed
    grade = fat_grade(anatomy)
    cirrhosis = anatomy.findings["cirrhosis"]
    speed = vein.speed[0] + vein.speed[1] * z[0]
    vpi = vein.vpi[0] + vein.vpi[1] * z[1]
    peak = artery.peak[0] + artery.peak[1] * z[2]
    ri = artery.cirrhosis_ri if cirrhosis else artery.ri
    resistance = ri[0] + ri[1] * z[3]
    if grade:
        speed *= vein.fat.speed[grade - 1]
        vpi *= vein.fat.vpi[grade - 1]
        resistance += artery.fat_ri[grade - 1]
    if cirrhosis:
        speed *= vein.cirrhosis_speed * (vein.ascites_speed if anatomy.findings["ascites"] else 1)
        peak *= artery.cirrhosis_flow
        speed = -speed if turned else speed
    if anatomy.findings["metastasis_like"]:
        peak *= artery.metastasis_flow
    return Flow(
        portal=float(np.sign(speed) * np.clip(abs(speed), 4, 40)),
        vpi=float(np.clip(vpi, 0.05, 0.7)),
        peak=float(np.clip(peak, 20, 180)),
        ri=float(np.clip(resistance, 0.35, 0.95)),
        heart=float(np.clip(known.heart_hz[0] + known.heart_hz[1] * z[4], 0.8, 1.8)),
        breath=float(np.clip(known.breath_hz[0] + known.breath_hz[1] * z[5], 0.12, 0.4)),
    )


def draw_beam(rng: np.random.Generator, anatomy: Anatomy) -> Beam:
    """The best of seven places on the right anterior skin: where the right portal branch runs most along the
    beam."""
    known = table().instrument
    start, end = (p.astype(float) for p in anatomy.organs.veins[1].points[:2])
    gate = (start + end) / 2
    along = (end - start) / np.linalg.norm(end - start)
    ways = []
    for _ in range(7):
        phi = rng.uniform(0.2, 1.5)  # from straight in front toward the right flank
        x, y = np.sin(phi), np.cos(phi)
        wall = (abs(x / anatomy.body[0]) ** 2.4 + abs(y / anatomy.body[1]) ** 2.4) ** (-1 / 2.4)
        ways.append(np.array([x * wall, y * wall, gate[2] + rng.normal(0, 25)]) - gate)
    cosines = [float(way @ along / np.linalg.norm(way)) for way in ways]
    best = int(np.argmax(np.abs(cosines)))
    depth = float(np.linalg.norm(ways[best]))
    fluid = min(anatomy.diffuse.ascites_mm, depth)
    fat = min(anatomy.fat_mm, depth - fluid)
    muscle = min(known.wall_mm, depth - fluid - fat)
    of = anatomy.tissues
    liver = of["liver"].att + anatomy.diffuse.us_attenuation
    paths = ((fat, of["fat"].att), (muscle, of["muscle"].att), (fluid, of["fluid"].att))
    rest = depth - fat - muscle - fluid
    lost = 2 * known.mhz * (sum(mm / 10 * att for mm, att in paths) + rest / 10 * liver)
    clear = rng.normal(*known.clear_db) - lost
    return Beam(cosine=cosines[best], depth_mm=depth, clear_db=float(clear))


def speeds(flow: Flow, vessel: str, t: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Highest speed in the vessel in cm/s at times t in seconds, positive toward the liver."""
    if vessel == PORTAL:
        swing = flow.vpi / (2 - flow.vpi) / 2  # half of it with the heart, half with breathing
        wave = np.sin(2 * np.pi * flow.heart * t) + np.sin(2 * np.pi * flow.breath * t)
        return np.asarray(2 * flow.portal * (1 + swing * wave))  # a parabola's middle: twice its mean
    beat = (t * flow.heart) % 1
    rise = np.sin(np.pi / 2 * np.minimum(beat / 0.12, 1))
    shape = np.where(beat < 0.12, rise, np.exp(-(beat - 0.12) / 0.28))
    shape = (shape - shape.min()) / (shape.max() - shape.min())
    return np.asarray(flow.peak * (1 - flow.ri + flow.ri * shape))


def doppler_sound(rng: np.random.Generator, flow: Flow, beam: Beam, vessel: str) -> DopplerSound:
    """Listen to one vessel. Red cells in groups, each at its own share of the highest speed (all shares alike
    in the vein, as in a parabola; the higher ones more often in the artery, which is blunter). What is faster
    than half the rate of pulses is heard on the wrong side, as it is by an instrument."""
    known = table().instrument
    n = int(known.rate * known.seconds)
    t = np.arange(n) / known.rate
    hertz = 2 * known.mhz * 1e6 / known.sound_m_s * speeds(flow, vessel, t) / 100 * beam.cosine
    share = (np.arange(GROUPS) + 0.5) / GROUPS
    often = np.ones(GROUPS) if vessel == PORTAL else 1 / np.sqrt(1 - share)
    phase = 2 * np.pi * np.cumsum(hertz) / known.rate / GROUPS
    turn = np.exp(1j * phase)
    wave = np.exp(0.5j * phase)
    knots = np.arange(0, known.seconds + STAYS_S, STAYS_S)
    signal = np.zeros(n, complex)
    for size in np.sqrt(often):
        a, b = size * rng.normal(size=(2, len(knots)))
        signal += (np.interp(t, knots, a) + 1j * np.interp(t, knots, b)) * wave
        wave = wave * turn
    signal /= np.sqrt(np.mean(np.abs(signal) ** 2))
    noise = (rng.normal(size=n) + 1j * rng.normal(size=n)) / np.sqrt(2)
    spectrum = np.fft.fft(signal + noise * 10 ** (-beam.clear_db / 20))
    at = np.fft.fftfreq(n, 1 / known.rate)
    spectrum[np.abs(at) < known.wall_hz[vessel]] = 0
    toward, away = (np.fft.ifft(np.where(side, spectrum, 0)).real for side in (at > 0, at < 0))
    both = np.stack([toward, away], 1)
    return DopplerSound(vessel=vessel, samples=both / np.abs(both).max() / 2, rate=known.rate)


def listen(rng: np.random.Generator, anatomy: Anatomy) -> list[DopplerSound]:
    """Both vessels of a patient."""
    flow = draw_flow(rng, anatomy)
    beam = draw_beam(rng, anatomy)
    return [doppler_sound(rng, flow, beam, vessel) for vessel in (PORTAL, ARTERY)]


def write_doppler(sounds: list[DopplerSound], folder: Path) -> list[str]:
    """WAV files that say that they are simulated; their paths relative to ``folder``'s parent."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for one in sounds:
        path = folder / f"doppler_{one.vessel}_SIMULATED.wav"
        write_sound(path, one.samples, one.rate, comment=SAYS)
        names.append(f"{folder.name}/{path.name}")
    return names
