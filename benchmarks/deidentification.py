"""What is left of planted names: medfuse beside dicom-anonymizer, dicognito and deid, on the same files.

    python benchmarks/deidentification.py --peers PYTHON

PYTHON is an interpreter of an environment of its own in which the three are installed. Three kinds of file
are made, all simulated: one CT with a name in every place (tests/planted.py), one CT a place, for those who
refuse the first, and 27 pictures with a name burned in: bodies (CT), sectors with a banner (US), and speckle
that fills the picture (US).
A token counts as left when its bytes stand in a file that was written, or in its name; a burned-in name, when
half of its letters' pixels are in a file that was written as they were.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import numpy as np
import pydicom
from burned import letters, noise, patient, sector, written_on
from planted import Planted, leaks, plant, plant_apart
from slices import write_slice

from medfuse.deidentify.folder import deidentify_folder
from medfuse.deidentify.profile import Options

PEERS = {
    "dicom-anonymizer": """
import sys, pathlib
from dicomanonymizer import anonymize_dicom_file
for p in sorted(pathlib.Path(sys.argv[1]).rglob('*.dcm')):
    try: anonymize_dicom_file(str(p), str(pathlib.Path(sys.argv[2]) / p.name))
    except Exception as e: print(type(e).__name__, file=sys.stderr)
""",
    "dicognito": """
import sys, pathlib, pydicom
from dicognito.anonymizer import Anonymizer
a = Anonymizer()
for p in sorted(pathlib.Path(sys.argv[1]).rglob('*.dcm')):
    try:
        ds = pydicom.dcmread(p)
        a.anonymize(ds)
        ds.save_as(pathlib.Path(sys.argv[2]) / f'{ds.SOPInstanceUID}.dcm')
    except Exception as e: print(type(e).__name__, file=sys.stderr)
""",
    "deid": """
import sys, pathlib
from deid.dicom import replace_identifiers, get_identifiers
for p in sorted(pathlib.Path(sys.argv[1]).rglob('*.dcm')):
    try:
        ids = get_identifiers([str(p)])
        replace_identifiers(dicom_files=[str(p)], ids=ids, save=True, overwrite=True,
                            output_folder=sys.argv[2], remove_private=True, strip_sequences=True)
    except Exception as e: print(type(e).__name__, file=sys.stderr)
""",
}


def run_medfuse(source: Path, out: Path) -> None:
    """medfuse with its defaults."""
    deidentify_folder(source, out, key=b"k" * 32, options=Options())


def run_peer(python: str, name: str, source: Path, out: Path) -> None:
    """A peer with its defaults; files that it fails on are not written."""
    subprocess.run(
        [python, "-c", PEERS[name], str(source), str(out)], check=False, capture_output=True, timeout=600
    )


def burn(folder: Path) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Write 27 pictures; rows of the picture, which no two share → (plain, with the name)."""
    folder.mkdir(parents=True)
    made = {}
    for n in range(27):
        shape = (300 + n, 400)
        plain = [
            patient(shape, top=1500, seed=n),
            sector(shape, n).astype(int),
            noise(shape, n).clip(20, 200).astype(int),
        ][n % 3]
        at = (20, 10) if n % 3 == 1 else (40 + 5 * n, 80 + 4 * n)
        named = written_on(
            plain, f"DOE^JANE {n} 12.3.1960", at=at, height=14, value=2500 if n % 3 == 0 else 255
        )
        bits = 16 if n % 3 == 0 else 8
        extra = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1}
        ds = write_slice(folder / f"{n:02d}.dcm", position=(0, 0, n), size=shape, **extra)
        if bits == 8:
            ds.Modality = "US"
            ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.6.1"
        ds.PixelData = named.astype(f"<u{bits // 8}").tobytes()
        ds.save_as(folder / f"{n:02d}.dcm")
        made[shape[0]] = (plain, named)
    return made


def legible(made: dict[int, tuple[np.ndarray, np.ndarray]], out: Path) -> int:
    """How many of the names are still in what was written."""
    count = 0
    for path in out.rglob("*.dcm"):
        found = pydicom.dcmread(path).pixel_array
        plain, named = made[found.shape[0]]
        spelt = letters(plain, named)
        count += float((found[spelt] == named[spelt]).mean()) >= 0.5
    return count


def main() -> None:
    """Make the files, run everybody, print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", help="Python of an environment with dicom-anonymizer, dicognito and deid.")
    peers = parser.parse_args().peers
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        together = Planted()
        plant(home / "together", together)
        apart = Planted()
        plant_apart(home / "apart", apart)
        made = burn(home / "burned")
        files = len(list((home / "apart").rglob("*.dcm")))
        print(
            f"{len(together.where)} tokens in 1 file; {len(apart.where)} in {files} files; 27 names burned in"
        )
        print("| program | left of one file | written | of many | written | of burned in | written | s |")
        print("|---|---|---|---|---|---|---|---|")
        for name in ["medfuse", *(PEERS if peers else [])]:
            row = []
            started = time.perf_counter()
            for kind, planted in (("together", together), ("apart", apart), ("burned", None)):
                out = home / name / kind
                out.mkdir(parents=True)
                if name == "medfuse":
                    run_medfuse(home / kind, out)
                else:
                    run_peer(peers, name, home / kind, out)
                left = legible(made, out) if planted is None else len(leaks(planted, out))
                row += [left, len(list(out.rglob("*.dcm")))]
            print(f"| {name} | " + " | ".join(map(str, row)) + f" | {time.perf_counter() - started:.1f} |")


if __name__ == "__main__":
    main()
