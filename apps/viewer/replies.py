"""What the model's process hands back to the pages. Small models of their own: the classes of the workflows
would bring torch into the pages' process."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from medfuse.prediction import Place


class Reply(BaseModel):
    """Frozen, and nothing beside what is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerReply(Reply):
    """An answer, its probability (None where nothing is claimed), what it rests on, and who gave it."""

    answer: str
    probability: float | None
    evidence: list[Place]
    source: str
    why: str
    bundle_hash: str = ""
