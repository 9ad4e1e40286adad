"""Seeded mutants of real files through the reader: nothing may kill it, hang it or go unaccounted.

    make fuzz

Each mutant is one file in a folder of its own, read as `medfuse ingest` reads it, pixels and all; outlines
and segmentations are read as masks of an image too, structured reports and HL7 messages as `medfuse cohort`
reads them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import platform
import resource
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image as Picture

from medfuse.case import Image
from medfuse.cohort.dicom_reports import read_dicom_report
from medfuse.cohort.hl7v2 import read_hl7
from medfuse.errors import UserError
from medfuse.io.cases import find_cases
from medfuse.io.child import children
from medfuse.io.masks import read_mask
from medfuse.io.read import open_case
from medfuse.io.unpack import named_archive
from medfuse.io.volume_files import is_volume_file
from medfuse.settings import settings

NOT_IMAGES = (".json", ".md", ".bval", ".bvec", ".png", ".jpg", ".txt", ".csv")
LIMIT_S = 30.0  # of one mutant; a machine that others work on too is slow
LARGEST = 1_500_000  # bytes: larger seeds only cost time


def truncate(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: int(rng.integers(1, max(2, len(data))))]


def flip(data: bytes, rng: np.random.Generator) -> bytes:
    """1 to 64 bytes changed anywhere."""
    out = bytearray(data)
    for at in rng.integers(0, len(out), int(rng.integers(1, 65))):
        out[at] = int(rng.integers(0, 256))
    return bytes(out)


def flip_header(data: bytes, rng: np.random.Generator) -> bytes:
    """1 to 16 bytes changed in the first 2 kB, where the header is."""
    out = bytearray(data)
    for at in rng.integers(0, min(len(out), 2048), int(rng.integers(1, 17))):
        out[at] = int(rng.integers(0, 256))
    return bytes(out)


def length_bomb(data: bytes, rng: np.random.Generator) -> bytes:
    """A field of two or four bytes that says: as much as there can be."""
    out = bytearray(data)
    at = int(rng.integers(0, max(1, min(len(out), 8192) - 4)))
    value = [b"\xff\xff\xff\xff", b"\xfe\xff\xff\x7f", b"\xff\xff", b"\x00\x00\x00\x80"][int(rng.integers(4))]
    out[at : at + len(value)] = value
    return bytes(out)


def cut_out(data: bytes, rng: np.random.Generator) -> bytes:
    """A piece taken out of the middle."""
    a, b = sorted(int(v) for v in rng.integers(0, len(data), 2))
    return data[:a] + data[b:]


def deep_sequence(data: bytes, rng: np.random.Generator) -> bytes:
    """Sequences of undefined length inside one another, 10,000 deep, put before the rest of the data set."""
    depth = 10_000
    opening = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    at = (
        132 + 12 + struct.unpack("<I", data[140:144])[0]
        if data[128:132] == b"DICM" and len(data) > 144
        else 0
    )
    return data[:at] + opening * depth + data[at:]


def deflate_bomb(data: bytes, rng: np.random.Generator) -> bytes:
    """A deflated data set of 2.25 GiB of zeros behind this file's own preamble."""
    meta = b"\x02\x00\x10\x00UI\x16\x00" + b"1.2.840.10008.1.2.1.99"
    length = b"\x02\x00\x00\x00UL\x04\x00" + struct.pack("<I", len(meta))
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    block = bytes(2**24)
    body = b"".join(packer.compress(block) for _ in range(144)) + packer.flush()
    return b"\0" * 128 + b"DICM" + length + meta + body


MUTATIONS = [truncate, flip, flip_header, length_bomb, cut_out]


def zip_bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for n in range(4):
            archive.writestr(f"{n}.dcm", bytes(2**28 + 2**27))


