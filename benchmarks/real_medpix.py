"""MedPix 2.0 through `benchmarks/real.py`: CT and MR pictures of teaching cases, and their words.

A picture finds the text of its own case, among the cases (captions, title, findings, diagnoses) and among
captions alone, and the text finds its pictures; modality, place and plane are told from one picture.
Pictures: a frozen encoder. Text: claims through the labeller (medpix_lexicon.yaml) and words (TF-IDF).
Three judges are added: what both sides say of modality, place, plane, sequence and speciality; a ridge
regression from pictures to texts; and projections onto one sphere (models/coordination.py). Chosen on folds
of the public cases. Claims alone, words alone and the controls go without the projections.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from real_encoder import ENCODER, SIDE, features, kernels
from real_results import Results, Row, mean_row
from real_words import Words, claimed, texts_of
from scipy.sparse import csr_matrix, vstack
from sklearn.model_selection import KFold
from torch import nn

from medfuse.models.coordination import Projection, info_nce_loss
from medfuse.training.budget import Budget

MINUTES = 15.0
FOLDS = 4
KS = (1, 5, 10)
BLOCKS = ("40/grid", "112/grid", "320/grid", "head")
TOLD = ("modality", "place", "plane")
PLANES = {"Axial": "axial", "Transverse": "axial", "Coronal": "coronal", "Sagittal": "sagittal"}
SEQUENCES = (
    "FLAIR",
    "DWI",
    "ADC",
    "T2*",
    "T2",
    "w/G",
    "T1",
    "MRA",
    "PD",
    "CTA",
    "w/contrast",
    "GI & IV",
    "nonc",
)
STRENGTH = 0.3  # of the ridge that tells attributes
SHARP = 8.0  # ridge scores as log-odds
NETWORKS = 3  # pairs of projections that are averaged
STEPS = 150
SHARED = 64


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """One row a picture: case; blocks of the encoder; headers (width, height, bytes); attributes by name (N,)
    as words; captions, case texts and their claims."""

    case: np.ndarray
    blocks: list[np.ndarray]
    headers: np.ndarray
    said: dict[str, np.ndarray]
    captions: list[str]
    cases: list[str]
    claims: csr_matrix


def square(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """A grey picture in the middle of a black square, SIDE pixels a side; its own width and height."""
    with Image.open(path) as f:
        grey = f.convert("L")
    side = max(grey.size)
    wide = Image.new("L", (side, side))
    wide.paste(grey, ((side - grey.width) // 2, (side - grey.height) // 2))
    return np.asarray(wide.resize((SIDE, SIDE), Image.Resampling.BOX)), grey.size


def load(folder: Path) -> Pictures:
    """Every picture of a copy of the set that has a description."""
    images = next((folder / n for n in ("images", "images_256") if (folder / n).is_dir()), folder)
    rows = json.loads((folder / "Descriptions.json").read_text())
    files = {p.stem: p for p in images.iterdir() if p.suffix.lower() in (".jpg", ".png")}
    rows = [r for r in rows if r["image"] in files]
    if not rows:
        raise SystemExit(
            f"{folder}: no picture with a description; lay the set out as published (docs/real.md)"
        )
    whole = texts_of(json.loads((folder / "Case_topic.json").read_text()))
    seen = [square(files[r["image"]]) for r in rows]
    found = features(np.stack([s[0] for s in seen]))
    about = [r["Description"] for r in rows]
    taken = [a.get("Modality") or "" for a in about]
    texts = [f"{a.get('Caption') or ''} {whole.get(r['U_id'], '')}" for a, r in zip(about, rows, strict=True)]
    return Pictures(
        case=np.array([r["U_id"] for r in rows]),
        blocks=[found[b] for b in BLOCKS],
        headers=np.array(
            [[*s[1], files[r["image"]].stat().st_size] for r, s in zip(rows, seen, strict=True)]
        ),
        said={
            "modality": np.array([r["Type"] for r in rows]),
            "place": np.array([r["Location Category"] for r in rows]),
            "plane": np.array([PLANES.get(a.get("Plane") or "", "none") for a in about]),
            "sequence": np.array([next((s for s in SEQUENCES if s in t), "other") for t in taken]),
            "speciality": np.array([r["Location"] or "" for r in rows]),
        },
        captions=[a.get("Caption") or "" for a in about],
        cases=texts,
        claims=claimed(texts),
    )


def joined(a: Pictures, b: Pictures) -> Pictures:
    """Those of both."""
    return Pictures(
        case=np.concatenate([a.case, b.case]),
        blocks=[np.concatenate(pair) for pair in zip(a.blocks, b.blocks, strict=True)],
        headers=np.concatenate([a.headers, b.headers]),
        said={k: np.concatenate([a.said[k], b.said[k]]) for k in a.said},
        captions=a.captions + b.captions,
        cases=a.cases + b.cases,
        claims=vstack([a.claims, b.claims]).tocsr(),
    )


Kernels = tuple[np.ndarray, np.ndarray]  # (T, T) among training rows, (len(test), T)


def told(k: Kernels, words: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chances (len(test), C) of each value of an attribute by ridge regression, the values, and how frequent
    each is."""
    names = np.unique(words[train])
    target = (words[train][:, None] == names).astype(float)
    mean = target.mean(0)
    alpha = np.linalg.solve(k[0] + STRENGTH * np.eye(len(train)), target - mean)
    score = SHARP * (k[1] @ alpha + mean)
    chance = np.exp(score - score.max(1, keepdims=True))
    return chance / chance.sum(1, keepdims=True), names, mean


