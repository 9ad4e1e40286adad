"""A causal language model that the user has on disk, in place of the learned writer. Nothing is fetched:
files are local or refused."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UserError
from ..prediction import Prediction
from ..task import Task

PROMPT = {
    "en": (
        "Write the FINDINGS and IMPRESSION of a radiology report from these facts only.\n{facts}\nFINDINGS:"
    ),
    "zh-TW": "僅依下列事實撰寫放射科報告之影像發現與診斷意見。\n{facts}\n影像發現：",
}
HEADING = {"en": "FINDINGS:", "zh-TW": "影像發現："}


def facts(prediction: Prediction, task: Task, language: str) -> str:
    """One line a finding (present, absent, uncertain, not assessed) and a lesion: all that the model is
    told."""
    lines = []
    for record in prediction.findings:
        p = record.probability
        state = (
            "not assessed"
            if p is None or not record.assessed
            else "present"
            if p >= 0.4
            else "absent"
            if p < 0.15
            else "uncertain"
        )
        lines.append(f"- {task.finding(record.id).label(language)}: {state}")
    for x in prediction.lesions:
        size = f"{x.long_axis_mm:.0f} mm" if x.long_axis_mm is not None else "size not measured"
        lines.append(f"- lesion on {x.modality}: {task.finding(x.finding).label(language)}, {x.side} {size}")
    return "\n".join(lines)


def write_locally(folder: Path, prompt: str, *, tokens: int = 256, device: str = "cpu") -> str:
    """Greedy continuation of ``prompt`` by the model in ``folder`` (Hugging Face format)."""
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: no config.json; --llm needs the folder of a causal language model in Hugging "
            "Face format"
        )
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(
            f"{folder}: the model's tokenizer is missing; copy tokenizer.json and "
            "tokenizer_config.json beside it"
        )
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ModuleNotFoundError as e:
        raise UserError("--writer local-llm needs the extra llm; run pip install 'medfuse[llm]'") from e
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        model.eval().to(device)  # type: ignore[arg-type]
    except (OSError, ValueError, RuntimeError, KeyError) as e:
        raise UserError(
            f"{folder}: the model cannot be loaded ({str(e).splitlines()[0]}); copy it again"
        ) from e
    encoded = tokenizer(prompt, return_tensors="pt").to(device)
    longest = getattr(model.config, "max_position_embeddings", None)
    if longest is not None and encoded["input_ids"].shape[1] >= longest:
        raise UserError(
            f"{folder}: the facts need {encoded['input_ids'].shape[1]} tokens, the model reads "
            f"{longest}; take a model with a longer context"
        )
    room = tokens if longest is None else min(tokens, longest - encoded["input_ids"].shape[1])
    with torch.inference_mode():
        out = model.generate(  # type: ignore[misc]
            **encoded,
            max_new_tokens=room,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id or tokenizer.eos_token_id,
        )
    return str(tokenizer.decode(out[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True))
