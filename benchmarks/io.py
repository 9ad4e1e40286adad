"""Reading against its peers, in one run: a CT volume, an index of many files, compressed cines.

python benchmarks/io.py [--files 10000] [--large 100000] [--repeats 5]     prints a table and writes
OUT/io.json

Imports and the start of medfuse's child processes are not counted for anyone: every row is run once before it
is timed. Times are the best of --repeats; every row reads the same files, which are in the page cache.
dcm2niix runs as its own process and writes its result; nobody else writes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, generate_uid

from medfuse.library import Library

PEAK = """
import sys
from pathlib import Path
from medfuse.io.cases import find_cases
def peak():  # of this process alone: ru_maxrss would also count who started it
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith("VmHWM"))
if __name__ == "__main__":
    find_cases(Path(sys.argv[2]))
    base = peak()
    (case,) = find_cases(Path(sys.argv[1])).cases
    print((peak() - base) * 1024 / case.images[0].pixels.nbytes)
"""


def write_ct(folder: Path, slices: int, size: int) -> None:
    """One uncompressed CT series with a header as long as a scanner's (some 100 elements)."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    study = generate_uid()
    series = generate_uid()
    frame = generate_uid()
    pixels = rng.integers(0, 2000, (size, size), dtype=np.int16)
    for k in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = CTImageStorage
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.StudyInstanceUID = study
        ds.SeriesInstanceUID = series
        ds.FrameOfReferenceUID = frame
        ds.PatientID = "BENCH"
        ds.PatientName = "GENERATED^NOT A PATIENT"
        ds.Modality = "CT"
        ds.StudyDate = "20240101"
        ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.InstanceNumber = k + 1
        ds.SliceThickness = 1.25
        ds.ImagePositionPatient = [-200, -200, 1.25 * k]
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.PixelSpacing = [0.78, 0.78]
        ds.Rows = size
        ds.Columns = size
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.BitsAllocated = 16
        ds.BitsStored = 16
        ds.HighBit = 15
        ds.PixelRepresentation = 1
        ds.RescaleSlope = 1
        ds.RescaleIntercept = -1024
        ds.KVP = 120
        ds.XRayTubeCurrent = 200
        for n in range(70):
            ds.add_new((0x0019, 0x1000 + n), "LO", f"private value {n}")
        ds.add_new((0x0019, 0x0010), "LO", "BENCH")
        ds.PixelData = np.roll(pixels, k).tobytes()
        ds.save_as(folder / f"{k:05d}.dcm", enforce_file_format=True)


def write_many(folder: Path, n: int) -> None:
    """n small CT files in series of 100: one is written by pydicom, its UIDs and position are exchanged in
    the bytes."""
    write_ct(folder / "template", 1, 16)
    (source,) = (folder / "template").iterdir()
    data = source.read_bytes()
    ds = pydicom.dcmread(source)
    sop = str(ds.SOPInstanceUID).encode()
    series = str(ds.SeriesInstanceUID).encode()
    shutil.rmtree(folder / "template")
    for i in range(n):
        where = folder / f"{i // 100:04d}"
        if i % 100 == 0:
            where.mkdir(parents=True)
        new = data.replace(sop, sop[:-8] + f"{i:08d}".encode()).replace(
            series, series[:-8] + f"{i // 100:08d}".encode()
        )
        (where / f"{i % 100:03d}.dcm").write_bytes(new)


