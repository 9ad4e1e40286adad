"""What every command shares: the typer app, progress and how results are printed.

Exit codes: 0 all done, 1 nothing could be done, 2 wrong use, 3 partly done (each refusal named).
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping

import typer

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "medfuse: ultrasound, CT and MRI of one patient fused; findings, a drafted report, and where each "
        "sentence comes from. Research use only."
    ),
)


def emit(data: Mapping[str, object], as_json: bool, text: str) -> None:
    """Print a result on stdout: one JSON object with --json, else the text."""
    from ..io.cells import harmless_text

    print(json.dumps(dict(data)) if as_json else harmless_text(text))


def talk(message: str) -> None:
    """Say something on stderr."""
    from ..io.cells import harmless_text

    print(harmless_text(message), file=sys.stderr, flush=True)


def progress(what: str) -> Callable[[int, int], None]:
    """A quiet progress line on stderr: rate and remaining time, at most twice a second."""
    import time

    started = time.monotonic()
    last = [0.0]

    def show(done: int, total: int) -> None:
        now = time.monotonic()
        if now - last[0] < 0.5 and done != total:
            return
        last[0] = now
        rate = done / max(now - started, 1e-6)
        left = (total - done) / rate if rate else 0
        end = "\n" if done == total else ""
        if sys.stderr.isatty():
            print(
                f"\r{what}: {done} of {total}, {rate:.1f}/s, {left:.0f} s left ",
                end=end,
                file=sys.stderr,
                flush=True,
            )
        elif done == total:
            talk(f"{what}: {total} in {now - started:.1f} s")

    return show


def verbosity(verbose: int) -> None:
    """Set the level of the log by how often -v was given."""
    logging.basicConfig(
        stream=sys.stderr, level=[logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    )


def device_when_asked(wanted: str) -> Callable[[], str]:
    """`device_of`, which is asked now only where the user named a device."""
    chosen = None if wanted == "auto" else device_of(wanted)
    return lambda: chosen or device_of(wanted)


def device_of(wanted: str) -> str:
    """cpu or cuda, for --device. Raises WrongUse for a device that is not there."""
    from ..errors import WrongUse

    if wanted not in ("auto", "cpu", "cuda"):
        raise WrongUse(f"--device {wanted}: give auto, cpu or cuda")
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise WrongUse("--device cuda: torch finds no CUDA device here; use --device cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
