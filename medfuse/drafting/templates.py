"""Sentences as data: a language's YAML of jinja2 templates in the task folder, over the words of every draft
in that language (``words/``). A language without such words is written by a task's template alone.

A bundle comes from somebody else, so its templates are text from a stranger. They can say what they are given
and nothing more: jinja2's sandbox, a closed list of what a template may hold and of its filters, no functions
and no methods, one loop at a time, and a bounded sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import yaml
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from ..errors import UserError, WrongUse
from ..foreign import yaml_as_json
from ..io.names import plain_name
from ..modalities import MODALITIES
from ..task import Finding, Task

LONGEST = 5000  # characters of one rendered text
ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Keyword),
    *(nodes.Getattr, nodes.Getitem, nodes.Slice, nodes.List, nodes.Tuple, nodes.Filter, nodes.Test),
    *(nodes.If, nodes.For, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not, nodes.Compare, nodes.Operand),
    *(nodes.Concat, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Neg),
)
FILTERS = (
    *("abs", "capitalize", "default", "first", "float", "int", "join", "last", "length", "lower"),
    *("round", "sort", "title", "trim", "unique", "upper"),
)
WORDS = Path(__file__).parent / "words"
# tables that may lack a word; and branches that a task needs where it has a mass, measures or a rule
TABLES = ("organs", "roles", "modalities", "inside", "names", "features", "sides", "said")
SOME_TASKS = ("agreement", "measures", "lirads")
_ENHANCED = re.compile(r"(^|_)(arterial|portal|venous|delayed|hepatobiliary|enhanced|contrast)$")
_WIDE = re.compile(r"%(\([^)]*\))?[-+ #0]*(\*|\d{3}|\d*\.(\*|\d{3}))")


class _Environment(ImmutableSandboxedEnvironment):
    """Numbers may be reckoned with; text and lists may be joined, not multiplied."""

    intercepted_binops = frozenset(["*", "%"])

    def __init__(self) -> None:
        super().__init__(undefined=jinja2.StrictUndefined, autoescape=False)
        self.globals.clear()
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters["sentence"] = lambda s: s[:1].upper() + s[1:]
        self.filters["format"] = _format

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Refuse ``'a' * 9999999`` and ``'%9999999d' % 1``."""
        if not (isinstance(left, (int, float)) and isinstance(right, (int, float))):
            raise SecurityError(f"{operator} is for numbers")
        return super().call_binop(context, operator, left, right)


def _format(pattern: str, *values: object) -> str:
    """jinja2's ``format`` for widths and precisions of at most two digits."""
    if _WIDE.search(pattern):
        raise SecurityError(f"the pattern {pattern[:20]!r} is too wide")
    return pattern % values


def _check(tree: nodes.Template) -> None:
    """Raises SecurityError for what a template may not hold."""
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, (*ALLOWED, nodes.EvalContextModifier)) or (
            isinstance(node, nodes.For) and (node.recursive or any(node.find_all(nodes.For)))
        ):
            what = type(node).__name__
            raise SecurityError(f"{what} is not for templates: only values, filters, if and one for")


