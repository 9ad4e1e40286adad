"""Search in the library: words, an image, like another case; filters; one clear sentence otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.bundles.bundle import load_bundle
from medfuse.errors import WrongUse
from medfuse.library import Library, results, store
from medfuse.library.ingest import ingest
from medfuse.workflows.predict import PredictOptions, predict_library_case
from medfuse.workflows.search import embed_case, embed_words, rank, search, tags
from medfuse.workflows.search_request import SearchRequest


@pytest.fixture
def library(two_patients_dicom, tmp_path, home):
    bundle = load_bundle()
    cases = ingest(Library(), two_patients_dicom).cases
    for c in cases:
        predict_library_case(c, bundle, tmp_path / "out", PredictOptions(formats=("text",)))
    return bundle, cases


def run(words=None, **asked):
    return search(SearchRequest(words=words, top=5, **asked))


def test_words_rank_every_predicted_case(library):
    bundle, cases = library
    found = run("Ascites is present.", by="space").results
    assert sorted(r.case_id for r in found) == sorted(cases)
    assert found[0].score >= found[1].score
    query = embed_words(bundle, "Ascites is present.")
    stored = dict(results.latest_predictions(Library(), bundle.hash))
    best = max(float(np.dot(query, v)) for v in stored[found[0].case_id].embedding.values())
    assert found[0].score == pytest.approx(best, abs=1e-3)

    def chance(case_id: str) -> float:
        p = {f.id: f.probability or 0.0 for f in stored[case_id].findings}
        return max(p["simple_cyst"], p["septated_cyst"])

    claimed = run(
        "benign cystic lesion"
    )  # words that the knowledge graph knows are ranked by what they claim
    assert [r.case_id for r in claimed.results] == sorted(cases, key=chance, reverse=True)
    assert claimed.results[0].claims == pytest.approx(chance(claimed.results[0].case_id), abs=1e-4)
    assert [m.findings for m in claimed.meant] == [("simple_cyst", "septated_cyst")]
    assert run("nice weather").meant is None
    assert run("benign cystic lesion", by="space").meant is None


def test_a_case_finds_itself_by_its_images_and_others_by_likeness(library):
    bundle, cases = library
    own = rank(
        embed_case(bundle, store.load_case(Library(), cases[0])), bundle, SearchRequest(modality="joint")
    )
    assert own[0].case_id == cases[0]
    assert own[0].score == pytest.approx(1.0, abs=1e-3)
    like = run(like=cases[0], query_modality="CT", modality="MR")
    assert [r.case_id for r in like.results] == [cases[1]]
    assert like.results[0].modality == "MR"
    assert like.tags[0].probability >= like.tags[-1].probability


def test_filters_and_other_bundles(library):
    bundle, _ = library
    stored = dict(results.latest_predictions(Library(), bundle.hash))
    for finding in ("steatosis", "focal_lesion"):
        want = {
            c for c, p in stored.items() if next(f for f in p.findings if f.id == finding).probability >= 0.4
        }
        assert {r.case_id for r in run("liver", finding=finding).results} == want
    assert list(results.latest_predictions(Library(), "another")) == []


def test_tags_are_the_trained_probability(library):
    bundle, _ = library
    phrase = "Ascites is present."
    (tag,) = tags(bundle, embed_words(bundle, phrase), [phrase])
    scale = bundle.model.log_scale.exp().item()
    bias = bundle.model.bias.item()
    assert tag.probability == pytest.approx(1 / (1 + np.exp(-(scale + bias))), abs=1e-3)


@pytest.mark.parametrize(
    ("query", "kwargs", "words"),
    [
        ({}, {}, "one query"),
        ({"words": "x"}, {"finding": "nonsense"}, "not a finding"),
        ({"words": "x"}, {"modality": "PET"}, "give one of US, CT, MR or joint"),
    ],
)
def test_wrong_use_is_one_sentence(home, query, kwargs, words):
    with pytest.raises(WrongUse, match=words):
        run(**query, **kwargs)
