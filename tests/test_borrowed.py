"""Encoders from disk in a task: trained, calibrated, predicted and reported with, beside the own encoder or
alone. The encoders are tiny stand-ins of the real classes with random weights, the patients are simulated."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from monai.networks.nets.segresnet_ds import SegResEncoder
from safetensors import safe_open
from safetensors.torch import save_file

from medfuse.bundles.bundle import load_bundle
from medfuse.bundles.registry import list_bundles
from medfuse.errors import UserError, WrongUse
from medfuse.evaluation.evaluate import evaluate
from medfuse.io.manifest import read_manifest
from medfuse.learning import Tuning
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.pretrained.adapted import adapt, blocks_of, put_adapter
from medfuse.models.pretrained.borrowed import of_task
from medfuse.models.pretrained.encoder import Encoder
from medfuse.models.pretrained.networks import InflatedResNet
from medfuse.models.pretrained.used import ForeignEncoder
from medfuse.simulation.patient import Variant
from medfuse.simulation.population import write_population
from medfuse.task import Task, load_task
from medfuse.training.data.foreign import foreign_features
from medfuse.training.options import TrainOptions
from medfuse.training.run import train
from medfuse.workflows.encoders import add, remove
from medfuse.workflows.predict import PredictOptions, PredictRequest, predict_command

ABDOMEN = load_task("upper-abdomen")
CASES = 8


def volume_encoder(folder: Path, name: str, modality: str, intensity: dict) -> Path:
    """A tiny stand-in of CT-FM's class for volumes of a modality."""
    folder.mkdir(parents=True)
    torch.manual_seed(3)
    network = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, folder / "model.safetensors")
    said = {
        "id": name,
        "loader": "monai_segresnet_ds",
        "weights": {"file": "model.safetensors"},
        "arguments": {"init_filters": 4, "blocks_down": [1, 1, 1]},
        "takes": {"modality": modality},
        "geometry": {"dims": 3, "orientation": "RAS", "spacing_mm": [8, 8, 8], "size": [44, 36, 36]},
        "intensity": intensity,
        "gives": {"output": -1, "width": 16, "tokens": "mean+2x2x2"},
        "licence": "MIT",
    }
    (folder / "encoder.yaml").write_text(yaml.safe_dump(said))
    return folder


def frame_encoder(folder: Path) -> Path:
    """A tiny stand-in of a vision transformer for the frames of a cine."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    said = {
        "id": "vit.frames",
        "loader": "transformers_vision",
        "takes": {"modality": "US"},
        "geometry": {"dims": 2, "orientation": None, "spacing_mm": None, "size": [56, 56], "slices": 4},
        "intensity": {"kind": "byte", "windows": [[0, 255]], "channels": 3},
        "gives": {"output": "last_hidden_state", "width": 16, "tokens": "cls+2", "axes": [False] * 3},
        "compute": {"batch": 4},
        "licence": "Apache-2.0",
    }
    (folder / "encoder.yaml").write_text(yaml.safe_dump(said))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which three encoders are registered."""
    place = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MEDFUSE_HOME", str(place))
        hu = {"kind": "hu", "windows": [[-200, 300]]}
        own = {"kind": "percentiles", "windows": [[1, 99]]}
        add(volume_encoder(place / "weights" / "ct", "tiny-ct", "CT", hu), place)
        add(volume_encoder(place / "weights" / "mr", "tiny-mr", "MR", own), place)
        add(frame_encoder(place / "weights" / "us"), place)
        yield place


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_population(
        tmp_path_factory.mktemp("patients"),
        cases=CASES,
        seed=5,
        file_format="nifti",
        variant=Variant(missing=0.2),
    )


def task_with(folder: Path, encoders: dict[str, list[str]], *, dense: bool) -> Task:
    """The upper abdomen, its images seen by these encoders; without label maps where not ``dense``."""
    shutil.copytree(ABDOMEN.folder, folder)
    data = yaml.safe_load((folder / "task.yaml").read_text())
    data |= {"name": "abdomen-borrowed", "encoders": encoders}
    if not dense:
        data |= {"dense": [], "lesion_classes": [], "organ": ""}
    (folder / "task.yaml").write_text(yaml.safe_dump(data, allow_unicode=True))
    return load_task(folder / "task.yaml")


