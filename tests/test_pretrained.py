"""Encoders from disk: the contract, weights read safely, the checks at `add`, and the tokens they give."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.networks.nets import resnet18
from monai.networks.nets.segresnet_ds import SegResEncoder
from monai.networks.nets.swin_unetr import SwinTransformer
from safetensors.torch import load_file, save_file

from medfuse.case import Image, Source
from medfuse.errors import UserError, WrongUse
from medfuse.models.pretrained import checks
from medfuse.models.pretrained.checks import check_encoder, known_vector, record
from medfuse.models.pretrained.contract import EncoderFile, WeightsFile, read_contract_file
from medfuse.models.pretrained.encoder import load_encoder
from medfuse.models.pretrained.inputs import lay_out, orient
from medfuse.models.pretrained.loaders import LOADERS
from medfuse.models.pretrained.networks import InflatedResNet
from medfuse.models.pretrained.probe import probe
from medfuse.models.pretrained.weights import read_weights
from medfuse.workflows.encoders import add, check, embed, listed, remove, template, templates

VOLUME = {
    "takes": {"modality": "CT"},
    "geometry": {"dims": 3, "orientation": "RAS", "spacing_mm": [8, 8, 8], "size": [44, 36, 36]},
    "intensity": {"kind": "hu", "windows": [[-1000, 1000]]},
    "licence": "MIT",
}


def written(folder: Path, **said: object) -> Path:
    """A folder with encoder.yaml of a small CT encoder, changed by ``said``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "encoder.yaml").write_text(yaml.safe_dump({"id": "small", **VOLUME, **said}))
    return folder


def segres(folder: Path, **said: object) -> Path:
    torch.manual_seed(3)
    written(
        folder,
        **{
            "loader": "monai_segresnet_ds",
            "weights": {"file": "model.safetensors"},
            "arguments": {"init_filters": 4, "blocks_down": [1, 1, 1]},
            "gives": {"output": -1, "width": 16, "tokens": "mean+2x2x2"},
            **said,
        },
    )
    network = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1))
    save_file({k: v.clone() for k, v in network.state_dict().items()}, folder / "model.safetensors")
    return folder


SCRIPTED = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def fault(folder: Path) -> str:
    with pytest.raises(UserError) as raised:
        check_encoder(load_encoder(folder))
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("path", templates(), ids=lambda p: p.stem)
def test_every_template_is_a_contract(path):
    file = EncoderFile.model_validate(yaml.safe_load(path.read_text()))
    assert file.id == path.stem
    assert file.loader in LOADERS
    assert template(path.stem).text


@pytest.mark.parametrize("place", ["orientation", "spacing_mm", "kind", "windows", "output"])
def test_what_decides_right_from_wrong_has_no_default(tmp_path, place):
    data = yaml.safe_load((segres(tmp_path) / "encoder.yaml").read_text())
    for part in ("geometry", "intensity", "gives"):
        data[part].pop(place, None)
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=place):
        read_contract_file(tmp_path)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("geometry", {"orientation": "RAR"}),
        ("geometry", {"size": [4, 4]}),
        ("geometry", {"size": [100_000, 100_000, 100_000]}),
        ("intensity", {"windows": [[5, 1]]}),
        ("gives", {"tokens": "some"}),
        ("weights", {"file": "../other.pt"}),
    ],
)
def test_a_contract_that_cannot_be_is_refused_by_field(tmp_path, part, said):
    data = yaml.safe_load((segres(tmp_path) / "encoder.yaml").read_text())
    data[part] |= said
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=r"encoder\.yaml"):
        read_contract_file(tmp_path)