def best(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def volume_rows(folder: Path, repeats: int) -> dict[str, float]:
    """Seconds from files to one float32 volume."""
    from monai.transforms import LoadImage

    from medfuse.io.cases import find_cases

    files = sorted(folder.iterdir())

    def pydicom_loop() -> np.ndarray:
        volume = np.empty((len(files), 512, 512), np.float32)
        for k, f in enumerate(files):
            ds = pydicom.dcmread(f)
            volume[k] = ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept)
        return volume

    rows = {
        "medfuse (with geometry check)": best(lambda: find_cases(folder), repeats),
        "pydicom loop": best(pydicom_loop, repeats),
    }
    for reader in ("PydicomReader", "ITKReader"):
        try:
            load = LoadImage(reader=reader, image_only=True)
            rows[f"MONAI LoadImage {reader}"] = best(lambda load=load: load(folder), max(1, repeats // 3))
        except (RuntimeError, ImportError) as e:
            print(f"MONAI {reader}: not measured ({str(e).splitlines()[0][:80]})", file=sys.stderr)
    import dcm2niix

    def convert() -> None:
        with TemporaryDirectory() as out:
            subprocess.run([dcm2niix.bin, "-z", "n", "-o", out, str(folder)], check=True, capture_output=True)

    rows["dcm2niix (writes .nii, then exits)"] = best(convert, repeats)
    return rows


def index_rows(folder: Path, repeats: int) -> dict[str, float]:
    from medfuse.io.scan import scan

    files = sorted(p for p in folder.rglob("*.dcm"))

    def loop() -> None:
        for f in files:
            pydicom.dcmread(f, stop_before_pixels=True)

    return {
        "medfuse, in children": best(lambda: scan(folder), repeats),
        "pydicom stop_before_pixels loop": best(loop, repeats),
    }


def rescan_seconds(folder: Path, home: Path) -> tuple[float, float]:
    """First ingest of every file, then the same folder unchanged."""
    os.environ["MEDFUSE_HOME"] = str(home)
    from medfuse.io.scan import scan
    from medfuse.library.files import note, stat_under
    from medfuse.library.ingest import ingest

    started = time.perf_counter()
    found = scan(folder)
    first = time.perf_counter() - started
    stats = stat_under(folder)
    with (
        Library().session() as s
    ):  # as ingest notes them, without the reading of pixels that this row is not about
        note(s, found.entries, stats, "bench")
    ingest(Library(), folder)
    started = time.perf_counter()
    done = ingest(Library(), folder)
    again = time.perf_counter() - started
    assert len(done.files) == len(stats), (len(done.files), len(stats))
    return first, again


def cine_rows(folder: Path, repeats: int) -> dict[str, float]:
    """A 60-frame 512 × 512 cine: one child against as many as there are cores."""
    from medfuse.io import child
    from medfuse.io.decode import read_pixels
    from medfuse.io.headers import read_header

    rows = {}
    rng = np.random.default_rng(0)
    write_ct(folder / "t", 1, 512)
    ds = pydicom.dcmread(next((folder / "t").iterdir()))
    texture = np.cumsum(rng.normal(0, 6, (60, 512, 512)), axis=2)
    ds.NumberOfFrames = 60
    ds.PixelData = np.clip(texture + 900, 0, 4000).astype(np.int16).tobytes()
    for name, syntax in (("JPEG 2000", JPEG2000Lossless), ("JPEG-LS", JPEGLSLossless)):
        path = folder / f"{name}.dcm"
        coded = pydicom.dcmread(next((folder / "t").iterdir()))
        coded.NumberOfFrames = 60
        coded.PixelData = ds.PixelData
        coded.compress(syntax)
        coded.save_as(path)
        header = read_header(path).header
        for n in (1, os.cpu_count() or 1):
            pool = child.Children(n)
            child._shared = (os.getpid(), pool)
            rows[f"{name} cine, {n} child{'ren' * (n > 1)}"] = best(
                lambda p=path, h=header: read_pixels(p, h), repeats
            )
            pool.stop()
    child._shared = None
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument(
        "--large", type=int, default=100_000, help="files of the unchanged re-scan; 0 leaves it out"
    )
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    result: dict = {"machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"}
    with TemporaryDirectory(prefix="medfuse-bench-") as name:
        folder = Path(name)
        write_ct(folder / "ct", 200, 512)
        write_ct(folder / "small", 3, 16)
        ours = "medfuse (with geometry check)"
        rows = volume_rows(folder / "ct", options.repeats)
        result["volume_s"] = {k: round(v, 3) for k, v in rows.items()}
        result["volume_ratio_to_medfuse"] = {k: round(v / rows[ours], 2) for k, v in rows.items()}
        peak = subprocess.run(
            [sys.executable, "-c", PEAK, str(folder / "ct"), str(folder / "small")],
            capture_output=True,
            text=True,
            check=True,
        )
        result["peak_memory_over_volume"] = round(float(peak.stdout), 2)
        write_many(folder / "many", options.files)
        rows = index_rows(folder / "many", max(1, options.repeats // 2))
        result["index_s"] = {k: round(v, 2) for k, v in rows.items()}
        first, second = rows.values()
        result["index_times_faster"] = round(second / first, 2)
        if options.large:
            write_many(folder / "large", options.large)
            full, again = rescan_seconds(folder / "large", folder / "home")
            result["large"] = {
                "files": options.large,
                "index_s": round(full, 1),
                "unchanged_s": round(again, 2),
                "cost_per_file_to_small_index": round(full / options.large / (first / options.files), 2),
            }
        rows = cine_rows(folder, max(1, options.repeats // 2))
        result["cine_s"] = {k: round(v, 2) for k, v in rows.items()}
    print(json.dumps(result, indent=1))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "io.json").write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
