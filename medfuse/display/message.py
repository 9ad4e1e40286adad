"""What every message between the viewer's browser and Python is."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """Frozen, no fields beside the named ones, no infinity and no NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