EVERY = {"US": ["vit.frames"], "CT": ["tiny-ct"], "MR": ["tiny-mr"]}


@pytest.fixture(scope="module")
def adapter(home, manifest, tmp_path_factory):
    """A bundle that is only an adapter on three encoders from disk."""
    folder = tmp_path_factory.mktemp("adapter")
    task = task_with(folder / "task", EVERY, dense=False)
    said: list[str] = []
    trained = train(
        task,
        manifest,
        folder / "bundle",
        TrainOptions(seed=1, fusion_steps=30),
        command="test",
        log=said.append,
    )
    assert any("tokens of encoders from disk: 8 of 8" in s for s in said)
    return Path(trained["bundle"])


@pytest.mark.slow
def test_exact_steps_train_the_same_twice(adapter, home, manifest, tmp_path):
    """A budget in minutes ends where the machine's speed lets it; steps end at the same weights."""
    task = task_with(tmp_path / "task", EVERY, dense=False)
    digests = []
    for name, minutes in (("one", 60.0), ("two", 0.001)):
        options = TrainOptions(minutes=minutes, seed=1, fusion_steps=2)
        train(task, manifest, tmp_path / name, options, command="test", log=lambda line: None)
        digests.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert digests[0] == digests[1]


def test_an_adapter_holds_everything_but_foreign_weights(adapter, home):
    bundle = load_bundle(adapter)
    assert [f.id for f in bundle.model.config.foreign] == ["vit.frames", "tiny-ct", "tiny-mr"]
    with safe_open(adapter / "weights.safetensors", "np") as file:
        names = list(file.keys())
    assert not [n for n in names if n.startswith("encoders.") or "conv_init" in n]
    kept = json.loads((adapter / "config.json").read_text())["model"]["foreign"][1]
    assert kept["contract"]["geometry"]["orientation"] == "RAS"
    assert len(kept["hash"]) == 64
    assert str(home) not in (adapter / "config.json").read_text()
    card = (adapter / "MODEL_CARD.md").read_text()
    assert "tiny-ct: MIT; tiny-mr: MIT" in card
    assert bundle.calibration  # a temperature for each presence pattern
    assert bundle.reliability


def case_of(manifest: Path, *modalities: str) -> dict[str, list[Path]]:
    """The files of a case that has these modalities."""
    for row in read_manifest(manifest):
        if set(modalities) <= {i.modality for i in row.images}:
            return {m: [Path(row.root) / i.path for i in row.images if i.modality == m] for m in modalities}
    raise AssertionError


def test_train_predict_report(adapter, manifest, home, tmp_path):
    parts = case_of(manifest, "CT", "MR")
    request = PredictRequest(
        parts=parts, out=tmp_path / "out", bundle=str(adapter), options=PredictOptions(formats=("text",))
    )
    done = predict_command(request, log=lambda line: None)
    assert done.data["findings"]
    assert all(0 <= f["probability"] <= 1 for f in done.data["findings"])
    assert set(done.data["findings"][0]["contribution"]) <= {"CT", "MR"}
    assert "simulated" in done.text.lower()
    scored = evaluate(load_bundle(adapter), manifest, split="val").as_json()
    assert "CT+MR" in scored["subsets"] or "CT" in scored["subsets"]


def test_what_is_missing_is_said_in_one_sentence(adapter, manifest, home, tmp_path):
    request = PredictRequest(parts=case_of(manifest, "CT"), out=tmp_path / "out", bundle=str(adapter))

    def refused() -> str:
        with pytest.raises(UserError) as raised:
            predict_command(request, log=lambda line: None)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    folder = home / "weights" / "ct"
    weights = (folder / "model.safetensors").read_bytes()
    remove("tiny-ct", home)
    assert "tiny-ct for CT is not on this machine (licence MIT" in refused()
    (folder / "model.safetensors").write_bytes(weights + b" ")
    network = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, folder / "model.safetensors")
    add(folder, home)
    assert "has other weights" in refused()
    (folder / "model.safetensors").write_bytes(weights)
    add(folder, home)
    moved = folder.rename(folder.with_name("elsewhere"))
    assert "which is gone" in refused()
    moved.rename(folder)
    assert not (tmp_path / "out").exists()
    assert load_bundle(adapter).borrowed
    assert list_bundles()  # those of medfuse need no encoder from disk


