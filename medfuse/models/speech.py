"""A speech recogniser that the user has on disk: asr.yaml beside a transformers model (Whisper or
Wav2Vec2-CTC). Nothing is fetched, and weights are read as tensors alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError

from ..errors import UserError, fault_of
from ..foreign import yaml_as_json

FILE = "asr.yaml"


class SpeechFile(BaseModel):
    """asr.yaml beside a speech recogniser.

    kind: whisper writes (sequence to sequence), ctc spells (Wav2Vec2). rate: samples a second that it hears.
    seconds: the longest stretch it hears at once. languages: ours, such as en, to the name that whisper has
    for it; a recogniser of ctc lists its one language.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["whisper", "ctc"]
    rate: int = Field(default=16_000, ge=8_000, le=48_000)
    seconds: float = Field(default=30.0, gt=1, le=60)
    languages: dict[str, str] = Field(default_factory=lambda: {"en": "english", "zh-TW": "chinese"})


class Recogniser:
    """Hears stretches of sound. Raises UserError where the folder is none, in one sentence."""

    def __init__(self, folder: Path) -> None:
        self.file = _read(folder)
        self.folder = folder
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        try:
            import transformers
        except ImportError as e:
            raise UserError("dictation needs transformers: pip install 'medfuse[llm]'") from e
        kind = self.file.kind
        reader = transformers.AutoModelForCTC if kind == "ctc" else transformers.AutoModelForSpeechSeq2Seq
        try:
            self.ears: Any = transformers.AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
            self.letters: Any = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
            self.model: Any = reader.from_pretrained(
                folder, local_files_only=True, use_safetensors=True
            ).eval()
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as e:
            why = (str(e).splitlines() or ["damaged"])[0]
            raise UserError(f"{folder}: cannot be loaded as a recogniser of kind {kind} ({why})") from e
        if int(self.ears.sampling_rate) != self.file.rate:
            raise UserError(
                f"{folder}/{FILE}: rate {self.file.rate} differs from {self.ears.sampling_rate}, which the "
                "model hears"
            )

    def hear(self, samples: np.ndarray, language: str) -> str:
        """(N,) at ``file.rate``, at most ``file.seconds`` long → words."""
        if language not in self.file.languages:
            known = ", ".join(self.file.languages)
            raise UserError(f"{self.folder}: hears {known}, not {language}; see languages in {FILE}")
        heard = self.ears(samples, sampling_rate=self.file.rate, return_tensors="pt")
        with torch.inference_mode():
            if self.file.kind == "ctc":
                ids = self.model(heard["input_values"]).logits.argmax(-1)
                return str(self.letters.decode(ids[0])).strip()
            try:
                ids = self.model.generate(
                    heard["input_features"], language=self.file.languages[language], task="transcribe"
                )
            except (ValueError, RuntimeError, KeyError) as e:
                why = (str(e).splitlines() or ["damaged"])[0]
                raise UserError(f"{self.folder}: cannot hear {language} ({why})") from e
        return str(self.letters.decode(ids[0], skip_special_tokens=True)).strip()


def _read(folder: Path) -> SpeechFile:
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder}: has no {FILE}; --asr needs a folder with a speech recogniser and {FILE}")
    try:
        file = SpeechFile.model_validate(yaml_as_json(path.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError, OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: {fault_of(e)}; it needs kind: whisper or ctc") from e
    for names, what in (
        (("config.json",), "the model's config.json"),
        (("tokenizer.json", "vocab.json"), "the tokenizer"),
        (("preprocessor_config.json", "processor_config.json"), "preprocessor_config.json"),
        (("model.safetensors", "model.safetensors.index.json"), "model.safetensors"),
    ):
        if not any((folder / name).is_file() for name in names):
            raise UserError(f"{folder}: lacks {what}; copy it from where the model came from")
    return file
