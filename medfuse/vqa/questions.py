"""Questions on pictures in the format of VQA-RAD: a JSON list of {image_name, question, answer, answer_type,
image_organ, …}."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import UserError, WrongUse


class QuestionRow(BaseModel):
    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)
    image_name: str
    question: str
    answer: str = ""
    answer_type: str = ""
    image_organ: str = ""
    question_type: str = ""
    qid: str = Field(default="")

    @property
    def closed(self) -> bool:
        return self.answer_type.strip().upper() == "CLOSED"


def read_questions(path: Path, images: Path) -> list[QuestionRow]:
    """All rows; every picture must lie in ``images``. Raises UserError that names the row."""
    if not path.is_file():
        raise WrongUse(f"{path}: no such file; give a JSON list of questions in the format of VQA-RAD")
    if not images.is_dir():
        raise WrongUse(f"--images {images}: no such folder; give the folder with the pictures")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = [QuestionRow(**r) for r in found]
    except json.JSONDecodeError as e:
        raise UserError(f"{path}: not valid JSON ({e})") from e
    except (ValidationError, TypeError) as e:
        raise UserError(
            f"{path}: {str(e).splitlines()[0]}; each row needs image_name, question and answer"
        ) from e
    if not rows:
        raise UserError(f"{path}: holds no question")
    missing = sorted({r.image_name for r in rows if not (images / r.image_name).is_file()})
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of its pictures are not in {images}, first {missing[0]}; give the "
            "folder that has them"
        )
    return rows
