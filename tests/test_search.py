"""Search in the library: words, an image, like another case; filters; one clear sentence otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from medfuse.errors import WrongUse
from medfuse.library import store
from medfuse.library.ingest import ingest
from medfuse.models.bundle import load_bundle
from medfuse.pipeline import PredictOptions, predict_library_case
from medfuse.search import Filters, embed_case, embed_words, rank, search, tags


@pytest.fixture
def library(two_patients_dicom, tmp_path, home):
    bundle = load_bundle()
    cases = ingest(two_patients_dicom).cases
    for c in cases:
        predict_library_case(c, bundle, tmp_path / "out", PredictOptions(formats=("text",)))
    return bundle, cases


def run(words=None, image=None, like=None, **kwargs):
    filters = Filters(kwargs.pop("modality", ""), kwargs.pop("finding", ""))
    return search(
        words, image, like, bundle=None, filters=filters, query_modality=kwargs.pop("query_modality", ""), top=5
    )


def test_words_rank_every_predicted_case(library):
    bundle, cases = library
    found = run("Ascites is present.")["results"]
    assert sorted(r["case_id"] for r in found) == sorted(cases)
    assert found[0]["score"] >= found[1]["score"]
    query = embed_words(bundle, "Ascites is present.")
    stored = dict(store.latest_predictions(bundle.hash))
    best = max(float(np.dot(query, v)) for v in stored[found[0]["case_id"]]["embedding"].values())
    assert found[0]["score"] == pytest.approx(best, abs=1e-3)


def test_a_case_finds_itself_by_its_images_and_others_by_likeness(library):
    bundle, cases = library
    own = rank(embed_case(bundle, store.load_case(cases[0])), bundle, Filters("joint"), 5)
    assert own[0]["case_id"] == cases[0]
    assert own[0]["score"] == pytest.approx(1.0, abs=1e-3)
    like = run(like=cases[0], query_modality="CT", modality="MR")
    assert [r["case_id"] for r in like["results"]] == [cases[1]]
    assert like["results"][0]["modality"] == "MR"
    assert like["tags"][0]["probability"] >= like["tags"][-1]["probability"]


def test_filters_and_other_bundles(library):
    bundle, _ = library
    stored = dict(store.latest_predictions(bundle.hash))
    for finding in ("steatosis", "focal_lesion"):
        want = {
            c for c, p in stored.items() if next(f for f in p["findings"] if f["id"] == finding)["probability"] >= 0.4
        }
        assert {r["case_id"] for r in run("liver", finding=finding)["results"]} == want
    assert list(store.latest_predictions("another")) == []


def test_tags_are_the_trained_probability(library):
    bundle, _ = library
    phrase = "Ascites is present."
    (tag,) = tags(bundle, embed_words(bundle, phrase), [phrase])
    scale, bias = bundle.model.log_scale.exp().item(), bundle.model.bias.item()
    assert tag["probability"] == pytest.approx(1 / (1 + np.exp(-(scale + bias))), abs=1e-3)


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