def gzip_bomb(path: Path) -> None:
    """A NIfTI header that says 2 TiB, followed by 256 MiB of packed zeros."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, 10_000, 10_000, 10_000, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 4, 16)
    struct.pack_into("<f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    with gzip.open(path, "wb", compresslevel=1) as f:
        f.write(bytes(header) + bytes(2**28))


def seeds_under(folder: Path) -> list[Path]:
    return [
        p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and 200 < p.stat().st_size <= LARGEST and p.suffix not in NOT_IMAGES
    ]


def volume_seeds(folder: Path) -> list[Path]:
    """One small volume in each container that holds its own voxels, and a NIfTI in colour."""
    import nibabel as nib
    import SimpleITK as sitk

    made = [folder / f"volume{suffix}" for suffix in (".nii", ".nii.gz", ".mha", ".nrrd")]
    data = np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)
    for path in made:
        sitk.WriteImage(sitk.GetImageFromArray(data), str(path))
    colour = np.zeros((12, 10, 1, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colour, np.eye(4)), folder / "colour.nii")
    return [*made, folder / "colour.nii"]


def object_seeds(folder: Path) -> list[Path]:
    """A small zip and tar of slices, a parametric map, an ultrasound volume and a presentation state."""
    from test_objects import parametric, sources, state_of, ultrasound_volume
    from test_presented import bitmap

    slices = sources(folder / "mr")
    files = sorted((folder / "mr").iterdir())
    with zipfile.ZipFile(folder / "slices.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            archive.write(file, file.name)
    with tarfile.open(folder / "slices.tar.gz", "w:gz") as packed:
        for file in files:
            packed.add(file, file.name)
    parametric(folder / "map.dcm", slices)
    ultrasound_volume(folder / "volume_us.dcm")
    drawn = state_of(slices)
    drawn.ShutterShape, drawn.CenterOfCircularShutter, drawn.RadiusOfCircularShutter = "CIRCULAR", [3, 2], 2
    bitmap(drawn, 0x6000, "ONE")
    drawn.save_as(folder / "state.dcm")
    return [folder / n for n in ("slices.zip", "slices.tar.gz", "map.dcm", "volume_us.dcm", "state.dcm")]


def _as_mask(image: Image) -> Callable[[Path], str]:
    def read(file: Path) -> str:
        try:
            read_mask(file, image)
        except UserError:
            return "refused mask"
        return "read mask"

    return read


def _as_report(file: Path) -> str:
    found = (read_hl7 if file.suffix == ".hl7" else read_dicom_report)(file)
    assert found.rows or found.refused or not file.stat().st_size, file
    return "read report" if found.rows else "refused report"


def report_seeds(folder: Path) -> dict[Path, Callable[[Path], str]]:
    """Outlines, a segmentation, a structured report and HL7 messages, and how each is read besides; a 7z and
    films, which are read like everything."""
    import py7zr
    from test_masks import write_seg
    from test_objects import sources
    from test_pet import square, write_outline
    from test_report_sources import content, dicom_report, oru

    folder.mkdir()
    slices = sources(folder / "ct")
    (image,) = find_cases(folder / "ct").cases[0].images
    numbers = np.ones(image.pixels.shape, np.uint8)
    numbers[0] = 2
    write_seg(folder / "seg.dcm", folder / "ct", numbers)
    outline = [square(0, 3, 3.0 * k) for k in range(3)]
    write_outline(folder / "outline.dcm", slices[0].SeriesInstanceUID, outline)
    tree = [
        content("CONTAINER", "Findings", ContentSequence=[content("TEXT", "Finding", TextValue="A mass.")])
    ]
    dicom_report(folder / "report.dcm", "1.2.840.10008.5.1.4.1.1.88.11", ContentSequence=tree)
    (folder / "message.hl7").write_text((oru(text="One mass.") + "\r") * 3)
    with py7zr.SevenZipFile(folder / "slices.7z", "w") as archive:
        for file in sorted((folder / "ct").iterdir()):
            archive.write(file, file.name)
    films(folder)
    mask = _as_mask(image)
    read = {"seg.dcm": mask, "outline.dcm": mask, "report.dcm": _as_report, "message.hl7": _as_report}
    read |= {name: _as_film for name in ("film.mp4", "film.avi", "film.gif")}
    read["slices.7z"] = _nothing_more
    return {folder / n: r for n, r in read.items()}


def _nothing_more(file: Path) -> str:
    return ""


def _as_film(file: Path) -> str:
    """As `--us FILE` takes it."""
    try:
        return f"film of {open_case({'US': [file]}).images[0].pixels.ndim - 1} axes a frame"
    except UserError:
        return "refused film"


def films(folder: Path) -> None:
    """Ten frames of noise as MP4, AVI and GIF."""
    noise = np.random.default_rng(0).integers(0, 255, (10, 24, 32, 3), np.uint8)
    first, *others = (Picture.fromarray(n[..., 0]) for n in noise)
    first.save(folder / "film.gif", save_all=True, append_images=others, duration=50)
    for name, codec, form in (("film.mp4", "mpeg4", "yuv420p"), ("film.avi", "mjpeg", "yuvj420p")):
        with av.open(str(folder / name), "w") as out:
            stream = out.add_stream(codec, rate=20)
            stream.height, stream.width, stream.pix_fmt = 24, 32, form
            for one in noise:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(one, format="rgb24")))
            out.mux(stream.encode())


def child_peak_mib() -> float:
    """The most memory (resident) that a living child has ever held. All address space is capped beside
    this."""
    peaks = [0.0]
    for pid in children().pids():
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        peaks += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")]
    return max(peaks)


def read_one(file: Path) -> tuple[str, float]:
    """What became of one file: its ledger status, or a refusal of the whole path. Raises on anything else."""
    started = time.perf_counter()
    try:
        found = find_cases(file)
    except UserError:
        return "refused path", time.perf_counter() - started
    spent = time.perf_counter() - started
    if not named_archive(file):
        (entry,) = found.scan.entries
        assert entry.status == "read" or entry.reason, file
        assert (entry.status == "read") == bool(found.cases), (file, entry.status, len(found.cases))
    return found.scan.entries[0].status if found.scan.entries else "empty archive", spent


def run(
    seeds: list[Path],
    mutants: int,
    seed: int,
    *,
    bombs: bool = True,
    keep: Path | None = None,
    besides: dict[Path, Callable[[Path], str]] | None = None,
) -> dict:
    """Read ``mutants`` mutants; returns counts, the slowest, and what went wrong. besides: seeds that are
    read in a second way too."""
    rng = np.random.default_rng(seed)
    statuses: Counter[str] = Counter()
    slow = []
    failures = []
    slowest = 0.0
    child_mib = 0.0
    with tempfile.TemporaryDirectory(prefix="medfuse-fuzz-") as folder:
        for n in range(mutants):
            source = seeds[int(rng.integers(len(seeds)))]
            mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
            if bombs and n % 500 == 0:
                mutate = deep_sequence
            if bombs and n % 2500 == 1:
                mutate = deflate_bomb
            suffix = (
                "".join(source.suffixes[-2:])
                if {".nii", ".tar"} & set(source.suffixes)
                else source.suffix or ".dcm"
            )
            path = Path(folder) / f"m{suffix}"
            path.write_bytes(mutate(source.read_bytes(), rng))
            if is_volume_file(source):
                path.with_name("m.json").write_text('{"Modality": "MR"}')
            try:
                status, spent = read_one(path)
                started = time.perf_counter()
                status = ((besides or {}).get(source, _nothing_more)(path)) or status
                spent = max(spent, time.perf_counter() - started)
            except Exception as e:  # the point of the run: whatever escapes is written down
                error = f"{type(e).__name__}: {e}"[:300]
                failures.append(
                    {"n": n, "seed_file": source.name, "mutation": mutate.__name__, "error": error}
                )
                if keep is not None:
                    (keep / f"{n}_{mutate.__name__}{suffix}").write_bytes(path.read_bytes())
            else:
                statuses[status] += 1
                slowest = max(slowest, spent)
                child_mib = max(child_mib, child_peak_mib())
                if spent > LIMIT_S:
                    slow.append(
                        {
                            "n": n,
                            "seed_file": source.name,
                            "mutation": mutate.__name__,
                            "seconds": round(spent, 1),
                        }
                    )
            for f in Path(folder).iterdir():
                f.unlink()
        if bombs:
            for make, name in ((zip_bomb, "bomb.zip"), (gzip_bomb, "bomb.nii.gz")):
                make(Path(folder) / name)
                (Path(folder) / "bomb.json").write_text('{"Modality": "MR"}')
                status, spent = read_one(Path(folder) / name)
                statuses[status] += 1
                slowest = max(slowest, spent)
                child_mib = max(child_mib, child_peak_mib())
    return {
        "mutants": mutants + 2 * bombs,
        "seed": seed,
        "seed_files": len(seeds),
        "statuses": dict(statuses),
        "escaped": failures,
        "limit_s": LIMIT_S,
        "over_limit": slow,
        "slowest_s": round(slowest, 2),
        "largest_child_mib": round(child_mib),
        "child_limit_mib": round(settings().decode_memory_gib * 1024),
        "parent_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "machine": f"{platform.machine()}, Python {platform.python_version()}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, nargs="+", default=[], help="folders of real files: the seeds")
    parser.add_argument("--new", action="store_true", help="mutants of what is built here alone")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="keep mutants whose error escaped here")
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    seeds = [p for folder in args.data for p in seeds_under(folder)]
    with tempfile.TemporaryDirectory(prefix="medfuse-seeds-") as made:
        besides = report_seeds(Path(made) / "reports")
        new = volume_seeds(Path(made)) + object_seeds(Path(made)) + list(besides)
        seeds = new if args.new else seeds + new
        result = run(seeds, args.mutants, args.seed, keep=args.keep, besides=besides)
    result["minutes"] = round((time.monotonic() - started) / 60, 1)
    print(json.dumps(result, indent=1))
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(
        1 if result["escaped"] or result["over_limit"] or result["largest_child_mib"] > 2048 else 0
    )


if __name__ == "__main__":
    main()
