"""Every command: parse, call one function, print. stdout is data, stderr is talk. Heavy imports wait for
their command.

Exit codes: 0 all done, 1 nothing could be done, 2 wrong use, 3 partly done (each refusal named).
"""

from __future__ import annotations

from .commands import (
    account,
    ask,
    backup,
    batch,
    bundle,
    cases,
    cohort,
    crossvalidate,
    deidentify,
    demo,
    dictate,
    encoder,
    evaluate,
    evaluate_readers,
    evaluate_text,
    fuse,
    info,
    ingest,
    node,
    predict,
    register,
    report,
    search,
    send,
    sign,
    simulate,
    train,
    tune,
    view,
)
from .commands.app import app

__all__ = [
    "account",
    "app",
    "ask",
    "backup",
    "batch",
    "bundle",
    "cases",
    "cohort",
    "crossvalidate",
    "deidentify",
    "demo",
    "dictate",
    "encoder",
    "evaluate",
    "evaluate_readers",
    "evaluate_text",
    "fuse",
    "info",
    "ingest",
    "node",
    "predict",
    "register",
    "report",
    "search",
    "send",
    "sign",
    "simulate",
    "train",
    "tune",
    "view",
]
