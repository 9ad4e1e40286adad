"""Where a model was validated: header rules, and how far an image's features lie from those it learned
from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..case import Image
from ..models.feature_set import FeatureSet
from ..models.features import CaseFeatures

INSIDE = 0.98  # share of validation cases whose features must count as inside
COMPONENTS = 24
Numbers = float | list[float] | list[list[float]]


@dataclass(frozen=True)
class Domain:
    """Where a model was validated. Outside it scores are uncalibrated and nothing is drafted.

    features: modality → mean, components, precision and limit of `distance`; a modality without an entry is
        judged by its headers alone.
    """

    simulated: bool
    modalities: tuple[str, ...]
    body_part: str
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    features: dict[str, dict] = field(default_factory=dict)
    body_parts: tuple[
        str, ...
    ] = ()  # DICOM body parts that belong here; an image that names another does not
    # modality → least and greatest longest side in mm, of volumes that are cut out around something
    extent_mm: dict[str, tuple[float, float]] = field(default_factory=dict)

    def holds(self, image: Image) -> tuple[bool, str, str]:
        """Whether an image lies in the domain by its headers, a code for why not, and the same in words."""
        for why_not in (
            self._other_kind(image),
            self._other_body_part(image),
            self._other_role(image),
            self._other_extent(image),
        ):
            if why_not is not None:
                return False, *why_not
        return True, "inside", "inside the validated domain"

    def _other_kind(self, image: Image) -> tuple[str, str] | None:
        """Code and words where the modality, or real against simulated, is not the validated one."""
        if image.modality not in self.modalities:
            return "modality", f"the bundle was never validated on {image.modality}"
        if self.simulated and not image.source.simulated:
            return "real", "the bundle was validated on simulated patients only; this image is real"
        if not self.simulated and image.source.simulated:
            return "simulated", "the bundle was validated on real patients; this image is simulated"
        return None

    def _other_body_part(self, image: Image) -> tuple[str, str] | None:
        """The same where the image states another body part: a picture states nothing, but a DICOM image
        that is silent is not assumed to fit."""
        part = image.source.body_part.upper()
        stated = bool(part or image.source.series_uid)
        if not self.body_parts or not stated or part in self.body_parts:
            return None
        shows = part or "no stated body part"
        where = ", ".join(self.body_parts)
        return "body_part", f"the image shows {shows}; the bundle was validated on {where}"

    def _other_role(self, image: Image) -> tuple[str, str] | None:
        """The same where the image's role was not in the validation set."""
        known = self.roles.get(image.modality, ())
        if not known or image.role in known:
            return None
        return "role", f"role {image.role} was not in the validation set ({', '.join(known)})"

    def _other_extent(self, image: Image) -> tuple[str, str] | None:
        """The same where a volume is larger or smaller than those that were cut out around something."""
        known = self.extent_mm.get(image.modality)
        if known is None:
            return None
        side = longest_side(image)
        if known[0] <= side <= known[1]:
            return None
        return (
            "extent",
            f"its longest side is {side:.0f} mm; the bundle was validated on volumes of {known[0]:.0f} to "
            f"{known[1]:.0f} mm around one thing that is known",
        )

    def looks_familiar(self, modality: str, features: CaseFeatures) -> tuple[bool, str, str]:
        """The same by the features of all images of a modality."""
        model = self.features.get(modality)
        if model is None or modality not in features.features:
            return True, "inside", "inside the validated domain"
        if not features.mask[modality].any():
            return False, "appearance", "nothing that the bundle looks for was outlined in it"
        d = float(distance(pooled(features, modality)[None], model)[0])
        if d <= model["limit"]:
            return True, "inside", "inside the validated domain"
        return (
            False,
            "appearance",
            f"looks unlike what the bundle was validated on (distance {d:.1f}, limit {model['limit']:.1f})",
        )


def longest_side(image: Image) -> float:
    """The longest side of a volume in mm; 0 where it has no place in space."""
    if image.affine is None:
        return 0.0
    return float((np.linalg.norm(image.affine[:3, :3], axis=0) * image.pixels.shape).max())


def pooled(features: CaseFeatures, modality: str) -> np.ndarray:
    """(F,) mean over the tokens that exist."""
    return features.features[modality][features.mask[modality]].mean(0)


def distance(x: np.ndarray, model: dict) -> np.ndarray:
    """Mahalanobis distance of rows x (B, F) in the leading components, and what those leave out, in units of
    training's."""
    centred = x - np.array(model["mean"])
    basis = np.array(model["components"])
    inside = centred @ basis.T
    rest = np.linalg.norm(centred - inside @ basis, axis=1) / model["rest"]
    return np.sqrt(np.einsum("bi,ij,bj->b", inside, np.array(model["precision"]), inside) + rest**2)