def _bounded(parts: Iterable[str]) -> str:
    out: list[str] = []
    left = LONGEST
    for part in parts:
        out.append(part)
        left -= len(part)
        if left < 0:
            raise SecurityError(f"says more than {LONGEST} characters")
    return "".join(out)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml_as_json(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not valid YAML ({str(e).splitlines()[0]})") from e
    if not isinstance(data, dict):
        raise UserError(f"{path}: holds no entries; compare with the shipped template")
    return data


def _over(words: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """``own`` where it says something, else ``words``, branch by branch."""
    out = {**words, **own}
    for key in words.keys() & own.keys():
        if isinstance(words[key], dict) and isinstance(own[key], dict):
            out[key] = _over(words[key], own[key])
    return out


def _entries(data: dict[str, Any], above: str = "") -> Iterator[str]:
    """The dotted names of all texts."""
    for key, value in data.items():
        name = f"{above}{key}"
        yield from _entries(value, f"{name}.") if isinstance(value, dict) else (name,)


_HAN = "\u4e00-\u9fff"
_APART = re.compile(rf"([{_HAN}]) +(?=[{_HAN}])")  # no space between two Chinese characters …
_TOGETHER = re.compile(
    rf"(?<=[{_HAN}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{_HAN}])"
)  # … and one beside others


def spaced(text: str) -> str:
    """Chinese text with a space between its characters and letters or digits, and none within."""
    return _TOGETHER.sub(" ", _APART.sub(r"\1", text))


class Sentences:
    """Renders the templates of one task in one language."""

    def __init__(self, path: Path, language: str) -> None:
        self.language = language
        self.path = path
        common = WORDS / f"{plain_name(language)}.yaml"
        own = _read(path)
        self.data = _over(_read(common), own) if common.is_file() else own
        self.environment = _Environment()
        self._ready: dict[str, jinja2.Template] = {}

    def check(self, unasked: tuple[str, ...] = ()) -> None:
        """Raises UserError that names the first entry that is missing, or that holds what no template may.
        ``unasked``: branches that this task never says."""
        for key in _entries(_read(WORDS / "en.yaml")):
            if key.split(".")[0] not in (*TABLES, *unasked):
                self.get(key)
        for key in _entries(self.data):
            text = self._entry(key)
            if isinstance(text, str):
                self._compiled(key, text)

    def _compiled(self, key: str, text: str) -> jinja2.Template:
        try:
            if text not in self._ready:
                _check(self.environment.parse(text))
                self._ready[text] = self.environment.from_string(text)
            return self._ready[text]
        except (jinja2.TemplateError, RecursionError) as e:
            raise self._fault(key, text, e) from e

    def _fault(self, key: str, text: str, e: Exception) -> UserError:
        """A fault of an entry, with file and line."""
        rows = self.path.read_text(encoding="utf-8").splitlines()
        line = 1 + next((i for i, row in enumerate(rows) if text[:30] in row), 0)
        return UserError(f"{self.path} line {line}: template {key}: {e}")

    def _entry(self, key: str) -> object:
        value: object = self.data
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise UserError(f"{self.path}: lacks the entry {key}; compare with the shipped template")
            value = value[part]
        return value

    def get(self, key: str) -> str:
        """The text of an entry, such as ``titles.findings``, as it stands there."""
        value = self._entry(key)
        if isinstance(value, (dict, list)):
            raise UserError(f"{self.path}: {key} must be a text; compare with the shipped template")
        return str(value)

    def render(self, key: str, **values: object) -> str:
        """The text of an entry with ``values`` in it. Raises UserError that names file, line and fault."""
        text = self.get(key)
        try:
            return spaced(_bounded(self._compiled(key, text).generate(**values)))
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as e:
            raise self._fault(key, text, e) from e

    def has(self, key: str) -> bool:
        """Whether there is such an entry."""
        value: object = self.data
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                return False
            value = value[part]
        return True

    def _word(self, table: str, name: str, otherwise: str) -> str:
        rows = self.data.get(table, {})
        return str(rows.get(name, otherwise)) if isinstance(rows, dict) else otherwise

    def inside(self, name: str) -> str:
        """A modality's word within a sentence."""
        return self._word("inside", name, self.modality(name))

    def modality(self, name: str) -> str:
        """A modality's word in this language."""
        record = MODALITIES.get(name)
        word = record.word.get(self.language, name) if record is not None else name
        return self._word("modalities", name, word)

    def role(self, name: str) -> str:
        """The word for the role of a series, such as portal."""
        return self._word("roles", name, name)

    def side(self, name: str) -> str:
        """The word for right or left; "" where there is none."""
        return self._word("sides", name, "")

    def name(self, finding: Finding) -> str:
        """A finding's name in this language."""
        return self._word("names", finding.id, finding.label(self.language))

    def organ(self, region: str) -> str:
        """The word for an organ, by the class of the label maps."""
        return self._word("organs", region, region.replace("_", " ").capitalize())

    def joined(self, parts: Iterable[str], last: str = "and") -> str:
        """Parts as a list in words. last: ``and`` or ``or`` before the last one."""
        *first, end = parts
        if not first:
            return end
        return self.get("list.comma").join(first) + self.get(f"list.{last}") + end

    def features(self, finding_id: str, modality: str, roles: Iterable[str] = ()) -> str:
        """What is seen, before what it may be; "" where the templates have no words for it. The words may ask
        for ``roles``, those of the modality's series, and ``enhanced``, how many are after contrast."""
        key = f"features.{finding_id}"
        if self.has(f"{key}.{modality}"):
            key = f"{key}.{modality}"
        elif not self.has(key) or isinstance(self._entry(key), dict):
            return ""
        there = sorted(set(roles))
        enhanced = sum(bool(_ENHANCED.search(r)) for r in there)
        return self.render(key, roles=there, enhanced=enhanced).strip()


@cache
def _load(path: str, language: str, unasked: tuple[str, ...]) -> Sentences:
    made = Sentences(Path(path), language)
    made.check(unasked)
    return made


def labels(task: Task | None, language: str, branch: str) -> dict[str, str]:
    """The words of a branch, such as those of a PDF: of a task's templates where it has the language, else of
    every draft in it, else in English."""
    if task is not None and language in languages(task):
        words = sentences(task, language).data[branch]
    else:
        common = WORDS / f"{plain_name(language)}.yaml"
        words = _read(common if common.is_file() else WORDS / "en.yaml")[branch]
    return {str(k): str(v) for k, v in words.items()}


def languages(task: Task) -> list[str]:
    """The languages that a task has templates for."""
    return sorted(p.stem for p in (Path(task.folder) / "templates").glob("*.yaml"))


def sentences(task: Task, language: str) -> Sentences:
    """The templates of a task in a language, complete. Raises WrongUse where it has none, UserError that
    names an entry that is missing."""
    if language not in languages(task):
        raise WrongUse(
            f"--language {language}: the task {task.name} has templates for "
            f"{', '.join(languages(task)) or 'no language'}"
        )
    asked = {"agreement": task.around, "measures": task.measures, "lirads": task.rules.get("lirads")}
    unasked = tuple(name for name in SOME_TASKS if not asked[name])
    return _load(str(Path(task.folder) / "templates" / f"{language}.yaml"), language, unasked)
