"""A user's own image-text model on disk that is shown a case and writes. Nothing is fetched, no code of its
authors is run; what it writes is checked like any other draft."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from ..case import Case, Image
from ..display.views import count, slice_array
from ..errors import UserError
from ..models.pretrained.weights import file_hash
from ..prediction import Prediction
from ..report import WrittenBy
from ..task import Task
from .local_llm import PROMPT, facts
from .report_model import FACTS, ReportModelFile, ShownImages, read_report_model

PAD_TYPES = ("qwen2_vl", "qwen2_5_vl")  # whose processor needs torchvision for videos, which are not shown


@dataclass(frozen=True, kw_only=True)
class ImageDraft:
    """What a model wrote, and what it wrote from."""

    words: str
    by: WrittenBy


def folder_sha256(folder: Path) -> str:
    """Over the names and contents of configuration, tokenizer and weights, read piece by piece."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        digest.update(f"{path.name} {file_hash(path)}\n".encode())
    return digest.hexdigest()


def pictures(images: list[Image], how: ShownImages) -> list[Picture.Image]:
    """The images of one modality as a reader sees them, at most ``how.max``, spread evenly."""
    each = max(1, how.max // max(1, len(images)))
    out = []
    for image in images[: how.max]:
        total = count(image, how.plane)
        for index in np.unique(np.linspace(0, total - 1, min(each, total)).round().astype(int)):
            out.append(Picture.fromarray(_pixels(image, int(index), how)))
    return out


def _pixels(image: Image, index: int, how: ShownImages) -> np.ndarray:
    """(H, W, 3) uint8."""
    if image.kind == "cine":
        return slice_array(image, index)[0]
    low, high = np.percentile(image.pixels[::2, ::2, ::2], how.percentiles)
    windows = how.windows or ((float(low), max(float(high), float(low) + 1e-3)),)
    grey = [
        slice_array(image, index, plane=how.plane, window=((a + b) / 2, b - a))[0][..., 0] for a, b in windows
    ]
    return np.stack(grey * (3 // len(grey)), -1)


def of_shown(prediction: Prediction, shown: tuple[str, ...]) -> Prediction:
    """The findings and lesions that the shown modalities judged: all that the model is told."""
    findings = [
        f if set(f.assessed_by) & set(shown) else f.model_copy(update={"assessed": False})
        for f in prediction.findings
    ]
    lesions = [x for x in prediction.lesions if x.modality in shown]
    return prediction.model_copy(update={"findings": findings, "lesions": lesions})


def draft_from_images(
    folder: Path, prediction: Prediction, case: Case, task: Task, language: str, *, device: str = "cpu"
) -> ImageDraft:
    """Show the case's images to the model of a folder and let it write. Raises UserError where the model
    cannot be loaded, or there is nothing that it may be shown."""
    file = read_report_model(folder)
    used = [i for i, r in zip(case.images, prediction.images, strict=True) if r.in_domain]
    shown = {
        code: found
        for code, how in file.images.items()
        if (found := pictures([i for i in used if i.modality == code], how))
    }
    if not shown:
        raise UserError(
            f"{folder}: is shown {', '.join(file.images)} and the case has none of them; take another writer"
        )
    told = facts(of_shown(prediction, tuple(shown)), task, language)
    ask = file.prompt.get(language) or PROMPT.get(language, PROMPT["en"])
    prompt = ask.replace(FACTS, told)
    words = _written(folder, file, shown, prompt, device)
    by = WrittenBy(
        model=file.id,
        sha256=folder_sha256(folder),
        licence=file.licence,
        prompt=prompt,
        shown={code: len(found) for code, found in shown.items()},
    )
    return ImageDraft(words=words, by=by)


def _written(
    folder: Path, file: ReportModelFile, shown: dict[str, list[Picture.Image]], prompt: str, device: str
) -> str:
    """Greedy words of the model."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText
    except ModuleNotFoundError as e:
        raise UserError("--writer local-llm needs the extra llm; run pip install 'medfuse[llm]'") from e
    try:
        reader = _reader(folder)
        model = AutoModelForImageTextToText.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.bfloat16 if file.dtype == "bf16" else torch.float32,
        )
        model.eval().to(device)  # type: ignore[arg-type]
    except torch.OutOfMemoryError as e:
        raise UserError(f"{folder}: the GPU is too small for {file.id}; use --device cpu") from e
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as e:
        first = next((x.strip() for x in str(e).splitlines() if x.strip()), type(e).__name__)[:160]
        raise UserError(f"{folder}: the image-text model cannot be loaded ({first}); copy it again") from e
    encoded = reader.read(shown, prompt).to(device)
    if file.dtype == "bf16":
        encoded = encoded.to(torch.bfloat16)
    length = int(encoded["input_ids"].shape[1])
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and length >= longest:
        raise UserError(
            f"{folder}: the pictures and facts need {length} tokens, the model reads {longest}; show fewer "
            "pictures (max in report_model.yaml)"
        )
    room = file.max_new_tokens if longest is None else min(file.max_new_tokens, longest - length)
    with torch.inference_mode():
        try:
            out = model.generate(**encoded, max_new_tokens=room, do_sample=False)  # type: ignore[misc]
        except torch.OutOfMemoryError as e:
            raise UserError(f"{folder}: the GPU is too small for these pictures; show fewer (max)") from e
    return str(reader.tokenizer.decode(out[0, length:], skip_special_tokens=True))


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """What turns pictures and words into a model's input: its processor, or, where that needs torchvision for
    videos, its parts. mark: stands for one picture in the text."""

    tokenizer: Any
    processor: Any
    images: Any
    mark: str
    pad: str = ""

    def read(self, shown: dict[str, list[Picture.Image]], prompt: str) -> Any:
        """The input of one question: each modality's name, its pictures, and then the prompt."""
        every = [p for some in shown.values() for p in some]
        marks = [f"{code}:" + "".join(f" {self.mark}" for _ in some) for code, some in shown.items()]
        text = "\n".join([*marks, prompt])
        if getattr(self.tokenizer, "chat_template", None):
            text = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
        if self.processor is not None:
            return self.processor(text=[text], images=[every], return_tensors="pt")
        seen = self.images(images=every, return_tensors="pt")
        for grid in seen["image_grid_thw"]:
            n = int(grid.prod()) // self.images.merge_size**2
            text = text.replace(self.pad, "\0" * n, 1)
        read = self.tokenizer([text.replace("\0", self.pad)], return_tensors="pt")
        read.update(seen)
        return read


def _reader(folder: Path) -> _Reader:
    from transformers import AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer

    local = {"local_files_only": True, "trust_remote_code": False}
    if AutoConfig.from_pretrained(folder, **local).model_type in PAD_TYPES:
        pad = "<|image_pad|>"
        return _Reader(
            tokenizer=AutoTokenizer.from_pretrained(folder, **local),
            processor=None,
            images=AutoImageProcessor.from_pretrained(folder, **local),
            mark=f"<|vision_start|>{pad}<|vision_end|>",
            pad=pad,
        )
    processor = AutoProcessor.from_pretrained(folder, **local)
    mark = getattr(processor, "boi_token", None) or getattr(processor, "image_token", None)
    if not isinstance(mark, str):
        raise ValueError("its processor names no token for a picture")
    return _Reader(tokenizer=processor.tokenizer, processor=processor, images=None, mark=mark)
