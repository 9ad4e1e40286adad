"""Which images of a case a bundle may be asked about: by their headers, then by how they look to it."""

from __future__ import annotations

from dataclasses import dataclass

from ..bundles.bundle import Bundle
from ..case import Case
from ..io.names import shown
from ..models.features import CaseFeatures, DenseOutput
from ..prediction import ImageRecord
from ..task import modality_of_key


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The images of a case as records, which of them are used, and whether anything may be drafted.

    use: one bool an image. shown_outside: somebody asked for the uncalibrated scores of images outside the
    domain, and there are such images.
    """

    records: tuple[ImageRecord, ...]
    use: tuple[bool, ...]
    in_domain: bool
    shown_outside: bool

    @property
    def places(self) -> list[int]:
        """Places of the used images in the case."""
        return [i for i, used in enumerate(self.use) if used]

    def visible(self, case: Case) -> Case:
        """The case with the used images alone."""
        return Case(case.case_id, case.patient_id, [case.images[i] for i in self.places])


@dataclass(frozen=True, kw_only=True)
class Familiar:
    """What is left after the features were looked at, with the records that say why something left."""

    records: tuple[ImageRecord, ...]
    in_domain: bool
    features: CaseFeatures
    dense: list[DenseOutput]


def judge(case: Case, bundle: Bundle, *, outside_domain: bool) -> Judged:
    """Every image against the bundle's domain, by its headers. ``outside_domain``: use all of them."""
    judged = [bundle.domain.holds(image) for image in case.images]
    records = tuple(
        ImageRecord(
            path=shown(image.source.path),
            modality=image.modality,
            role=image.role,
            series_uid=image.source.series_uid,
            in_domain=ok,
            why=why,
            code=code,
            geometry=image.geometry.outcome,
            warnings=list(image.warnings),
        )
        for image, (ok, code, why) in zip(case.images, judged, strict=True)
    )
    shown_outside = outside_domain and not all(r.in_domain for r in records)
    return Judged(
        records=records,
        use=tuple(r.in_domain or outside_domain for r in records),
        in_domain=any(r.in_domain for r in records) and not shown_outside,
        shown_outside=shown_outside,
    )


def familiar(judged: Judged, bundle: Bundle, features: CaseFeatures, dense: list[DenseOutput]) -> Familiar:
    """Modalities whose features lie far from the validated ones leave the case (unless images outside the
    domain were asked for), and their images say why."""
    strange: dict[str, tuple[str, str]] = {}
    for key in features.features:
        inside, code, why = bundle.domain.looks_familiar(key, features)
        if not inside:
            strange.setdefault(modality_of_key(key), (code, why))
    records = tuple(
        r.model_copy(
            update={
                "in_domain": False,
                "code": strange[r.modality][0],
                "why": strange[r.modality][1],
            }
        )
        if r.modality in strange and r.in_domain
        else r
        for r in judged.records
    )
    if not judged.shown_outside:
        features = CaseFeatures(
            *(
                {k: v for k, v in part.items() if modality_of_key(k) not in strange}
                for part in _parts(features)
            )
        )
        dense = [d for d in dense if d.modality not in strange]
    in_domain = judged.in_domain and any(r.in_domain for r in records)
    return Familiar(records=records, in_domain=in_domain, features=features, dense=dense)


def _parts(features: CaseFeatures) -> tuple[dict, dict, dict]:
    return features.features, features.mask, features.kind
