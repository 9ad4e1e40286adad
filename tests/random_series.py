"""Series at random, classic and enhanced, whole and damaged: each must become exact volumes or be refused
by name.

    python tests/random_series.py --series 2000 --seed 1

prints what became of each kind; the tests try fewer. A voxel holds which volume and which place its slice
was made for, so a slice in the wrong volume, or at the wrong height, cannot hide.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from slices import write_slice

from medfuse.case import Image
from medfuse.io.cases import find_cases

MR = "1.2.840.10008.5.1.4.1.1.4"
ROWS, COLUMNS = 6, 5
PER_VOLUME, PER_PLACE = 2000, 60  # of the grey values
DIRECTIONS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.6, 0.8, 0.0), (0.0, 0.6, 0.8))
Says = dict[str, object]


@dataclass
class One:
    """A slice to be written: its volume and place, where it lies (LPS mm), what its header says."""

    volume: int
    place: int
    position: np.ndarray
    says: Says = field(default_factory=dict)
    private: list[tuple[int, str, object]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Made:
    """A series on disk: what parts its volumes, what was done to it, its slices."""

    kinds: tuple[str, ...]
    damage: str
    slices: list[One]
    orientation: tuple[float, ...]


def _siemens_b(one: One) -> None:
    one.private += [
        (0x00190010, "LO", "SIEMENS MR HEADER"),
        (0x0019100C, "IS", 500 * one.volume),
        (0x0019100E, "FD", list(DIRECTIONS[one.volume])),
    ]


def _philips_b(one: One) -> None:
    one.private += [(0x20010010, "LO", "Philips Imaging DD 001"), (0x20011003, "FL", 400.0 * one.volume)]


def _ge_echo(one: One) -> None:
    one.private += [(0x00190011, "LO", "GEMS_ACQU_01"), (0x001911A2, "SL", 7 + one.volume)]


def _midnight(one: One) -> None:
    seconds = 86_398 + 3 * one.volume
    one.says |= {
        "AcquisitionDate": f"2026010{1 + seconds // 86_400}",
        "AcquisitionTime": clock(seconds % 86_400),
    }


def _slice_times(one: One) -> None:
    """A clock that runs slice by slice, volume after volume."""
    one.says["AcquisitionTime"] = clock(3_600 + 30 * one.volume + one.place * 0.7)


def clock(seconds: float) -> str:
    """A DICOM TM."""
    return f"{int(seconds // 3600):02d}{int(seconds % 3600 // 60):02d}{seconds % 60:09.6f}"


def says(key: str, value: Callable[[int], object]) -> Callable[[One], None]:
    """An attribute whose value follows from the volume."""
    return lambda one: one.says.update({key: value(one.volume)})


KINDS: dict[str, Callable[[One], None]] = {
    "echo": says("EchoTime", lambda v: 2.3 * (v + 1)),
    "energy": says("KVP", lambda v: 80 + 20 * v),
    "public b-value": says("DiffusionBValue", lambda v: 500.0 * v),
    "direction": says("DiffusionGradientOrientation", lambda v: list(DIRECTIONS[v])),
    "Siemens b-value": _siemens_b,
    "Philips b-value": _philips_b,
    "GE echo": _ge_echo,
    "phase": says("TemporalPositionIdentifier", lambda v: v + 1),
    "trigger": says("TriggerTime", lambda v: 40.5 * v),
    "cardiac phase": says("NominalPercentageOfCardiacPhase", lambda v: 25.0 * v),
    "image type": says("ImageType", lambda v: ["DERIVED", "PRIMARY", "ABCD"[v]]),
    "kernel": says("ConvolutionKernel", lambda v: ["B30", "B50", "B70", "B80"][v]),
    "flip angle": says("FlipAngle", lambda v: 5.0 + 15 * v),
    "inversion": says("InversionTime", lambda v: 100.0 + 400 * v),
    "sequence": says("SequenceName", lambda v: f"*ep_b{v}"),
    "acquisition": says("AcquisitionNumber", lambda v: v + 1),
    "midnight": _midnight,
    "slice times": _slice_times,
}


def _mixed(slices: list[One], dice: random.Random) -> None:
    """One echo for the lower half of every volume, another for the upper."""
    middle = max(s.place for s in slices) / 2
    for s in slices:
        s.says["EchoTime"] = 2.5 if s.place <= middle else 4.5


def _stray(slices: list[One], dice: random.Random) -> None:
    """One slice says an echo of its own."""
    dice.choice(slices).says["EchoTime"] = 77.7


def _lost(slices: list[One], dice: random.Random) -> None:
    """A slice is missing."""
    slices.remove(dice.choice(slices))


def _tail_lost(slices: list[One], dice: random.Random) -> None:
    """The last volume stops half way, as an interrupted scan does."""
    last = max(s.volume for s in slices)
    top = max(s.place for s in slices)
    for s in [s for s in slices if s.volume == last and s.place > top // 2]:
        slices.remove(s)


def _unplaced(slices: list[One], dice: random.Random) -> None:
    """Every slice states the first one's position, and its own location."""
    first = slices[0].position
    for s in slices:
        s.says["SliceLocation"] = round(3.0 * s.place, 3)
        s.position = first


