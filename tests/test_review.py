"""What contradicts itself in a report is named before it is signed."""

from __future__ import annotations

import pytest

from medfuse.drafting.review import review
from medfuse.knowledge import task_graph
from medfuse.library.report_changes import changed_sentences, word_difference
from medfuse.report import Report, Section, Sentence
from medfuse.task import load_task


def report(findings: list[Sentence], impression: list[Sentence]) -> Report:
    return Report(
        case_id="c",
        language="en",
        simulated=False,
        in_domain=True,
        banner=["Research"],
        bundle="",
        bundle_hash="",
        sections=[
            Section(id="findings", title="Findings", sentences=findings),
            Section(id="impression", title="Impression", sentences=impression),
        ],
    )


def said(text: str, finding: str = "", **more) -> Sentence:
    return Sentence(text=text, finding=finding, **{"state": "edited", **more})


FINE = said("Nothing of note.")


@pytest.mark.parametrize(
    ("findings", "impression", "known", "kinds"),
    [
        ([FINE], [FINE], {}, []),
        ([], [], {}, ["empty"]),
        ([said("Gone.", state="rejected")], [FINE], {}, ["one_empty"]),
        ([said("Cyst in the right lobe.")], [said("Cyst of the left lobe.")], {}, ["sides"]),
        ([said("Cyst in the right and left lobe.")], [said("Cyst of the left lobe.")], {}, []),
        ([said("右葉囊腫。")], [said("左葉囊腫。")], {}, ["sides"]),
        ([said("Prostate enlarged.")], [FINE], {"sex": "F"}, ["sex"]),
        ([said("子宮無異常。")], [FINE], {"sex": "M"}, ["sex"]),
        ([said("Prostate enlarged.")], [FINE], {"sex": "M"}, []),
        ([said("Prostate enlarged.")], [FINE], {}, []),
        (
            [said("Stone.", "gallstone", assertion="present")],
            [said("Steatosis.", "steatosis", assertion="possible")],
            {},
            ["not_concluded"],
        ),
        ([FINE], [said("Stone.", "gallstone", assertion="present")], {}, ["not_found"]),
        ([said("Mass of 42 mm.")], [FINE], {"measured_mm": [20.0, 55.0]}, ["size"]),
        ([said("Mass of 4.2 cm.")], [FINE], {"measured_mm": [41.0]}, []),
        ([said("Mass of 42 mm.")], [FINE], {}, []),  # nothing was measured: nothing to compare with
        ([said("Mass in the [place], 4 mm.")], [FINE], {}, ["unfilled"]),
        ([FINE], [said("建議 [ ] 個月後追蹤。")], {}, ["unfilled"]),
        ([said("Of the model [place].", state="accepted")], [FINE], {}, []),
        ([FINE], [FINE], {"conflict": "birth dates disagree"}, ["identifiers"]),
    ],
)
def test_doubts(findings, impression, known, kinds):
    assert [d.kind for d in review(report(findings, impression), **known)] == kinds


@pytest.mark.parametrize(
    ("drafted", "by_hand", "flagged"),
    [
        ("Simple cyst is present.", "No focal liver lesion.", True),
        ("可見單純性囊腫。", "未見局部肝病灶。", True),
        ("Simple cyst is present.", "No ascites.", False),
    ],
)
def test_an_edit_that_contradicts_another_sentence_is_asked_about(drafted, by_hand, flagged):
    """It was signed without a word."""
    rows = [said(drafted, "simple_cyst", state="accepted", assertion="present"), said(by_hand)]
    whole = report(rows, [said(drafted, "simple_cyst", state="accepted", assertion="present")])
    graph = task_graph(load_task("upper-abdomen"))
    kinds = [d.kind for d in review(whole, graph=graph)]
    assert ("contradicts" in kinds) == flagged
    rows[1].state = "accepted"
    assert "contradicts" not in [d.kind for d in review(whole, graph=graph)]  # the draft's own words


def test_what_blocks_comes_first():
    doubts = review(report([said("Prostate.")], []), sex="F", conflict="two names")
    assert [d.blocks for d in doubts] == [True, False, False]


def test_changes_are_told_word_by_word_in_both_scripts():
    assert word_difference("A cyst, left.", "A cyst, right.") == [
        ("=", "A cyst, "),
        ("-", "left"),
        ("+", "right"),
        ("=", "."),
    ]
    assert word_difference("左葉囊腫", "右葉囊腫") == [("-", "左"), ("+", "右"), ("=", "葉囊腫")]
    before, after = report([said("One."), said("Two.")], [FINE]), report([said("One.")], [FINE])
    assert changed_sentences(before, after) == [("✎ Two.", "")]
