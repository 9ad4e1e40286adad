"""`benchmarks/dictation.py`: what is spoken for a text, and how what was heard is counted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import dictation as benchmark  # type: ignore[import-not-found]

from medfuse.drafting.dictated import dictation
from medfuse.drafting.labeller import task_lexicon
from medfuse.task import load_task

TASK = load_task("upper-abdomen")


def test_a_text_is_spoken_as_a_radiologist_would():
    assert benchmark.aloud("FINDINGS: 31 mm cyst, no ascites.", "en") == (
        "findings colon thirty one millimeters cyst comma no ascites period"
    )
    assert benchmark.aloud("肝右葉 21 mm 腫塊。", "zh-TW") == "肝右葉二十一毫米腫塊句號"
    assert [benchmark.in_chinese(str(n)) for n in (7, 10, 15, 30, 99)] == [
        "七",
        "十",
        "十五",
        "三十",
        "九十九",
    ]


@pytest.mark.parametrize("language", ["en", "zh-TW"])
def test_a_recogniser_without_fault_loses_no_finding(language):
    for seed in range(20):
        text = benchmark.report(seed, language)
        written = dictation(benchmark.aloud(text, language), TASK).text
        lexicon = task_lexicon(TASK)
        assert benchmark.present(written, lexicon) == benchmark.present(text, lexicon)


def test_bigrams_of_the_words_that_can_be_heard_add_to_one(tmp_path):
    path = benchmark.language_model(["a b", "a c", "a zz"], lambda w: w != "zz", tmp_path / "lm.arpa")
    lines = path.read_text().splitlines()
    assert not any("zz" in line for line in lines)
    singles = lines[lines.index("\\1-grams:") + 1 : lines.index("\\2-grams:") - 1]
    assert sum(10 ** float(line.split()[0]) for line in singles) == pytest.approx(1, abs=1e-3)
