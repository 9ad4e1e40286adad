"""The table of `medfuse evaluate --stage report`, for people."""

from __future__ import annotations

from .draft_results import Caught, DraftTables, Unsupported
from .text_metrics import METRICS


def report_markdown(result: DraftTables) -> str:
    """The tables as Markdown."""
    lines = [
        "| Report | precision | recall | micro F1 | macro F1 | BLEU-4 (ptb) | BLEU-4 (whitespace) | "
        "METEOR | ROUGE-L | CIDEr | distinct |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *(f"| {name} | " + " | ".join(_row(result, name)) + " |" for name in result.clinical),
        *_unsupported(result.unsupported),
        "",
        "Draft: "
        + "; ".join(f"{k.replace('_', ' ')} {v}" for k, v in result.draft.model_dump().items())
        + ".",
        "",
        "Planted errors caught: " + "; ".join(_caught(k, v) for k, v in result.checker.items()) + ".",
        "",
        f"Sentences without a finding behind them: {result.untraced_sentences[0]} of "
        f"{result.untraced_sentences[1]}.",
        "",
        "Pointing game: "
        + "; ".join(
            f"{k} {v.hit if v.hit is None else format(v.hit, '.3f')} (n = {v.n})"
            for k, v in result.pointing.items()
        )
        + ".",
    ]
    if result.retrieval:
        found = [f"{k} R@1/5/10 {v.r1:.2f}/{v.r5:.2f}/{v.r10:.2f}" for k, v in result.retrieval.items()]
        lines += ["", "Text finds its own case among all: " + "; ".join(found) + "."]
    signature = next(iter(result.text.values()))["ptb"].signature
    lines += ["", f"n = {result.n}. {signature}."]
    return "\n".join(lines)


def _caught(kind: str, found: Caught | float | None) -> str:
    if isinstance(found, Caught):
        return f"{kind} {found.caught} of {found.n}"
    return f"{kind.replace('_', ' ')} {_percent(found)}"


def _row(result: DraftTables, name: str) -> list[str]:
    scores = result.clinical[name]
    micro = scores.micro
    macro = "-" if scores.macro_f1 is None else f"{scores.macro_f1:.3f}"
    cells = [f"{micro.precision:.3f}", f"{micro.recall:.3f}", f"{micro.f1:.3f}", macro]
    text = result.text.get(name)
    if text is None:
        return [*cells, *["-"] * 6]
    ptb = text["ptb"].model_dump()
    return [
        *cells,
        f"{text['ptb'].bleu4:.3f}",
        f"{text['whitespace'].bleu4:.3f}",
        *(f"{ptb[m]:.3f}" for m in METRICS[4:]),
        f"{result.diversity[name].distinct_reports:.2f}",
    ]


def _unsupported(found: Unsupported) -> list[str]:
    before, after = found.before, found.after
    if before is None or after is None:
        return []
    return [
        "",
        f"Sentences that the findings do not support: {before.unsupported} of {before.sentences} "
        f"({_percent(before.share)}) as written, {after.unsupported} of {after.sentences} "
        f"({_percent(after.share)}) after the checker.",
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
