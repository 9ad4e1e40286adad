"""A user's own text transformer aligns with the images; it is named and checked, and never copied into the
bundle."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import COARSE
from safetensors import safe_open

from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.seal import seal
from medfuse.errors import UserError
from medfuse.evaluation.evaluate import evaluate
from medfuse.models.local_text import LocalTextTower, local_tokenizer
from medfuse.models.text import tokenize, train_tokenizer
from medfuse.task import load_task
from medfuse.training.options import TrainOptions
from medfuse.training.run import train

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def text_model(tmp_path_factory):
    """A tiny BERT of this test's own making."""
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = train_tokenizer(["a cyst in the right lobe", "no ascites, no stones", "肝右葉囊腫"])
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_its_embedding_is_the_mean_of_its_last_layer(text_model):
    tower = LocalTextTower(text_model, 8)
    ids, mask = tokenize(local_tokenizer(text_model), ["a cyst in the right lobe", "no stones"])
    out = tower(ids, mask)
    inner = transformers.AutoModel.from_pretrained(text_model).eval()
    with torch.no_grad():
        want = inner(input_ids=ids[1:, : int(mask[1].sum())]).last_hidden_state.mean(1)
    assert torch.allclose(out[1], tower.project(want)[0], atol=1e-5)
    assert torch.equal(tower(ids, mask), out)  # remembered
    assert all(n.startswith("project") for n, _ in tower.named_parameters())


def test_training_with_it(text_model, six_patients, tmp_path):
    manifest = six_patients
    options = TrainOptions(seed=3, encoder_steps=1, fusion_steps=2, text_model=text_model)
    out = tmp_path / "bundle"
    train(load_task(COARSE), manifest, out, options, command="test", log=lambda m: None)
    with safe_open(out / "weights.safetensors", "pt") as f:
        kept = {k for k in f.keys() if k.startswith("text.")}  # noqa: SIM118
        assert kept == {"text.project.weight", "text.project.bias"}
    assert "case->text" in evaluate(load_bundle(out), manifest).retrieval
    config = json.loads((out / "config.json").read_text())
    config["model"]["text_model_hash"] = "0" * 64
    (out / "config.json").write_text(json.dumps(config))
    seal(out)
    with pytest.raises(UserError, match="another text model"):
        load_bundle(out)
    config["model"]["text_model"] = str(tmp_path / "gone")
    (out / "config.json").write_text(json.dumps(config))
    seal(out)
    with pytest.raises(UserError, match="no such folder"):
        load_bundle(out)


def test_a_folder_that_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer\.json"):
        local_tokenizer(tmp_path)
    with pytest.raises(UserError, match="cannot be loaded as a text model"):
        LocalTextTower(tmp_path, 8)


@pytest.mark.attack
def test_weights_that_are_no_plain_tensors_are_refused(text_model, tmp_path):
    """A pickle beside config.json was read."""
    shutil.copytree(text_model, tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").unlink()
    torch.save(
        transformers.AutoModel.from_pretrained(text_model).state_dict(), tmp_path / "m" / "pytorch_model.bin"
    )
    with pytest.raises(UserError, match="cannot be loaded as a text model"):
        LocalTextTower(tmp_path / "m", 8)
