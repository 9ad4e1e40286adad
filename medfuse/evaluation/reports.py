"""`medfuse evaluate BUNDLE --stage report`: the words of the composer and the writer against the truth, with the controls that BLEU forgets.

Clinical figures compare what a report says (by the labeller) with the labels of the manifest, never with what a reference report says.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from .. import __version__
from ..case import Case
from ..drafting import written_words
from ..errors import UserError
from ..io.manifest import ManifestRow, load_row, read_manifest
from ..models.bundle import Bundle, load_bundle
from ..predict import SUPPORTED, Predicted, predict_case
from ..prediction import Place, Prediction
from ..report import Report
from ..reporting.check import check_sentence, checked_report
from ..reporting.compose import compose
from ..reporting.labeller import Lexicon, label, task_lexicon
from ..reporting.sections import parse_sections, split_sentences
from ..task import Task
from .feature_set import label_matrix
from .text import METRICS, diversity, text_scores

POINTED = 0.5  # probability from which evidence must hit
RANDOM_BUNDLE = "randomised weights"


@dataclass
class _Row:
    """What one case gave: the truth, and the texts by who wrote them."""

    case_id: str
    labels: np.ndarray
    reference: str
    embedding: np.ndarray
    texts: dict[str, str] = field(default_factory=dict)
    said: dict[str, dict[str, bool]] = field(default_factory=dict)  # by writer: finding → affirmed
    head: dict[str, bool] = field(default_factory=dict)
    untraced: int = 0
    sentences: int = 0
    unsupported_before: tuple[int, int] = (0, 0)
    unsupported_after: tuple[int, int] = (0, 0)
    hits: dict[str, list[bool]] = field(default_factory=dict)
    seconds: float = 0.0


def narrative(report: Report) -> str:
    """The sentences on findings and the impression, as one text."""
    parts = [
        x.text
        for s in report.sections
        if s.id in ("findings", "impression")
        for x in s.sentences
        if x.finding and x.assertion != "not_assessed"
    ]
    return " ".join(parts)


def affirmed(report: Report) -> dict[str, bool]:
    """Finding → whether the report says it is there, likely or possible. A finding narrower than another also affirms that one."""
    out: dict[str, bool] = {}
    for section in report.sections:
        if section.id in ("findings", "impression"):
            for x in section.sentences:
                if x.finding:
                    there = x.assertion in ("present", "possible") and (x.probability or 0) >= SUPPORTED
                    out[x.finding] = out.get(x.finding, False) or there
    return out


def said_of(text: str, lexicon: Lexicon) -> dict[str, bool]:
    return {k: v in ("present", "possible") for k, v in label(text, lexicon).items()}


def _widen(said: dict[str, bool], task: Task) -> dict[str, bool]:
    out = {f.id: said.get(f.id, False) for f in task.findings}
    for f in task.findings:
        if f.derived_from and any(out.get(p, False) for p in f.derived_from):
            out[f.id] = True
    return out


def evaluate_reports(
    bundle: Bundle, manifest: Path, *, split: str | None = None, seed: int = 0, out: Path | None = None, language: str = "en",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict:  # fmt: skip
    """The table: clinical precision, recall and F1 by writer, text metrics, diversity, support, evidence, and the controls."""
    started = time.perf_counter()
    lexicon = task_lexicon(bundle.task)
    if lexicon is None:
        raise UserError(f"task {bundle.task.name} has no lexicon.yaml beside it; words cannot be labelled without one")
    every = read_manifest(manifest)
    wanted = split or ("test" if any(r.split == "test" for r in every) else None)
    chosen = [r for r in every if (wanted is None or r.split == wanted) and (r.reports.get(language) or r.report)]
    if len(chosen) < 2:
        raise UserError(
            f"{manifest}: fewer than two cases of split {wanted} have a report; there is nothing to compare"
        )
    train = [r for r in every if r.split == "train" and (r.reports.get(language) or r.report)] or chosen
    labels = label_matrix(bundle.task, chosen)
    random = randomised(bundle, seed)
    rows, refused = [], []
    for n, row in enumerate(chosen):
        case, masks = load_row(row, with_masks=True)
        refused += [f"{row.case_id}: {r.path}: {r.reason}" for r in case.refused]
        if case.images:
            if row.simulated:
                case.state_simulated()
            rows.append(_one(bundle, random, row, case, masks, labels[n], lexicon, language))
        progress(n + 1, len(chosen))
    result = _tables(bundle, rows, train, lexicon, language, seed)
    result |= {
        "refused": refused, "manifest": str(manifest), "split": wanted, "language": language, "seed": seed,
        "bundle": {"name": bundle.name, "hash": bundle.hash}, "seconds": round(time.perf_counter() - started, 1),
        "machine": f"{platform.machine()}, torch {torch.__version__}, medfuse {__version__}",
    }  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        (out / "reports.json").write_text(json.dumps(result, indent=1))
        (out / "reports.md").write_text(report_markdown(result))
        texts = [{"case_id": r.case_id, "reference": r.reference, **r.texts} for r in rows]
        (out / "texts.jsonl").write_text("".join(json.dumps(t, ensure_ascii=False) + "\n" for t in texts))
    return result


def randomised(bundle: Bundle, seed: int) -> Bundle:
    """The same bundle with encoder weights drawn anew: evidence that stays right with them comes from anatomy, not the model."""
    other = load_bundle(bundle.path)
    torch.manual_seed(seed)
    for parameter in other.model.encoders.parameters():
        with torch.no_grad():
            parameter.copy_(parameter.flatten()[torch.randperm(parameter.numel())].view_as(parameter))
    return other


def _one(
    bundle: Bundle, random: Bundle, row: ManifestRow, case: Case, masks: dict[int, np.ndarray], labels: np.ndarray, lexicon: Lexicon,
    language: str,
) -> _Row:  # fmt: skip
    task = bundle.task
    predicted = predict_case(case, bundle)
    prediction = predicted.prediction
    reference = row.reports.get(language) or row.report
    out = _Row(row.case_id, labels, reference, np.array(prediction.embedding.get("joint", [0.0])))
    if not prediction.in_domain:
        return out
    out.head = {f.id: f.assessed and (f.probability or 0) >= SUPPORTED for f in prediction.findings}
    composed = compose(prediction, case, task, language)
    out.texts["structured"], out.said["structured"] = narrative(composed), affirmed(composed)
    if bundle.writer is not None:
        started = time.perf_counter()
        words = written_words(bundle, predicted, language)
        report = checked_report(words, prediction, case, task, language, writer="learned")
        out.seconds = time.perf_counter() - started
        out.texts["learned, unchecked"] = words
        out.said["learned, unchecked"] = said_of(words, lexicon)
        out.texts["learned"], out.said["learned"] = narrative(report), said_of(narrative(report), lexicon)
        _support(out, words, report, prediction, task, lexicon)
    _trace(out, composed, prediction)
    _point(out, predicted, case, masks, labels, task, "model")
    _point(out, predict_case(case, random), case, masks, labels, task, RANDOM_BUNDLE)
    return out


def _support(out: _Row, words: str, report: Report, prediction: Prediction, task: Task, lexicon: Lexicon) -> None:
    """Sentences that the checker would not let stand, as written and in the report that it made, by the same rule."""

    def bad(sentences: list[str]) -> tuple[int, int]:
        told = [x for x in sentences if any(label(x, lexicon).values())]
        verdicts = [check_sentence(x, prediction, task, lexicon, has_prior=False).action for x in told]
        return sum(v in ("dropped", "hedged") for v in verdicts), len(told)

    out.unsupported_before = bad([x for part in parse_sections(words).values() for x in split_sentences(part)])
    out.unsupported_after = bad(split_sentences(narrative(report)))


def _trace(out: _Row, report: Report, prediction: Prediction) -> None:
    """Every sentence that claims something must name a finding of the prediction."""
    known = {f.id for f in prediction.findings}
    for section in report.sections:
        if section.id in ("findings", "impression"):
            for x in section.sentences:
                if x.assertion in ("present", "possible", "absent"):
                    out.sentences += 1
                    out.untraced += x.finding not in known


def _point(out: _Row, predicted: Predicted, case: Case, masks: dict, labels: np.ndarray, task: Task, who: str) -> None:
    """Pointing game on true focal findings with p of at least POINTED: the centre of the surest place lies on a true lesion of it."""
    for n, record in enumerate(predicted.prediction.findings):
        finding = task.finding(record.id)
        if finding.group != "focal" or labels[n] != 1 or (record.probability or 0) < POINTED or not record.assessed:
            continue
        classes = [task.dense.index(task.finding(p).lesion_class) for p in (finding.derived_from or (finding.id,)) if task.finding(p).lesion_class]  # fmt: skip
        hit = [h for place in record.evidence[:1] if (h := on_lesion(place, case, masks, classes)) is not None]
        out.hits.setdefault(who, []).append(bool(hit and hit[0]))


def on_lesion(place: Place, case: Case, masks: dict[int, np.ndarray], classes: list[int]) -> bool | None:
    """Whether the middle of a place's box lies on a voxel of these classes, one voxel of tolerance; None without a label map."""
    mask = masks.get(place.image)
    if mask is None or place.box_voxels is None:
        return None
    low, high = (np.asarray(v) for v in place.box_voxels)
    middle = np.round((low + high) / 2).astype(int)
    if place.frame is not None:
        plane = mask[place.frame]
        y, x = int(middle[1]), int(middle[0])
        near = plane[max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
    else:
        i, j, k = (int(v) for v in middle)
        near = mask[max(0, i - 1) : i + 2, max(0, j - 1) : j + 2, max(0, k - 1) : k + 2]
    return bool(np.isin(near, classes).any())


def clinical(said: list[dict[str, bool]], labels: np.ndarray, task: Task) -> dict:
    """Micro and macro precision, recall and F1 over known labels, and by finding."""
    per, total = {}, np.zeros(3)
    for n, finding in enumerate(task.findings):
        known = labels[:, n] >= 0
        truth = labels[known, n] == 1
        claimed = np.array([s.get(finding.id, False) for s, k in zip(said, known, strict=True) if k])
        counts = np.array([(truth & claimed).sum(), claimed.sum(), truth.sum()], float)
        total += counts
        per[finding.id] = _prf(counts)
    values = [v["f1"] for v in per.values() if v["n"]]
    return {"micro": _prf(total), "macro_f1": round(float(np.mean(values)), 4) if values else None, "findings": per}


def _prf(counts: np.ndarray) -> dict:
    tp, said, true = counts
    p, r = tp / said if said else 0.0, tp / true if true else 0.0
    return {
        "precision": round(p, 4),
        "recall": round(r, 4),
        "f1": round(2 * p * r / (p + r), 4) if tp else 0.0,
        "n": int(true),
    }


def _tables(
    bundle: Bundle, rows: list[_Row], train: list[ManifestRow], lexicon: Lexicon, language: str, seed: int
) -> dict:
    task = bundle.task
    kept = [r for r in rows if r.texts]
    if not kept:
        raise UserError(f"bundle {bundle.name}: none of the cases lies in its validated domain; nothing was written")
    labels = np.stack([r.labels for r in kept])
    references = [r.reference for r in kept]
    rng = np.random.default_rng(seed)
    constant = _constant([r.reports.get(language) or r.report for r in train], lexicon)
    embeddings = np.stack([r.embedding for r in kept])
    similar = embeddings @ embeddings.T
    np.fill_diagonal(similar, -np.inf)
    order = rng.permutation(len(kept))
    texts = {w: [r.texts[w] for r in kept] for w in kept[0].texts}
    said = {w: [_widen(r.said[w], task) for r in kept] for w in texts}
    controls = {
        "nearest neighbour's report": [references[i] for i in similar.argmax(1)],
        "constant report": [constant] * len(kept),
        "another patient's images": [texts[list(texts)[-1]][i] for i in order],
    }
    for name, report_texts in controls.items():
        texts[name], said[name] = report_texts, [_widen(said_of(t, lexicon), task) for t in report_texts]
    if bundle.writer is not None:
        texts["blank images"] = [_blank(bundle, language)] * len(kept)
        said["blank images"] = [_widen(said_of(t, lexicon), task) for t in texts["blank images"]]
    said["findings head"] = [_widen(r.head, task) for r in kept]
    out: dict = {
        "n": len(kept),
        "clinical": {w: clinical(s, labels, task) for w, s in said.items()},
        "text": {},
        "diversity": {},
    }
    for name, report_texts in texts.items():
        out["text"][name] = {t: text_scores(report_texts, [[r] for r in references], tokenizer=t, meteor=t == "ptb") for t in ("ptb", "whitespace")}  # fmt: skip
        out["diversity"][name] = diversity(report_texts)
    before, after = (np.sum([getattr(r, k) for r in kept], 0) for k in ("unsupported_before", "unsupported_after"))
    out["unsupported"] = {"before": _share(before), "after": _share(after)} if bundle.writer is not None else {}
    out["untraced_sentences"] = [int(sum(r.untraced for r in kept)), int(sum(r.sentences for r in kept))]
    hits = {w: [h for r in kept for h in r.hits.get(w, [])] for w in ("model", RANDOM_BUNDLE)}
    out["pointing"] = {w: {"hit": round(float(np.mean(h)), 4) if h else None, "n": len(h)} for w, h in hits.items()}
    out["retrieval"] = _retrieved(bundle, kept, texts)
    written = [r.seconds for r in kept if r.seconds]
    out["seconds_a_report"] = round(float(np.median(written)), 3) if written else None
    return out


def _share(counts: np.ndarray) -> dict:
    wrong, total = (int(c) for c in counts)
    return {"sentences": total, "unsupported": wrong, "share": round(wrong / total, 4) if total else None}


def _constant(reports: list[str], lexicon: Lexicon) -> str:
    """The report of the training set that affirms least: what a writer that never looks would learn to say."""
    return min(reports, key=lambda t: (sum(said_of(t, lexicon).values()), len(t), t))


def _blank(bundle: Bundle, language: str) -> str:
    """What the writer says with no image at all."""
    from ..models.features import CaseFeatures, collate

    batch = collate([CaseFeatures()], bundle.task.senses, bundle.model.sizes)
    with torch.inference_mode():
        output = bundle.model.eval()(batch)
    nothing = Predicted(Prediction(case_id="", simulated=True, in_domain=True, modalities={}, images=[], findings=[], lesions=[], bundle="", bundle_hash=""), [], fused=output.fused, logits=output.logits)  # fmt: skip
    return written_words(bundle, nothing, language)


def _retrieved(bundle: Bundle, rows: list[_Row], texts: dict[str, list[str]]) -> dict:
    """Retrieval-based evaluation: does a written text find its own case's images in the shared space?"""
    if bundle.tokenizer is None:
        return {}
    from ..models.text import tokenize

    images = np.stack([r.embedding for r in rows])
    out = {}
    for name in ("structured", "learned", "constant report"):
        if name in texts:
            ids, mask = tokenize(bundle.tokenizer, texts[name])
            with torch.inference_mode():
                words = bundle.model.eval().embed_text(ids, mask).numpy()
            score = words @ images.T
            own = np.diag(score)
            worse, same = (score > own[:, None]).sum(1), (score == own[:, None]).sum(1)
            rank = worse + (same - 1) / 2  # a text that everybody has does not find anyone
            out[name] = {f"r{k}": round(float((rank < k).mean()), 4) for k in (1, 5, 10)}
    return out


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def report_markdown(result: dict) -> str:
    """The tables as Markdown."""
    lines = ["| Report | precision | recall | micro F1 | macro F1 | BLEU-4 (ptb) | BLEU-4 (whitespace) | METEOR | ROUGE-L | CIDEr | distinct |", "|---|---|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in result["clinical"].items():
        micro = row["micro"]
        cells = [
            f"{micro['precision']:.3f}",
            f"{micro['recall']:.3f}",
            f"{micro['f1']:.3f}",
            "-" if row["macro_f1"] is None else f"{row['macro_f1']:.3f}",
        ]
        text = result["text"].get(name)
        cells += [f"{text['ptb']['bleu4']:.3f}", f"{text['whitespace']['bleu4']:.3f}", *(f"{text['ptb'][m]:.3f}" for m in METRICS[4:]), f"{result['diversity'][name]['distinct_reports']:.2f}"] if text else ["-"] * 6  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    if result["unsupported"]:
        b, a = result["unsupported"]["before"], result["unsupported"]["after"]
        lines += ["", f"Sentences that the findings do not support: {b['unsupported']} of {b['sentences']} ({_percent(b['share'])}) as written, {a['unsupported']} of {a['sentences']} ({_percent(a['share'])}) after the checker."]  # fmt: skip
    p = result["pointing"]
    lines += [
        "",
        f"Sentences without a finding behind them: {result['untraced_sentences'][0]} of {result['untraced_sentences'][1]}.",
    ]
    lines += ["", "Pointing game: " + "; ".join(f"{k} {v['hit'] if v['hit'] is None else format(v['hit'], '.3f')} (n = {v['n']})" for k, v in p.items()) + "."]  # fmt: skip
    if result["retrieval"]:
        lines += ["", "Text finds its own case among all: " + "; ".join(f"{k} R@1/5/10 {v['r1']:.2f}/{v['r5']:.2f}/{v['r10']:.2f}" for k, v in result["retrieval"].items()) + "."]  # fmt: skip
    signature = next(iter(result["text"].values()))["ptb"]["signature"]
    lines += ["", f"n = {result['n']}. {signature}."]
    return "\n".join(lines)
