"""What `medfuse ask` does: a question on a case of the library, or on a picture."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from ..bundles.bundle import choose_bundle, load_bundle
from ..bundles.registry import find_bundle, find_by_hash, is_vqa
from ..case import Case
from ..drafting.answer import Answered, answer, for_the_writer, language_of
from ..drafting.phrases import CANNOT_TELL
from ..errors import WrongUse
from ..inference.predictor import Predicted, Predictor
from ..io import picture
from ..io.read import open_case
from ..library import Library, results, store
from ..modalities import cines
from ..prediction import Place
from ..vqa.answerer import picture_features
from ..vqa.evaluate import load_answerer


def ask(
    target: str,
    question: str,
    *,
    bundle: str | None = None,
    device: str = "cpu",
    library: Library | None = None,
) -> Answered:
    """The answer. ``target``: a case of the library, a path, or a picture for a vqa bundle."""
    if not question.strip():
        raise WrongUse('ask needs a question, such as "Is there ascites?"')
    library = library or Library()
    path = Path(target)
    if bundle is not None and is_vqa(find_bundle(bundle)):
        return _ask_picture(path, question, find_bundle(bundle))
    known = _known(target, question, bundle, library)
    if known is not None:
        return known
    loaded = load_bundle(bundle)
    case = open_case(
        target,
        modality=cines()[0] if path.suffix.lower() in picture.SUFFIXES else "",
        library=partial(store.load_case, library) if store.has_case(library, target) else None,
    )
    loaded = loaded if bundle else choose_bundle(case, loaded)
    found = answer(Predictor(loaded, device=device).details(case), case, loaded, question)
    return replace(found, bundle_hash=loaded.hash)


def _known(target: str, question: str, bundle: str | None, library: Library) -> Answered | None:
    """The answer from the prediction that the library holds, where that is all it takes: only an open
    question that names no finding goes to the writer, which looks at the images again."""
    result = results.load_result(library, target) if store.has_case(library, target) else None
    if result is None:
        return None
    stored = result[0]
    loaded = load_bundle(bundle or find_by_hash(stored.bundle, stored.bundle_hash))
    if loaded.hash != stored.bundle_hash:
        return None
    if stored.in_domain and for_the_writer(question, loaded):
        return None
    case = Case(stored.case_id)  # none of its pixels is asked for
    return replace(answer(Predicted(stored, []), case, loaded, question), bundle_hash=loaded.hash)


def _ask_picture(path: Path, question: str, folder: Path) -> Answered:
    if not path.is_file():
        raise WrongUse(f"{path}: no such picture; a vqa bundle answers on PNG and JPEG files")
    model = load_answerer(folder)
    found = model.answer(question, picture_features(path))
    if found.probability < model.task.least:
        return Answered(
            CANNOT_TELL[language_of(question)],
            None,
            [],
            "vqa",
            f"the likeliest answer, {found.answer!r}, has a chance of {found.probability:.2f}",
        )
    return Answered(
        found.answer,
        found.probability,
        [Place(image=0)],
        "vqa",
        "where in the picture is not known: it is judged as a whole",
    )
