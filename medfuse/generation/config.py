"""What a generator is and what it has seen: generator/config.json of a bundle."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

BOX = (48, 48, 32)  # voxels of a generated volume
FRAME = (64, 64)  # pixels of a generated frame
FOLD = 2  # neighbours along an axis that become channels before the autoencoder
SCALE = FOLD * 2  # of an autoencoder, along an axis
LATENT = 4  # channels


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Generated(_Part):
    """One modality as it is generated.

    role: the series that stands for it. spacing_mm: of a voxel along each axis (RAS+), or of a pixel; empty
    where unknown. shape: of the box or frame. centre, width: stored value = centre + width * normalised.
    cases: of training. low, high: the range of normalised values.
    """

    role: str
    spacing_mm: tuple[float, ...]
    shape: tuple[int, ...]
    centre: float
    width: float
    cases: int
    low: float
    high: float

    @property
    def latent(self) -> tuple[int, ...]:
        """Shape of the latent, without its channels."""
        return tuple(n // SCALE for n in self.shape)


class GeneratorConfig(_Part):
    """generator/config.json: what is generated, and what training held.

    modalities: by code. findings: of the task, in their order. positives: training cases that have each.
    together: sets of modalities, such as CT+MR, that some training case has. width, layers, heads: of the
    flow.
    """

    modalities: dict[str, Generated]
    findings: tuple[str, ...]
    positives: dict[str, int]
    together: tuple[str, ...]
    width: int = 96
    layers: int = 4
    heads: int = 4

    def saw(self, modalities: tuple[str, ...]) -> bool:
        """Whether some training case had all of these."""
        return any(set(modalities) <= set(pattern.split("+")) for pattern in self.together)


class GeneratedNote(_Part):
    """provenance.json beside generated images.

    synthetic: always. warning: what they must not be used for. bundle, bundle_hash: what made them. claims:
    what was asked for, by finding. given: SHA-256 of each image that was given, by modality. asked: the
    modalities that were made. seed, steps, guidance: of the sampling. files: SHA-256 by name.
    """

    synthetic: bool = True
    warning: str = "SYNTHETIC: made by a model; no evidence, no measurement, no training data by default"
    bundle: str
    bundle_hash: str
    claims: dict[str, bool] = Field(default_factory=dict)
    given: dict[str, str] = Field(default_factory=dict)
    asked: tuple[str, ...]
    seed: int
    steps: int
    guidance: float
    files: dict[str, str]