@pytest.mark.parametrize("said", [{"init_filters": 10**9}, {"init_filters": -4}, {"odd": 1}])
def test_a_network_that_cannot_be_made_is_one_sentence(tmp_path, said):
    data = yaml.safe_load((segres(tmp_path) / "encoder.yaml").read_text())
    data["arguments"] |= said
    (tmp_path / "encoder.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(UserError) as raised:
        add(tmp_path, tmp_path / "home")
    assert "correct arguments" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_licence_that_is_none_is_refused(tmp_path):
    text = (segres(tmp_path) / "encoder.yaml").read_text()
    for licence in ("licence: [a, b]", "licence: " + "x" * 600):
        kept = [line for line in text.splitlines() if not line.startswith("licence")]
        (tmp_path / "encoder.yaml").write_text("\n".join([*kept, licence, ""]))
        with pytest.raises(UserError, match="licence"):
            read_contract_file(tmp_path)


def test_an_encoder_is_added_checked_asked_and_removed(tmp_path):
    home = tmp_path / "home"
    folder = segres(tmp_path / "weights")
    found = add(folder, home).data
    assert set(found) == {
        *("id", "loader", "hash", "parameters", "width", "tensors", "missing", "left_over", "known_vector"),
        *("axes_seen", "intensity_seen", "seconds", "memory_mb", "licence"),
    }
    assert found["missing"] == found["left_over"] == []
    assert found["axes_seen"] == [True, True, True]
    assert found["known_vector"] is None
    assert check("small", home, keep=True).data["known_vector"] == pytest.approx(1, abs=1e-5)
    path = tmp_path / "scan.nii.gz"
    scan = probe("CT")
    nib.save(nib.Nifti1Image(scan.pixels.astype(np.int16), scan.affine), path)
    asked = embed("small", path, home).data
    assert asked["shape"] == [9, 16]
    assert len(asked["vector"]) == 16
    json.dumps(asked)
    assert listed(home).data["encoders"][0]["found"]
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match="changed since"):
        embed("small", path, home)
    remove("small", home)
    with pytest.raises(WrongUse, match="no such encoder"):
        check("small", home)
    assert folder.is_dir()


def test_tensors_without_a_partner_are_named(tmp_path):
    folder = segres(tmp_path)
    network = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1)).state_dict()
    torch.save({"state_dict": {f"net.{k}": v for k, v in network.items()}}, folder / "model.pt")
    segres(folder, weights={"file": "model.pt", "prefix": "net."})
    assert check_encoder(load_encoder(folder)).tensors == len(network)
    torch.save({f"net.{k}": v for k, v in network.items() if k != "conv_init.weight"}, folder / "model.pt")
    assert "conv_init.weight" in fault(folder)
    torch.save({f"net.{k}": v for k, v in {**network, "head.x": torch.zeros(2)}.items()}, folder / "model.pt")
    assert "left over (head.x)" in fault(folder)
    segres(folder, weights={"file": "model.pt", "prefix": "net.", "drop": ["head."]})
    assert check_encoder(load_encoder(folder)).left_over == []
    torch.save({f"net.{k}": v[..., :1] if v.ndim > 1 else v for k, v in network.items()}, folder / "model.pt")
    assert "conv_init.weight is" in fault(folder)


def test_weights_that_are_no_numbers_are_named(tmp_path):
    folder = segres(tmp_path)
    found = load_file(folder / "model.safetensors")
    name = max(found, key=lambda k: found[k].numel())
    found[name].view(-1)[7] = float("nan")
    save_file(found, folder / "model.safetensors")
    assert f"tensor {name} holds NaN or infinite values" in fault(folder)


class Evil:
    def __reduce__(self):
        return print, ("this must not be printed",)


