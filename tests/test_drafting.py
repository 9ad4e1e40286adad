"""The writer in the pipeline: shipped, trained anew, or the user's own; evaluated with its controls; every
format from the library."""

from __future__ import annotations

import json

import pytest
import torch
from test_words import java
from typer.testing import CliRunner

from medfuse.bundles.bundle import load_bundle
from medfuse.cli import app
from medfuse.drafting.draft import check_writer, draft, written_words
from medfuse.errors import WrongUse
from medfuse.evaluation.drafts import evaluate_reports
from medfuse.evaluation.pointing import on_lesion
from medfuse.inference.predictor import Predictor
from medfuse.io.read import open_case
from medfuse.library import Library, store
from medfuse.library.ingest import ingest
from medfuse.prediction import Place
from medfuse.report import Report
from medfuse.simulation.population import write_population
from medfuse.task import load_task
from medfuse.training.stages.writer import ReportOptions, train_report_stage
from medfuse.workflows.predict import PredictOptions, predict_library_case


@pytest.fixture(scope="module")
def predicted(patient_dicom):
    bundle = load_bundle()
    case = open_case(patient_dicom)
    return case, Predictor(bundle).details(case), bundle


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    write_population(folder, cases=6, seed=12, file_format="nifti", workers=1)
    return folder / "manifest.jsonl"


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_the_shipped_writer_writes_what_the_findings_support(predicted, language):
    case, done, bundle = predicted
    words = written_words(bundle, done, language)
    assert words.startswith("FINDINGS:" if language == "en" else "影像發現：")
    assert words == written_words(bundle, done, language)
    report = draft(done, case, bundle, language, writer="learned")
    assert report.writer == "learned"
    assert report.provenance
    for section in report.sections:
        for x in section.sentences:
            if x.assertion == "present" and x.finding:
                assert done.prediction.finding(x.finding).probability >= 0.4
    assert Report(**report.model_dump()) == report


def test_what_cannot_work_is_refused_before_any_image_is_read(predicted, tmp_path):
    _, _, bundle = predicted
    with pytest.raises(WrongUse, match="give one of structured"):
        check_writer(bundle, "poet", "en", None)
    with pytest.raises(WrongUse, match="needs --llm"):
        check_writer(bundle, "local-llm", "en", None)
    with pytest.raises(WrongUse, match="has no learned writer"):
        check_writer(load_bundle("breast-ultrasound"), "learned", "en", None)
    with pytest.raises(WrongUse, match="has templates for"):
        check_writer(bundle, "structured", "fr", None)


def test_a_local_language_model_in_the_pipeline(predicted, tmp_path):
    transformers = pytest.importorskip("transformers")
    case, done, bundle = predicted
    tokenizer = bundle.writer[1]
    config = transformers.GPT2Config(
        vocab_size=tokenizer.get_vocab_size(), n_positions=1024, n_embd=16, n_layer=1, n_head=2
    )
    torch.manual_seed(0)  # what an untrained model writes hangs on its weights
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "llm")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[END]"
    ).save_pretrained(tmp_path / "llm")
    report = draft(done, case, bundle, "en", writer="local-llm", llm=tmp_path / "llm")
    assert report.writer == "local-llm"
    # an untrained model says nothing that can be supported: what stands is the composer's, marked as added
    assert {c.action for c in report.provenance} <= {"dropped", "added", "hedged"}


@java
def test_train_a_writer_and_evaluate_it(population, tmp_path):
    done = train_report_stage(
        load_task("upper-abdomen"),
        population,
        tmp_path / "b",
        ReportOptions(bundle=None, minutes=1.0, seed=1, work=tmp_path / "work", command="test", steps=3),
        log=lambda m: None,
    )
    bundle = load_bundle(tmp_path / "b")
    assert bundle.writer is not None
    assert bundle.hash != load_bundle().hash
    result = evaluate_reports(bundle, population, split="train", out=tmp_path / "scores")
    assert set(result.clinical) == {
        "structured",
        "learned, unchecked",
        "learned",
        "nearest neighbour's report",
        "constant report",
        "another patient's images",
        "blank images",
        "findings head",
    }
    assert result.unsupported.after.unsupported == 0
    assert result.untraced_sentences[0] == 0
    assert done["bundle"] == str(tmp_path / "b")
    head = result.clinical["findings head"].micro.f1
    assert result.clinical["structured"].micro.f1 == pytest.approx(head, abs=0.12)
    assert result.clinical["constant report"].micro.recall < 0.5
    assert result.text["nearest neighbour's report"]["ptb"].bleu4 > result.text["structured"]["ptb"].bleu4
    for name in ("reports.json", "reports.md", "texts.jsonl"):
        assert (tmp_path / "scores" / name).exists()


def test_a_place_hits_its_lesion(patient, patient_nifti):
    import numpy as np

    from medfuse.io.nifti import read_nifti
    from medfuse.simulation.parameters import DENSE, FOCAL

    path = sorted(patient_nifti.glob("CT_*.nii"))[0]
    image = read_nifti(path, "CT")
    import nibabel as nib

    mask = np.asarray(nib.load(str(path).replace(".nii", "_mask.nii.gz")).dataobj)
    classes = [DENSE.index(k) for k in FOCAL]
    from scipy.ndimage import label

    parts, _ = label(np.isin(mask, classes))
    at = np.argwhere(parts == 1)
    from medfuse.case import Case

    case = Case("c", images=[image])
    on = Place(image=0, slice=int(at.mean(0)[2]), box_voxels=[at.min(0).tolist(), at.max(0).tolist()])
    off = Place(image=0, slice=0, box_voxels=[[0, 0, 0], [2, 2, 0]])
    assert on_lesion(on, case, {0: mask}, classes)
    assert not on_lesion(off, case, {0: mask}, classes)
    assert on_lesion(on, case, {}, classes) is None


def test_every_format_from_the_library(patient_dicom, tmp_path, home):
    (case_id,) = ingest(Library(), patient_dicom).cases
    predict_library_case(
        case_id, load_bundle(), tmp_path / "out", PredictOptions(writer="learned", formats=("json",))
    )
    run = CliRunner().invoke
    done = run(
        app,
        ["report", case_id, "--format", "all", "--out", str(tmp_path / "files"), "--json"],
        catch_exceptions=False,
    )
    data = json.loads(done.stdout)
    assert {p.rsplit("/", 1)[1] for p in data["files"]} >= {
        "report.txt",
        "report.json",
        "report.pdf",
        "report.sr.dcm",
        "report.fhir.json",
        "report.pdf.dcm",
    }
    assert done.exit_code == (3 if data["not_made"] else 0)
    assert json.loads(run(app, ["report", case_id, "--format", "json"]).stdout)["writer"] == "learned"
    assert "檢查方式" in run(app, ["report", case_id, "--language", "zh-TW"]).stdout
    with pytest.raises(WrongUse, match="or all"):
        run(app, ["report", case_id, "--format", "docx"], catch_exceptions=False)
    run(
        app,
        ["cases", "--set-risk", f"{case_id}=cirrhosis", "--set-indication", f"{case_id}=pain"],
        catch_exceptions=False,
    )
    case = store.load_case(Library(), case_id)
    assert (case.risk, case.indication) == ("cirrhosis", "pain")
    found = json.loads(
        run(app, ["ask", case_id, "Is there ascites?", "--json"], catch_exceptions=False).stdout
    )
    assert set(found) >= {"answer", "probability", "evidence"}