def _uneven(slices: list[One], dice: random.Random) -> None:
    """One place lies a third of a step off, in all volumes."""
    place = dice.randint(1, max(s.place for s in slices))
    shift = (slices[-1].position - slices[0].position) / 9
    for s in slices:
        if s.place == place:
            s.position = s.position + shift


def _spacings(slices: list[One], dice: random.Random) -> None:
    """Half the slices have other pixels."""
    for s in slices:
        if s.place % 2:
            s.says["PixelSpacing"] = [1.6, 1.4]


def _jitter(slices: list[One], dice: random.Random) -> None:
    """Positions written with a rounding error."""
    for s in slices:
        s.position = s.position + np.array([dice.uniform(-1, 1) for _ in range(3)]) * 2e-4


def _turned(slices: list[One], dice: random.Random) -> None:
    """Cosines that differ in the sixth place."""
    for s in slices:
        s.says["turn"] = dice.uniform(-1, 1) * 2e-6


DAMAGES: dict[str, Callable[[list[One], random.Random], None]] = {
    "none": lambda slices, dice: None,
    "position jitter": _jitter,
    "orientation jitter": _turned,
    "mixed echoes in a volume": _mixed,
    "one stray slice": _stray,
    "a lost slice": _lost,
    "an interrupted volume": _tail_lost,
    "lost positions": _unplaced,
    "an uneven step": _uneven,
    "two pixel spacings": _spacings,
}
HARMLESS = ("none", "position jitter", "orientation jitter")


def make(folder: Path, dice: random.Random) -> Made:
    """Write one series: zero to three kinds of difference, a damage, names and numbers shuffled."""
    kinds = tuple(dice.sample(sorted(KINDS), dice.choice([0, 1, 1, 1, 2, 3])))
    volumes = dice.randint(1, 4)
    places = dice.randint(3, 7)
    turn = np.linalg.qr(np.array([[dice.gauss(0, 1) for _ in range(3)] for _ in range(3)]))[0]
    if dice.random() < 0.5:
        turn = np.eye(3)
    step = dice.choice([0.6, 1.25, 3.0, 5.0])
    row, column = turn[0], turn[1]
    normal = np.cross(row, column)
    origin = np.array([dice.uniform(-200, 200) for _ in range(3)])
    slices = [One(v, k, origin + normal * step * k) for v in range(volumes) for k in range(places)]
    for one in slices:
        for kind in kinds:
            KINDS[kind](one)
    damage = dice.choice(sorted(DAMAGES)) if dice.random() < 0.5 else "none"
    DAMAGES[damage](slices, dice)
    order = list(range(len(slices)))
    dice.shuffle(order)
    for number, i in enumerate(order, 1):
        _write(folder / f"{dice.getrandbits(40):010x}.dcm", slices[i], (*row, *column), number)
    return Made(kinds=kinds, damage=damage, slices=slices, orientation=(*row, *column))


def _write(path: Path, one: One, orientation: tuple[float, ...], number: int) -> None:
    stated = dict(one.says)
    turn = float(stated.pop("turn", 0.0))  # type: ignore[arg-type]
    ds = write_slice(
        path,
        position=one.position,
        orientation=np.add(orientation, (0, 0, turn, 0, 0, turn)),
        value=PER_VOLUME * one.volume + PER_PLACE * one.place,
        number=number,
        slope=1.0,
        intercept=0.0,
        **stated,
    )
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MR
    ds.Modality = "MR"
    for tag, vr, what in one.private:
        ds.add_new(tag, vr, what)
    ds.save_as(path, enforce_file_format=True)


