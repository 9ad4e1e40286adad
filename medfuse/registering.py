"""`medfuse register MOVING FIXED`: read, register, judge, write; kept in the library where both series lie there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .case import Case, Image
from .errors import UnreadableError, UserError, WrongUse
from .intake import CommandResult
from .io.nifti import is_volume_file, read_nifti, sidecar
from .library.registrations import registrations_folder
from .pipeline import read_case
from .registration.quality import Quality, assess, same_patient
from .registration.register import Kind, RegisterOptions, Registration, by_landmarks, register
from .registration.ultrasound import assess_ultrasound, register_ultrasound
from .registration.volume import points_lps, to_sitk
from .reporting.registration_files import write_registration


def pick(path: Path, modality: str, role: str) -> tuple[Case, Image]:
    """The one volume of a path. Raises WrongUse that lists them where there are several."""
    case = _sweep(path, modality) or read_case(path, modality)
    volumes = [
        i
        for i in case.images
        if i.affine is not None and (not modality or i.modality == modality) and (not role or i.role == role)
    ]
    if not volumes:
        kinds = ", ".join(sorted({i.modality for i in case.images}))
        raise UserError(
            f"{path}: no volume with geometry to register (it holds {kinds}); an uncalibrated or untracked ultrasound has no place in space"
        )
    if len(volumes) > 1:
        listed = ", ".join(f"{i.modality} {i.role}" for i in volumes)
        raise WrongUse(
            f"{path}: holds {len(volumes)} volumes ({listed}); name one with --moving-role or --fixed-role, or give its folder"
        )
    return case, volumes[0]


def _sweep(path: Path, modality: str) -> Case | None:
    """A NIfTI or MHA of ultrasound with its place in space (a sweep, or one tracked frame); None for anything else."""
    if not path.exists() or not is_volume_file(path):
        return None
    stated = (modality or str(sidecar(path).get("Modality", ""))).upper()
    if stated not in ("US", "ULTRASOUND"):
        return None
    try:
        image = read_nifti(path, "US", tracked=True)
    except UnreadableError as e:
        raise UserError(f"{e.path}: {e.reason}") from e
    return Case(path.name.split(".")[0], images=[image])


def read_landmarks(path: Path) -> np.ndarray:
    """(N, 3) RAS+ mm from a CSV of x,y,z, with or without a header."""
    rows = []
    for n, line in enumerate(path.read_text().splitlines(), 1):
        parts = line.replace(";", ",").replace("\t", ",").split(",")
        try:
            rows.append([float(v) for v in parts[:3]])
        except ValueError as e:
            if n > 1:
                raise UserError(f"{path} line {n}: {line!r} is not x,y,z in mm") from e
    if not rows:
        raise UserError(f"{path}: holds no point; one line a point, x,y,z in RAS mm")
    return np.array(rows)


def register_command(
    moving: Path, fixed: Path, out: Path, *, kind: Kind, roles: tuple[str, str], modalities: tuple[str, str], landmarks: tuple[Path, Path] | None,
    masks: tuple[Path | None, Path | None], method: str, seed: int, threads: int, force: bool,
) -> CommandResult:  # fmt: skip
    """Exit code 0 for "no fault found", 3 for "check", 1 for "failed": the files are written in each case."""
    started = time.perf_counter()
    (case_m, image_m), (case_f, image_f) = (
        pick(p, m, r) for p, m, r in zip((moving, fixed), modalities, roles, strict=True)
    )
    same = same_patient(case_m, case_f)
    if same is False and not force:
        raise WrongUse(
            f"{moving} is of patient {case_m.patient_id} and {fixed} of patient {case_f.patient_id}; give --force to register them all the same"
        )
    a, b = to_sitk(image_m), to_sitk(image_f)
    marked = None
    if landmarks is not None:
        marked = (points_lps(read_landmarks(landmarks[0])), points_lps(read_landmarks(landmarks[1])))
        if len(marked[0]) != len(marked[1]):
            raise UserError(
                f"{landmarks[0]} has {len(marked[0])} points and {landmarks[1]} has {len(marked[1])}; they are matched line by line"
            )
    senses = (image_m.modality, image_f.modality)
    if method == "auto":
        method = "intensity" if "US" not in senses else "tracked" if 1 in b.GetSize() else "lc2"
    _check_method(method, senses, kind, a, b)
    if method == "landmarks":
        if marked is None:
            raise WrongUse("--method landmarks needs --landmarks MOVING.csv FIXED.csv")
        result = Registration(by_landmarks(*marked), "rigid", 0.0, 0.0)
        quality = assess(result, a, b, landmarks=marked, same_patient=same, seed=seed, back=False)
    elif method in ("lc2", "tracked"):
        to_volume = image_f.modality == "US"  # the transform that is kept maps the fixed image to the moving one
        found = register_ultrasound(*((a, b) if to_volume else (b, a)), seed=seed, search=method == "lc2")
        result = found.result
        if not to_volume:
            result.transform = result.transform.GetInverse()
        quality = assess_ultrasound(found, searched=method == "lc2", landmarks=marked, same_patient=same)
    else:
        mask_m, mask_f = (
            None if p is None else to_sitk(_mask(p, i)) for p, i in zip(masks, (image_m, image_f), strict=True)
        )
        result = register(a, b, RegisterOptions(kind, seed, threads), fixed_mask=mask_f, moving_mask=mask_m)
        quality = assess(result, a, b, landmarks=marked, same_patient=same, seed=seed)
    names, problems = write_registration(out, result, quality, a, b, (case_m, case_f), (image_m, image_f))
    _keep(out, quality, image_m, image_f)
    data = {"verdict": quality.verdict, "reasons": quality.reasons, "metric": round(quality.metric, 6), "seconds": round(time.perf_counter() - started, 2),
            "files": [str(out / n) for n in names], "not_made": problems}  # fmt: skip
    if quality.tre_mm is not None:
        data["tre_mm"] = quality.tre_mm
    text = [f"{quality.verdict}" + (f": {'; '.join(quality.reasons)}" if quality.reasons else ""), str(out)]
    return CommandResult(data, "\n".join(text), {"no fault found": 0, "check": 3, "failed": 1}[quality.verdict])


def _check_method(method: str, senses: tuple[str, str], kind: Kind, moving: sitk.Image, fixed: sitk.Image) -> None:
    """Raises WrongUse where a method does not suit the images."""
    if method == "intensity" and "US" in senses:
        raise WrongUse(
            "mutual information alone fails between ultrasound and other modalities; use --method lc2 or landmarks (experimental)"
        )
    if method in ("lc2", "tracked") and (senses.count("US") != 1 or kind != "rigid"):
        raise WrongUse(f"--method {method} is rigid and takes one ultrasound and one volume, not {senses[0]} and {senses[1]} ({kind})")  # fmt: skip
    if 1 in moving.GetSize():
        raise WrongUse("a tracked frame is the FIXED image: the volume is then cut in its plane")
    if 1 in fixed.GetSize() and method not in ("tracked", "lc2"):
        raise WrongUse(f"--method {method} needs a volume; a tracked frame takes --method tracked or lc2")


def _mask(path: Path, image: Image) -> Image:
    mask = read_nifti(path, image.modality)
    if mask.pixels.shape != image.pixels.shape:
        raise UserError(f"{path}: the mask has {mask.pixels.shape} voxels, its image {image.pixels.shape}")
    return mask


def _keep(out: Path, quality: Quality, moving: Image, fixed: Image) -> None:
    """The library remembers where the registration of two series lies, for the viewer and `fuse`."""
    if not moving.source.series_uid or not fixed.source.series_uid:
        return
    from .library.store import has_series

    if not has_series(moving.source.series_uid) or not has_series(fixed.source.series_uid):
        return
    folder = registrations_folder()
    folder.mkdir(parents=True, exist_ok=True)
    note = {
        "moving": moving.source.series_uid,
        "fixed": fixed.source.series_uid,
        "folder": str(out.resolve()),
        "verdict": quality.verdict,
        "reasons": quality.reasons,
    }
    (folder / f"{moving.source.series_uid}__{fixed.source.series_uid}.json").write_text(json.dumps(note, indent=1))


def load_transform(folder: Path) -> sitk.Transform:
    """A registration's transform. Raises UserError for one that failed."""
    quality = json.loads((folder / "quality.json").read_text())
    if quality["verdict"] == "failed":
        raise UserError(f"{folder}: this registration failed ({'; '.join(quality['reasons'])}) and is not used")
    return sitk.ReadTransform(str(folder / "transform.tfm"))
