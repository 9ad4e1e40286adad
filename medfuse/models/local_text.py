"""A text transformer that the user has on disk, in place of our own small tower. It stays frozen; nothing is
fetched.

A bundle trained so keeps the transformer's path and hash, not its weights, and loads only where those files
are.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int64
from tokenizers import Tokenizer
from torch import Tensor, nn

from ..errors import UserError

KEEP = 20_000  # texts whose embedding is remembered: a training reads each of them in every epoch


def folder_hash(path: Path) -> str:
    """SHA-256 over the names and contents of configuration, tokenizer and weights."""
    digest = hashlib.sha256()
    for f in sorted(p for p in path.iterdir() if p.suffix in (".json", ".safetensors", ".bin", ".txt")):
        digest.update(f.name.encode())
        digest.update(f.read_bytes())
    return digest.hexdigest()


def local_tokenizer(path: Path) -> Tokenizer:
    """Its tokenizer. Raises UserError where the folder holds no fast tokenizer."""
    file = path / "tokenizer.json"
    if not file.is_file():
        raise UserError(
            f"{path}: holds no tokenizer.json; save the model with a fast tokenizer (transformers: "
            "save_pretrained)"
        )
    return Tokenizer.from_file(str(file))


class LocalTextTower(nn.Module):
    """ids (B, L), mask (B, L) → (B, D): the transformer's last layer, mean over the tokens that exist, a
    trained linear map.

    Raises UserError where transformers is not installed, the folder is no model, or it is another one than
    ``expected`` by its hash.
    """

    def __init__(self, path: Path, width: int, expected: str = "") -> None:
        super().__init__()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            from transformers import AutoModel
        except ImportError as e:
            raise UserError("a local text model needs transformers: pip install 'medfuse[llm]'") from e
        if not path.is_dir():
            raise UserError(
                f"{path}: no such folder; the text model that this was trained with must lie there"
            )
        if expected and folder_hash(path) != expected:
            raise UserError(f"{path}: is another text model than the one this bundle was trained with")
        try:
            inner = AutoModel.from_pretrained(str(path), local_files_only=True, use_safetensors=True).eval()
        except (OSError, ValueError) as e:
            raise UserError(f"{path}: cannot be loaded as a text model ({str(e).splitlines()[0]})") from e
        # in a list: its weights belong to the user, not to the bundle
        self._inner = [inner.requires_grad_(False)]
        self._known: dict[bytes, Tensor] = {}
        self.project = nn.Linear(int(inner.config.hidden_size), width)

    def forward(self, ids: Int64[Tensor, "b l"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b d"]:
        """ids (B, L), mask (B, L) → (B, D); texts that were seen are not computed again."""
        keys = [row[m].cpu().numpy().tobytes() for row, m in zip(ids, mask, strict=True)]
        new = [i for i, k in enumerate(keys) if k not in self._known]
        if new:
            with torch.no_grad():
                out = self._inner[0](
                    input_ids=ids[new].cpu(), attention_mask=mask[new].long().cpu()
                ).last_hidden_state
            weight = mask[new][..., None].float().cpu()
            pooled = (out.float() * weight).sum(1) / weight.sum(1).clamp_min(1)
            if len(self._known) > KEEP:
                self._known = {k: self._known[k] for k in keys if k in self._known}
            self._known |= {keys[i]: p for i, p in zip(new, pooled, strict=True)}
        return self.project(torch.stack([self._known[k] for k in keys]).to(self.project.weight.device))
