"""What a search asks and what it finds; light, so that the viewer's pages need not load a network for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """Exactly one of ``words``, ``image`` (a path) and ``like`` (a case of the library).

    query_modality: of an image or a case, take this modality alone. modality: compare with this sense of each
    case alone (default: the joint one and every modality). finding: only cases where it was found. bundle:
    None for the default.
    """

    words: str | None = None
    image: Path | None = None
    like: str | None = None
    query_modality: str = ""
    modality: str = ""
    finding: str = ""
    by: Literal["claims", "space"] = "claims"
    top: int = 10
    bundle: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A case that was found: cosine similarity, and the sense (a modality, or joint) that is so alike.
    claims: the probability that what the words claim holds, where they were ranked by that; finding: the
    one that fulfils them best."""

    case_id: str
    score: float
    modality: str
    claims: float | None = None
    finding: str = ""


@dataclass(frozen=True, kw_only=True)
class Meant:
    """What words were taken to ask for: findings of the task, any of which would do, or none of which may be
    there (absent), on a side of the organ. concepts: of the knowledge graph, named in the words. shown_by:
    modalities that can show it."""

    concepts: tuple[str, ...]
    findings: tuple[str, ...]
    absent: bool = False
    side: str = ""
    shown_by: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tag:
    """Words for an image, with the trained probability that they belong to it."""

    text: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Cases, likest first. tags: of an image or a case, where the bundle knows words. meant: what words were
    taken to claim; none where they name nothing that the task's knowledge graph knows."""

    query: str
    results: list[Hit]
    tags: list[Tag] | None = None
    meant: list[Meant] | None = None

    def as_json(self) -> dict[str, object]:
        """As JSON data; without tags where there are none."""
        return {k: v for k, v in asdict(self).items() if v is not None}