def _pooled_cases(data: FeatureSet, modality: str) -> tuple[np.ndarray, np.ndarray]:
    """(B, F) of the cases that have tokens of a modality, and their places (B,) in the set."""
    rows = {
        i: pooled(f, modality)
        for i, f in enumerate(data.features)
        if modality in f.mask and f.mask[modality].any()
    }
    return (np.stack(list(rows.values())) if rows else np.zeros((0, 1))), np.array(list(rows), int)


@dataclass(frozen=True, kw_only=True)
class FeatureDomain:
    """models: `Domain.features`. notes: one sentence a modality whose limit does not come from validation
    patients, or that has none."""

    models: dict[str, dict[str, Numbers]]
    notes: list[str]


def feature_domain(
    train: FeatureSet,
    val: FeatureSet,
    modalities: tuple[str, ...],
    patients: tuple[list[str], list[str]] | None = None,
) -> FeatureDomain:
    """Fit `Domain.features` on the training set; the limit lets INSIDE of the validation set pass. With fewer
    than PATIENTS validation patients the limit is of cases left out in turn, by patient, of both sets.

    modalities: or the keys of encoders from disk. patients: of each case of both sets, else each is one.
    """
    found = FeatureDomain(models={}, notes=[])
    one_each = ([f"t{i}" for i in range(len(train.features))], [f"v{i}" for i in range(len(val.features))])
    learned_from, held_out = (np.array(p, object) for p in patients or one_each)
    for modality in modalities:
        x, at = _pooled_cases(train, modality)
        v, at_v = _pooled_cases(val, modality)
        few = len(set(held_out[at_v]))
        if few >= PATIENTS and _components(x) >= 2:
            found.models[modality] = _limited(_fitted(x), distance(v, _fitted(x)))
            continue
        if not len(x) + len(v):
            continue
        both = np.concatenate([s for s in (x, v) if len(s)])
        who = np.concatenate([learned_from[at], held_out[at_v]])
        left_out = _left_out(both, who)
        counts = f"{len(both)} case(s) of {len(set(who))} patient(s)"
        if left_out is None:
            found.notes.append(
                f"{modality}: how its images look is not checked: {counts} are too few ({PATIENTS} patients "
                "are needed); an image counts as inside the validated domain by its headers alone"
            )
            continue
        found.models[modality] = _limited(_fitted(both), left_out)
        found.notes.append(
            f"{modality}: validation has {few} patient(s), fewer than {PATIENTS}, so the limit of how its "
            f"images may look comes from cross-validation over {counts}"
        )
    return found


PATIENTS = 10  # validation patients, below which the limit is cross-validated; and the fewest for that
FOLDS = 5


def _components(x: np.ndarray) -> int:
    """How many components so many rows bear."""
    return min(COMPONENTS, len(x) // 4, x.shape[1] // 2)


def _fitted(x: np.ndarray) -> dict[str, Numbers]:
    """`Domain.features` of rows (B, F), without its limit."""
    from sklearn.covariance import LedoitWolf  # only training fits; it takes long to import
    from sklearn.decomposition import PCA

    pca = PCA(_components(x), random_state=0).fit(x)
    inside = pca.transform(x)
    rest = np.linalg.norm(x - pca.inverse_transform(inside), axis=1)
    return {
        "mean": pca.mean_.round(5).tolist(),
        "components": pca.components_.round(5).tolist(),
        "precision": LedoitWolf().fit(inside).precision_.round(6).tolist(),
        "rest": max(round(float(rest.mean()), 6), 1e-6),
        "limit": 0.0,
    }


def _limited(model: dict[str, Numbers], distances: np.ndarray) -> dict[str, Numbers]:
    """The model with the limit that lets INSIDE of the distances pass."""
    return model | {"limit": round(float(np.quantile(distances, INSIDE)), 3)}


def _left_out(x: np.ndarray, who: np.ndarray) -> np.ndarray | None:
    """(B,) distance of each row from a fit on the rows of other patients; None where they are too few."""
    from sklearn.model_selection import GroupKFold

    if len(set(who)) < PATIENTS:
        return None
    out = np.zeros(len(x))
    for learned, test in GroupKFold(FOLDS).split(x, groups=who):
        if _components(x[learned]) < 2:
            return None
        out[test] = distance(x[test], _fitted(x[learned]))
    return out
