"""Real DICOM of public repositories through medfuse and dcm2niix, series by series.

python benchmarks/repositories.py FOLDER... [--single] [--only WORD] [--json FILE]

prints a table, one row a FOLDER. Every folder below it that holds DICOM files itself is read by both (files
packed as .gz are unpacked for both; with --single each file by itself, for collections of files that share
their UIDs), and each series of it is classed:
  equal       every volume of one reader is a volume of the other, voxel by voxel and place by place; axes may
              be flipped or exchanged where the affine carries it, pictures without a place compare by pixels
  refused     medfuse gives a reason and no volume
  set aside   medfuse names it as no image of its own evidence (localiser, map, report, ...)
  as headers  both read it and it is not equal, and each slice of medfuse has the pixels and the place that
              its own file states, read here by pydicom alone: the lines below the table say how they differ
  different   both read it, it is not equal, and the headers do not bear medfuse out, or cannot
  medfuse only, dcm2niix only     what the other neither read nor (medfuse) refused
dcm2niix runs with its defaults, for Philips also without its precise scaling (-p n): medfuse scales for
display where all slices share one scaling. Volumes that dcm2niix adds by resampling (_Tilt, _Eq) are left
out.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import os
import shutil
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_color_lut

from medfuse.case import Image
from medfuse.io.cases import find_cases

KINDS = (
    "equal",
    "as headers",
    "different",
    "refused",
    "set aside",
    "medfuse only",
    "dcm2niix only",
    "neither",
)
NO_PICTURES = {".txt", ".md", ".json", ".nii", ".rs", ".py", ".toml", ".bval", ".bvec"}
RESAMPLED = ("_Tilt", "_Eq")
CORNER_MM = 0.05
VALUE = 2e-3  # of the largest value: both hold 32 bits, of products in another order


@dataclass
class Volume:
    """Voxels (I, J, K) in closest-to-RAS order and their affine; None where it has no place."""

    voxels: np.ndarray
    affine: np.ndarray | None
    name: str = ""


@dataclass
class Series:
    """What became of one series of one folder."""

    folder: str
    uid: str
    number: str = ""
    names: list[str] = field(default_factory=list)
    what: str = ""
    kind: str = "neither"
    how: str = ""
    volumes: int = 0
    peers: int = 0


@dataclass
class Read:
    """What medfuse made of a folder: images by SeriesInstanceUID, (status, reason) by file name."""

    images: dict[str, list[Image]] = field(default_factory=dict)
    reasons: dict[str, tuple[str, str]] = field(default_factory=dict)
    failed: str = ""


def folders_of(top: Path) -> Iterator[Path]:
    """Folders that hold files themselves, but for reference results."""
    for folder, below, files in os.walk(top):
        below[:] = sorted(b for b in below if b != "Ref" and not b.startswith("."))
        if any(Path(f).suffix.lower() not in NO_PICTURES for f in files):
            yield Path(folder)


def linked(files: list[Path], to: Path) -> dict[str, Series]:
    """The DICOM files among these once more in ``to``, and the series that they are of."""
    series: dict[str, Series] = {}
    for path in files:
        if not path.is_file() or path.suffix.lower() in NO_PICTURES:
            continue
        copy = to / path.name.removesuffix(".gz")
        if path.suffix == ".gz":
            copy.write_bytes(gzip.decompress(path.read_bytes()))
        else:
            shutil.copyfile(path, copy)
        try:
            ds = dcmread(copy, stop_before_pixels=True)
            uid = str(ds.get("SeriesInstanceUID", "") or "")
            if "DirectoryRecordSequence" in ds:
                copy.unlink()  # a DICOMDIR: an index, and of files that are not here
                continue
            words = [ds.get(k, "") for k in ("Manufacturer", "Modality", "SeriesNumber", "SeriesDescription")]
        except (InvalidDicomError, OSError, ValueError, AttributeError, KeyError, NotImplementedError):
            copy.unlink()
            continue
        what = " ".join(str(w) for w in words)
        one = series.setdefault(uid, Series(str(path.parent), uid, str(words[2]), what=what))
        one.names.append(copy.name)
    return series


def by_medfuse(folder: Path) -> Read:
    """Images and reasons of a folder; a traceback is kept as the failure that it is."""
    out = Read()
    try:
        found = find_cases(folder)
    except Exception:  # counted: nothing may end in one
        out.failed = traceback.format_exc()
        return out
    for image in (i for c in found.cases for i in c.images):
        out.images.setdefault(image.source.series_uid, []).append(image)
    for entry in found.scan.entries:
        if entry.status != "read":
            out.reasons[entry.path.name] = (entry.status, entry.reason)
    return out


def by_dcm2niix(folder: Path, out: Path, series: dict[str, Series], *more: str) -> dict[str, list[Volume]]:
    """Volumes of a folder by SeriesInstanceUID, as its sidecars say it; of some scanners they hold a time in
    its place, then by the number of the series."""
    out.mkdir()
    program = shutil.which("dcm2niix", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, "dcm2niix is not installed"
    command = [program, "-z", "n", "-ba", "n", "-f", "%s_%d_%e", *more, "-o", str(out), str(folder)]
    subprocess.run(command, capture_output=True, check=False)
    volumes: dict[str, list[Volume]] = {}
    for path in sorted(out.glob("*.nii")):
        if any(word in path.name for word in RESAMPLED):
            continue
        side = path.with_suffix(".json")
        said = json.loads(side.read_text(errors="replace")) if side.exists() else {}
        data = nib.load(path)
        uid = str(said.get("SeriesInstanceUID", ""))
        if uid not in series:
            uid = next((u for u, s in series.items() if s.number == str(said.get("SeriesNumber"))), uid)
        volumes.setdefault(uid, []).extend(_parts(data, path.name))
    return volumes


def _parts(image: nib.Nifti1Image, name: str) -> Iterator[Volume]:
    """Each volume of a file; colours become a fourth axis."""
    data = np.asanyarray(image.dataobj)
    if data.dtype.names:
        data = np.stack([data[n] for n in data.dtype.names], -1)[:, :, :, None]
    data = data[..., None] if data.ndim == 3 else data
    for n in range(data.shape[3]):
        yield placed(np.asarray(data[:, :, :, n], np.float32), image.affine, f"{name} [{n}]")


def placed(voxels: np.ndarray, affine: np.ndarray | None, name: str) -> Volume:
    """A volume with its axes turned to lie as close to RAS as they can."""
    if affine is None:
        return Volume(voxels, None, name)
    turn = nib.orientations.io_orientation(affine)
    if np.isnan(turn).any():
        return Volume(voxels, None, name)
    where = affine @ nib.orientations.inv_ornt_aff(turn, voxels.shape[:3])
    return Volume(nib.orientations.apply_orientation(voxels, turn), where, name)


def volume_of(image: Image) -> list[Volume]:
    """What medfuse read, as dcm2niix writes it: a cine becomes one picture a frame."""
    if image.kind == "cine":
        axes = (2, 1, *range(3, image.pixels.ndim))
        frames = [image.pixels[t].transpose(tuple(a - 1 for a in axes)) for t in range(len(image.pixels))]
        return [Volume(f[:, :, None].astype(np.float32), None, f"frame {t}") for t, f in enumerate(frames)]
    return [placed(image.pixels, image.affine, image.geometry.outcome)]


def differ(ours: Volume, theirs: Volume) -> str:
    """How two volumes differ; empty where they do not."""
    if ours.affine is None:
        return "" if _any_flip(ours.voxels, theirs.voxels) else "pixels"
    if ours.voxels.shape != theirs.voxels.shape:
        return f"shape {ours.voxels.shape} against {theirs.voxels.shape}"
    if not _same(ours.voxels, theirs.voxels):
        return "voxels"
    if theirs.affine is None:
        return "place: dcm2niix has none"
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    corners[:, :3] *= np.array(ours.voxels.shape[:3]) - 1
    apart = float(np.linalg.norm((corners @ (ours.affine - theirs.affine).T)[:, :3], axis=1).max())
    return f"place: a corner lies {apart:.3f} mm apart" if apart > CORNER_MM else ""


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    if a.shape != b.shape:
        return False
    most = float(np.abs(b).max(initial=0))
    return bool(np.abs(a - b).max(initial=0) <= VALUE * max(most, 1e-6))


def _any_flip(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether pixels without a place are the same, flipped or turned over."""
    flips = ((), (0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2))
    turns = [b] if b.ndim != 3 else [b.transpose(p) for p in ((0, 1, 2), (1, 0, 2), (2, 0, 1), (2, 1, 0))]
    turns += [] if b.ndim != 3 else [b.transpose(p) for p in ((1, 2, 0), (0, 2, 1))]
    return any(_same(a, np.flip(t, f)) for t in turns if t.shape == a.shape for f in flips)


