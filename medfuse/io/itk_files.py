"""MetaImage and NRRD through SimpleITK in a child process; units of length, which ITK leaves aside, from the
text of their headers."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..affine import Affine
from ..errors import UnreadableError, os_fault
from ..settings import settings
from .beside import beside
from .child import ChildFailed, children
from .decode import SLOW_DISK
from .stored import Axis, Stored, no_mm, taken_as_mm, unit_note
from .temporary import temporary_folder

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
SPACES = (
    *("left-posterior-superior", "right-anterior-superior", "left-anterior-superior"),
    *("lps", "ras", "las"),
)
HEADER_BYTES = 64 * 1024
# by the first of their letters that are ASCII: writers spell the letter of micro in three ways
UNITS_MM = {
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre", "nanometres"), 1e-6),
    **dict.fromkeys(
        ("um", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1e-3
    ),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("dm", "decimeter", "decimeters", "decimetre", "decimetres"), 100.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
TIMES = ("s", "sec", "ms", "msec", "us", "usec")  # along a third axis
KINDS: dict[str, Axis] = {"space": "space", "time": "time"}
VOXELS_FILE = r"(?im)^([^\S\n]*(?:ElementDataFile[^\S\n]*=|data ?file[^\S\n]*:)[^\S\n]*)(.*?)\s*$"
AXES = ("domain", "space", "time", "???", "none")  # kinds of NRRD along which samples lie
UNSTATED = ("", "?", "none", "unknown", "pixel", "pixels", "voxel", "voxels")


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What the text of a header says. units: of length, as it spells them, along the axes of the space (or of
    the array, where there is none); space: whether it lies in the patient; last: see `Stored`; lists: whether
    an axis that is none of the space holds whole volumes, one after another."""

    units: tuple[str, ...]
    space: bool
    last: Axis
    lists: bool = False


def load_itk(path: Path) -> Stored:
    """Read a MetaImage or NRRD file. Raises UnreadableError."""
    header = _header(path)
    with ExitStack() as keep:
        source = _with_voxels(path, keep)
        try:
            limit = settings().decode_timeout_s + path.stat().st_size / SLOW_DISK
            found = children().run(_read_itk, source, header, limit=limit)
        except ChildFailed as e:
            raise UnreadableError(path, str(e)) from e
    if isinstance(found, str):
        raise UnreadableError(path, found)
    data = found["data"]
    zooms = tuple(float(v) for v in found["spacing"])
    mm = _in_mm(path, header.units, data.shape[:3], zooms)
    affine = found["affine"]
    zooms = tuple(z * u for z, u in zip(zooms, mm, strict=False))
    if affine is not None:  # units are those of the space, whatever way the axes of the array run in it
        affine = np.diag([*mm, 1.0]) @ affine
        zooms = tuple(float(v) for v in np.linalg.norm(affine[:3, :3], axis=0))
    return Stored(
        data=data,
        affine=affine,
        zooms=zooms,
        colour=found["colour"],
        last=header.last,
        note=_note(mm, zooms, stated=bool(set(map(_spelt, header.units)) - set(UNSTATED))),
    )


def _note(mm: tuple[float, float, float], zooms: tuple[float, ...], *, stated: bool) -> str:
    """What was made of the units. stated: whether there are any."""
    if len(set(mm)) > 1:
        return f"its axes have units of {', '.join(f'{m:g}' for m in mm)} mm; they were made mm"
    return unit_note(mm[0]) if stated else taken_as_mm(zooms)


def _in_mm(
    path: Path, units: tuple[str, ...], shape: tuple[int, ...], zooms: tuple[float, ...]
) -> tuple[float, float, float]:
    """mm a unit along each of three axes. Raises UnreadableError for a unit that is none of length, and
    where none is stated and mm cannot be meant."""
    said = [_spelt(u) for u in units]
    stated = [u for u in said if u not in UNSTATED]
    if not stated:
        why = no_mm(shape, zooms)
        if why:
            raise UnreadableError(path, why)
        return (1.0, 1.0, 1.0)
    factors = UNITS_MM | dict.fromkeys((*UNSTATED, *TIMES), 1.0)
    odd = [u for u, s in zip(units, said, strict=True) if s not in factors]
    if odd or len(said) not in (1, 2, 3):
        wrong = (odd or list(units))[0][:40]
        raise UnreadableError(path, f"states the unit of length {wrong!r}, which is none that is known")
    mm = [factors[s] for s in said] * (3 if len(said) == 1 else 1)
    return (mm[0], mm[1], mm[2] if len(mm) == 3 else 1.0)


def _spelt(unit: str) -> str:
    """A unit in small letters, whatever letter stands for micro."""
    text = re.sub("^[\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}]", "u", unit.strip())
    return text.lower() if len(text) > 2 or text.lower() in UNITS_MM else text


def _text(path: Path) -> str:
    try:
        with path.open("rb") as f:
            start = f.read(HEADER_BYTES)
    except OSError as e:
        raise UnreadableError(path, f"cannot be read ({os_fault(e)}); check permissions") from e
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        start = start.replace(b"\r\n", b"\n").split(b"\n\n")[0]
    else:
        start = re.split(rb"(?m)^\s*ElementDataFile\s*=.*$", start)[0]
    try:
        return start.decode("utf-8")
    except UnicodeDecodeError:
        return start.decode("latin-1")


