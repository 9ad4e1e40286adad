"""The knowledge graph: it agrees with its task, words ask along it, contradictions are found along it, a
wrong one is named."""

from __future__ import annotations

import pytest
import yaml
from test_report import TASK, case, prediction

from medfuse.drafting.asked import asked
from medfuse.drafting.check import checked_report
from medfuse.drafting.contradictions import against, contradictions
from medfuse.drafting.held import Outlined, holds
from medfuse.errors import UserError
from medfuse.knowledge import FILE, Graph, load_graph, task_graph
from medfuse.task import load_task

GRAPH = task_graph(TASK)
SHIPPED = ("upper-abdomen", "upper-abdomen-words", "breast-ultrasound", "soft-tissue-mass")
CYSTS = ("simple_cyst", "septated_cyst")


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_task_has_a_graph_with_all_its_findings(name):
    task = load_task(name)
    graph = task_graph(task)
    assert isinstance(graph, Graph)
    assert graph.findings <= set(graph.concepts)
    for finding in task.findings:
        assert graph.shown_by(finding.id)
        for scheme, code in finding.codes.items():
            assert graph.concepts[finding.id].codes[scheme] == code
    for concept in graph.concepts:
        assert graph.label(concept, "en")


def test_what_follows_from_the_relations():
    assert GRAPH.findings_of("cystic") == set(CYSTS)
    assert GRAPH.findings_of("malignant") == {"hcc_like", "metastasis_like"}
    assert "focal_lesion" in GRAPH.wider("simple_cyst")
    assert GRAPH.places("septated_cyst") == {"liver", "abdomen"}
    assert GRAPH.shown_by("septated_cyst") == ("US", "MR")
    assert GRAPH.exclude("simple_cyst", "hcc_like")  # by what they are: cystic and solid
    assert not GRAPH.exclude("steatosis", "cirrhosis")


def test_a_bundle_made_before_graphs_takes_that_of_its_task(tmp_path):
    alone = TASK.model_copy(update={"folder": str(tmp_path)})
    assert task_graph(alone).findings == GRAPH.findings
    assert task_graph(alone.model_copy(update={"name": "another"})) is None
    more = TASK.findings[0].model_copy(update={"id": "of_their_own"})
    assert task_graph(alone.model_copy(update={"findings": (*TASK.findings, more)})) is None


@pytest.mark.parametrize(
    ("words", "demands"),
    [
        ("benign cystic lesion", [(CYSTS, False)]),
        ("良性囊性病灶", [(CYSTS, False)]),
        ("simple cyst in the right lobe", [(("simple_cyst",), False)]),
        ("malignant lesion", [(("hcc_like", "metastasis_like"), False)]),
        ("hypervascular lesion", [(("hcc_like", "fnh_like"), False)]),
        ("no cirrhosis", [(("cirrhosis",), True)]),
        ("cirrhosis and ascites", [(("cirrhosis",), False), (("ascites",), False)]),
        ("nice weather", []),
    ],
)
def test_words_ask_along_the_graph(words, demands):
    assert [(d.findings, d.absent) for d in asked(words, GRAPH)] == demands


def test_a_side_and_an_absence_are_asked():
    (cyst,) = asked("cyst in the left lobe", GRAPH)
    assert (cyst.side, cyst.shown_by) == ("left", ("US", "CT", "MR"))
    there, gone = asked("cyst without solid lesion", GRAPH)
    assert there.findings == CYSTS
    assert gone.absent
    assert "hcc_like" in gone.findings


def test_how_probable_it_is_that_words_hold():
    def held(words, lesions=(), **chances):
        return holds(asked(words, GRAPH), chances, lesions, TASK)

    benign = held("benign cystic lesion", simple_cyst=0.2, septated_cyst=0.9)
    assert (benign.probability, benign.finding) == (0.9, "septated_cyst")
    assert held("benign cystic lesion").probability == 0  # not assessed
    assert held("no ascites", ascites=0.3).probability == pytest.approx(0.7)
    assert held("no ascites").probability == 0  # not assessed is not absent
    right = Outlined(finding="simple_cyst", probability=0.8, side="right")
    left = Outlined(finding="focal_lesion", probability=0.7, side="left")
    assert held("cyst in the left lobe", [right], simple_cyst=0.9).probability == 0
    assert held("cyst in the left lobe", [right, left], simple_cyst=0.9).probability == 0.7