TUNE = {"tiny-ct": {"how": "lora", "rank": 2}, "vit.frames": {"how": "last_blocks"}}


def tuned_task(folder: Path, tune: dict, encoders: dict[str, list[str]]) -> Task:
    """As `task_with`, some of its encoders tuned."""
    task_with(folder, encoders, dense=False)
    data = yaml.safe_load((folder / "task.yaml").read_text())
    (folder / "task.yaml").write_text(yaml.safe_dump(data | {"tune": tune}, allow_unicode=True))
    return load_task(folder / "task.yaml")


def test_a_tuned_encoder_leaves_what_it_learned_in_the_bundle_and_its_weights_on_disk(
    home, manifest, tmp_path
):
    before = {p: p.read_bytes() for p in (home / "weights").rglob("*") if p.is_file()}
    said: list[str] = []
    task = tuned_task(tmp_path / "task", TUNE, {"US": ["vit.frames"], "CT": ["tiny-ct"]})
    options = TrainOptions(seed=1, encoder_steps=3, fusion_steps=3)
    train(task, manifest, tmp_path / "bundle", options, command="test", log=said.append)
    assert any(s.startswith("tuning tiny-ct: epoch 0 loss") for s in said)
    with safe_open(tmp_path / "bundle" / "adapters.safetensors", "pt") as file:
        learned = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    lora = {k for k in learned if k.endswith((".up", ".down"))}
    assert {k.partition("/")[0] for k in lora} == {"1"}  # tiny-ct, the second
    assert all(k.startswith("0/encoder.layer.1.") or "layer.1." in k for k in learned if k not in lora)
    assert max(float(v.abs().max()) for k, v in learned.items() if k.endswith(".up")) > 0
    assert 0 < max(float(v.abs().max()) for k, v in learned.items() if k not in lora) < 0.01  # changes alone
    bundle = load_bundle(tmp_path / "bundle")
    row = next(r for r in read_manifest(manifest) if {"CT", "US"} <= {i.modality for i in r.images})
    (tuned_tokens,) = foreign_features(task, bundle.borrowed, [row], None)
    (frozen,) = foreign_features(task, of_task(task, home), [row], None)
    assert all((tuned_tokens.features[k] != frozen.features[k]).any() for k in frozen.features)
    assert {p: p.read_bytes() for p in (home / "weights").rglob("*") if p.is_file()} == before
    assert '"tuned": {"how": "lora"' in (tmp_path / "bundle" / "MODEL_CARD.md").read_text()
    request = PredictRequest(
        parts=case_of(manifest, "CT"), out=tmp_path / "out", bundle=str(tmp_path / "bundle")
    )
    assert predict_command(request, log=lambda line: None).data["findings"]
    (tmp_path / "bundle" / "adapters.safetensors").unlink()
    with pytest.raises(UserError):
        _ = load_bundle(tmp_path / "bundle").borrowed


def test_what_cannot_be_tuned_is_said_in_one_sentence(home, manifest, tmp_path):
    with pytest.raises(UserError, match="tune names other, which encoders does not"):
        tuned_task(tmp_path / "a", {"other": {"how": "lora"}}, EVERY)
    with pytest.raises(UserError, match="tune"):
        tuned_task(tmp_path / "b", {"tiny-ct": {"how": "all"}}, EVERY)
    deep = tuned_task(tmp_path / "c", {"tiny-ct": {"how": "lora", "blocks": 9}}, {"CT": ["tiny-ct"]})
    options = TrainOptions(seed=1, encoder_steps=1, fusion_steps=1)
    with pytest.raises(UserError, match=r"tiny-ct has 3 repeated block\(s\), and tune asks for 9"):
        train(deep, manifest, tmp_path / "bundle", options, command="test", log=lambda line: None)
    with pytest.raises(UserError, match="is one exported file, whose layers cannot be tuned"):
        adapt(torch.nn.Flatten(), Tuning(how="lora"), "encoder x")  # as OpenVINO's: no weights to be seen


