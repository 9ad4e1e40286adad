"""Tokens of encoders from disk for a whole manifest, from the original series: computed once, and kept under
the hash of weights, contract and files."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ...errors import UserError
from ...io.manifest import ManifestRow
from ...io.names import plain_name
from ...io.read import open_case
from ...models.feature_set import FeatureSet
from ...models.features import CaseFeatures
from ...models.pretrained.borrowed import Borrowed, of_task
from ...models.pretrained.inputs import Laid
from ...models.pretrained.used import ForeignEncoder
from ...task import Task
from ..distributed import first_alone
from ..identity import Identity, files_of
from ..options import TrainingRun
from .features import read_features, write_features

VERSION = 1  # of what this file writes: another one is computed anew
Ready = list[tuple[int, list[tuple[int, Laid]]]]  # number of the encoder → its inputs


def encoder_problems(task: Task, home: Path) -> list[str]:
    """What is wrong with the encoders from disk that a task names: the first fault, or nothing."""
    try:
        of_task(task, home)
    except UserError as e:
        return [str(e)]
    return []


@dataclass(frozen=True, kw_only=True)
class BorrowedTokens:
    """What encoders from disk gave of all cases, and what the bundle remembers of them. adapters: what was
    learned of those that are tuned, by number/name."""

    used: tuple[ForeignEncoder, ...]
    cases: list[CaseFeatures]
    adapters: dict[str, Tensor] = field(default_factory=dict)

    def add_to(self, cases: list[CaseFeatures]) -> None:
        """Add the tokens to what else is known of these cases."""
        for case, more in zip(cases, self.cases, strict=True):
            case.add_all(more)


def borrowed_tokens(run: TrainingRun, encoders: list[Borrowed]) -> BorrowedTokens:
    """Tokens of a training's cases, kept in its folder; under torchrun the first process computes them."""

    def show(done: int, total: int) -> None:
        if encoders and (done % 20 == 0 or done == total):
            run.log(f"tokens of encoders from disk: {done} of {total}")

    with first_alone():
        cases = foreign_features(
            run.task, encoders, run.rows, run.work, device=run.options.device, progress=show
        )
    learned = {f"{n}/{k}": v for n, e in enumerate(encoders) for k, v in e.adapter.items()}
    return BorrowedTokens(used=tuple(e.used for e in encoders), cases=cases, adapters=learned)


def foreign_features(
    task: Task,
    encoders: list[Borrowed],
    rows: list[ManifestRow],
    cache: Path | None,
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[CaseFeatures]:
    """The tokens of every encoder for every case. The next case is read and laid out while this one is
    computed; what ``cache`` holds of the same weights, contract and files is not computed again."""
    out = [CaseFeatures() for _ in rows]
    todo: list[tuple[int, list[int]]] = []
    for n, row in enumerate(rows):
        lacking = [e for e, one in enumerate(encoders) if not _take(out[n], one, task, row, cache)]
        if lacking:
            todo.append((n, lacking))

    def ready(job: tuple[int, list[int]]) -> Ready:
        n, lacking = job
        images = open_case(rows[n], allow_empty=True).images
        return [
            (e, encoders[e].laid(images, task.modalities[encoders[e].used.modality].roles)) for e in lacking
        ]

    progress(len(rows) - len(todo), len(rows))
    with ThreadPoolExecutor(1) as pool:
        ahead = deque(pool.submit(ready, job) for job in todo[:2])
        for done, (n, _) in enumerate(todo, len(rows) - len(todo) + 1):
            laid = ahead.popleft().result()
            if (after := done - len(rows) + len(todo) + 1) < len(todo):
                ahead.append(pool.submit(ready, todo[after]))
            for e, inputs in laid:
                _compute(out[n], encoders[e], task, rows[n], cache, inputs, device)
            progress(done, len(rows))
    return out


def with_foreign(
    every: FeatureSet, task: Task, encoders: list[Borrowed], rows: list[ManifestRow], cache: Path | None
) -> FeatureSet:
    """The same cases with the tokens of encoders from disk added."""
    for case, more in zip(every.features, foreign_features(task, encoders, rows, cache), strict=True):
        case.add_all(more)
    return every


def _compute(
    case: CaseFeatures,
    one: Borrowed,
    task: Task,
    row: ManifestRow,
    cache: Path | None,
    inputs: list[tuple[int, Laid]],
    device: str,
) -> None:
    found = CaseFeatures()
    one.add(found, inputs, device)
    if cache is not None:
        path = _place(cache, one, row)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_features(path, one.used.key, [found], _made_from(one, task, row))
    case.add_all(found)


def _take(case: CaseFeatures, one: Borrowed, task: Task, row: ManifestRow, cache: Path | None) -> bool:
    """Whether the cache held the tokens of an encoder for a case, which are then in ``case``."""
    if cache is None:
        return False
    kept = read_features(_place(cache, one, row), one.used.key, 1, _made_from(one, task, row))
    if kept is not None:
        case.add_all(kept[0])
    return kept is not None


def _place(cache: Path, one: Borrowed, row: ManifestRow) -> Path:
    encoder = f"{plain_name(one.used.id)}-{one.hash[:16]}{one.hash[64:80]}"
    return cache / "foreign" / encoder / f"{plain_name(row.case_id)}.safetensors"


def _made_from(one: Borrowed, task: Task, row: ManifestRow) -> Identity:
    return Identity.of(
        {
            "the encoder": one.hash,
            "the roles": task.modalities[one.used.modality].roles,
            "the images": [i.model_dump(exclude={"mask"}) for i in row.images],
            "the folder": str(row.root),
            "their files": files_of([row]),
            "the version": VERSION,
        }
    )
