"""Series of the kinds that people reported, with known values, through medfuse and its peers in one run.

python benchmarks/odd_series.py     prints a table: right, part, wrong, refused or nothing

right: every voxel of every volume has the value and the place that it was made for; part: only some of the
volumes come out; wrong: a volume comes out that is none of them, whatever the reader prints beside it.
dcm2niix runs as its own process with its defaults, SimpleITK reads each series by its own sorting, MONAI by
its pydicom and nibabel readers, highdicom by get_volume_from_series and get_volume, dicom2nifti by
dicom_series_to_nifti as it stands (`pip install dicom2nifti`; without it its column is left out). medfuse
reads a stack with a missing slice without an affine, which counts as refused.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np
from odd_readers import READERS, Volume, medfuse_volumes
from pydicom import dcmread
from pydicom.dataset import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from slices import write_slice
from test_repeats import write_mosaic

from medfuse.affine import DICOM_AXES

ROWS, COLUMNS, STEP = 6, 5, 3.0
MR = "1.2.840.10008.5.1.4.1.1.4"
PLACED = (
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "RescaleSlope",
    "RescaleIntercept",
)
CONTENT = ("FrameAcquisitionNumber", "StackID", "InStackPositionNumber", "DimensionIndexValues")
ENHANCED = "1.2.840.10008.5.1.4.1.1.4.1"


def value(volume: int, place: int) -> int:
    """What the first voxel of a slice holds; the others rise by one a column and ten a row."""
    return 2000 * volume + 100 * place


def mr(path: Path, volume: int, place: int, z: float, **says: object) -> None:
    """One slice of a volume."""
    grey = {"value": value(volume, place), "slope": 1.0, "intercept": 0.0}
    ds = write_slice(path, position=(0, 0, z), spacing=(0.8, 0.7), **grey, **says)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MR
    ds.Modality = "MR"
    ds.save_as(path)


def repeats(folder: Path, parts: list[Callable[[int], dict[str, object]]], places: int = 5) -> None:
    """Every place once a volume; names and instance numbers shuffled."""
    order = [(v, k) for v in range(len(parts)) for k in range(places)]
    random.Random(1).shuffle(order)
    for n, (v, k) in enumerate(order, 1):
        mr(folder / f"{n:03d}.dcm", v, k, STEP * k, number=n, **parts[v](k))


def alike(what: dict[str, object]) -> Callable[[int], dict[str, object]]:
    """What every slice of a volume says."""
    return lambda k: what


def item(**says: object) -> Dataset:
    """An item of a sequence."""
    out = Dataset()
    for key, what in says.items():
        setattr(out, key, what)
    return out


def enhanced(folder: Path, frames: list[dict[str, object]]) -> None:
    """One enhanced MR; each frame says its volume, place, z and perhaps an echo or an index."""
    path = folder / "a.dcm"
    ds = write_slice(path, position=(0, 0, 0), slope=1.0, intercept=0.0)
    for key in PLACED:
        delattr(ds, key)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = ENHANCED
    ds.Modality = "MR"
    ds.NumberOfFrames = len(frames)
    shared = Dataset()
    shared.PixelMeasuresSequence = [item(PixelSpacing=[0.8, 0.7], SliceThickness=3)]
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    groups = []
    pixels = []
    row, column = np.mgrid[0:ROWS, 0:COLUMNS]
    for f in frames:
        group = Dataset()
        group.PlanePositionSequence = [item(ImagePositionPatient=[0, 0, f["z"]])]
        content = {k: f[k] for k in CONTENT if k in f}
        group.FrameContentSequence = [item(**content)]
        if "echo" in f:
            group.MREchoSequence = [item(EffectiveEchoTime=f["echo"])]
        groups.append(group)
        pixels.append(1000 + value(int(f["v"]), int(f["k"])) + column + 10 * row)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.PixelData = np.array(pixels, np.uint16).tobytes()
    ds.save_as(path)


def truth(volumes: int, places: int = 5, step: float = STEP) -> list[Volume]:
    """What there is to be read."""
    i, j, k = np.mgrid[0:COLUMNS, 0:ROWS, 0:places]
    affine = np.eye(4)
    affine[:3, :3] = DICOM_AXES * np.array([0.7, 0.8, step])
    return [(1000.0 + 2000 * v + 100 * k + i + 10 * j, affine) for v in range(volumes)]


def shuffled(frames: list[dict[str, object]]) -> list[dict[str, object]]:
    """The same frames in an order that means nothing."""
    random.Random(2).shuffle(frames)
    return frames


def frames(volumes: int, **says: Callable[[int, int], object]) -> list[dict[str, object]]:
    """One frame a volume and place, each with what ``says`` gives for them."""
    return [
        {"v": v, "k": k, "z": STEP * k} | {name: of(v, k) for name, of in says.items()}
        for v in range(volumes)
        for k in range(5)
    ]


def clock(minutes: int) -> Callable[[int], dict[str, object]]:
    """Times of acquisition that pass midnight with the second volume."""

    def says(k: int) -> dict[str, object]:
        day, rest = divmod(23 * 60 + 58 + minutes, 24 * 60)
        time = f"{rest // 60:02d}{rest % 60:02d}{k:02d}"
        return {"AcquisitionDate": f"2026010{1 + day}", "AcquisitionTime": time}

    return says


def nifti(folder: Path, data: np.ndarray, affine: np.ndarray, units: str = "mm") -> None:
    """A volume whose modality its sidecar says."""
    image = nib.Nifti1Image(data.astype(np.float32), affine)
    image.header.set_xyzt_units(units)
    nib.save(image, folder / "a.nii")
    (folder / "a.json").write_text('{"Modality": "MR"}')


def one(folder: Path, name: str = "{k}.dcm", **says: object) -> None:
    """One plain volume whose slices all say something; name: of the file of slice k."""
    for k in range(5):
        mr(folder / name.format(k=k), 0, k, STEP * k, number=k + 1, **says)


def one_spacing(folder: Path) -> None:
    """PixelSpacing of one value, where two are due."""
    one(folder)
    for path in folder.iterdir():
        ds = dcmread(path)
        ds.PixelSpacing = [0.7]
        ds.save_as(path)


def two_spacings(folder: Path) -> None:
    """One enhanced object whose second half has pixels twice as large."""
    made = frames(2)
    enhanced(folder, made)
    ds = dcmread(folder / "a.dcm")
    del ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    for frame, group in zip(made, ds.PerFrameFunctionalGroupsSequence, strict=True):
        pixel = [1.6, 1.4] if frame["v"] else [0.8, 0.7]
        group.PixelMeasuresSequence = [item(PixelSpacing=pixel, SliceThickness=3)]
    ds.save_as(folder / "a.dcm")


def large_and_small() -> list[Volume]:
    """What there is to be read of them."""
    small, (data, affine) = truth(2)
    return [small, (data, affine @ np.diag([2.0, 2.0, 1.0, 1.0]))]


def tiles() -> list[Volume]:
    """What there is to be read of a mosaic of `write_mosaic`."""
    data = np.broadcast_to(100.0 * np.arange(5) + 1, (6, 4, 5))
    affine = np.diag([-2.0, -2.0, -3.5, 1.0])
    affine[:3, 3] = (-10, -20, 30)
    return [(data, affine)]


def micro(folder: Path, places: tuple[int, ...]) -> None:
    """Slices 20 µm apart."""
    for k in places:
        mr(folder / f"{k}.dcm", 0, k, 0.02 * k, number=k + 1)
        ds = dcmread(folder / f"{k}.dcm")
        ds.PixelSpacing = [0.02, 0.02]
        ds.save_as(folder / f"{k}.dcm")


def small() -> list[Volume]:
    """What there is to be read of them."""
    affine = np.eye(4)
    affine[:3, :3] = DICOM_AXES * np.array([0.02, 0.02, 0.02])
    return [(truth(1)[0][0], affine)]


SAGITTAL = np.array([[0.0, 0, 5, -30], [1.2, 0, 0, -20], [0, 1.2, 0, 10], [0, 0, 0, 1]])[:, [2, 0, 1, 3]]
SERIES: dict[str, tuple[Callable[[Path], None], list[Volume]]] = {
    "nothing odd": (lambda f: [mr(f / f"{k}.dcm", 0, k, STEP * k, number=k + 1) for k in range(5)], truth(1)),
    "two echoes, shuffled numbers": (
        lambda f: repeats(f, [alike({"EchoTime": 2.3}), alike({"EchoTime": 4.6})]),
        truth(2),
    ),
    "two trigger times": (
        lambda f: repeats(f, [alike({"TriggerTime": 0.0}), alike({"TriggerTime": 40.0})]),
        truth(2),
    ),
    "two tube voltages": (lambda f: repeats(f, [alike({"KVP": 80}), alike({"KVP": 140})]), truth(2)),
    "a b-value of 0 and three directions": (
        lambda f: repeats(
            f,
            [
                alike({"DiffusionBValue": 0.0}),
                *(
                    alike({"DiffusionBValue": 1000.0, "DiffusionGradientOrientation": [float(v) for v in d]})
                    for d in np.eye(3)
                ),
            ],
        ),
        truth(4),
    ),
    "magnitude and phase": (
        lambda f: repeats(f, [alike({"ImageType": ["ORIGINAL", "PRIMARY", c]}) for c in "MP"]),
        truth(2),
    ),
    "over midnight": (lambda f: repeats(f, [clock(0), clock(3)]), truth(2)),
    "nothing tells repeats apart": (
        lambda f: repeats(f, [alike({"InstanceNumber": 1}), alike({"InstanceNumber": 1})]),
        [],
    ),
    "enhanced, echoes in any order": (
        lambda f: enhanced(f, shuffled(frames(2, echo=lambda v, k: 2.3 * (v + 1)))),
        truth(2),
    ),
    "enhanced, frames of two pixel spacings": (two_spacings, large_and_small()),
    "enhanced, stacks that interleave": (
        lambda f: enhanced(
            f,
            [
                {
                    "v": 0,
                    "k": k,
                    "z": STEP * k,
                    "StackID": str(k % 2 + 1),
                    "InStackPositionNumber": k // 2 + 1,
                }
                for k in (0, 2, 4, 1, 3)
            ],
        ),
        truth(1),
    ),
    "a cosine that jitters": (
        lambda f: [
            mr(f / f"{k}.dcm", 0, k, STEP * k, number=k + 1, orientation=(1.0, 2e-6 * (k % 2), 0, 0, 1, 0))
            for k in range(5)
        ],
        truth(1),
    ),
    "all at one place": (
        lambda f: [mr(f / f"{k}.dcm", 0, k, 0.0, number=k + 1, SliceLocation=STEP * k) for k in range(5)],
        [],
    ),
    "a missing slice": (
        lambda f: [mr(f / f"{k}.dcm", 0, k, STEP * k, number=k + 1) for k in (0, 1, 3, 4)],
        [],
    ),
    "Siemens mosaic": (lambda f: write_mosaic(f / "a.dcm"), tiles()),
    "Siemens mosaic without its CSA header": (lambda f: write_mosaic(f / "a.dcm", csa=False), []),
    "micro-CT, voxels of 20 µm": (lambda f: micro(f, (0, 1, 2, 3, 4)), small()),
    "micro-CT, a missing slice": (lambda f: micro(f, (0, 1, 3, 4)), []),
    "PixelSpacing of one value": (one_spacing, []),
    "ORIGINAL, PRIMARY, MPR": (
        lambda f: one(f, ImageType=["ORIGINAL", "PRIMARY", "MPR"]),
        truth(1),
    ),
    "a character set without its first value": (
        lambda f: one(f, SpecificCharacterSet=["", "ISO 2022 IR 87"]),
        truth(1),
    ),
    "file names that are not UTF-8": (lambda f: one(f, os.fsdecode(b"\xe9{k}.dcm")), truth(1)),
    "a broken link beside": (
        lambda f: (one(f), (f / "z.dcm").symlink_to(f / "nowhere")),
        truth(1),
    ),
    "NIfTI of one sagittal slice": (
        lambda f: nifti(f, np.arange(42.0).reshape(1, 6, 7), SAGITTAL),
        [(np.arange(42.0).reshape(1, 6, 7), SAGITTAL)],
    ),
    "NIfTI in micrometres": (
        lambda f: nifti(f, truth(1)[0][0], np.diag([1e3, 1e3, 1e3, 1]) @ truth(1)[0][1], "micron"),
        truth(1),
    ),
}


def points(volume: Volume) -> dict[tuple[float, float, float], float]:
    """Place (RAS+ mm, rounded to a µm) → value, of every voxel."""
    data, affine = volume
    at = np.argwhere(np.ones(data.shape, bool))
    mm = at @ affine[:3, :3].T + affine[:3, 3]
    return {tuple(np.round(p, 3) + 0.0): float(v) for p, v in zip(mm, data[tuple(at.T)], strict=True)}


def verdict(read: Callable[[Path], list[Volume]], folder: Path, due: list[Volume]) -> str:
    """right, wrong, refused, part (only some of the volumes) or nothing."""
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(None):
            warnings.simplefilter("ignore")
            got = read(folder)
    except NotImplementedError:
        return "–"
    except Exception:  # a peer's refusal is any exception
        return "refused"
    if not got:
        return "refused" if read is medfuse_volumes else "nothing"
    wanted = [points(v) for v in due]
    here = [points(v) for v in got]
    if any(h not in wanted for h in here):
        return "wrong"
    return "right" if len(here) == len(wanted) else "part"


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| series | " + " | ".join(READERS) + " |")
    print("|---|" + "---|" * len(READERS))
    for name, (write, due) in SERIES.items():
        cells = []
        for read in READERS.values():
            with TemporaryDirectory() as folder:
                write(Path(folder))
                cells.append(verdict(read, Path(folder), due))
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
