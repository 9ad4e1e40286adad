"""`medfuse cohort build --recipe`: a folder of images and tables → ledger.csv, manifest.jsonl, cohort.json
and cohort.html."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .. import __version__
from ..errors import OutputError, UserError, os_fault
from ..io.manifest import ManifestImage, ManifestRow, write_rows
from ..io.sidecar import VOLUME_SUFFIXES
from ..task import Task
from .build import counted
from .cases import link
from .folder import Files, files_in
from .ledger import LedgerRow, write_ledger
from .named import NamePattern
from .page import write_page
from .recipe import Recipe, read_recipe
from .results import CohortFile, SourceFile, sha256_of
from .split import split_rows
from .tabulate import Found, Tabulated, counts_of, tabulate
from .twins import group_cases

NOTHING = "no label of the task and no label map"


@dataclass(frozen=True, kw_only=True)
class RecipeRequest:
    """What a user gave to `medfuse cohort build --recipe`."""

    folder: Path
    recipe: Path
    task: Task
    out: Path
    seed: int = 0


def build_by_recipe(request: RecipeRequest) -> CohortFile:
    """Make or remake a cohort in ``request.out``.

    Raises WrongUse for what does not fit together, UserError for a recipe or a table that cannot be read,
    OutputError where the results cannot be written.
    """
    recipe = read_recipe(request.recipe, request.task)
    files = files_in(request.folder, request.out)
    if not files.files:
        raise UserError(f"{request.folder}: holds no file; give the folder of the images and tables")
    made = tabulate(files, recipe, request.task)
    _leave_recipe(request.recipe, files, made)
    excluded = _exclude(made, request.task)
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        for image in _kept(made):
            made.rows[image.case_id].images.append(_image(image, files, request.out))
        twins = _group(made, files)
        rows = list(made.rows.values())
        split_rows(rows, request.seed)
        return _write(request, recipe, made, rows, excluded, twins)
    except OSError as e:
        raise OutputError(
            f"{request.out}: cannot be written ({os_fault(e)}); free space or choose another --out, then "
            "run the same line again"
        ) from e


def _leave_recipe(recipe: Path, files: Files, made: Tabulated) -> None:
    """The recipe itself may lie among the images."""
    for name, path in files.files.items():
        if made.files[name].status == "refused" and path.samefile(recipe):
            made.note(name, "ignored", "", reason="the recipe")


def _kept(made: Tabulated) -> list[Found]:
    return [i for i in made.images.values() if i.status == "linked"]


def _exclude(made: Tabulated, task: Task) -> Counter[str]:
    """Take out cases without images, and those that nothing can be learned from."""
    here: dict[str, list[Found]] = {}
    for image in _kept(made):
        here.setdefault(image.case_id, []).append(image)
    out: Counter[str] = Counter()
    for case, row in list(made.rows.items()):
        images = here.get(case, [])
        labelled = any(v is not None for v in row.labels.values())
        if images and (labelled or (task.dense and any(i.mask for i in images))):
            continue
        del made.rows[case]
        if images:
            out[NOTHING] += 1
        for image in images:
            made.settle(image, "unresolved", f"its case {case} has {NOTHING}")
    return out


def _image(image: Found, files: Files, out: Path) -> ManifestImage:
    """As the manifest names it: where it lies, or linked into the cohort beside what its sidecar says."""
    name = image.name.removesuffix("/")
    folder = image.name.endswith("/")
    path = files.files[image.inside[0]].parent if folder else files.files[name]
    mask = files.files[image.mask] if image.mask else None
    if image.rule.says and not folder:
        path, mask = _with_sidecar(image, path, mask, out)
    return ManifestImage(
        path=_relative(path, out),
        modality=image.modality,
        role=image.role,
        mask=_relative(mask, out) if mask else "",
        frame_of_reference=NamePattern.of(image.rule.frame).filled(image.fields) if image.rule.frame else "",
    )


def _with_sidecar(image: Found, path: Path, mask: Path | None, out: Path) -> tuple[Path, Path | None]:
    """Links of an image and its mask under OUT/images, with a JSON that states what its format cannot."""
    home = out / "images" / Path(image.name).parent
    home.mkdir(parents=True, exist_ok=True)
    suffix = next((s for s in VOLUME_SUFFIXES if path.name.lower().endswith(s)), path.suffix)
    side = {"Modality": image.modality, **image.rule.says}
    stem = path.name[: len(path.name) - len(suffix)]
    (home / f"{stem}.json").write_text(json.dumps(side), encoding="utf-8")
    for file in filter(None, (path, mask)):
        (home / file.name).unlink(missing_ok=True)  # the file may be another since the last run
        link(file, home / file.name)
    if mask is None:
        return home / path.name, None
    return home / path.name, home / mask.name


def _relative(path: Path, out: Path) -> str:
    """Under the cohort's folder as a manifest may name it, else whole."""
    found = path.resolve()
    return found.relative_to(out.resolve()).as_posix() if found.is_relative_to(out.resolve()) else str(found)


def _group(made: Tabulated, files: Files) -> list[list[str]]:
    """Set each row's group: cases of one patient, and those that hold the same file; the groups of several
    patients."""
    sizes: dict[int, list[Found]] = {}
    for image in (i for i in _kept(made) if not i.name.endswith("/") and i.case_id in made.rows):
        sizes.setdefault(files.files[image.name].stat().st_size, []).append(image)
    digests: dict[str, list[str]] = {}
    for image in (i for same in sizes.values() if len(same) > 1 for i in same):
        digests.setdefault(image.case_id, []).append(sha256_of(files.files[image.name]))
    groups = group_cases({c: r.patient_id for c, r in made.rows.items()}, digests, {})
    members: dict[str, list[ManifestRow]] = {}
    for row in made.rows.values():
        row.group = groups[row.case_id]
        members.setdefault(row.group, []).append(row)
    return [[r.case_id for r in m] for m in members.values() if len({r.patient_id for r in m}) > 1]


def _write(
    request: RecipeRequest,
    recipe: Recipe,
    made: Tabulated,
    rows: list[ManifestRow],
    excluded: Counter[str],
    twins: list[list[str]],
) -> CohortFile:
    out = request.out
    ledger: list[LedgerRow] = [*made.files.values(), *made.lines]
    write_ledger(out / "ledger.csv", ledger)
    write_rows(out / "manifest.jsonl", rows)
    result = CohortFile(
        version=__version__,
        task=request.task.name,
        archive=str(request.folder),
        sources=[
            SourceFile(
                name=t.path,
                sha256=sha256_of(request.folder / t.path),
                encoding=made.encodings[t.path],
                messages=made.tables[t.path],
            )
            for t in recipe.tables
        ],
        window=0,
        possible="ignore",
        seed=request.seed,
        reports=0,
        studies=0,
        linked=0,
        unresolved=0,
        refused=0,
        by_rule={},
        cases=len(rows),
        excluded=dict(excluded),
        funnel=[],
        splits=dict(Counter(r.split for r in rows)),
        findings={f.id: counted(f.id, rows) for f in request.task.findings},
        twins=twins,
        comparison_sentences=0,
        simulated=False,
        manifest="manifest.jsonl",
        ledger="ledger.csv",
        sha256={name: sha256_of(out / name) for name in ("manifest.jsonl", "ledger.csv")},
        recipe=sha256_of(request.recipe),
        files=counts_of(made.files),
        rows=counts_of(made.lines),
    )
    (out / "cohort.json").write_text(result.model_dump_json(indent=1) + "\n", encoding="utf-8")
    write_page(out / "cohort.html", result, {f.id: f.label("en") for f in request.task.findings})
    return result