def matched(ours: list[Volume], theirs: list[Volume]) -> list[str]:
    """How the two sets of volumes differ: each volume takes the first equal one of the other."""
    left = list(theirs)
    sums = [float(v.voxels.sum(dtype=float)) for v in left]
    said = []
    for volume in ours:
        total = float(volume.voxels.sum(dtype=float))
        near = sorted(range(len(left)), key=lambda i: abs(sums[i] - total))[:12]
        found = next((i for i in near if not differ(volume, left[i])), None)
        if found is not None:
            del left[found], sums[found]
        else:
            said.append(_nearest(volume, left, near))
    said += [f"dcm2niix alone has {v.name} {v.voxels.shape}" for v in left]
    return said


def _nearest(volume: Volume, left: list[Volume], near: list[int]) -> str:
    """What parts a volume that has no equal from the one most like it."""
    ways = sorted((differ(volume, left[i]) or "" for i in near), key=lambda w: not w.startswith("place"))
    shape = volume.voxels.shape
    return f"{volume.name} {shape}: {ways[0]}" if ways else f"medfuse alone has {volume.name} {shape}"


def as_headers(image: Image) -> bool:
    """Whether every slice holds the pixels of its file, scaled by its own header, where that file says; of
    ultrasound whether every frame has the colours of its palette."""
    files = image.source.files
    if image.kind == "cine":
        return _as_palette(image)
    if image.affine is None or image.source.frames or image.pixels.shape[2] != len(files):
        return False
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine
    for k, path in enumerate(files):
        ds = dcmread(path)
        stored = ds.pixel_array * float(ds.get("RescaleSlope", 1)) + float(ds.get("RescaleIntercept", 0))
        across, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        rows, columns = (float(v) for v in ds.PixelSpacing)
        told = np.stack([across * columns, down * rows, np.array(ds.ImagePositionPatient, float)], 1)
        last = np.array([ds.Columns - 1, ds.Rows - 1, 1.0])
        at = lps[:3, [0, 1, 3]] + np.outer(lps[:3, 2], [0, 0, k])
        near = max(float(np.linalg.norm((at - told) @ (last * m))) for m in ([0, 0, 1], [1, 1, 1]))
        if near > CORNER_MM or not _same(image.pixels[:, :, k], stored.T.astype(np.float32)):
            return False
    return True


