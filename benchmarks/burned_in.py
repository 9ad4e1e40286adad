"""Names burned into pictures: how many are found, and what is taken for a name and is none.

    python benchmarks/burned_in.py --data FOLDER

300 frames: ultrasound sectors (simulated speckle), and slices of CT and MR from the DICOM files under FOLDER
(simulated bodies without it), in three sizes of picture and three of letters. Each has one line of text in
one of four fonts, at a random place, white or at 80 % of the range. A name counts as found when 90 % of its
letters' pixels lie in boxes that go black. Each frame is read without its name too: whatever is found then is
a false positive.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image as Picture
from pydicom.errors import InvalidDicomError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from burned import letters, patient, sector, written_on

from medfuse.deidentify.lettering import Box, words_in

FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSans-Bold", "STIXGeneral")
LINES = ("DOE^JANE", "ZEBULON, ARI 1960", "MRN 4711-0815", "12.03.1960 F", "St Mary Hospital", "ID: 98234512")
SIZES = (256, 512, 768)
HEIGHTS = (10, 14, 22)  # size of the font, in pixels
KINDS = ("US", "CT", "MR")


def real_slices(folder: Path | None) -> dict[str, list[np.ndarray]]:
    """Modality → slices of CT and MR of at least 128 pixels, from the whole range to 0 … 4000."""
    found: dict[str, list[np.ndarray]] = {"CT": [], "MR": []}
    for path in sorted(folder.rglob("*")) if folder else []:
        try:
            ds = pydicom.dcmread(path)
            if ds.Modality in found and min(ds.Rows, ds.Columns) >= 128:
                pixels = ds.pixel_array.astype(np.float32)
                middle = pixels[len(pixels) // 2] if pixels.ndim == 3 else pixels
                scaled = (middle - middle.min()) / max(1.0, float(np.ptp(middle))) * 4000
                found[ds.Modality].append(scaled)
        except (InvalidDicomError, AttributeError, OSError, ValueError, RuntimeError):
            continue  # no image of these two
    return found


def background(kind: str, size: int, number: int, real: dict[str, list[np.ndarray]]) -> np.ndarray:
    """A frame without text, (H, W) of any range."""
    if kind == "US":
        return sector((size, size * 4 // 3), number)
    if not real[kind]:
        return patient((size, size), top=4000, seed=number)
    picked = real[kind][number % len(real[kind])]
    return np.asarray(Picture.fromarray(picked).resize((size, size))).astype(int)


def covered(boxes: list[Box], spelt: np.ndarray) -> float:
    """Share of the letters' pixels that lie in the boxes."""
    black = np.zeros(spelt.shape, bool)
    for x0, y0, x1, y1 in boxes:
        black[y0 : y1 + 1, x0 : x1 + 1] = True
    return float(black[spelt].mean())


def main() -> None:
    """Make the frames, read them, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, help="a folder with DICOM files of CT and MR")
    parser.add_argument("--frames", type=int, default=300)
    args = parser.parse_args()
    real = real_slices(args.data)
    rng = np.random.default_rng(7)
    found: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    false: Counter[str] = Counter()
    black: list[float] = []
    missed = []
    started = time.perf_counter()
    for n in range(args.frames):
        kind, size, height = KINDS[n % 3], SIZES[n // 3 % 3], HEIGHTS[n // 9 % 3]
        plain = background(kind, size, n, real)
        low, high = int(plain.min()), 255 if kind == "US" else max(1, int(plain.max()))
        value = low + int((high - low) * (0.8 if n % 10 < 3 else 1.0))
        line = LINES[int(rng.integers(len(LINES)))]
        at = (
            int(rng.integers(2, plain.shape[1] - 10 * height)),
            int(rng.integers(2, plain.shape[0] - 2 * height)),
        )
        font = FONTS[int(rng.integers(4))]
        named = written_on(plain, line, at=at, height=height, value=value, font=font)
        share = covered(words_in(named), letters(plain, named))
        none = words_in(plain)
        black.append(covered(none, np.ones(plain.shape, bool)))
        for key in ("all", kind, f"{height} px"):
            asked[key] += 1
            found[key] += share >= 0.9
            false[key] += len(none)
        if share < 0.9:
            missed.append(f"{kind} {size} px, letters {height} px, {line!r} at {share:.2f}")
    print(
        f"{args.frames} frames on {len(real['CT'])} real slices of CT and {len(real['MR'])} of MR, "
        "and on simulated ultrasound"
    )
    print("| frames | n | found | recall | false positives |")
    print("|---|---|---|---|---|")
    for key in ("all", *KINDS, *(f"{h} px" for h in HEIGHTS)):
        print(f"| {key} | {asked[key]} | {found[key]} | {found[key] / asked[key]:.3f} | {false[key]} |")
    print(f"black by mistake: {100 * float(np.mean(black)):.3f} % of the pixels without a name")
    print(f"{(time.perf_counter() - started) / args.frames / 2:.2f} s a reading, one thread")
    for line in missed:
        print("missed:", line)


if __name__ == "__main__":
    main()
