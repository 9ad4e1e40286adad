"""Generation: a time of its own for each modality, trained by the one loop, marked synthetic and refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import jsonschema
import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch

from medfuse.bundles.bundle import load_bundle
from medfuse.crossvalidation.run import CrossValidationRequest, crossvalidate
from medfuse.deidentify.nifti import clean_nifti
from medfuse.errors import UnreadableError, UserError, WrongUse
from medfuse.evaluation.drafts import evaluate_reports
from medfuse.evaluation.evaluate import evaluate
from medfuse.generation.asked import claims_asked
from medfuse.generation.boxes import Boxes, box_of
from medfuse.generation.config import BOX, FRAME, Generated, GeneratorConfig
from medfuse.generation.networks import (
    BoxAutoencoder,
    Generator,
    LatentFlow,
    Sampling,
    flow_loss,
    fold,
    sample,
    unfold,
)
from medfuse.generation.output import WORD, picture_of, word_mask, write_dicom, write_nifti
from medfuse.generation.saved import load_generator, save_generator
from medfuse.generation.train import (
    AutoencoderStage,
    FlowStage,
    GenerateOptions,
    GeneratorTraining,
    train_generate_stage,
    train_generator,
)
from medfuse.inference.predictor import Predictor
from medfuse.io.export import write_nifti as export_nifti
from medfuse.io.manifest import read_manifest
from medfuse.io.nifti import read_nifti, sha256
from medfuse.io.read import open_case
from medfuse.io.scan import scan
from medfuse.library import Library
from medfuse.library.ingest import ingest
from medfuse.library.made import made_from
from medfuse.library.store import load_case
from medfuse.task import load_task
from medfuse.training.budget import Budget
from medfuse.training.identity import Identity, weights_digest
from medfuse.training.loop import fit
from medfuse.workflows.generate import GenerateRequest, generate
from medfuse.workflows.schemas import schemas_json

TASK = load_task("upper-abdomen")
ULTRASOUND = "SIM-31-00000/US_cine.nii"  # of one of the six patients


def of(shape, role="portal", **changed):
    known = {"spacing_mm": (7.0, 7.0, 9.0)[: len(shape)], "centre": 60.0, "width": 80.0, "cases": 9}
    return Generated(role=role, shape=shape, low=-3.0, high=5.0, **known | changed)


def config(**shapes):
    made = {m: of(s, role="cine" if m == "US" else "portal") for m, s in shapes.items()}
    findings = tuple(f.id for f in TASK.findings)
    seen = dict.fromkeys(findings, 3) | {"iron": 0}
    return GeneratorConfig(
        modalities=made, findings=findings, positives=seen, together=("+".join(shapes),), width=32, layers=2
    )


SMALL = config(CT=(16, 16, 8), US=(16, 16))


def latents(n, c=SMALL):
    return {m: torch.randn(n, 4, *g.latent) for m, g in c.modalities.items()}


def test_folding_is_undone():
    for shape in ((2, 3, 8, 6, 4), (2, 1, 8, 4)):
        x = torch.randn(shape)
        assert fold(x).shape[1] == shape[1] * 2 ** (len(shape) - 2)
        assert torch.equal(unfold(fold(x), len(shape) - 2), x)


def test_an_autoencoder_gives_standardised_latents_of_a_quarter():
    torch.manual_seed(0)
    net = BoxAutoencoder(3)
    x = torch.randn(6, 1, 16, 16, 8)
    net.standardise(net.encode(x))
    z = net.encode(x)
    assert z.shape == (6, 4, 4, 4, 2)
    assert z.std() == pytest.approx(1, abs=0.05)
    assert net.decode(z).shape == x.shape


def test_each_modality_has_its_own_time():
    torch.manual_seed(0)
    flow = LatentFlow(SMALL)
    for block in flow.blocks:
        torch.nn.init.normal_(block.told.weight, std=0.1)
    x = latents(1)
    claims = torch.full((1, len(TASK.findings)), -1.0)
    a, b, c = (flow(x, torch.tensor([t]), claims)["CT"] for t in ([0.5, 0.0], [0.5, 1.0], [0.2, 0.0]))
    assert not torch.allclose(a, b)  # what is known of the ultrasound matters to the CT
    assert not torch.allclose(a, c)
    said = claims.clone()
    said[0, 2] = 1.0
    assert not torch.allclose(flow(x, torch.tensor([[0.5, 0.0]]), said)["CT"], a)


def test_what_is_given_stays_and_a_seed_repeats():
    torch.manual_seed(0)
    flow = LatentFlow(SMALL)
    given = {"US": latents(2)["US"]}
    claims = torch.full((2, len(TASK.findings)), -1.0)
    first = sample(flow, given, ("CT",), claims, Sampling(steps=3, seed=5))
    assert set(first) == {"CT"}
    assert torch.equal(first["CT"], sample(flow, given, ("CT",), claims, Sampling(steps=3, seed=5))["CT"])
    other = sample(flow, given, ("CT",), claims, Sampling(steps=3, seed=6))["CT"]
    assert not torch.equal(first["CT"], other)


def test_a_case_without_a_modality_teaches_nothing_of_it():
    """Whatever stands in its place: gradient of the part that makes it is exactly 0."""
    torch.manual_seed(0)
    flow = LatentFlow(SMALL)
    there = torch.tensor([[True, False]] * 4)
    claims = torch.zeros(4, len(TASK.findings))
    flow_loss(flow, latents(4), there, claims, torch.Generator().manual_seed(1)).backward()
    assert flow.out["US"].weight.grad.abs().max() == 0
    assert flow.out["CT"].weight.grad.abs().max() > 0


def test_the_flow_learns_what_a_claim_looks_like():
    """Two kinds of latents, told apart by one claim alone: what is drawn for it is of its kind."""
    torch.manual_seed(0)
    one = config(US=(16, 16))
    flow = LatentFlow(one)
    claims = torch.full((64, len(TASK.findings)), -1.0)
    claims[:, 3] = (torch.arange(64) % 2).float()
    z = {"US": (2 * claims[:, 3] - 1).view(-1, 1, 1, 1) + 0.1 * torch.randn(64, 4, 4, 4)}
    there = torch.ones(64, 1, dtype=torch.bool)
    stage = FlowStage(flow, z, Boxes({}, there, claims), 0, lambda line: None)
    stage.plan = replace(stage.plan, peak=5e-3)
    fit(stage, Budget(steps=220))
    drawn = sample(flow, {}, ("US",), claims[:16], Sampling(steps=8, guidance=3.0))["US"].mean((1, 2, 3))
    right = torch.cat([drawn[1::2] > 0, drawn[::2] < 0])
    assert right.sum() >= 13


def test_boxes_keep_their_middle_and_their_size():
    """A ball of 40 mm across in the middle of a volume of 4 mm is one of 40 mm in the box."""
    x, y, z = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in (64, 56, 40)), indexing="ij")
    ball = (np.sqrt((4 * x) ** 2 + (4 * y) ** 2 + (5 * z) ** 2) < 20).astype(np.float32)
    box = box_of(ball, (4.0, 4.0, 5.0), of(BOX, spacing_mm=(5.0, 5.0, 6.0)))
    assert box.shape == BOX
    assert box.sum() * 150 == pytest.approx(ball.sum() * 80, rel=0.1)
    middle = [float((box * np.indices(BOX)[a]).sum() / box.sum()) for a in range(3)]
    assert middle == pytest.approx([(n - 1) / 2 for n in BOX], abs=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("simple cyst, no ascites", {"simple_cyst": True, "ascites": False, "focal_lesion": True}),
        (
            "hepatic steatosis and a haemangioma",
            {"steatosis": True, "haemangioma": True, "solid_lesion": True},
        ),
        ("no solid_lesion", {"solid_lesion": False, "hcc_like": False}),
    ],
)
def test_claims_are_read_with_what_follows(words, said):
    found = claims_asked(words, TASK)
    assert said.items() <= found.items()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("a broken leg", "names no finding of upper-abdomen"),
        ("ascites, no ascites", "is there and is not"),
        ("simple cyst, no focal_lesion", "cannot be so together"),
        (", ;", "names no finding"),
    ],
)
def test_claims_outside_the_task_are_refused(words, fault):
    with pytest.raises(WrongUse, match=fault) as e:
        claims_asked(words, TASK)
    assert e.value.exit_code == 2


def test_the_word_is_burned_in_where_a_reader_sees_it():
    mask = word_mask(32, 48)
    assert mask.any(1).sum() == 5
    assert mask.sum(1)[25] == 23  # of the letters' first rows
    flat = np.zeros(BOX, np.float32)
    flat[0, 0, 0] = 5.0
    picture = picture_of("CT", of(BOX), flat)
    shown = picture.box[::-1, ::-1, 7].T  # radiological: rows to the back, columns to the patient's left
    assert np.array_equal(shown == picture.box.max(), word_mask(48, 48))


def test_what_is_generated_says_so_and_is_refused_everywhere(tmp_path, rng):
    box = rng.normal(size=BOX).astype(np.float32)
    path, side = write_nifti(picture_of("CT", of(BOX), box), tmp_path)
    assert b"SYNTHETIC" in bytes(nib.load(path).header["descrip"])
    assert json.loads(side.read_text())["Synthetic"] is True
    with pytest.raises(UnreadableError, match="made by a model"):
        read_nifti(path)
    with pytest.raises(UserError, match="synthetic"):
        open_case(path)
    assert read_nifti(path, synthetic=True).source.synthetic
    side.unlink()  # the header alone is enough, and so is the sidecar
    with pytest.raises(UnreadableError, match="made by a model"):
        read_nifti(path, "CT")
    (dicom,) = write_dicom(picture_of("CT", of(BOX), box), tmp_path)
    ds = pydicom.dcmread(dicom)
    assert "SYNTHETIC" in ds.ImageType
    assert ds.BurnedInAnnotation == "YES"
    assert WORD in str(ds.PatientName)
    assert ds.pixel_array.shape == (32, 48, 48)
    with pytest.raises(UserError, match="synthetic"):
        open_case(dicom)
    found = scan(tmp_path)  # what ingest and batch read a folder with
    assert found.read_all() == []
    assert sum("synthetic" in r.reason for r in found.refused) == 2


def test_a_manifest_must_name_a_synthetic_image(tmp_path, rng):
    from medfuse.io.manifest import ManifestImage, ManifestRow

    path, _ = write_nifti(picture_of("CT", of(BOX), rng.normal(size=BOX).astype(np.float32)), tmp_path)
    image = ManifestImage(path=path.name, modality="CT")
    row = ManifestRow(case_id="a", images=[image], root=str(tmp_path))
    assert "synthetic" in open_case(row, allow_empty=True).refused[0].reason
    named = row.model_copy(update={"images": [image.model_copy(update={"synthetic": True})]})
    case = open_case(named)
    assert case.images[0].source.synthetic
    with pytest.raises(UserError, match="no evidence"):
        Predictor(load_bundle())(case)  # to train on, perhaps; to read a patient from, never
    copy = export_nifti(case.images[0], tmp_path / "copy.nii.gz")
    with pytest.raises(UnreadableError, match="made by a model"):
        read_nifti(copy)


def _manifest(folder, split):
    image = {"path": "CT_portal.nii.gz", "modality": "CT", "role": "portal", "synthetic": True}
    row = {"case_id": "a", "split": split, "images": [image], "labels": {"ascites": 0}}
    row["report"] = "No ascites."
    path = folder / "manifest.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | {"case_id": "b"}))
    return path


def test_nothing_is_chosen_or_measured_on_a_named_synthetic_image(tmp_path, rng):
    write_nifti(picture_of("CT", of(BOX), rng.normal(size=BOX).astype(np.float32)), tmp_path)
    for split in ("val", "test", ""):
        with pytest.raises(UserError, match=r"line 1: case a .* split train"):
            read_manifest(_manifest(tmp_path, split))
    learned = _manifest(tmp_path, "train")
    assert read_manifest(learned)[0].is_synthetic
    with pytest.raises(UserError, match="nothing is measured on it"):
        evaluate(load_bundle(), learned)
    with pytest.raises(UserError, match="nothing is measured on it"):
        evaluate_reports(load_bundle(), learned)
    with pytest.raises(UserError, match="nothing is measured on it"):
        crossvalidate(
            CrossValidationRequest(
                task=TASK,
                manifest=learned,
                out=tmp_path / "out",
                folds=2,
                repeats=1,
                seed=0,
                leave_test=False,
                workers=1,
                how=None,  # it is refused before
            ),
            print,
            print,
        )


@pytest.mark.parametrize("sidecar", [True, False])
def test_a_de_identified_copy_still_says_that_a_model_made_it(sidecar, tmp_path, rng):
    path, side = write_nifti(picture_of("CT", of(BOX), rng.normal(size=BOX).astype(np.float32)), tmp_path)
    if sidecar:  # it alone says so
        image = nib.load(path)
        image.header["descrip"] = b"Jane Doe"
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    else:
        side.unlink()
    clean_nifti(path, tmp_path / "copy" / "F1.nii.gz")
    with pytest.raises(UnreadableError, match="made by a model"):
        read_nifti(tmp_path / "copy" / "F1.nii.gz", "CT")


@pytest.fixture(scope="module")
def trained(six_patients, tmp_path_factory):
    """A generator after three steps of each stage, beside the shipped bundle."""
    out = tmp_path_factory.mktemp("generator") / "with-generator"
    options = GenerateOptions(bundle=None, minutes=1, seed=1, work=None, command="test", steps=3)
    made = train_generate_stage(TASK, six_patients, out, options, log=lambda line: None)
    return out, made


def test_training_adds_a_generator_and_changes_nothing_else(trained):
    out, made = trained
    assert made["validation"]["generated"] == ["CT", "MR", "US"]
    before, after = load_bundle(), load_bundle(out)
    assert weights_digest(before.model.state_dict()) == weights_digest(after.model.state_dict())
    assert after.card["generator"]["cases"] == 5
    assert "generator" in (out / "MODEL_CARD.md").read_text()
    saved = json.loads((out / "generator" / "config.json").read_text())
    jsonschema.validate(saved, schemas_json()["generator_config"])
    assert not list(out.with_name("with-generator.work").glob("generate_*"))


def test_generate_writes_marked_files_for_claims_and_from_a_case(trained, six_patients, tmp_path):
    out, _ = trained
    config = load_generator(load_bundle(out)).config
    claim = next(f for f in ("steatosis", "simple_cyst", "gallstone", "ascites") if config.positives[f])
    made = generate(GenerateRequest(bundle=f"{out}", out=tmp_path / "a", claims=claim, to=("CT", "US")))
    assert made.as_json()["synthetic"] is True
    names = {p.split("/")[-1] for p in made.files}
    assert {"provenance.json", "US_cine.nii.gz", "US_cine.json"} < names
    note = json.loads((tmp_path / "a" / "provenance.json").read_text())
    jsonschema.validate(note, schemas_json()["generated"])
    assert note["claims"][claim] is True
    assert nib.load(tmp_path / "a" / "US_cine.nii.gz").shape == FRAME
    again = generate(GenerateRequest(bundle=f"{out}", out=tmp_path / "b", claims=claim, to=("CT", "US")))
    first, second = (nib.load(x.files[0]).get_fdata() for x in (made, again))
    assert np.array_equal(first, second)
    request = GenerateRequest(
        bundle=f"{out}", out=tmp_path / "c", given=six_patients.parent / ULTRASOUND, to=("MR",)
    )
    generate(request)
    given = json.loads((tmp_path / "c" / "provenance.json").read_text())["given"]
    assert given == {"US": sha256(six_patients.parent / ULTRASOUND)}


def test_what_was_made_from_images_of_the_library_is_remembered(trained, patient_dicom, home, tmp_path):
    out, _ = trained
    ask = GenerateRequest(bundle=f"{out}", out=tmp_path / "a", given=patient_dicom, to=("MR",))
    generate(ask)
    assert not (home / "made").exists()  # the library does not know the patient
    (case_id,) = ingest(Library(), patient_dicom).cases
    generate(replace(ask, out=tmp_path / "b"))
    series = {i.source.series_uid for i in load_case(Library(), case_id).images}
    (note,) = made_from(Library(), series)
    jsonschema.validate(note.model_dump(mode="json"), schemas_json()["made_note"])
    assert [p.name for p in note.images] == [
        p.split("/")[-1] for p in os.listdir(tmp_path / "b") if p.endswith(".nii.gz")
    ]
    assert made_from(Library(), series - set(note.sources.values())) == []
    note.images[0].write_bytes(b"another")
    assert made_from(Library(), series) == []
    assert len(load_case(Library(), case_id).images) == len(series)  # it never became an image of the case


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"claims": "a broken leg"}, "names no finding"),
        ({"claims": "ascites", "to": ("PT",)}, "never saw it"),
        ({"claims": "iron"}, "no training case had iron"),
        ({"claims": "ascites", "to": ("CT", "US")}, "together"),
        ({}, "--claims, --from or both"),
        ({"given": "here"}, "--from needs --to"),
        ({"claims": "ascites", "file_format": "png"}, "give nifti or dicom"),
    ],
)
def test_what_cannot_be_generated_is_one_sentence(changed, fault, tmp_path):
    c = config(CT=(16, 16, 8), US=(16, 16)).model_copy(update={"together": ("CT", "US")})
    save_generator(load_bundle(), tmp_path / "b", Generator(c), {})
    wanted = {"to": ("CT",), **changed} if changed.get("claims") else changed
    with pytest.raises(WrongUse, match=fault) as e:
        generate(GenerateRequest(bundle=str(tmp_path / "b"), out=tmp_path / "out", **wanted))
    assert e.value.exit_code == 2
    assert "\n" not in str(e.value)
    assert not (tmp_path / "out").exists()


def test_a_bundle_without_a_generator_says_how_to_make_one(tmp_path):
    with pytest.raises(WrongUse, match="--stage generate"):
        generate(GenerateRequest(bundle="upper-abdomen-simulated", out=tmp_path / "out", claims="ascites"))


def test_a_training_stopped_in_the_flow_goes_on_there_and_ends_the_same(tmp_path, monkeypatch):
    torch.manual_seed(0)
    values = {m: torch.randn(4, 1, *g.shape) for m, g in SMALL.modalities.items()}
    boxes = Boxes(values, torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, len(TASK.findings)))

    def run(name, seed=1):
        (tmp_path / name).mkdir(exist_ok=True)
        made_from = Identity.of({"the seed": seed})
        return GeneratorTraining(
            boxes=boxes, made_from=made_from, work=tmp_path / name, seed=1, steps=2, ends=0.0, log=print
        )

    whole = train_generator(SMALL, run("whole"))

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FlowStage, "loss", stopped)
        with pytest.raises(KeyboardInterrupt):
            train_generator(SMALL, run("stopped"))
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderStage, "loss", stopped)  # they are done, and not trained again
        with pytest.raises(WrongUse, match="the seed"):
            train_generator(SMALL, run("stopped", seed=2))
        again = train_generator(SMALL, run("stopped"))
    assert weights_digest(again.state_dict()) == weights_digest(whole.state_dict())
    assert not list((tmp_path / "stopped").iterdir())


def _random_boxes(c, n, seed):
    draws = torch.Generator().manual_seed(seed)
    values = {m: torch.randn(n, 1, *g.shape, generator=draws) for m, g in c.modalities.items()}
    claims = torch.randint(2, (n, len(TASK.findings)), generator=draws).float()
    return Boxes(values, torch.ones(n, len(values), dtype=torch.bool), claims)


def _standardised(c, boxes):
    torch.manual_seed(0)
    generator = Generator(c)
    for m, net in generator.autoencoders.items():
        net.standardise(net.encode(boxes.values[m]))
    return generator.eval()


def test_the_benchmark_tells_copies_of_training_from_new_images():
    from benchmarks.generation import memory

    train, test, new = (_random_boxes(SMALL, n, seed) for n, seed in ((20, 1), (20, 2), (20, 3)))
    generator = _standardised(SMALL, train)
    copied = memory(generator, train, test, {m: x + 0.01 for m, x in train.values.items()})
    assert all(row["repeated"] for row in copied.values())
    drawn = memory(generator, train, test, new.values)
    assert not any(row["repeated"] for row in drawn.values())


def test_the_benchmark_measures_distances_by_a_network_of_another_seed():
    from benchmarks.generation import seeded

    c = config(CT=(16, 16, 8), MR=(16, 16, 8), US=(16, 16))
    train, test = _random_boxes(c, 12, 1), _random_boxes(c, 12, 2)
    other = {m: x.abs() + 2 for m, x in test.values.items()}
    found = seeded(Generator(c), train, test, other, steps=3)
    assert found["CT"].keys() == {"floor", "generated", "ceiling, MR"}
    assert found["US"].keys() == {"floor", "generated"}
    for row in found.values():
        assert row["generated"]["distance"] > row["floor"]["distance"]


def test_a_planted_canary_is_found():
    """Five of twenty cases twenty times over: a flow trained so draws them, another does not."""
    from benchmarks.generation import canary

    c = config(US=(16, 16))
    train, test = _random_boxes(c, 20, 1), _random_boxes(c, 20, 2)
    found = canary(_standardised(c, train), train, test, Budget(steps=220))
    assert found["planted, US, claims of canaries"]["found"]
    assert not found["not planted, US, claims of canaries"]["found"]