def _as_palette(image: Image) -> bool:
    ds = dcmread(image.source.path)
    if ds.PhotometricInterpretation != "PALETTE COLOR":
        return False
    frames = _by_palette(ds)
    frames = frames[None] if frames.ndim == 3 else frames
    grey = image.pixels.ndim == 3
    return bool(np.array_equal(frames[..., 0] if grey else frames, image.pixels))


def _by_palette(ds: Dataset) -> np.ndarray:
    """Colours in eight bits; pydicom takes a table that is not segmented as little-endian."""
    if "RedPaletteColorLookupTableData" not in ds:
        return apply_color_lut(ds.pixel_array, ds) >> 8
    order = "<" if ds.file_meta.TransferSyntaxUID.is_little_endian else ">"
    tables = [ds[f"{c}PaletteColorLookupTableData"].value for c in ("Red", "Green", "Blue")]
    entries, first, _ = ds.RedPaletteColorLookupTableDescriptor
    deep = len(tables[0]) // (entries or 65536)
    colours = np.stack([np.frombuffer(t, f"{order}u{deep}") >> 8 * (deep - 1) for t in tables], -1)
    return colours[ds.pixel_array.astype(int) - first]


def classed(series: Series, read: Read, peers: list[dict[str, list[Volume]]]) -> None:
    """Fill in what became of a series."""
    images = read.images.get(series.uid, [])
    reasons = [read.reasons[n] for n in series.names if n in read.reasons]
    ours = [v for i in images for v in volume_of(i)]
    series.volumes = len(ours)
    series.peers = max(len(p.get(series.uid, [])) for p in peers)
    if read.failed:
        series.kind = "different"
        series.how = "traceback: " + read.failed.splitlines()[-1]
    elif ours and series.peers:
        ways = min((matched(ours, p.get(series.uid, [])) for p in peers), key=len)
        borne_out = bool(ways) and all(as_headers(i) for i in images)
        series.kind = "as headers" if borne_out else "different" if ways else "equal"
        series.how = "; ".join(f"{n} × {w}" for w, n in Counter(ways).most_common(4))
        kept = Counter(f"{s}: {r}" for s, r in reasons if s != "set_aside")
        series.how += "".join(f" ({n} files {w})" for w, n in kept.most_common(2))
    elif ours:
        series.kind = "medfuse only"
        series.how = ", ".join(sorted({i.geometry.outcome for i in images}))
    elif reasons:
        told = Counter(reasons).most_common(1)[0][0]
        series.kind = "set aside" if told[0] == "set_aside" else "refused"
        series.how = f"{told[0]}: {told[1]}" if told[1] else "NO REASON"
    elif series.peers:
        series.kind = "dcm2niix only"


