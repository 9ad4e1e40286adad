"""The readers that `odd_series` compares: each takes a folder and gives the volumes that come out of it.

NotImplementedError where a reader does not read such files at all; any other exception is its refusal.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from pydicom import dcmread

from medfuse.affine import Affine
from medfuse.io.cases import find_cases

Volume = tuple[np.ndarray, np.ndarray]  # voxels (I, J, K), affine (4, 4) RAS+ mm


def medfuse_volumes(folder: Path) -> list[Volume]:
    """Of medfuse; an irregular stack says so and has no affine."""
    found = find_cases(folder)
    images = [i for c in found.cases for i in c.images]
    return [(i.pixels, i.affine) for i in images if i.affine is not None]


def dcm2niix_volumes(folder: Path) -> list[Volume]:
    """Of dcm2niix, each file it writes and each volume of it."""
    if not list(folder.glob("*.dcm")):
        raise NotImplementedError
    out = folder / "out"
    out.mkdir()
    places = [str(Path(sys.executable).parent), os.environ["PATH"]]
    program = shutil.which("dcm2niix", path=os.pathsep.join(places))
    assert program, "dcm2niix is not installed"
    subprocess.run([program, "-z", "n", "-f", "%s_%d", "-o", out, folder], capture_output=True, check=False)
    volumes = []
    for path in sorted(out.glob("*.nii")):
        image = nib.load(path)
        data = np.asarray(image.dataobj, float)
        parts = [data[..., n] for n in range(data.shape[3])] if data.ndim == 4 else [data]
        volumes += [(part, image.affine) for part in parts]
    return volumes


def simpleitk_volumes(folder: Path) -> list[Volume]:
    """Of SimpleITK: the series by its own sorting, or the one file."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    if list(folder.glob("*.nii")):
        return [itk_volume(sitk.ReadImage(str(folder / "a.nii")))]
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = sitk.ReadImage(names if len(names) > 1 else names[0])
    return [itk_volume(image)]


def itk_volume(image: Any) -> Volume:
    """Voxels and RAS+ affine of a SimpleITK image."""
    import SimpleITK as sitk

    axes = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    affine = Affine.of(axes, np.array(image.GetOrigin()), "LPS+")
    return sitk.GetArrayFromImage(image).T.astype(float), affine.ras


def monai_volumes(folder: Path) -> list[Volume]:
    """Of MONAI's LoadImage with its pydicom or nibabel reader."""
    from monai.transforms import LoadImage

    plain = bool(list(folder.glob("*.nii")))
    load = LoadImage(reader="NibabelReader" if plain else "PydicomReader", image_only=True)
    found = load(str(folder / "a.nii" if plain else folder))
    data = np.asarray(found, float)
    if data.ndim != 3:
        raise ValueError(f"a volume of {data.ndim} axes")
    return [(data, np.asarray(found.affine, float))]


def highdicom_volumes(folder: Path) -> list[Volume]:
    """Of highdicom: a series of slices, or one multi-frame image."""
    import highdicom as hd

    files = sorted(folder.glob("*.dcm"))
    if not files:
        raise NotImplementedError
    if len(files) > 1:
        volume = hd.get_volume_from_series([dcmread(f) for f in files])
    else:
        volume = hd.imread(files[0]).get_volume()
    data = np.asarray(volume.array, float)
    return [(data, Affine(volume.affine, "LPS+").ras)]


def dicom2nifti_volumes(folder: Path) -> list[Volume]:
    """Of dicom2nifti, each volume of the file that it writes."""
    import dicom2nifti

    if not list(folder.glob("*.dcm")):
        raise NotImplementedError
    made = dicom2nifti.dicom_series_to_nifti(str(folder), str(folder / "out.nii"), reorient_nifti=False)
    image = nib.load(made["NII_FILE"])
    data = np.asarray(image.dataobj, float)
    parts = [data[..., n] for n in range(data.shape[3])] if data.ndim == 4 else [data]
    return [(part, image.affine) for part in parts]


READERS: dict[str, Callable[[Path], list[Volume]]] = {
    "medfuse": medfuse_volumes,
    "dcm2niix": dcm2niix_volumes,
    "highdicom": highdicom_volumes,
    "SimpleITK": simpleitk_volumes,
    "MONAI": monai_volumes,
}
if importlib.util.find_spec("dicom2nifti") is not None:
    READERS["dicom2nifti"] = dicom2nifti_volumes