def _header(path: Path) -> _Header:
    text = _text(path)
    if path.suffix.lower() in (".mha", ".mhd"):
        found = re.search(r"(?im)^\s*DistanceUnits\s*=\s*(.*?)\s*$", text)
        return _Header(units=(found[1],) if found else (), space=True, last="")
    space = re.search(r"(?im)^space:\s*(\S+)", text)
    known = space is not None and space[1].lower() in SPACES
    of_space = re.search(r"(?im)^space units:[ \t]*(.*)$", text)
    of_axes = re.search(r"(?im)^units:[ \t]*(.*)$", text)
    listed = re.search(r"(?im)^kinds:[ \t]*(.*)$", text)
    kinds = listed[1].lower().split() if listed else []
    last = kinds[-1] if kinds else ""
    units = tuple(re.findall(r'"([^"]*)"', (of_space or of_axes or [""])[0]))
    if of_space is None and len(units) == len(kinds):  # an axis of values has no length
        units = tuple(u for u, k in zip(units, kinds, strict=True) if k in AXES)
    lists = bool({"list", "time"} & set(kinds))
    return _Header(units=units, space=known, last=KINDS.get(last, ""), lists=lists)


def _with_voxels(path: Path, keep: ExitStack) -> Path:
    """The header as ITK can follow it to its voxels: only a file beside it is opened, never another of this
    machine, and one whose name is in another case is found. Raises UnreadableError."""
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return path
    with path.open("rb") as f:
        text = f.read(HEADER_BYTES).decode("latin-1")
    found = re.findall(VOXELS_FILE, text)
    other: Path | None = None
    for key, said in found:
        name = os.fsdecode(said.encode("latin-1"))  # as the disk spells these bytes
        if not name or name.upper() == "LIST" or "%" in name or Path(name).name != name:
            raise UnreadableError(
                path, f"its {key.strip('=: ')} is {name[:60]!r}; only one file beside it is read"
            )
        if name.upper() == "LOCAL":
            continue
        voxels = beside(path, name)
        if path.with_name(name).is_symlink() or (voxels is not None and voxels.is_symlink()):
            raise UnreadableError(path, f"its voxels' file {name[:60]!r} is a link; give the file itself")
        if voxels is None:
            raise UnreadableError(path, f"its voxels' file {name[:60]!r} is not beside it")
        other = voxels if voxels.name != name else other
    if other is None:
        return path
    folder = keep.enter_context(temporary_folder("voxels"))
    (folder / "voxels").symlink_to(other.absolute())
    header = folder / f"header{path.suffix.lower()}"
    for key, said in found:
        text = text.replace(key + said, f"{key}voxels")
    header.write_text(text, encoding="latin-1", newline="")
    return header


def _read_itk(path: Path, header: _Header) -> dict | str:
    """Runs in a child: ITK is C++ and the file is untrusted. Several volumes lie along a fourth axis."""
    import SimpleITK as sitk

    kind = "MetaImage" if path.suffix.lower() in (".mha", ".mhd") else "NRRD"
    try:  # named, as ITK knows some endings in small letters only
        image = sitk.ReadImage(str(path), imageIO="MetaImageIO" if kind == "MetaImage" else "NrrdImageIO")
    except RuntimeError:
        return f"not a readable {kind} file"
    array = sitk.GetArrayFromImage(image)
    channels = image.GetNumberOfComponentsPerPixel()
    sizes = " × ".join(map(str, image.GetSize()))
    if image.GetDimension() not in (2, 3, 4) or (image.GetDimension() == 4 and channels > 1):
        what = f"has {image.GetDimension()} axes ({sizes}) and {channels} values a voxel"
        return f"{what}; volumes, several of them, pictures and their colours are read: split it"
    colour = channels in (3, 4) and array.dtype == np.uint8 and not header.lists
    if array.dtype.kind == "c" or (channels > 1 and not colour and not header.lists):
        what = f"holds {channels} values of {array.dtype} a voxel ({sizes} voxels), so vectors or tensors"
        return f"{what}; plain numbers and colours in bytes are read: give one of the values as a volume"
    # (…, y, x) with values last → (x, y, …) with values last
    data = np.moveaxis((array[..., :3] if colour else array).T, 0, -1) if channels > 1 else array.T
    found = {"data": data, "affine": None, "spacing": image.GetSpacing()[:3], "colour": colour}
    if image.GetDimension() == 2:
        return found | {"data": data[:, :, None], "spacing": (*image.GetSpacing(), 1.0)}
    if not header.space:
        return found
    n = image.GetDimension()
    axes = np.array(image.GetDirection()).reshape(n, n) * np.array(image.GetSpacing())
    if np.any(axes[3:, :3]) or np.any(axes[:3, 3:]):
        return "its fourth axis leans into the first three, so no voxel has a place; repair its header"
    try:
        return found | {"affine": Affine.of(axes[:3, :3], np.array(image.GetOrigin())[:3], "LPS+").ras}
    except ValueError as e:
        return f"{e}, so no voxel has a place; repair its header"
