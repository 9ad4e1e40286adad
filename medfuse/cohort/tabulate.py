"""A folder of images and tables, with a recipe → the images and rows of a cohort, each file and each row of a
table with what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..case import Lab
from ..errors import UserError
from ..io.manifest import LabelSource, ManifestRow
from ..modalities import MODALITIES, stated
from ..task import Task
from .folder import Files
from .ledger import LedgerRow
from .named import NamePattern
from .recipe import Choice, FileRule, LabelRule, Recipe, TableRule, WordRule, number, same
from .records import Record, Records, read_records
from .rows import dates_of


@dataclass(kw_only=True)
class Found:
    """One image of the folder: its path there, what its name says, and what the tables say of it."""

    name: str
    rule: FileRule
    fields: dict[str, str]
    case_id: str
    patient: str
    modality: str
    role: str
    mask: str = ""
    inside: tuple[str, ...] = ()  # of a folder: its files
    status: str = ""
    reason: str = ""


@dataclass
class Tabulated:
    """images: by path in the folder, in order. rows: one a case, without images, groups and splits. files,
    lines: of the ledger. encodings: of the tables."""

    images: dict[str, Found] = field(default_factory=dict)
    rows: dict[str, ManifestRow] = field(default_factory=dict)
    files: dict[str, LedgerRow] = field(default_factory=dict)
    lines: list[LedgerRow] = field(default_factory=list)
    encodings: dict[str, str] = field(default_factory=dict)
    tables: dict[str, int] = field(default_factory=dict)  # rows

    def note(self, name: str, status: str, rule: str, to: str = "", reason: str = "") -> None:
        """What became of a file."""
        self.files[name] = LedgerRow("file", name, status, rule, to, reason)

    def settle(self, image: Found, status: str, reason: str) -> None:
        """What became of an image, and so of the files in its folder."""
        image.status = status
        for name in image.inside or (image.name,):
            self.note(name, status, image.rule.path, image.case_id if status == "linked" else "", reason)


def tabulate(files: Files, recipe: Recipe, task: Task) -> Tabulated:
    """Images by the patterns of the recipe, then what its tables say. Raises UserError for a table that is
    not there or cannot be read."""
    out = Tabulated()
    for name, why in files.refused.items():
        out.note(name, "refused", "", reason=why)
    for name, why in files.ignored.items():
        out.note(name, "ignored", "", reason=why)
    _Images(files, recipe, task, out).find()
    for table in recipe.tables:
        _Table(table, recipe, out).read(files.files)
    for image in out.images.values():
        _judge(image, task, out)
    return out


def _judge(image: Found, task: Task, out: Tabulated) -> None:
    """Refuse an image that the task cannot take, now that all is known of it."""
    spec = task.modalities.get(image.modality)
    why = ""
    if image.modality not in MODALITIES:
        why = f"its modality is {image.modality or 'not said'}; the recipe names it, or a column that does"
    elif spec is None:
        why = f"task {task.name} has no {image.modality}"
    if why:
        out.settle(image, "refused", why)
        return
    out.settle(image, "linked", image.reason)


@dataclass(frozen=True)
class _Images:
    files: Files
    recipe: Recipe
    task: Task
    out: Tabulated

    def find(self) -> None:
        """Every file: image, mask, table, left out knowingly, or refused."""
        rules = [(rule, NamePattern.of(rule.path)) for rule in self.recipe.files]
        tables = {t.path for t in self.recipe.tables}
        folders = self.files.folders
        self._ignore()
        for name in (*self.files.files, *(f"{f}/" for f in folders if f)):
            if name in tables:
                self.out.note(name, "linked", "table")
            elif name not in self.out.files:
                self._fit(name, [(r, f) for r, p in rules if (f := _match(p, name)) is not None])
        for image in list(self.out.images.values()):
            if image.mask:
                self.out.images.pop(image.mask, None)
                self.out.note(image.mask, "linked", "mask", image.case_id)
        for name, image in self.out.images.items():
            image.inside = tuple(folders[name[:-1]]) if name.endswith("/") else ()
        self._rest()

    def _fit(self, name: str, fits: list[tuple[FileRule, dict[str, str]]]) -> None:
        """Take a file that one pattern takes; refuse one that several do."""
        if len(fits) > 1:
            both = " and ".join(r.path for r, _ in fits[:2])
            self.out.note(name, "refused", "", reason=f"two patterns take it: {both}")
        elif fits and (image := self._image(name, *fits[0])):
            self.out.images[name] = image

    def _ignore(self) -> None:
        """What the recipe leaves out, before anything takes it."""
        ignored = [NamePattern.of(p) for p in self.recipe.ignore]
        for name in self.files.files:
            if left := next((p.text for p in ignored if _left_out(p, name)), ""):
                self.out.note(name, "ignored", left, reason="the recipe leaves it out")

    def _rest(self) -> None:
        taken = {n for i in self.out.images.values() for n in (i.name, *i.inside)}
        for name in self.files.files:
            if name not in self.out.files and name not in taken:
                self.out.note(name, "refused", "", reason="no pattern of the recipe takes it")

    def _image(self, name: str, rule: FileRule, fields: dict[str, str]) -> Found | None:
        case, patient = self.recipe.case, self.recipe.patient
        mask = NamePattern.of(rule.mask).filled(fields) if rule.mask else ""
        image = Found(
            name=name,
            rule=rule,
            fields=fields,
            case_id=NamePattern.of(case).filled(fields),
            patient=NamePattern.of(patient).filled(fields),
            modality=stated(rule.modality),
            role=rule.role,
        )
        if mask and mask in self.files.files:
            image.mask = mask
        elif mask:
            image.reason = f"it has no mask {mask}"
        row = self.out.rows.setdefault(image.case_id, self._row(image))
        if row.patient_id != image.patient:
            why = f"case {image.case_id} is of patient {row.patient_id}, and its name says {image.patient}"
            self.out.note(name, "refused", rule.path, reason=why)
            return None
        for finding, said in rule.labels.items():
            if isinstance(said, LabelRule):
                why = _label(row, finding, said, fields[said.source], name)
            else:
                why = _set(row, finding, said, f"every file of {rule.path}", name)
            image.reason = "; ".join(filter(None, (image.reason, why)))
        return image

    def _row(self, image: Found) -> ManifestRow:
        return ManifestRow(case_id=image.case_id, patient_id=image.patient, site=self.recipe.site)


def _match(pattern: NamePattern, name: str) -> dict[str, str] | None:
    if pattern.of_folder != name.endswith("/"):
        return None
    return pattern.match(name.removesuffix("/"))


def _left_out(pattern: NamePattern, name: str) -> bool:
    """Whether a pattern of a file, or of a folder that it lies in, names it."""
    if not pattern.of_folder:
        return pattern.match(name) is not None
    parts = name.split("/")[:-1]
    return len(parts) >= (n := len(pattern.segments)) and pattern.match("/".join(parts[:n])) is not None


@dataclass(frozen=True)
class _Table:
    rule: TableRule
    recipe: Recipe
    out: Tabulated

    def read(self, files: Mapping[str, Path]) -> None:
        """Take each row to the images that it is of."""
        path = files.get(self.rule.path)
        if path is None:
            raise UserError(f"{self.rule.path}: no such table in the folder; correct the recipe's tables")
        found = read_records(path, self.rule.sources())
        self.out.encodings[self.rule.path] = found.encoding
        self.out.tables[self.rule.path] = len(found.records)
        self._take(found)

    def _take(self, found: Records) -> None:
        patterns = {column: NamePattern.of(p) for column, p in self.rule.match.items()}
        keys = tuple(sorted({f for p in patterns.values() for f in p.fields}))
        images = self._by(keys)
        for n, record in found.records:
            name = f"{self.rule.path}:{n}"
            fields, why = _fields(patterns, record)
            if why := found.faults.get(n) or why:
                self._note(name, "refused", "", why)
                continue
            of = images.get(tuple(fields[k] for k in keys), [])
            if not of:
                said = ", ".join(f"{k} {fields[k]}" for k in keys)
                self._note(name, "unresolved", "", f"no image in the folder is of {said}")
                continue
            cases = list(dict.fromkeys(i.case_id for i in of))
            reasons = [*self._images(record, of), *self._cases(record, cases, name)]
            self._note(name, "linked", " ".join(cases), "; ".join(dict.fromkeys(reasons)))

    def _by(self, keys: tuple[str, ...]) -> dict[tuple[str, ...], list[Found]]:
        """The images whose names say all of these fields, by what they say."""
        out: dict[tuple[str, ...], list[Found]] = {}
        for image in self.out.images.values():
            if all(k in image.fields for k in keys):
                out.setdefault(tuple(image.fields[k] for k in keys), []).append(image)
        return out

    def _note(self, name: str, status: str, to: str, reason: str) -> None:
        self.out.lines.append(LedgerRow("row", name, status, self.rule.path, to, reason))

    def _images(self, record: Record, of: list[Found]) -> Iterator[str]:
        """Modality and role, where the table says them."""
        for what, choice in (("modality", self.rule.modality), ("role", self.rule.role)):
            said = self._choice(choice, record) if choice else ""
            if choice and not said:
                yield f"{choice.source} is {record.get(choice.source, '')[:30]!r}, which names no {what}"
            for image in of if said else ():
                value = stated(said) if what == "modality" else said
                if getattr(image, what) not in ("", value):
                    yield f"{what} {value} of {image.name}, which is {getattr(image, what)} already"
                else:
                    setattr(image, what, value)

    def _choice(self, choice: Choice, record: Record) -> str:
        cell = self._cell(record, choice.source)
        if not choice.values:
            return cell
        return next((v for k, v in choice.values.items() if same(cell, k)), "")

    def _cell(self, record: Record, column: str) -> str:
        """A cell, or "" where it stands for no value."""
        text = record.get(column, "").strip()
        return "" if any(same(text, u) for u in self.rule.unknown) else text

    def _cases(self, record: Record, cases: list[str], name: str) -> Iterator[str]:
        labs = list(self._labs(record))
        yield from (why for lab, why in labs if lab is None)
        for case in cases:
            row = self.out.rows[case]
            for finding, rule in self.rule.labels.items():
                cell = self._cell(record, rule.source)
                if cell and (why := _label(row, finding, rule, cell, name)):
                    yield why
            row.labs.extend(lab for lab, _ in labs if lab is not None and lab not in row.labs)
            row.indication = _joined(row.indication, self._words(record, self.rule.indication))
            row.report = _joined(row.report, self._words(record, self.rule.report))

    def _labs(self, record: Record) -> Iterator[tuple[Lab | None, str]]:
        for rule in self.rule.labs:
            if not (cell := self._cell(record, rule.source)):
                continue
            value = number(cell)
            day = self._cell(record, rule.date) if rule.date else ""
            days = dates_of(day) if day else ()
            if value is None:
                yield None, f"{rule.source} is {cell[:30]!r}, no number with a point"
            elif day and len(days) != 1:
                yield None, f"{rule.date} is {day[:30]!r}, no date that can be told; write YYYY-MM-DD"
            else:
                date = days[0].isoformat() if days else ""
                yield Lab(loinc=rule.loinc, value=value, unit=rule.unit, date=date, name=rule.source), ""

    def _words(self, record: Record, rules: tuple[WordRule, ...]) -> str:
        out: list[str] = []
        for rule in rules:
            cell = self._cell(record, rule.source)
            if rule.present and not any(same(cell, p) for p in rule.present):
                continue
            if cell:
                out.append(rule.say or cell)
        return (", " if any(r.say for r in rules) else "\n").join(out)


def _fields(patterns: Mapping[str, NamePattern], record: Record) -> tuple[dict[str, str], str]:
    """What the cells say by their patterns, or why they say nothing."""
    out: dict[str, str] = {}
    for column, pattern in patterns.items():
        cell = record.get(column, "").strip()
        said = pattern.match(cell)
        if said is None:
            return {}, f"{column} is {cell[:40]!r}, not of the form {pattern.text}"
        if any(out.setdefault(k, v) != v for k, v in said.items()):
            return {}, f"its columns {', '.join(patterns)} contradict each other"
    return out, ""


def _joined(before: str, more: str) -> str:
    return before if more in before.split("\n") else "\n".join(filter(None, (before, more)))


def _label(row: ManifestRow, finding: str, rule: LabelRule, cell: str, at: str) -> str:
    """Set a label from a cell; what is wrong with it."""
    try:
        value = rule.value(cell)
    except ValueError as e:
        return str(e)
    if value is None:
        return ""
    return _set(row, finding, value, f"{rule.source}: {cell}", at)


def _set(row: ManifestRow, finding: str, value: float, words: str, at: str) -> str:
    before = row.label_source.get(finding)
    if before is not None and before.value != value:
        row.labels[finding] = None
        row.label_source[finding] = before.model_copy(update={"value": None, "said": "reports differ"})
        return f"{finding} of case {row.case_id} is another than by {before.report}, so unknown"
    row.labels[finding] = int(value) if value.is_integer() else value
    row.label_source[finding] = LabelSource(
        finding=finding, value=value, said="table", sentence=words, report=at
    )
    return ""


def counts_of(rows: Mapping[str, LedgerRow] | list[LedgerRow]) -> dict[str, int]:
    """How many have each status."""
    every = rows.values() if isinstance(rows, Mapping) else rows
    return dict(sorted(Counter(r.status for r in every).items()))
