"""What a cache or a checkpoint was made from, so that it is never used for anything else.

An `Identity` names its parts in plain words ("the cases", "the seed") and holds a digest of each. It is
written inside the file it speaks of (the metadata of safetensors) and compared part by part when the file is
read: what differs can be said by name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from ..errors import UserError, WrongUse
from ..io.manifest import ManifestRow

KEY = "made_from"  # in a file's metadata


@dataclass(frozen=True)
class Identity:
    """Digests by the name of the part."""

    parts: dict[str, str]

    @classmethod
    def of(cls, parts: Mapping[str, object]) -> Identity:
        """From values that JSON can hold."""
        return cls({name: _digest(value) for name, value in parts.items()})

    @property
    def metadata(self) -> dict[str, str]:
        """What a safetensors file carries of it."""
        return {KEY: json.dumps(self.parts, sort_keys=True)}

    @property
    def digest(self) -> str:
        """One text for all parts."""
        return _digest(self.parts)

    def differences(self, metadata: Mapping[str, str] | None) -> list[str]:
        """The parts in which a file with this metadata was made from something else."""
        try:
            written = dict(json.loads((metadata or {}).get(KEY, "{}")))
        except (ValueError, TypeError):  # not written by medfuse: made from something else
            written = {}
        return [name for name in {**self.parts, **written} if self.parts.get(name) != written.get(name)]

    def check(self, path: Path, metadata: Mapping[str, str] | None) -> None:
        """Raise WrongUse where the file was made from something else, naming what differs."""
        if others := self.differences(metadata):
            raise WrongUse(
                f"{path}: was made from other data or settings ({', '.join(others)}); give another --work, "
                "or remove this file to train anew"
            )


@contextmanager
def opened(path: Path, framework: Literal["pt", "np"]) -> Iterator[safe_open]:
    """A safetensors file of a training. Raises UserError for one that is damaged."""
    try:
        with safe_open(path, framework) as file:
            yield file
    except (SafetensorError, OSError) as e:
        raise UserError(f"{path}: is damaged ({e}); remove it to start anew") from e


def written_whole(path: Path, save: Callable[[Path], None]) -> None:
    """Let ``save`` write beside ``path`` and rename, so that a stop leaves no half of a file."""
    part = path.with_suffix(".part")
    save(part)
    os.replace(part, path)


def _digest(value: object) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def weights_digest(weights: Mapping[str, torch.Tensor] | None) -> str:
    """Of names, shapes, types and values; "" for no weights."""
    if weights is None:
        return ""
    found = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:32]


class FileStamp(NamedTuple):
    """A file of a manifest as it was; the time of its last change in ns."""

    case_id: str
    path: str
    size: int
    changed_ns: int


def files_of(rows: list[ManifestRow]) -> list[FileStamp]:
    """Every image and label map of a manifest."""
    return [
        FileStamp(row.case_id, path, *_stamp(Path(row.root) / path))
        for row in rows
        for image in row.images
        for path in (image.path, image.mask)
        if path
    ]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; of a folder, of all files in it together."""
    if path.is_dir():
        inside = [p.stat() for p in sorted(path.rglob("*")) if p.is_file()]
        return sum(s.st_size for s in inside), max((s.st_mtime_ns for s in inside), default=0)
    if not path.exists():
        return 0, 0
    found = path.stat()
    return found.st_size, found.st_mtime_ns
