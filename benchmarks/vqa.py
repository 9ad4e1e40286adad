"""VQA-RAD from scratch, two splits of trainset.json side by side: image-disjoint 5-fold, and a random split
of questions (which leaks).

    python benchmarks/vqa.py --data ../shared/data/vqa/vqa_rad [--seeds 3] [--search] [--json]

Every table has its controls. ``--search`` scores kernel weights by image-disjoint folds of a seed that the
tables do not use.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import product
from pathlib import Path

import numpy as np

from medfuse.task import VqaTask, load_any_task
from medfuse.vqa.answerer import Answerer, Examples, examples
from medfuse.vqa.evaluate import accuracies, clustered_difference, controls, question_only
from medfuse.vqa.questions import read_questions
from medfuse.vqa.train import FOLDS, picture_folds

ROWS = ("overall", "open", "closed", "question_only", "blank", "shuffled", "shuffled_within_organ")


def look_up(seen: Examples, asked: Examples) -> list[str]:
    """The leak made plain: the answer to the most alike question on the same picture, without looking at
    it."""
    model = Answerer.fit(
        load_any_task("vqa").model_copy(
            update={"weights": {"question": 1.0, "organ": 0.0, "image": 0.0, "same": 0.0}}
        ),
        seen,
    )
    k = model.kernel(asked.questions, asked.features[asked.picture])
    k = k + 10.0 * (asked.picture[:, None] == seen.picture[None])
    return [seen.answers[i] for i in k.argmax(1)]


def run(
    task: VqaTask, data: Examples, closed: np.ndarray, fold: np.ndarray, seed: int, leak: bool
) -> tuple[dict, dict]:
    right = {
        k: np.zeros(len(fold), bool)
        for k in ("overall", "question_only", "blank", "shuffled", "shuffled_within_organ", "look_up")
    }
    done = np.zeros(len(fold), bool)
    for k in range(FOLDS):
        test = fold == k
        seen = data.pick(~test)
        asked = data.pick(test)
        model = Answerer.fit(task, seen)
        _, part = controls(model, asked, closed[test], seed=seed, alone=question_only(model))
        for name, values in part.items():
            right[name][test] = values
        right["look_up"][test] = np.array(look_up(seen, asked)) == np.array(asked.answers)
        done |= test
        if leak and k == 0:
            break  # one split, as published
    table: dict = accuracies(right["overall"][done], closed[done]).model_dump()
    table |= {k: round(float(100 * v[done].mean()), 2) for k, v in right.items() if k != "overall"}
    for other in ("question_only", "shuffled_within_organ"):
        table[f"minus_{other}"] = clustered_difference(
            right["overall"][done], right[other][done], data.picture[done], seed=seed
        ).model_dump()
    return table, right


def search(task: VqaTask, data: Examples) -> list[tuple[float, dict]]:
    fold = picture_folds(data.picture, 999)
    out = []
    for organ, image, ridge, width in product((0.2, 0.35, 0.5), (0.15, 0.35), (0.1, 0.3, 0.6), (1.0, 2.0)):
        weights = {"question": 0.3, "organ": organ, "image": image, "same": 1.0}
        tried = task.model_copy(update={"weights": weights, "ridge": ridge, "width": width})
        right = []
        for k in range(FOLDS):
            seen = data.pick(fold != k)
            asked = data.pick(fold == k)
            right += list(
                np.array(Answerer.fit(tried, seen).predict(asked.questions, asked.features[asked.picture]))
                == np.array(asked.answers)
            )
        out.append(
            (round(100 * float(np.mean(right)), 2), {"weights": weights, "ridge": ridge, "width": width})
        )
        print(out[-1], flush=True)
    return sorted(out, key=lambda x: -x[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    started = time.monotonic()
    task = load_any_task("vqa")
    assert isinstance(task, VqaTask)
    rows = read_questions(a.data / "trainset.json", a.data / "images")
    data = examples(rows, a.data / "images")
    closed = np.array([r.closed for r in rows])
    if a.search:
        for score, values in search(task, data)[:5]:
            print(score, values)
        return
    result: dict = {"image_disjoint": [], "random_questions": []}
    for seed in range(a.seeds):
        result["image_disjoint"].append(
            run(task, data, closed, picture_folds(data.picture, seed), seed, False)[0]
        )
        fold = np.random.default_rng(seed).permutation(len(rows)) % FOLDS
        result["random_questions"].append(run(task, data, closed, fold, seed, True)[0])
    result["seconds"] = round(time.monotonic() - started, 1)
    if a.json:
        print(json.dumps(result))
        return
    for split in ("image_disjoint", "random_questions"):
        print(f"\n{split}, {a.seeds} seeds\n| | mean | sd |\n|---|---|---|")
        for name in (*ROWS, "look_up"):
            values = [t[name] for t in result[split]]
            print(f"| {name.replace('_', ' ')} | {np.mean(values):.1f} | {np.std(values):.2f} |")
        for other in ("question_only", "shuffled_within_organ"):
            print(
                f"minus {other}: "
                + "; ".join(
                    f"{t[f'minus_{other}']['points']:+.1f} [{t[f'minus_{other}']['low']:+.1f}, "
                    f"{t[f'minus_{other}']['high']:+.1f}]"
                    for t in result[split]
                )
            )
    print(f"{result['seconds']} s")


if __name__ == "__main__":
    main()