def verdict(folder: Path, made: Made) -> str:
    """exact, measured (not exact and said so), refused, or a sentence that says what is wrong."""
    found = find_cases(folder)
    images = [i for c in found.cases for i in c.images]
    seen: set[tuple[int, int]] = set()
    for image in images:
        wrong, slices = _inside(image, made)
        if wrong:
            return wrong
        if seen & slices:
            return "a slice came out twice"
        seen |= slices
    every = {(s.volume, s.place) for s in made.slices}
    if seen != every and not found.scan.refused:
        return f"{len(every - seen)} slices vanished without a word"
    if not images:
        return "refused"
    whole = len(images) == len({s.volume for s in made.slices}) and seen == every
    return "exact" if whole and all(i.geometry.outcome in ("exact", "split") for i in images) else "measured"


def _inside(image: Image, made: Made) -> tuple[str, set[tuple[int, int]]]:
    """What is wrong with one image, and which slices it is made of."""
    corner = image.pixels[0, 0].astype(int) - 1000
    volumes = set((corner // PER_VOLUME).tolist())
    places = (corner % PER_VOLUME / PER_PLACE).tolist()
    if len(volumes) > 1:
        return f"one image holds slices of the volumes {sorted(volumes)}", set()
    (volume,) = volumes
    of = {(s.volume, s.place): s for s in made.slices}
    mine = {(volume, int(p)) for p in places}
    if not mine <= set(of) or len(mine) != len(places):
        return f"an image holds places {places} of volume {volume}", set()
    grey = np.arange(COLUMNS)[:, None] + 10 * np.arange(ROWS)[None, :]
    if not np.array_equal(image.pixels - image.pixels[:1, :1], np.repeat(grey[..., None], len(places), 2)):
        return "pixels of a slice are not what was written", set()
    echoes = {of[m].says.get("EchoTime") for m in mine}
    if len(echoes) > 1:
        return f"one image holds the echo times {echoes}", set()
    stated = image.traits.get("echo_ms")
    if None not in echoes and (stated is None or abs(float(stated[0]) - float(min(echoes))) > 0.01):
        return f"an image says echo {stated} and its slices {echoes}", set()
    if image.affine is None:
        return ("", mine) if image.geometry.outcome in ("irregular", "tilted") else ("no place", set())
    for index, place in enumerate(places):
        expected = of[volume, int(place)].position * [-1, -1, 1]
        apart = float(np.linalg.norm(image.affine[:3] @ [0, 0, index, 1] - expected))
        if apart > 0.01:
            return f"a slice lies {apart:.3f} mm from where it was acquired", set()
    return "", mine


def run(series: int, seed: int) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try as many series; counts by (damage, verdict), and what is silently wrong or refused without
    reason."""
    counts: Counter[tuple[str, str]] = Counter()
    wrong = []
    for n in range(series):
        dice = random.Random(seed * 1_000_003 + n)
        with tempfile.TemporaryDirectory() as name:
            made = make(Path(name), dice)
            found = verdict(Path(name), made)
        told_apart = bool(made.kinds) or len({s.volume for s in made.slices}) == 1
        fine = found in ("exact", "measured", "refused")
        if made.damage in HARMLESS and told_apart and found != "exact":
            fine = False
        counts[made.damage, found if fine else "WRONG"] += 1
        if not fine:
            wrong.append(f"series {n} ({', '.join(made.kinds) or 'no difference'}; {made.damage}): {found}")
    return counts, wrong


def main() -> None:
    """Print what became of them; ends with 1 where one was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    counts, wrong = run(a.series, a.seed)
    table: dict[str, dict[str, int]] = {}
    for (damage, found), n in sorted(counts.items()):
        table.setdefault(damage, {})[found] = n
    print(json.dumps({"series": a.series, "seed": a.seed, "wrong": len(wrong), "by_damage": table}, indent=1))
    print("\n".join(wrong[:20]), file=sys.stderr)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
