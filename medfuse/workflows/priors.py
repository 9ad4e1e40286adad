"""The patient's earlier case behind a report: read on demand, so that it can be compared though nobody
predicted it."""

from __future__ import annotations

import logging
from dataclasses import replace

from ..bundles.bundle import Bundle
from ..drafting.compose import ANY, Wish
from ..drafting.draft import draft
from ..drafting.priors import Prior
from ..errors import UserError
from ..inference.predictor import Predictor
from ..io.names import log_name
from ..library import Library, results, store
from ..library.registrations import links_of

log = logging.getLogger(__name__)


def prior_read(
    library: Library, case_id: str, bundle: Bundle, language: str, *, device: str = "cpu", wish: Wish = ANY
) -> Prior | None:
    """The newest earlier case with those before it. Where nobody predicted the newest one, ``bundle`` reads
    it now and its draft is kept, as `medfuse predict` of it would; where that fails, or the images lie
    outside the validated domain, what people said of it stands alone and the reason is logged."""
    waiting = results.unpredicted_prior(library, case_id)
    now = waiting is not None and _read(library, waiting[0], bundle, language, device=device, wish=wish)
    found = results.prior_of(library, case_id)
    return replace(found, now=True) if found is not None and now else found


def _read(library: Library, case_id: str, bundle: Bundle, language: str, *, device: str, wish: Wish) -> bool:
    """Whether an earlier case could be read; its prediction and draft are in the library then."""
    try:
        case = store.load_case(library, case_id)
        if not {i.modality for i in case.images} & set(bundle.task.image_senses):
            return False
        found = Predictor(bundle, device=device)(case, links=links_of(library, case))
        if not found.in_domain:
            return False
        report = draft(found, case, bundle, language, prior=results.prior_of(library, case_id), wish=wish)
    except UserError as e:
        log.warning("the earlier case %s is not compared: %s", log_name(case_id), e)
        return False
    results.save_result(library, found, report)
    return True