def test_files_that_are_no_weights_are_refused_in_one_sentence(tmp_path, capsys):
    good = (segres(tmp_path) / "model.safetensors").read_bytes()
    (tmp_path / "zip.safetensors").write_bytes(b"PK\x03\x04" + bytes(60))
    (tmp_path / "cut.safetensors").write_bytes(good[: len(good) // 2])
    (tmp_path / "head.safetensors").write_bytes(good[:20])
    torch.save({"a": torch.zeros(3)}, tmp_path / "whole.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "whole.pt").read_bytes()[:300])
    torch.save({"a": torch.zeros(3), "b": Evil()}, tmp_path / "code.pt")
    (tmp_path / "old.bin").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "pointer.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    for name, word in {
        "zip.safetensors": "is a zip",
        "cut.safetensors": "cut off",
        "head.safetensors": "cut off",
        "cut.pt": "cut off",
        "code.pt": "holds code",
        "old.bin": "holds code",
        "pointer.pt": "Git LFS",
        "empty.pt": "neither",
        "none.pt": "no such file",
    }.items():
        with pytest.raises(UserError, match=word) as raised:
            read_weights(tmp_path / name, WeightsFile(file=name))
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)
    assert "must not" not in capsys.readouterr().out


@SCRIPTED
def test_axes_and_intensity_that_are_not_seen_are_refused(tmp_path):
    torch.manual_seed(0)

    class Blind(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3, 4)).repeat(1, 4) * torch.arange(1.0, 5.0)

    class Deaf(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            steps = torch.linspace(0, 1, x.shape[2])[:, None, None]
            return (((x > 0.45) & (x < 0.65)) * steps.exp()).mean((2, 3, 4)).repeat(1, 4) * 0 + 1

    geometry = {"dims": 3, "orientation": "RAS", "spacing_mm": None, "size": [174, 140, 96]}
    said = {"loader": "torchscript", "gives": {"output": 0, "width": 4}, "weights": {"file": "net.ts"}}
    said |= {"geometry": geometry}
    folder = written(tmp_path / "blind", **said)
    torch.jit.script(Blind()).save(str(folder / "net.ts"))
    assert "a flip of left and right" in fault(folder)
    mirrored = {"output": 0, "width": 4, "axes": [False, False, False]}
    written(folder, **{**said, "gives": mirrored})
    assert check_encoder(load_encoder(folder)).axes_seen == [False, False, False]
    folder = written(tmp_path / "deaf", **{**said, "gives": mirrored})
    torch.jit.script(Deaf()).save(str(folder / "net.ts"))
    assert "HU" in fault(folder)
    written(folder, **{**said, "gives": {**mirrored, "width": 5}})
    assert "width 5" in fault(folder)
    written(folder, **{**said, "gives": {**mirrored, "output": 3}})
    assert "output 3 does not exist" in fault(folder)
    written(folder, **{**said, "gives": {**mirrored, "output": "last"}})
    assert "output last is a name, and the network gives 1 without one; correct gives.output" in fault(folder)


def test_a_known_answer_tells_other_weights(tmp_path):
    folder = segres(tmp_path)
    record(load_encoder(folder))
    assert known_vector(load_encoder(folder)) == pytest.approx(1)
    torch.manual_seed(99)
    other = SegResEncoder(init_filters=4, blocks_down=(1, 1, 1))
    save_file({k: v.clone() for k, v in other.state_dict().items()}, folder / "model.safetensors")
    assert "recorded vector" in fault(folder)


@pytest.mark.parametrize("loader", ["i3resnet152", "swin_unetr", "resnet18"])
def test_networks_of_the_real_classes(tmp_path, loader):
    torch.manual_seed(1)
    if loader == "i3resnet152":
        network: torch.nn.Module = InflatedResNet((1, 1, 1, 1), 8)
        said = {"loader": loader, "arguments": {"layers": [1, 1, 1, 1], "width": 8}}
        gives = {"output": 0, "width": 256}
        prefix = "visual_encoder.model.encode_image.i3_resnet."
    elif loader == "swin_unetr":
        shape = {"window_size": (3, 3, 3), "depths": (1, 1, 1, 1), "num_heads": (2, 2, 2, 2)}
        network = SwinTransformer(in_chans=1, embed_dim=8, patch_size=(2, 2, 2), **shape)
        arguments = {k: list(v) for k, v in shape.items()}
        said = {"loader": "monai", "arguments": {"network": loader, "embed_dim": 8, **arguments}}
        gives = {"output": -1, "width": 128}
        prefix = "module.swinViT."
    else:
        network = resnet18(spatial_dims=3, n_input_channels=1, feed_forward=False, widen_factor=0.125)
        said = {"loader": "monai", "arguments": {"network": loader, "widen_factor": 0.125}}
        gives = {"output": 0, "width": 64}
        prefix = ""
    folder = written(tmp_path, weights={"file": "w.pt", "prefix": prefix}, gives=gives, **said)
    torch.save({"state_dict": {prefix + k: v for k, v in network.state_dict().items()}}, folder / "w.pt")
    encoder = load_encoder(folder)
    assert encoder.parameters == sum(p.numel() for p in network.parameters())
    tokens = encoder.tokens([probe("CT")])
    assert tokens.shape == (1, gives["width"])
    assert np.isfinite(tokens).all()
    file = encoder.file
    x = torch.from_numpy(next(lay_out([probe("CT")], file).pieces()).values[None])
    with torch.inference_mode():
        found = network.eval()(x)
    found = found[-1] if isinstance(found, list | tuple) else found
    np.testing.assert_allclose(
        tokens[0], found.reshape(1, gives["width"], -1).mean(-1)[0], rtol=1e-3, atol=1e-4
    )


def test_the_inflated_resnet_is_the_one_that_was_published():
    with torch.device("meta"):
        network = InflatedResNet()
    assert len(network.state_dict()) == 930
    assert sum(p.numel() for p in network.parameters()) == 117_366_208
    with torch.device("meta"):
        assert network(torch.zeros(1, 1, 224, 224, 160)).shape == (1, 2048, 7, 7, 10)


def test_a_bundle_of_monai_is_read_without_running_it(tmp_path):
    arguments = {
        "_target_": "SegResNet",
        "spatial_dims": 3,
        "init_filters": "@filters",
        "blocks_down": [1, 1, 1],
    }
    config = {"filters": 8, "network_def": {**arguments, "blocks_up": [1, 1], "in_channels": 1}}
    from monai.networks.nets import SegResNet

    torch.manual_seed(2)
    network = SegResNet(
        spatial_dims=3, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1), in_channels=1
    )
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(config))
    said = {"arguments": {"network": "bundle"}, "gives": {"output": "down_layers.2", "width": 32}}
    folder = written(tmp_path, loader="monai", **said)
    assert load_encoder(folder).tokens([probe("CT")]).shape == (1, 32)
    config["network_def"]["init_filters"] = "$__import__('os').getpid()"
    (tmp_path / "configs" / "inference.json").write_text(json.dumps(config))
    assert "is code and not run" in fault(folder)