def test_the_last_blocks_of_real_classes_are_found():
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=3, num_attention_heads=2)
    networks = {
        "encoder.layer.2": transformers.Dinov2Model(config),
        "layers.2": SegResEncoder(init_filters=4, blocks_down=(1, 2, 2)),
        "layer4.1": InflatedResNet((1, 3, 1, 2), 4),
    }
    for last, network in networks.items():
        assert blocks_of(network)[-1][0] == last


@pytest.mark.parametrize("how", ["lora", "last_blocks"])
def test_an_adapter_changes_a_network_as_training_did(how):
    torch.manual_seed(0)
    network = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1)).eval()
    plain = copy.deepcopy(network)
    values = torch.randn(1, 1, 16, 16, 16)
    first = network(values)[-1].detach()
    learned = adapt(network, Tuning(how=how, rank=2), "encoder x")
    before = {k: p.detach().clone() for k, p in learned.items()}
    assert torch.allclose(network(values)[-1], first, atol=1e-5)  # nothing is changed at first
    assert [p for p in network.parameters() if p.requires_grad]
    with torch.no_grad():
        for p in learned.values():
            p.add_(0.05 * torch.randn_like(p))
    changed = network(values)[-1].detach()
    assert not torch.allclose(changed, first, atol=1e-3)
    own = how == "last_blocks"  # of the encoder's own weights the change alone is kept
    kept = {k: p.detach() - own * before[k] for k, p in learned.items()}
    again = copy.deepcopy(plain)
    put_adapter(again, Tuning(how=how, rank=2), kept, "encoder x")
    assert torch.allclose(again(values)[-1], changed, atol=1e-5)
    assert not [p for p in again.parameters() if p.requires_grad]
    assert again.state_dict().keys() == plain.state_dict().keys()
    with pytest.raises(UserError, match="does not fit its layers"):
        put_adapter(plain, Tuning(how=how, rank=2), dict(list(kept.items())[1:]), "encoder x")


def test_tokens_are_computed_once(home, manifest, tmp_path, monkeypatch):
    task = task_with(tmp_path / "task", {"CT": ["tiny-ct"]}, dense=False)
    rows = read_manifest(manifest)[:3]
    asked = []
    original = Encoder.run

    def run(self: Encoder, values: object) -> torch.Tensor:
        asked.append(1)
        return original(self, values)  # type: ignore[arg-type]

    monkeypatch.setattr(Encoder, "run", run)
    first = foreign_features(task, of_task(task, home), rows, tmp_path)
    times = len(asked)
    again = foreign_features(task, of_task(task, home), rows, tmp_path)
    assert len(asked) == times > 0
    for a, b in zip(first, again, strict=True):
        assert a.features.keys() == b.features.keys()
        assert all((a.features[k] == b.features[k]).all() for k in a.features)
    file = home / "weights" / "ct" / "encoder.yaml"
    text = file.read_text()
    file.write_text(text.replace("- -200", "- -150"))
    with pytest.raises(UserError, match="changed since"):
        of_task(task, home)
    add(file.parent, home)
    foreign_features(task, of_task(task, home), rows, tmp_path)
    assert len(asked) > times
    file.write_text(text)
    add(file.parent, home)


def test_a_modality_is_dropped_with_all_its_encoders():
    torch.manual_seed(0)
    foreign = ForeignEncoder(id="a.b", modality="CT", hash="0", width=5, places=9)
    config = ModelConfig(width=16, layers=1, heads=2, vocabulary=5, foreign=(foreign,))
    task = ABDOMEN.model_copy(update={"encoders": {"CT": ("own", "a.b")}})
    model = FusionModel(task, config, encoders=False).eval()
    assert model.sources["CT"] == ["CT", "CT:a_b"]
    batch = {
        key: (torch.randn(2, 3, n), torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 3, dtype=torch.long))
        for key, n in model.sizes.items()
    }
    assert model.tokens(batch)["CT"].mask.shape == (2, 6)
    use = {"CT": torch.tensor([True, False])}
    before = model(batch, use).logits
    noise, mask, kind = batch["CT:a_b"]
    changed = {**batch, "CT:a_b": (noise + 9, mask, kind)}
    after = model(changed, use).logits
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert FusionModel(task, config, modalities=("MR",), encoders=False).sizes.keys() == {"MR"}


