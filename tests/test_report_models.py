"""Image-text models on disk that draft: tiny models of the real classes, shown a simulated patient."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers

from medfuse.bundles.bundle import load_bundle
from medfuse.case import Image, Source
from medfuse.drafting import image_llm
from medfuse.drafting.draft import check_writer, draft
from medfuse.drafting.image_llm import pictures
from medfuse.drafting.labeller import task_lexicon
from medfuse.drafting.report_model import ShownImages
from medfuse.drafting.shown import only_shown
from medfuse.errors import UserError
from medfuse.inference.predictor import Predictor
from medfuse.io.read import open_case

CONTRACT = {
    "id": "tiny",
    "images": {"CT": {"max": 2, "windows": [[-1024, 1024], [-135, 215], [0, 80]]}},
    "prompt": {"en": "Report this. {facts} FINDINGS:"},
    "max_new_tokens": 6,
    "licence": "MIT",
}


@pytest.fixture(scope="module")
def predicted(patient_dicom):
    bundle = load_bundle()
    case = open_case(patient_dicom)
    return case, Predictor(bundle).details(case), bundle


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    return pytest.importorskip("transformers")


def tokenizer(transformers: ModuleType, special: list[str], **named: str) -> Any:
    words = ["[UNK]", "[PAD]", "[END]", *special, "Liver", "cyst", "CT", ":", "Report", "this", "present"]
    made = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(["[PAD]", "[END]", *special])
    extra = {"extra_special_tokens": named} if named else {}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        eos_token="[END]",
        unk_token="[UNK]",
        bos_token="[END]",
        **extra,
    )


SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def llava(transformers: ModuleType, folder: Path) -> None:
    words = tokenizer(transformers, ["<image>"], image_token="<image>")
    images = transformers.CLIPImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(
            image_size=28, patch_size=14, **SMALL | {"num_hidden_layers": 2}
        ),
        text_config=transformers.LlamaConfig(vocab_size=len(words), max_position_embeddings=4096, **SMALL),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    transformers.LlavaForConditionalGeneration(config).save_pretrained(folder)
    transformers.LlavaProcessor(
        image_processor=images,
        tokenizer=words,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def gemma(transformers: ModuleType, folder: Path) -> None:
    marks = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
    }
    words = tokenizer(transformers, list(marks.values()), **marks)
    ids = {name: words.convert_tokens_to_ids(token) for name, token in marks.items()}
    text = {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 4096, "sliding_window": 512}
    config = transformers.Gemma3Config(
        vision_config=transformers.SiglipVisionConfig(image_size=28, patch_size=14, **SMALL),
        text_config=transformers.Gemma3TextConfig(vocab_size=len(words), **text, **SMALL),
        mm_tokens_per_image=4,
        image_token_index=ids["image_token"],
        boi_token_index=ids["boi_token"],
        eoi_token_index=ids["eoi_token"],
    )
    transformers.Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    images = transformers.Gemma3ImageProcessor(size={"height": 28, "width": 28})
    transformers.Gemma3Processor(image_processor=images, tokenizer=words, image_seq_length=4).save_pretrained(
        folder
    )


def qwen(transformers: ModuleType, folder: Path) -> None:
    marks = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"]
    words = tokenizer(transformers, marks)
    ids = dict(
        zip(("image", "video", "vision_start", "vision_end"), words.convert_tokens_to_ids(marks), strict=True)
    )
    text = {
        "vocab_size": len(words),
        "num_key_value_heads": 1,
        "max_position_embeddings": 4096,
        "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
        "bos_token_id": 2,
        "eos_token_id": 2,
        **SMALL,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    config = transformers.Qwen2_5_VLConfig(
        vision_config=vision | {"fullatt_block_indexes": [0]},
        text_config=text,
        **{f"{name}_token_id": n for name, n in ids.items()},
    )
    transformers.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    transformers.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=56 * 56).save_pretrained(folder)


def contract(folder: Path, **said: object) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "report_model.yaml").write_text(yaml.safe_dump(CONTRACT | said))
    return folder


@pytest.mark.parametrize("make", [llava, gemma, qwen])
def test_a_model_of_the_real_class_drafts_and_is_checked(transformers, predicted, tmp_path, make):
    case, done, bundle = predicted
    folder = contract(tmp_path / "model")
    torch.manual_seed(0)
    make(transformers, folder)
    check_writer(bundle, "local-llm", "en", folder)
    report = draft(done, case, bundle, "en", writer="local-llm", llm=folder)
    assert report.writer == "local-llm"
    by = report.written_by
    assert by is not None
    assert by.shown == {"CT": 2}
    assert by.model == "tiny"
    assert len(by.sha256) == 64
    assert by.licence == "MIT"
    assert by.prompt.startswith("Report this. - ")
    assert "lesion on MR" not in by.prompt
    # an untrained model says nothing that can be supported: what stands is the composer's
    assert {c.action for c in report.provenance} <= {"dropped", "added", "hedged"}
    assert draft(done, case, bundle, "en", writer="local-llm", llm=folder) == report


WRITTEN = (
    "There is a simple cyst in the liver. On MRI the cyst is bright. Sonographically it is anechoic. "
    "Let us see again.\n超音波顯示囊腫。"
)


def test_what_it_was_not_shown_it_may_not_say(predicted):
    _, done, bundle = predicted
    lexicon = task_lexicon(bundle.task)
    assert lexicon is not None
    kept, dropped = only_shown({"findings": WRITTEN}, ("CT",), done.prediction, bundle.task, lexicon)
    assert "simple cyst" in kept["findings"]
    assert "Let us see" in kept["findings"]
    assert [c.why.split(",")[0] for c in dropped] == [
        "it speaks of MR",
        "it speaks of US",
        "it speaks of US",
    ]
    records = [
        f.model_copy(update={"assessed_by": ["MR"]}) if f.id == "simple_cyst" else f
        for f in done.prediction.findings
    ]
    only_mr = done.prediction.model_copy(update={"findings": records})
    kept, dropped = only_shown({"findings": WRITTEN}, ("CT",), only_mr, bundle.task, lexicon)
    assert "simple cyst" not in kept["findings"]
    assert "simple_cyst is judged by MR" in dropped[0].why


def test_sentences_of_another_modality_are_in_the_provenance(predicted, tmp_path, monkeypatch):
    case, done, bundle = predicted
    folder = contract(tmp_path / "model")
    monkeypatch.setattr(image_llm, "_written", lambda *a: "FINDINGS: " + WRITTEN)
    report = draft(done, case, bundle, "en", writer="local-llm", llm=folder)
    assert any("MR, which the model was not shown" in c.why for c in report.provenance)
    assert not any("bright" in x.text for s in report.sections for x in s.sentences)


def test_pictures_are_as_a_reader_sees_them():
    pixels = np.zeros((6, 5, 4), np.float32)
    pixels[0, 0, 3] = 215  # to the patient's right, in front, at the head
    image = Image("CT", pixels, Source("x"), affine=np.diag([-1.0, -1, 1, 1]), frame_of_reference="f")
    how = ShownImages(max=2, windows=((-1024, 1024), (-135, 215), (0, 80)))
    first, last = pictures([image], how)
    assert first.size == (6, 5)
    found = np.asarray(last)
    assert found.shape == (5, 6, 3)
    assert found[0, 0].tolist() == [int((215 + 1024) / 2048 * 255), 255, 255]
    assert (np.asarray(first) == found[1, 1]).all()
    assert len(pictures([image, image, image], ShownImages(max=3))) == 3


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ({"images": {}}, "nothing would be shown"),
        ({"images": {"XX": {}}}, "XX"),
        ({"images": {"CT": {"windows": [[0, 1], [1, 2]]}}}, "one pair or three"),
        ({"prompt": {"en": "Write."}}, "must hold"),
        ({"more": 1}, "more"),
    ],
)
def test_a_contract_that_cannot_be_is_refused_before_any_image(predicted, tmp_path, said, word):
    _, _, bundle = predicted
    folder = contract(tmp_path / "model", **said)
    with pytest.raises(UserError, match=word) as raised:
        check_writer(bundle, "local-llm", "en", folder)
    assert "\n" not in str(raised.value)


def test_what_cannot_be_loaded_or_shown_is_one_sentence(transformers, predicted, tmp_path):
    case, done, bundle = predicted

    def fault(folder: Path) -> str:
        with pytest.raises(UserError) as raised:
            draft(done, case, bundle, "en", writer="local-llm", llm=folder)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    folder = contract(tmp_path / "model")
    assert "cannot be loaded" in fault(folder)
    torch.manual_seed(0)
    llava(transformers, folder)
    contract(folder, images={"CT": {"max": 3000}}, prompt={"en": "{facts}" + " CT" * 5000})
    assert "show fewer pictures" in fault(folder)
    contract(folder, images={"PT": {}})
    assert "the case has none of them" in fault(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:200])
    contract(folder)
    assert "cannot be loaded" in fault(folder)
