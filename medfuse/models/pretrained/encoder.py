"""A user's encoder, ready: from images to tokens (N, C), the first of them the mean of the whole."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor, nn

from ...case import Image
from ...errors import UserError
from ..precision import has_bf16
from .contract import GREATEST_GRID, NAME, EncoderFile, read_contract_file
from .inputs import Laid, Piece, lay_out
from .loaders import build
from .networks import Taken, count
from .weights import Matching, file_hash

TOKENS_ARE = (".json", ".safetensors", ".bin", ".pt", ".pth", ".xml", ".onnx")


def weights_hash(file: EncoderFile, folder: Path) -> str:
    """SHA-256 of the file of weights, or of all files of a folder that is a model."""
    if file.weights.file:
        path = folder / file.weights.file
        if not path.is_file():
            raise UserError(f"{path}: no such file; the weights of encoder {file.id} must lie there")
        return file_hash(path)
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in TOKENS_ARE):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(file_hash(path).encode())
    return digest.hexdigest()


def encoder_hash(file: EncoderFile, folder: Path) -> str:
    """SHA-256 over the weights and all of encoder.yaml that decides a token."""
    said = file.model_dump(mode="json", exclude={"id", "check", "compute", "licence"})
    text = json.dumps(said, sort_keys=True) + weights_hash(file, folder)
    return hashlib.sha256(text.encode()).hexdigest()


def groups_of(file: EncoderFile, images: list[Image]) -> list[list[Image]]:
    """The inputs among a case's images, of the modality and roles that the contract names: each series by
    itself, or the one set of roles, complete."""
    takes = file.takes
    fit = [
        i for i in images if i.modality == takes.modality and (takes.roles == "any" or i.role in takes.roles)
    ]
    if takes.series == "each" or takes.roles == "any":
        return [[i] for i in fit]
    by_role = {i.role: i for i in fit}
    return [[by_role[r] for r in takes.roles]] if all(r in by_role for r in takes.roles) else []


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A network with its contract. hash: of weights and contract."""

    file: EncoderFile
    folder: Path
    module: nn.Module
    matching: Matching
    hash: str
    device: torch.device

    @property
    def parameters(self) -> int:
        """Numbers that were learned."""
        return count(self.module)

    @property
    def network(self) -> nn.Module:
        """The network itself, without what picks its output."""
        return self.module.network if isinstance(self.module, Taken) else self.module

    def groups(self, images: list[Image]) -> list[list[Image]]:
        """As `groups_of`."""
        return groups_of(self.file, images)

    def tokens(self, images: list[Image]) -> Float32[np.ndarray, "n c"]:
        """Tokens of one input (a series, or the series of its channels)."""
        return self.tokens_of(lay_out(images, self.file))

    def tokens_of(self, laid: Laid) -> Float32[np.ndarray, "n c"]:
        """Tokens of a series as `lay_out` gives it."""
        pool = _Pool(self.file, laid.extent)
        waiting: list[Piece] = []
        for piece in laid.pieces():
            waiting.append(piece)
            if len(waiting) == self.file.compute.batch:
                pool.add(self._run(waiting), waiting)
                waiting = []
        if waiting:
            pool.add(self._run(waiting), waiting)
        return pool.tokens()

    def means(self, values: Float32[Tensor, "b c *s"]) -> Float32[Tensor, "b width"]:
        """The mean token of each input, through which a gradient flows. Raises UserError as `run` does."""
        found = self.module(values.to(self.device))
        if not isinstance(found, Tensor):
            raise UserError(f"encoder {self.file.id}: its output is no tensor; correct gives.output")
        pool = _Pool(self.file, (1,) * (len(self.file.geometry.size) if self.file.geometry.dims == 3 else 1))
        return torch.stack([pool.flat(one)[0].float().mean(0) for one in found])

    @torch.inference_mode()
    def run(self, values: Float32[np.ndarray, "b c *s"]) -> Tensor:
        """The wanted output of inputs as they enter the network. Raises UserError where it is not as
        stated."""
        place = self.folder / NAME
        bf16 = self.file.compute.precision == "bf16" and self.device.type == "cuda" and has_bf16(self.device)
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
                found = self.module(torch.from_numpy(values).to(self.device))
        except torch.OutOfMemoryError as e:
            raise UserError(f"{place}: the GPU is too small for one input; use --device cpu") from e
        except LookupError as e:
            raise UserError(f"{place}: {e.args[0]!s}; correct gives.output") from e
        except (RuntimeError, ValueError, TypeError, NotImplementedError) as e:
            first = (str(e).splitlines() or [type(e).__name__])[0][:160]
            raise UserError(
                f"{place}: the network does not take {values.shape} ({first}); correct geometry.size"
            ) from e
        if not isinstance(found, Tensor):
            raise UserError(f"{place}: output {self.file.gives.output} is no tensor; correct gives.output")
        return found.float().cpu()

    def _run(self, pieces: list[Piece]) -> Tensor:
        return self.run(np.ascontiguousarray(np.stack([p.values for p in pieces])))


