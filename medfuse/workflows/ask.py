"""What `medfuse ask` does: a question on a case of the library, or on a picture.

A question that the stored prediction answers starts no network: its libraries take seconds to load.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..bundles.registry import (
    TASK,
    bundle_hash,
    check_bundle,
    find_bundle,
    find_by_hash,
    has_writer,
    is_vqa,
)
from ..drafting.answer import Answered, answer_from, language_of
from ..drafting.phrases import CANNOT_TELL
from ..errors import WrongUse
from ..library import Library, results
from ..modalities import cines
from ..prediction import Place
from ..task import load_task


def ask(
    target: str,
    question: str,
    *,
    bundle: str | None = None,
    device: Callable[[], str] = lambda: "cpu",
    library: Library | None = None,
) -> Answered:
    """The answer. ``target``: a case of the library, a path, or a picture for a vqa bundle. ``device``: where
    the network runs, asked only if it does."""
    if not question.strip():
        raise WrongUse('ask needs a question, such as "Is there ascites?"')
    library = library or Library()
    path = Path(target)
    if bundle is not None and is_vqa(find_bundle(bundle)):
        return _ask_picture(path, question, find_bundle(bundle))
    known = _known(target, question, bundle, library)
    return known or _ask_images(target, question, bundle, device, library)


def _ask_images(
    target: str, question: str, bundle: str | None, device: Callable[[], str], library: Library
) -> Answered:
    """Through the network: nothing is stored, or only a writer that sees the images can answer."""
    from ..bundles.bundle import choose_bundle, load_bundle
    from ..drafting.answer_written import answer
    from ..inference.predictor import Predictor
    from ..io import picture
    from ..io.read import open_case
    from ..library import store

    loaded = load_bundle(bundle)
    case = open_case(
        target,
        modality=cines()[0] if Path(target).suffix.lower() in picture.SUFFIXES else "",
        library=partial(store.load_case, library) if store.has_case(library, target) else None,
    )
    loaded = loaded if bundle else choose_bundle(case, loaded)
    found = answer(Predictor(loaded, device=device()).details(case), loaded, question)
    return replace(found, bundle_hash=loaded.hash)


def _known(target: str, question: str, bundle: str | None, library: Library) -> Answered | None:
    """The answer from the prediction that the library holds, where that is all it takes."""
    result = results.load_result(library, target) if library.exists else None
    if result is None:
        return None
    stored = result[0]
    folder = find_bundle(bundle) if bundle else find_by_hash(stored.bundle, stored.bundle_hash)
    if bundle_hash(folder) != stored.bundle_hash:
        return None
    check_bundle(folder)
    found = answer_from(stored, load_task(folder / TASK), question, writer=has_writer(folder))
    return found and replace(found, bundle_hash=stored.bundle_hash)


def _ask_picture(path: Path, question: str, folder: Path) -> Answered:
    if not path.is_file():
        raise WrongUse(f"{path}: no such picture; a vqa bundle answers on PNG and JPEG files")
    from ..vqa.answerer import picture_features
    from ..vqa.evaluate import load_answerer

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