def level(x: np.ndarray) -> np.ndarray:
    """No text is everybody's favourite: standardised over the pictures."""
    return (x - x.mean(0)) / (x.std(0) + 1e-6)


def agreement(p: Pictures, image: Kernels, text: Kernels, train: np.ndarray) -> np.ndarray:
    """(pictures, texts): log of how much likelier the two are of one kind than by chance, over attributes."""
    out: np.ndarray | float = 0.0
    for words in p.said.values():
        a, _, mean = told(image, words, train)
        b, _, _ = told(text, words, train)
        out = out + np.log((a / np.maximum(mean, 0.01)) @ b.T + 1e-6)
    return np.asarray(out) / (np.std(out) + 1e-6)


def regressed(image: Kernels, text: Kernels) -> np.ndarray:
    """(pictures, texts): cosine of the text that ridge regression expects of a picture with each text."""
    weight = image[1] @ np.linalg.inv(image[0] + np.eye(len(image[0])))
    expected = weight @ (text[1] - text[1].mean(0)).T
    length = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", weight, text[0], weight), 1e-12))
    return level(expected / length[:, None])


def axes(k: Kernels, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first n kernel principal components of training and test rows."""
    mean = k[0].mean(0)
    own = k[0] - mean - mean[:, None] + mean.mean()
    other = k[1] - mean - k[1].mean(1, keepdims=True) + mean.mean()
    values, vectors = np.linalg.eigh(own)
    values, vectors = np.maximum(values[::-1][:n], 1e-9), vectors[:, ::-1][:, :n]
    x = vectors * np.sqrt(values)
    y = other @ vectors / np.sqrt(values)
    return torch.tensor(x / x.std()).float(), torch.tensor(y / x.std()).float()


def coordinated(image: Kernels, text: Kernels, same: np.ndarray, seed: int) -> np.ndarray:
    """(pictures, texts): cosines on the shared sphere, summed over networks. same: (T, T) of one case."""
    (xa, ya), (xb, yb) = axes(image, 150), axes(text, 200)
    out = np.zeros((len(ya), len(yb)))
    for k in range(NETWORKS):
        torch.manual_seed(seed + k)
        a, b = Projection(xa.shape[1], SHARED), Projection(xb.shape[1], SHARED)
        scale = nn.Parameter(torch.tensor(2.3))
        rate = torch.optim.AdamW([*a.parameters(), *b.parameters(), scale], 2e-3, weight_decay=0.3)
        for _ in range(STEPS):
            at = torch.randperm(len(xa))[:256]
            left, right = (nn.functional.dropout(x[at], 0.3) for x in (xa, xb))
            ignore = torch.from_numpy(same[np.ix_(at.numpy(), at.numpy())])
            loss = info_nce_loss(a(left), b(right), scale.exp(), ignore)
            rate.zero_grad()
            loss.backward()
            rate.step()
        with torch.no_grad():
            out += level((a(ya) @ b(yb).T).numpy())
    return out


def matched(p: Pictures, image: Kernels, text: Kernels, train: np.ndarray) -> np.ndarray:
    """(pictures, texts) of the test rows: the sum of the two judges that need no training loop."""
    return agreement(p, image, text, train) + 0.6 * regressed(image, text)


def best_of(score: np.ndarray, case: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (N, texts) of each case's best text (N, cases), and the cases."""
    names = np.unique(case)
    return np.stack([score[:, case == n].max(1) for n in names], 1), names


def hits(score: np.ndarray, asked: np.ndarray, of: np.ndarray) -> dict[str, np.ndarray]:
    """Whether one of the first k answers is of the asker's case. asked: (N,) the askers' cases; of: (M,)
    those of the answers."""
    order = np.argsort(-score, axis=1, kind="stable")
    own = asked[:, None] == of[order]
    return {f"r{k}": own[:, :k].any(1).astype(float) for k in KS}


Found = dict[str, list[tuple[np.ndarray, dict[str, np.ndarray]]]]  # by row: (cases, values by metric)


def retrieval(found: Found, name: str, score: np.ndarray, case: np.ndarray) -> None:
    """Both directions among cases, and among captions."""
    cases, names = best_of(score, case)
    found.setdefault(f"image->case{name}", []).append((case, hits(cases, case, names)))
    found.setdefault(f"case->image{name}", []).append((names, hits(cases.T, names, case)))
    found.setdefault(f"image->caption{name}", []).append((case, hits(score, case, case)))


def attributes(found: Found, name: str, p: Pictures, image: Kernels, rows: tuple[np.ndarray, ...]) -> None:
    """Accuracy of what is told of one picture; a picture without one of three planes is not asked for it.
    rows: train, test and the rows that are learned from in their stead."""
    train, test, learned = rows
    right = {}
    for what in TOLD:
        chance, values, _ = told(image, p.said[what][learned], np.arange(len(train)))
        if what == "plane":
            chance = np.where(values == "none", 0, chance)
        value = (values[chance.argmax(1)] == p.said[what][test]).astype(float)
        right[f"accuracy_{what}"] = np.where(p.said[what][test] == "none", np.nan, value)
    found.setdefault(name, []).append((p.case[test], right))


def together(found: Found, p: Pictures, image: Kernels, train: np.ndarray, test: np.ndarray) -> None:
    """Place of cases with both CT and MR, from the pictures of either and of both."""
    chance, values, _ = told(image, p.said["place"], train)
    case, kind, place = p.case[test], p.said["modality"][test], p.said["place"][test]
    both = [n for n in np.unique(case) if len(np.unique(kind[case == n])) > 1]
    for name, some in (("CT", ["CT"]), ("MR", ["MR"]), ("CT+MR", ["CT", "MR"])):
        right = []
        for n in both:
            at = (case == n) & np.isin(kind, some)
            mean = np.mean([chance[at & (kind == k)].mean(0) for k in some], 0)
            right.append(float(values[mean.argmax()] == place[at][0]))
        if both:
            row = (np.array(both), {"accuracy_place": np.array(right)})
            found.setdefault(f"case with both: {name}", []).append(row)


def one_split(p: Pictures, train: np.ndarray, test: np.ndarray, seed: int) -> Found:
    """Rows and controls of one split."""
    found: Found = {}
    rng = np.random.default_rng(seed)
    case = p.case[test]
    image = kernels(p.blocks, train, test)
    words = Words(p.captions, p.cases, p.claims, train)
    text = words.kernels(train, test)
    attributes(found, "one image", p, image, (train, test, train))
    together(found, p, image, train, test)
    two = matched(p, image, text, train)
    same = p.case[train][:, None] == p.case[train]
    retrieval(found, "", two + 0.2 * coordinated(image, text, same, seed), case)
    retrieval(found, ", without projections", two, case)
    for name, part in (("claims", ("claims",)), ("words", ("caption words", "case words"))):
        alone = words.kernels(train, test, part)
        retrieval(found, f", {name} alone", matched(p, image, alone, train), case)
    headers = kernels([p.headers], train, test)
    size = kernels([p.headers[:, :2]], train, test)
    for name, seen in (("headers only", headers), ("size only", size)):
        attributes(found, name, p, seen, (train, test, train))
        retrieval(found, f", {name}", matched(p, seen, text, train), case)
    wrong = rng.permutation(len(train))
    attributes(found, "shuffled labels", p, image, (train, test, train[wrong]))
    mixed = (image[0][np.ix_(wrong, wrong)], image[1][:, wrong])
    retrieval(found, ", shuffled pairs", matched(p, mixed, text, train), case)
    known = sum((p.said[k][test][:, None] == p.said[k][test]).astype(float) for k in TOLD)
    noise = 0.5 * rng.random((len(test), len(test)))
    retrieval(found, ", knows modality, place and plane", known + noise, case)
    return found


def row_of(parts: list[tuple[np.ndarray, dict[str, np.ndarray]]], seed: int) -> Row:
    """One row over all folds, its intervals by case."""
    case = np.concatenate([c for c, _ in parts])
    return mean_row({m: np.concatenate([v[m] for _, v in parts]) for m in parts[0][1]}, case, seed)


CONTROLS = ("headers", "size", "shuffled", "knows")


def run(train: Path | None, test: Path | None, budget: Budget, seed: int) -> Results:
    """Train on the one folder, test on the other; without them, folds of the shared copy. The budget is not
    needed: what is slow is the encoder, once a picture."""
    started = time.monotonic()
    if train is None or test is None:
        p = load(Path(os.environ.get("MEDFUSE_SHARED", "../shared")) / "data/cohorts/medpix2")
        names = np.unique(p.case)
        folds = KFold(FOLDS, shuffle=True, random_state=seed).split(names)
        splits = [
            (np.flatnonzero(np.isin(p.case, names[a])), np.flatnonzero(np.isin(p.case, names[b])))
            for a, b in folds
        ]
    else:
        mine, other = load(train), load(test)
        p = joined(mine, other)
        own = ~np.isin(mine.case, other.case)
        if not own.any():
            raise SystemExit(f"{train}: holds no case that {test} does not hold")
        splits = [(np.flatnonzero(own), np.arange(len(mine.case), len(p.case)))]
    found: Found = {}
    for k, (a, b) in enumerate(splits):
        for name, parts in one_split(p, a, b, seed + 10 * k).items():
            found.setdefault(name, []).extend(parts)
    every = {name: row_of(parts, seed) for name, parts in found.items()}
    controls = {n: r for n, r in every.items() if any(w in n for w in CONTROLS)}
    return Results(
        set="medpix",
        n_train=len(np.unique(p.case[splits[0][0]])),
        n_test=sum(len(np.unique(p.case[b])) for _, b in splits),
        rows={n: r for n, r in every.items() if n not in controls},
        controls=controls,
        minutes=round((time.monotonic() - started) / 60, 2),
        seed=seed,
        folds=FOLDS if train is None else 0,
        notes={
            "encoder": ENCODER,
            "images": sum(len(b) for _, b in splits),
            "candidates": "those of one fold",
        },
    )