class _Pool:
    """Gathers the outputs of all pieces into the tokens that the contract asks for."""

    def __init__(self, file: EncoderFile, extent: tuple[int, ...]) -> None:
        self.file = file
        self.extent = extent
        self.parts = file.gives.parts
        self.sums = torch.zeros(1 + int(np.prod(self.parts or (0,))), file.gives.width, dtype=torch.float64)
        self.counts = torch.zeros(len(self.sums), dtype=torch.float64)
        self.grid: list[Tensor] = []

    def add(self, found: Tensor, pieces: list[Piece]) -> None:
        for one, piece in zip(found, pieces, strict=True):
            vectors, places = self._vectors(one, piece)
            self.sums[0] += vectors.double().sum(0)
            self.counts[0] += len(vectors)
            if self.file.gives.tokens == "grid":
                self.grid.append(vectors)
            if self.parts:
                at = 1 + torch.from_numpy(np.ravel_multi_index(tuple(places.T), self.parts))
                self.sums.index_add_(0, at, vectors.double())
                self.counts.index_add_(0, at, torch.ones(len(at), dtype=torch.float64))

    def _vectors(self, one: Tensor, piece: Piece) -> tuple[Tensor, np.ndarray]:
        """(N, C) of one piece, and the part of the whole (N, D) that each lies in."""
        vectors, shape = self.flat(one)
        if not self.parts:
            return vectors, np.zeros((len(vectors), 0), int)
        step = self.file.geometry.size if len(self.extent) == 3 else (1,)
        axes = [
            (s + (np.arange(n) + 0.5) * g / n) / whole * p
            for s, n, g, whole, p in zip(piece.start, shape, step, self.extent, self.parts, strict=True)
        ]
        places = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(self.parts))
        places = np.clip(places.astype(int), 0, np.array(self.parts) - 1)
        if len(places) == 1:
            places = np.broadcast_to(places, (len(vectors), len(self.parts)))
        return vectors, places

    def flat(self, one: Tensor) -> tuple[Tensor, tuple[int, ...]]:
        """An output as (N, C), and how its N lie along the axes of the whole; all ones where they do not."""
        width = self.file.gives.width
        kind = self.file.gives.tokens.partition("+")[0]
        nowhere = (1,) * len(self.extent)
        if one.ndim == 1 and len(one) == width:
            return one[None], nowhere
        if one.ndim == 2 and one.shape[1] == width:
            return one[:1] if kind == "cls" else one, nowhere
        if one.ndim > 2 and one.shape[0] == width and kind != "cls":
            shape = tuple(one.shape[1:])
            return one.flatten(1).T, shape if len(shape) == len(self.extent) else nowhere
        raise UserError(
            f"encoder {self.file.id}: its output is {tuple(one.shape)} an input, which is not {kind} "
            f"of width {width}; correct gives"
        )

    def tokens(self) -> np.ndarray:
        """(N, C) float32: the mean, then parts or places. A part that nothing lies in is the mean."""
        whole = self.sums[0] / self.counts[0]
        if self.file.gives.tokens == "grid":
            every = torch.cat(self.grid)
            if len(every) > GREATEST_GRID:
                raise UserError(
                    f"encoder {self.file.id}: grid gives {len(every)} tokens a series, more than "
                    f"{GREATEST_GRID}; "
                    "use mean+2x2x2"
                )
            return torch.cat([whole[None].float(), every]).numpy()
        mean = self.sums / self.counts.clamp_min(1)[:, None]
        return torch.where(self.counts[:, None] > 0, mean, whole).float().numpy()


def load_encoder(folder: Path, *, device: str = "cpu", expected: str = "") -> Encoder:
    """The encoder of a folder. Raises UserError for a folder, contract or weights that do not fit, and for
    others than those of the hash ``expected``."""
    file = read_contract_file(folder)
    found = encoder_hash(file, folder)
    if expected and found != expected:
        raise UserError(
            f"{folder}: weights or encoder.yaml changed since encoder {file.id} was added; add it anew"
        )
    place = torch.device(device)
    if place.type == "cuda" and file.compute.memory_mb:
        free = torch.cuda.mem_get_info(place)[0] >> 20
        if free < file.compute.memory_mb:
            raise UserError(
                f"{folder}: encoder {file.id} needs {file.compute.memory_mb} MB and the GPU has {free} "
                "free; use "
                "--device cpu"
            )
    made = build(file, folder)
    return Encoder(
        file=file,
        folder=folder,
        module=made.module.to(place),
        matching=made.matching,
        hash=found,
        device=place,
    )
