"""Metrics of text equal to published numbers; sections and claims read from words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import medfuse
from medfuse.drafting.labeller import claims, label, load_lexicon, task_lexicon
from medfuse.drafting.sections import parse_sections, split_sentences
from medfuse.errors import UserError, WrongUse
from medfuse.evaluation.text_metrics import evaluate_files, read_texts, text_scores
from medfuse.simulation.anatomy import draw_anatomy
from medfuse.simulation.patient import labels_of
from medfuse.simulation.wording import languages, sectioned
from medfuse.task import load_task

java = pytest.mark.skipif(shutil.which("java") is None, reason="no Java (.ci/install-debian)")
LEXICON = task_lexicon(load_task("upper-abdomen"))


@java
@pytest.mark.shared
def test_nlg_eval_to_four_decimals(shared):
    folder = shared / "metrics/nlg_eval"
    got = evaluate_files(folder / "hyp.txt", [folder / "ref1.txt", folder / "ref2.txt"], tokenizer="ptb")
    expected = json.loads((folder / "expected.json").read_text())["examples (hyp.txt vs ref1.txt, ref2.txt)"]
    for ours, theirs in {
        "bleu1": "Bleu_1",
        "bleu2": "Bleu_2",
        "bleu3": "Bleu_3",
        "bleu4": "Bleu_4",
        "meteor": "METEOR",
        "rouge_l": "ROUGE_L",
        "cider": "CIDEr",
    }.items():
        assert getattr(got, ours) == pytest.approx(expected[theirs], abs=5e-5), ours


@java
@pytest.mark.shared
@pytest.mark.parametrize("run", ["rag_choice", "template"])
def test_iu_xray_in_both_conventions(shared, run):
    folder = shared / "metrics/iu_xray_model_outputs"
    files = folder / f"{run}_test_preds.json", [folder / f"{run}_test_refs.json"]
    committed = json.loads((folder / f"{run}_test_metrics_as_committed.json").read_text())
    white = evaluate_files(*files, tokenizer="whitespace")
    for ours, theirs in {
        "bleu1": "Bleu_1",
        "bleu2": "Bleu_2",
        "bleu3": "Bleu_3",
        "bleu4": "Bleu_4",
        "rouge_l": "ROUGE_L",
        "cider": "CIDEr",
    }.items():
        assert getattr(white, ours) == pytest.approx(committed[theirs], abs=5e-5), ours
    reference = json.loads((folder / "reference_scores.json").read_text())[f"{run}_test"]
    ptb = evaluate_files(*files, tokenizer="ptb")
    for ours, theirs in {
        "bleu4": "Bleu_4",
        "meteor": "METEOR",
        "rouge_l": "ROUGE_L",
        "cider": "CIDEr",
    }.items():
        assert getattr(ptb, ours) == pytest.approx(reference[theirs], abs=5e-5), ours
    assert "punctuation counted" in white.signature
    assert "punctuation dropped" in ptb.signature


@pytest.mark.shared
def test_radeval_where_metrics_overlap(shared):
    """Their corpus BLEU is the mean over reports of sentence BLEU; ours of single texts must be theirs."""
    folder = shared / "metrics/radeval"
    pairs = json.loads((folder / "synthetic_reports.json").read_text())
    expected = json.loads((folder / "expected_scores_cpu.json").read_text())
    assert expected["per_sample"]["bleu"][0] == pytest.approx(1.0)
    same = "Normal heart size. Lungs are clear."
    got = text_scores([same], [[same]], tokenizer="whitespace", meteor=False)
    assert got.bleu4 == pytest.approx(expected["per_sample"]["bleu"][0], abs=1e-4)
    assert len(pairs) >= len(expected["per_sample"]["bleu"])


def test_texts_without_partner_are_named(tmp_path):
    (tmp_path / "h.json").write_text('{"a": "one", "b": "two"}')
    (tmp_path / "r.json").write_text('{"a": ["one"]}')
    with pytest.raises(UserError, match="ids are not those"):
        evaluate_files(tmp_path / "h.json", [tmp_path / "r.json"], tokenizer="whitespace")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        read_texts(tmp_path / "bad.json")
    with pytest.raises(WrongUse, match="ptb or whitespace"):
        text_scores(["a"], [["a"]], tokenizer="bpe")


@pytest.mark.parametrize(
    ("text", "finding", "said"),
    [
        ("No ascites.", "ascites", "absent"),
        ("Ascites is present.", "ascites", "present"),
        ("No gallstones, but ascites is seen.", "ascites", "present"),
        ("Ascites is not seen.", "ascites", "absent"),
        ("There is no change in the ascites.", "ascites", "present"),
        ("Findings suspicious for hepatocellular carcinoma.", "hcc_like", "possible"),
        ("Cirrhosis cannot be excluded.", "cirrhosis", "possible"),
        ("The gallbladder is unremarkable.", "gallstone", "absent"),
        ("Hepatic steatosis without iron deposition.", "iron", "absent"),
        ("Hepatic steatosis without iron deposition.", "steatosis", "present"),
        ("未見腹水。", "ascites", "absent"),
        ("疑似肝硬化。", "cirrhosis", "possible"),
        ("無法排除脂肪肝。", "steatosis", "possible"),
        ("The weather is fine.", "ascites", None),
    ],
)
def test_what_a_sentence_says(text, finding, said):
    assert label(text, LEXICON)[finding] == said


def test_side_and_size_are_read():
    (cyst,) = [
        c
        for c in claims("A 2.3 x 1.1 cm simple hepatic cyst is seen in the left hepatic lobe.", LEXICON)
        if c.finding == "simple_cyst"
    ]
    assert (cyst.side, cyst.size_mm) == ("left", 23.0)
    both = claims("Cysts of 8 mm in the right and left lobe.", LEXICON)
    assert all(c.side == "" for c in both)


@pytest.mark.parametrize("language", languages())
@pytest.mark.parametrize("held_out", [False, True])
def test_the_labeller_reads_every_phrasing_of_the_simulator(language, held_out, rng):
    """Also phrasings that are kept back: what the reports say is what the patients have."""
    for _ in range(60):
        anatomy = draw_anatomy(rng)
        truth = labels_of(anatomy)
        said = label(sectioned(rng, anatomy, held_out=held_out, language=language), LEXICON)
        assert {k for k, v in said.items() if v in ("present", "possible")} == {
            k for k in LEXICON.findings if truth[k]
        }


def test_sections_and_sentences():
    parts = parse_sections(
        "INDICATION: pain.\nFINDINGS: The liver is 15.2 cm. No ascites. Findings: are ignored "
        "here?\nIMPRESSION: 1. Normal. 2. Stones."
    )
    assert parts["indication"] == "pain."
    assert split_sentences(parts["impression"]) == ["Normal.", "Stones."]
    assert split_sentences("The liver is 15.2 cm. No ascites.") == ["The liver is 15.2 cm.", "No ascites."]
    chinese = parse_sections("影像發現：無腹水。診斷意見：膽結石。")
    assert chinese == {"findings": "無腹水。", "impression": "膽結石。"}
    assert parse_sections("No heading at all.") == {"findings": "No heading at all."}


def test_a_wrong_pattern_is_named(tmp_path):
    (tmp_path / "lexicon.yaml").write_text('findings: {ascites: {names: ["("]}}')
    with pytest.raises(UserError, match="finding ascites"):
        load_lexicon(tmp_path / "lexicon.yaml")


@pytest.mark.parametrize(
    ("words", "finding", "said"),
    [
        ("A decrease in density consistent with hepatosteatosis is observed.", "medical_material", None),
        ("A stent is observed in the left coronary artery.", "medical_material", "present"),
        ("Linear fibroatelectasis changes were observed in both lungs.", "atelectasis", None),
        ("Linear atelectasis was observed in both lungs.", "atelectasis", "present"),
        ("A collapse fracture was observed in the L1 vertebra.", "atelectasis", None),
        ("Nodular ground glass density increases in both lungs.", "lung_nodule", None),
        ("A nodule of 5 mm in the right upper lobe.", "lung_nodule", "present"),
        ("Pleuroparenchymal sequelae density increases in both apices.", "lung_opacity", None),
        ("Patchy ground-glass areas in both lungs.", "lung_opacity", "present"),
        ("There are conglomerated LAPs in the hilar areas.", "lymphadenopathy", "present"),
    ],
)
def test_the_chest_lexicon_reads_no_word_within_a_word(words, finding, said):
    lexicon = load_lexicon(Path(medfuse.__file__).parent / "lexicons" / "chest.yaml")
    assert label(words, lexicon)[finding] == said