def of_files(files: list[Path]) -> list[Series]:
    """The series of these files, each classed."""
    with TemporaryDirectory(prefix="repositories") as room:
        inside = Path(room) / "in"
        inside.mkdir()
        series = linked(files, inside)
        if not series:
            return []
        peers = [by_dcm2niix(inside, Path(room) / "plain", series)]
        if any("philips" in s.what.lower() for s in series.values()):
            peers.append(by_dcm2niix(inside, Path(room) / "display", series, "-p", "n"))
        read = by_medfuse(inside)
        for one in series.values():
            classed(one, read, peers)
    return list(series.values())


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--single", action="store_true", help="each file by itself")
    parser.add_argument("--only", default="", help="folders whose path holds this word")
    parser.add_argument("--json", type=Path, help="what became of each series")
    asked = parser.parse_args(argv)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # it writes of unset steps
    rows = {}
    for top in asked.folders:
        rows[top.name] = []
        for folder in folders_of(top):
            if asked.only in str(folder):
                files = sorted(folder.iterdir())
                for some in [[f] for f in files] if asked.single else [files]:
                    rows[top.name] += of_files(some)
                print(folder, len(rows[top.name]), file=sys.stderr, flush=True)
    print("| Repository | files | series | " + " | ".join(KINDS) + " |\n|---|" + "---|" * (len(KINDS) + 2))
    for name, series in rows.items():
        counts = Counter(s.kind for s in series)
        figures = [sum(len(s.names) for s in series), len(series), *(counts[k] for k in KINDS)]
        print(f"| {name} | " + " | ".join(str(f) for f in figures) + " |")
    for one in (s for series in rows.values() for s in series if s.kind != "equal" or s.how):
        where = f"{one.folder}/{one.names[0]}" if asked.single else one.folder
        print(f"{one.kind}: {where} [{one.what}] {one.volumes}/{one.peers}: {one.how}")
    if asked.json:
        asked.json.write_text(json.dumps({n: [asdict(s) for s in r] for n, r in rows.items()}, indent=1))


if __name__ == "__main__":
    main()