def test_transformers_slices_of_mr(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14, mlp_ratio=2
    )
    transformers.Dinov2Model(config).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2], "do_normalize": True})
    )
    said = {
        "loader": "transformers_vision",
        "takes": {"modality": "MR"},
        "geometry": {"dims": 2, "orientation": "SPL", "spacing_mm": None, "size": [56, 56], "slices": 8},
        "gives": {"output": "last_hidden_state", "width": 16, "tokens": "cls+4", "axes": [False] * 3},
        "compute": {"batch": 4},
    }
    values = {"kind": "percentiles", "windows": [[0.5, 99.5]], "channels": 3, "std": [0.2] * 3}
    folder = written(tmp_path, intensity={**values, "mean": [0.5, 0.4, 0.3]}, **said)
    encoder = load_encoder(folder)
    assert encoder.tokens([probe("MR")]).shape == (5, 16)
    found = check_encoder(encoder)
    assert found.intensity_seen
    written(tmp_path, intensity={**values, "mean": [0.5, 0.5, 0.5]}, **said)
    assert "preprocessor_config.json says" in fault(folder)


@SCRIPTED
def test_clips_of_ultrasound(tmp_path):
    class Video(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv3d(3, 12, (2, 5, 5), (2, 4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.conv(x)).mean((2, 3, 4))

    torch.manual_seed(0)
    folder = written(
        tmp_path,
        loader="torchscript",
        weights={"file": "video.ts"},
        takes={"modality": "US"},
        geometry={
            "dims": "2+t",
            "orientation": None,
            "spacing_mm": None,
            "size": [64, 64],
            "frames": 8,
            "clips": 3,
        },
        intensity={"kind": "byte", "windows": [[0, 255]], "channels": 3},
        gives={"output": 0, "width": 12, "tokens": "clip", "axes": [False, True, True]},
    )
    torch.jit.script(Video()).save(str(folder / "video.ts"))
    encoder = load_encoder(folder)
    assert encoder.tokens([probe("US")]).shape == (1, 12)
    assert len(lay_out([probe("US")], encoder.file).starts) == 3
    assert check_encoder(encoder).axes_seen[1:] == [True, True]


def test_a_cine_encoder_of_the_real_class(tmp_path):
    """A video transformer takes clips frame by frame, and was given channel by channel."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.VideoMAEConfig(
        image_size=32, patch_size=8, num_frames=8, tubelet_size=2, hidden_size=16, **layers
    )
    network = transformers.VideoMAEModel(config).eval()
    network.save_pretrained(tmp_path / "weights")
    said = yaml.safe_load(template("videomae").text)
    said["geometry"] |= {"size": [32, 32], "frames": 8, "clips": 3}
    said["gives"]["width"] = 16
    (tmp_path / "weights" / "encoder.yaml").write_text(yaml.safe_dump(said))
    assert add(tmp_path / "weights", tmp_path / "home").data["width"] == 16
    encoder = load_encoder(tmp_path / "weights")
    assert encoder.tokens([probe("US")]).shape == (1, 16)
    clip = next(lay_out([probe("US")], encoder.file).pieces()).values  # (C, T, H, W)
    with torch.inference_mode():
        wanted = network(torch.from_numpy(clip).transpose(0, 1)[None]).last_hidden_state[0]
    np.testing.assert_allclose(encoder.run(clip[None])[0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loader", ["timm", "open_clip", "torchvision_video", "onnx"])
def test_what_is_not_installed_or_not_there_is_one_sentence(tmp_path, loader):
    folder = written(tmp_path, loader=loader, weights={"file": "w.pt"}, gives={"output": 0, "width": 4})
    torch.save({"a": torch.zeros(3)}, tmp_path / "w.pt")
    assert fault(folder)


def test_every_voxel_keeps_its_place_when_axes_turn():
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(5, 6, 7)).astype(np.float32)
    affine = np.array([[0, -2, 0, 3], [1.5, 0, 0, 4], [0, 0, -3, 5], [0, 0, 0, 1.0]])  # P… L… I…: AL I
    image = Image("CT", pixels, Source("x"), affine=affine)
    turned, spacing = orient(image, "SPL")
    assert turned.shape == (7, 5, 6)
    assert spacing == (3.0, 1.5, 2.0)
    # S grows: the stored k runs down; P grows: i runs to A; L grows: j runs to L
    np.testing.assert_array_equal(turned[0, 0, 0], pixels[4, 0, 6])
    np.testing.assert_array_equal(turned[2, 1, 3], pixels[3, 3, 4])


def test_sliding_windows_cover_all_and_parts_lie_where_they_should(tmp_path):
    geometry = {
        "dims": 3,
        "orientation": "RAS",
        "spacing_mm": None,
        "size": [32, 32, 32],
        "fit": "sliding_window",
    }
    folder = segres(tmp_path, geometry={**geometry, "overlap": 0.25})
    encoder = load_encoder(folder)
    laid = lay_out([probe("CT")], encoder.file)
    seen = np.zeros(laid.values.shape[1:], bool)
    for piece in laid.pieces():
        assert piece.values.shape == (1, 32, 32, 32)
        at = tuple(slice(a, a + 32) for a in piece.start)
        seen[at] = True
    assert seen.all()


def changed(folder: Path, old: str, new: str) -> None:
    text = (folder / "encoder.yaml").read_text()
    assert old in text
    (folder / "encoder.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize("letters", ["LAS", "RPS", "RAI"])
def test_a_recorded_scan_names_the_axis_that_is_the_wrong_way_round(tmp_path, letters):
    folder = segres(tmp_path)
    record(load_encoder(folder))
    assert check_encoder(load_encoder(folder)).known_vector == pytest.approx(1, abs=1e-5)
    changed(folder, "orientation: RAS", f"orientation: {letters}")
    assert "it is that of orientation RAS" in fault(folder)


def test_a_recorded_scan_tells_another_spacing_and_window(tmp_path):
    folder = segres(tmp_path)
    record(load_encoder(folder))
    text = (folder / "encoder.yaml").read_text()
    changed(folder, "- 8\n  - 8\n  - 8", "- 6.4\n  - 6.4\n  - 6.4")
    assert "it is that of spacing_mm [8, 8, 8]" in fault(folder)
    (folder / "encoder.yaml").write_text(text)
    changed(folder, "- -1000\n    - 1000", "- -160\n    - 240")
    assert "no flipped axis" in fault(folder)


def test_a_spacing_that_changes_nothing_is_refused(tmp_path, monkeypatch):
    folder = segres(tmp_path)
    monkeypatch.setattr(checks, "SPACING_OFF", 1.0)
    assert "spacing is not seen" in fault(folder)
