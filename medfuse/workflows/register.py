"""`medfuse register MOVING FIXED`: read, register, judge, write; kept in the library where both series lie
there."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from ..affine import other_frame
from ..case import Case, Image
from ..errors import UserError, WrongUse
from ..exports.registration import write_registration
from ..io.landmarks import read_landmarks
from ..io.nifti import read_nifti
from ..io.read import open_volume
from ..library import Library
from ..library.registrations import _keep
from ..modalities import is_cine
from ..registration.quality import Quality, assess, same_patient
from ..registration.register import Kind, RegisterOptions, Registration, by_landmarks, register
from ..registration.ultrasound import assess_ultrasound, register_ultrasound
from ..registration.volume import clamped, to_sitk
from .outputs import check_folder
from .result import CommandResult


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two images. role: which series of a folder. modality: of a NIfTI that does not say. mask: a
    NIfTI on its grid, outside of which nothing counts. landmarks: CSV of points x,y,z in RAS+ mm."""

    path: Path
    role: str = ""
    modality: str = ""
    mask: Path | None = None
    landmarks: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A side that is read: its case, its image, and the same as SimpleITK has it. points: (N, 3) LPS mm."""

    side: Side
    case: Case
    image: Image
    volume: sitk.Image
    points: np.ndarray | None = None

    @property
    def mask(self) -> sitk.Image | None:
        """What counts of the image. Raises UserError where the mask's grid is another."""
        return None if self.side.mask is None else to_sitk(_mask(self.side.mask, self.image))


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Moving and fixed image, and whether they are of one patient; None: not known."""

    moving: Opened
    fixed: Opened
    same_patient: bool | None

    @property
    def modalities(self) -> tuple[str, str]:
        """Of the moving and of the fixed image."""
        return self.moving.image.modality, self.fixed.image.modality

    @property
    def landmarks(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Points of both images that belong together, line by line."""
        if self.moving.points is None or self.fixed.points is None:
            return None
        return self.moving.points, self.fixed.points


def register_command(
    moving: Side,
    fixed: Side,
    out: Path,
    options: RegisterOptions,
    *,
    method: str = "auto",
    force: bool = False,
    windowed: bool = False,
    library: Library | None = None,
) -> CommandResult:
    """`medfuse register`: read, register, judge, write. ``force``: also images of different patients.
    ``windowed``: values beyond the window in which a modality is laid over others count as its ends.

    Exit code 0 for "no fault found", 3 for "check", 1 for "failed": the files are written in each case.
    """
    started = time.perf_counter()
    if method == "landmarks" and None in (moving.landmarks, fixed.landmarks):
        raise WrongUse("--method landmarks needs --landmarks MOVING.csv FIXED.csv")
    check_folder(out)
    pair = _pair(moving, fixed, force)
    result, quality = _registered(pair, method, options, windowed=windowed)
    a = pair.moving
    b = pair.fixed
    names, problems = write_registration(
        out, result, quality, a.volume, b.volume, (a.case, b.case), (a.image, b.image)
    )
    _keep(library or Library(), out, quality, a.image, b.image)
    data = {
        "verdict": quality.verdict,
        "reasons": quality.reasons,
        "metric": round(quality.metric, 6),
        "seconds": round(time.perf_counter() - started, 2),
        "files": [str(out / n) for n in names],
        "not_made": problems,
    }
    if quality.tre_mm is not None:
        data["tre_mm"] = quality.tre_mm
    text = [f"{quality.verdict}" + (f": {'; '.join(quality.reasons)}" if quality.reasons else ""), str(out)]
    return CommandResult(
        data, "\n".join(text), {"no fault found": 0, "check": 3, "failed": 1}[quality.verdict]
    )


