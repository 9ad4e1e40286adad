"""Sentences as data: a language's YAML of jinja2 templates in the task folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import jinja2
import yaml

from ..errors import UserError, WrongUse
from ..task import Task


class Sentences:
    """Renders the templates of one task in one language."""

    def __init__(self, path: Path, language: str) -> None:
        self.language, self.path = language, path
        try:
            self.data = yaml.safe_load(path.read_text())
        except yaml.YAMLError as e:
            raise UserError(f"{path}: not valid YAML ({str(e).splitlines()[0]})") from e
        self.environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
        self.environment.filters["sentence"] = lambda s: s[:1].upper() + s[1:]

    def get(self, key: str):
        value = self.data
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"{self.path}: lacks the entry {key}; compare with the shipped template")
            value = value[part]
        return value

    def render(self, key: str, **values) -> str:
        text = self.get(key)
        try:
            return self.environment.from_string(text).render(**values)
        except jinja2.TemplateError as e:
            line = 1 + next((i for i, row in enumerate(self.path.read_text().splitlines()) if text[:30] in row), 0)
            raise UserError(f"{self.path} line {line}: template {key}: {e}") from e

    def modality(self, name: str) -> str:
        return self.data.get("modalities", {}).get(name, name)

    def role(self, name: str) -> str:
        return self.data.get("roles", {}).get(name, name)

    def side(self, name: str) -> str:
        return self.data.get("sides", {}).get(name, "")

    def features(self, finding_id: str, modality: str) -> str:
        """What is seen, before what it may be; "" where the templates have no words for it."""
        row = self.data.get("features", {}).get(finding_id, "")
        return row.get(modality, "") if isinstance(row, dict) else row


@cache
def _load(path: str, language: str) -> Sentences:
    return Sentences(Path(path), language)


def languages(task: Task) -> list[str]:
    return sorted(p.stem for p in (Path(task.folder) / "templates").glob("*.yaml"))


def sentences(task: Task, language: str) -> Sentences:
    if language not in languages(task):
        raise WrongUse(
            f"--language {language}: the task {task.name} has templates for {', '.join(languages(task)) or 'no language'}"
        )
    return _load(str(Path(task.folder) / "templates" / f"{language}.yaml"), language)