@pytest.mark.slow
def test_beside_the_own_encoder(home, manifest, tmp_path):
    both = task_with(tmp_path / "both", {"CT": ["tiny-ct", "own"]}, dense=False)
    kept = yaml.safe_load((tmp_path / "both" / "task.yaml").read_text())
    kept["modalities"] = {"CT": kept["modalities"]["CT"] | {"filters": 4, "spacing_mm": [6, 6, 7]}}
    kept["findings"] = [
        {**f, "modalities": ["CT"], "requires": {}} for f in kept["findings"] if "CT" in f["modalities"]
    ]
    assert both.has_own("CT")
    (tmp_path / "both" / "task.yaml").write_text(yaml.safe_dump(kept, allow_unicode=True))
    both = load_task(tmp_path / "both" / "task.yaml")
    ids = {f.id for f in both.findings}
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row["images"] = [i | {"path": str(manifest.parent / i["path"])} for i in row["images"]]
        row["images"] = [{**i, "mask": ""} for i in row["images"] if i["modality"] == "CT"][:1]
        row["labels"] = {k: v for k, v in row["labels"].items() if k in ids}
    only_ct = tmp_path / "ct.jsonl"
    only_ct.write_text("\n".join(json.dumps(r) for r in [r for r in rows if r["images"]][:6]))
    out = tmp_path / "bundle"
    options = TrainOptions(seed=1, encoder_steps=2, fusion_steps=3)
    train(both, only_ct, out, options, command="test", log=lambda line: None)
    model = load_bundle(out).model
    assert model.sources == {"CT": ["CT", "CT:tiny-ct"]}
    assert set(model.encoders) == {"CT"}
    request = PredictRequest(
        parts=case_of(manifest, "CT"),
        out=tmp_path / "out",
        bundle=str(out),
        options=PredictOptions(formats=("text",)),
    )
    assert predict_command(request, log=lambda line: None).data["findings"]


@pytest.mark.slow
def test_a_task_with_label_maps_keeps_its_regions(home, manifest, tmp_path):
    task = task_with(tmp_path / "task", {"CT": ["own", "tiny-ct"]}, dense=True)
    options = TrainOptions(seed=3, encoder_steps=2, fusion_steps=20)
    out = tmp_path / "bundle"
    train(task, manifest, out, options, command="test", log=lambda line: None)
    bundle = load_bundle(out)
    assert bundle.model.sources["CT"] == ["CT", "CT:tiny-ct"]
    assert bundle.baselines() is not None
    assert evaluate(bundle, manifest).as_json()["lesions"]


@pytest.mark.parametrize(
    ("encoders", "word"),
    [
        ({"PT": ["own"]}, "lacks"),
        ({"CT": []}, "at least one"),
        ({"CT": ["own", "a.b", "a_b"]}, "once"),
        ({"CT": ["tiny-ct"]}, "must name own"),
    ],
)
def test_encoders_that_cannot_be_are_refused_at_load(tmp_path, encoders, word):
    with pytest.raises(UserError, match=word):
        task_with(tmp_path / "task", encoders, dense=True)


def test_an_encoder_of_another_modality_or_name_is_wrong_use(home, tmp_path):
    task = task_with(tmp_path / "a", {"MR": ["tiny-ct"]}, dense=False)
    with pytest.raises(WrongUse, match="takes CT"):
        of_task(task, home)
    task = task_with(tmp_path / "b", {"MR": ["none"]}, dense=False)
    with pytest.raises(WrongUse, match="no such encoder"):
        of_task(task, home)
