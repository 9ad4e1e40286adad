"""Where a model was validated: header rules, and how far an image's features lie from those it learned from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA

from ..case import Image
from .features import CaseFeatures

INSIDE = 0.98  # share of validation cases whose features must count as inside
COMPONENTS = 24


@dataclass(frozen=True)
class Domain:
    """Where a model was validated. Outside it scores are uncalibrated and nothing is drafted.

    features: modality → mean, components, precision and limit of `distance`; a modality without an entry is judged by its
    headers alone.
    """

    simulated: bool
    modalities: tuple[str, ...]
    body_part: str
    roles: dict[str, tuple[str, ...]] = field(default_factory=dict)
    features: dict[str, dict] = field(default_factory=dict)
    body_parts: tuple[str, ...] = ()  # DICOM body parts that belong here; an image that names another does not

    def holds(self, image: Image) -> tuple[bool, str, str]:
        """Whether an image lies in the domain by its headers, a code for why not, and the same in words."""
        if image.modality not in self.modalities:
            return False, "modality", f"the bundle was never validated on {image.modality}"
        if self.simulated and not image.source.simulated:
            return False, "real", "the bundle was validated on simulated patients only; this image is real"
        if not self.simulated and image.source.simulated:
            return False, "simulated", "the bundle was validated on real patients; this image is simulated"
        part = image.source.body_part.upper()
        stated = bool(
            part or image.source.series_uid
        )  # a picture states nothing; a DICOM image that is silent is not assumed
        if self.body_parts and stated and part not in self.body_parts:
            shows = part or "no stated body part"
            return (
                False,
                "body_part",
                f"the image shows {shows}; the bundle was validated on {', '.join(self.body_parts)}",
            )
        known = self.roles.get(image.modality, ())
        if known and image.role not in known:
            return False, "role", f"role {image.role} was not in the validation set ({', '.join(known)})"
        return True, "inside", "inside the validated domain"

    def looks_familiar(self, modality: str, features: CaseFeatures) -> tuple[bool, str, str]:
        """The same by the features of all images of a modality."""
        model = self.features.get(modality)
        if model is None or modality not in features.features:
            return True, "inside", "inside the validated domain"
        d = float(distance(pooled(features, modality)[None], model)[0])
        if d <= model["limit"]:
            return True, "inside", "inside the validated domain"
        return (
            False,
            "appearance",
            f"looks unlike what the bundle was validated on (distance {d:.1f}, limit {model['limit']:.1f})",
        )


def pooled(features: CaseFeatures, modality: str) -> np.ndarray:
    """(F,) mean over the tokens that exist."""
    return features.features[modality][features.mask[modality]].mean(0)


def distance(x: np.ndarray, model: dict) -> np.ndarray:
    """Mahalanobis distance of rows x (B, F) in the leading components, and what those leave out, in units of training's."""
    centred = x - np.array(model["mean"])
    basis = np.array(model["components"])
    inside = centred @ basis.T
    rest = np.linalg.norm(centred - inside @ basis, axis=1) / model["rest"]
    return np.sqrt(np.einsum("bi,ij,bj->b", inside, np.array(model["precision"]), inside) + rest**2)


def feature_domain(train, val, modalities: tuple[str, ...]) -> dict[str, dict]:
    """Fit `Domain.features` on the training set (a FeatureSet); the limit lets INSIDE of the validation set pass."""
    out: dict[str, dict] = {}
    for modality in modalities:
        x, v = (
            (np.stack([pooled(f, modality) for f in s.features if modality in f.features]) for s in (train, val))
            if all(s.has(modality).any() for s in (train, val))
            else (np.zeros((0, 1)),) * 2
        )
        n = min(COMPONENTS, len(x) // 4, x.shape[1] // 2)
        if n < 2 or len(v) < 10:
            continue
        pca = PCA(n, random_state=0).fit(x)
        inside = pca.transform(x)
        rest = np.linalg.norm(x - pca.inverse_transform(inside), axis=1)
        model = {
            "mean": pca.mean_.round(5).tolist(), "components": pca.components_.round(5).tolist(),
            "precision": LedoitWolf().fit(inside).precision_.round(6).tolist(), "rest": max(round(float(rest.mean()), 6), 1e-6), "limit": 0.0,
        }  # fmt: skip
        out[modality] = {**model, "limit": round(float(np.quantile(distance(v, model), INSIDE)), 3)}
    return out