def _pair(moving: Side, fixed: Side, force: bool) -> Pair:
    """Both images and their landmarks. Raises WrongUse for two patients without ``force``, UserError for
    landmarks that do not belong together."""
    from_ = open_volume(moving.path, modality=moving.modality, role=moving.role)
    onto = open_volume(fixed.path, modality=fixed.modality, role=fixed.role)
    same = same_patient(from_.case, onto.case)
    if same is False and not force:
        raise WrongUse(
            f"{moving.path} is of patient {from_.case.patient_id} and {fixed.path} of patient "
            f"{onto.case.patient_id}; give --force to register them all the same"
        )
    both = []
    for side, found in ((moving, from_), (fixed, onto)):
        points = None if side.landmarks is None else other_frame(read_landmarks(side.landmarks))
        volume = to_sitk(found.image)
        both.append(Opened(side=side, case=found.case, image=found.image, volume=volume, points=points))
    pair = Pair(moving=both[0], fixed=both[1], same_patient=same)
    if pair.landmarks is not None and len(pair.landmarks[0]) != len(pair.landmarks[1]):
        raise UserError(
            f"{moving.landmarks} has {len(pair.landmarks[0])} points and {fixed.landmarks} has "
            f"{len(pair.landmarks[1])}; they are matched line by line"
        )
    return pair


def _registered(
    pair: Pair, method: str, options: RegisterOptions, *, windowed: bool
) -> tuple[Registration, Quality]:
    """The registration by a method, or by the one that suits the images, and how good it is."""
    a = pair.moving.volume
    b = pair.fixed.volume
    if windowed:
        a = clamped(a, pair.moving.image.modality)
        b = clamped(b, pair.fixed.image.modality)
    if method == "auto":
        cines = any(map(is_cine, pair.modalities))
        method = "intensity" if not cines else "tracked" if 1 in b.GetSize() else "lc2"
    _check_method(method, pair.modalities, options.kind, a, b)
    if method in ("lc2", "tracked"):
        return _by_ultrasound(pair, search=method == "lc2", seed=options.seed)
    if method == "landmarks":
        assert pair.landmarks is not None
        result = Registration(by_landmarks(*pair.landmarks), "rigid", 0.0, 0.0)
    else:
        result = register(a, b, options, fixed_mask=pair.fixed.mask, moving_mask=pair.moving.mask)
    quality = assess(
        result,
        a,
        b,
        landmarks=pair.landmarks,
        same_patient=pair.same_patient,
        seed=options.seed,
        back=method != "landmarks",
    )
    return result, quality


def _by_ultrasound(pair: Pair, *, search: bool, seed: int) -> tuple[Registration, Quality]:
    """An ultrasound and a volume, in either order. The transform that is kept maps the fixed image to the
    moving one."""
    a = pair.moving.volume
    b = pair.fixed.volume
    to_volume = is_cine(pair.fixed.image.modality)
    found = register_ultrasound(*((a, b) if to_volume else (b, a)), seed=seed, search=search)
    result = found.result
    if not to_volume:
        result.transform = result.transform.GetInverse()
    quality = assess_ultrasound(
        found, searched=search, landmarks=pair.landmarks, same_patient=pair.same_patient
    )
    return result, quality


def _check_method(
    method: str, senses: tuple[str, str], kind: Kind, moving: sitk.Image, fixed: sitk.Image
) -> None:
    """Raises WrongUse where a method does not suit the images."""
    cines = sum(map(is_cine, senses))
    if method == "intensity" and cines:
        raise WrongUse(
            "mutual information alone fails between ultrasound and other modalities; use --method lc2 "
            "or landmarks (experimental)"
        )
    if method in ("lc2", "tracked") and (cines != 1 or kind != "rigid"):
        raise WrongUse(
            f"--method {method} is rigid and takes one ultrasound and one volume, not {senses[0]} and "
            f"{senses[1]} ({kind})"
        )
    if 1 in moving.GetSize():
        raise WrongUse("a tracked frame is the FIXED image: the volume is then cut in its plane")
    if 1 in fixed.GetSize() and method not in ("tracked", "lc2"):
        raise WrongUse(f"--method {method} needs a volume; a tracked frame takes --method tracked or lc2")


def _mask(path: Path, image: Image) -> Image:
    mask = read_nifti(path, image.modality)
    if mask.pixels.shape != image.pixels.shape:
        raise UserError(f"{path}: the mask has {mask.pixels.shape} voxels, its image {image.pixels.shape}")
    return mask