@pytest.mark.parametrize(
    ("sentences", "pair"),
    [
        (["No cystic lesion.", "A septated cyst of 30 mm."], ("cystic", "septated_cyst")),
        (["No diffuse liver disease.", "Cirrhosis."], ("diffuse_disease", "cirrhosis")),
        (["A 30 mm simple septated cyst on the right."], ("simple_cyst", "septated_cyst")),
        (
            ["A 30 mm simple cyst on the right.", "Hepatocellular carcinoma of 31 mm on the right."],
            ("simple_cyst", "hcc_like"),
        ),
        (["A 30 mm simple cyst on the right.", "Hepatocellular carcinoma of 31 mm on the left."], None),
        (["A simple cyst.", "Hepatocellular carcinoma."], None),  # there may be two lesions
        (["A septated cyst.", "No simple cyst."], None),
        (["No ascites.", "No focal lesion."], None),
        (["Steatosis.", "Cirrhosis."], None),
        (["A simple cyst, no septations."], None),
    ],
)
def test_contradictions_are_found_along_the_graph(sentences, pair):
    found = contradictions(sentences, GRAPH)
    assert [(c.first, c.second) for c in found] == ([pair] if pair else [])
    if pair:
        assert against(sentences[-1], sentences[:-1], GRAPH) == found[0].why


def test_findings_that_hold_of_a_whole_image_exclude_each_other():
    graph = task_graph(load_task("breast-ultrasound"))
    (found,) = contradictions(["A benign mass.", "Normal breast tissue."], graph)
    assert "exclude each other" in found.why


def test_the_checker_drops_what_the_graph_contradicts():
    p = {"simple_cyst": 0.9, "septated_cyst": 0.9, "focal_lesion": 0.95, "ascites": 0.9}
    written = "Findings: A simple cyst is seen. A septated simple cyst is seen. Ascites is present."
    report = checked_report(written, prediction(p), case(), TASK, "en", writer="learned")
    by = {c.written: c for c in report.provenance if c.written and c.section == "findings"}
    assert by["A simple cyst is seen."].action == "kept"
    clash = by["A septated simple cyst is seen."]
    assert clash.action == "dropped"
    assert "exclude each other" in clash.why


FAULTS = {
    "not a concept": {"simple_cyst": {"is_a": ["nowhere"]}},
    "above itself": {"cystic": {"is_a": ["simple_cyst"]}},
    "no code of SCT": {"simple_cyst": {"codes": {"SCT": "abc"}}},
    "cannot show it": {"septated_cyst": {"shown_by": ["CT"]}},
    "is excluded by": {"simple_cyst": {"is_a": ["cystic"], "excludes": ["focal_lesion"]}},
    "pattern": {"cystic": {"words": ["("]}},
    "Extra inputs": {"cystic": {"colour": "blue"}},
    "derives from it": {"simple_cyst": {"is_a": []}},
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_wrong_graph_is_one_sentence(words, tmp_path):
    folder = load_task("upper-abdomen").folder
    with open(f"{folder}/{FILE}", encoding="utf-8") as f:
        data = yaml.safe_load(f)
    for concept, change in FAULTS[words].items():
        data["concepts"][concept] = {**data["concepts"][concept], **change}
    (tmp_path / FILE).write_text(yaml.safe_dump(data))
    with pytest.raises(UserError, match=f"not a knowledge graph: .*{words}"):
        load_graph(tmp_path / FILE, TASK)


def test_a_finding_that_the_graph_lacks_and_a_file_that_is_none(tmp_path):
    (tmp_path / FILE).write_text("concepts: {liver: {}}")
    with pytest.raises(UserError, match="is not a concept of the graph"):
        load_graph(tmp_path / FILE, TASK)
    (tmp_path / FILE).write_text("[1, 2")
    with pytest.raises(UserError, match="not a knowledge graph"):
        load_graph(tmp_path / FILE, TASK)


@pytest.mark.parametrize(
    ("sentences", "found"),
    [
        (["There is no haemangioma, and a simple cyst is seen.", "A focal liver lesion is seen."], []),
        (
            ["There is no ascites, and a simple cyst is seen.", "Ascites is present."],
            [("ascites", "ascites")],
        ),
        (["A simple cyst without solid parts.", "A solid lesion is seen in the left lobe."], []),
        (["A simple cyst is seen, but no focal liver lesion."], [("simple_cyst", "focal_lesion")]),
        (
            ["Gallstones are seen, ducts not dilated.", "Dilated bile ducts."],
            [("dilated_ducts", "dilated_ducts")],
        ),
        (["可見腹水，未見脂肪肝。", "脂肪肝明顯。"], [("steatosis", "steatosis")]),
    ],
)
def test_contradictions_are_looked_for_statement_by_statement(sentences, found):
    graph = task_graph(load_task("upper-abdomen"))
    assert [(c.first, c.second) for c in contradictions(sentences, graph)] == found
