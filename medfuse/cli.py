"""Every command: parse, call one function, print. stdout is data, stderr is talk. Heavy imports wait for their command.

Exit codes: 0 all done, 1 nothing could be done, 2 wrong use, 3 partly done (each refusal named).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    help="medfuse: ultrasound, CT and MRI of one patient fused; findings, a drafted report, and where each sentence comes from. Research use only.",
)  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Verbose = Annotated[int, typer.Option("-v", "--verbose", count=True, help="More talk on stderr.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


def _emit(data: dict, as_json: bool, text: str) -> None:
    print(json.dumps(data) if as_json else text)


def _talk(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _progress(what: str):
    """A quiet progress line on stderr: rate and remaining time, at most twice a second."""
    import time

    started, last = time.monotonic(), [0.0]

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
            _talk(f"{what}: {total} in {now - started:.1f} s")

    return show


def _verbosity(verbose: int) -> None:
    logging.basicConfig(stream=sys.stderr, level=[logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])


def _device(wanted: str) -> str:
    from .errors import WrongUse

    if wanted not in ("auto", "cpu", "cuda"):
        raise WrongUse(f"--device {wanted}: give auto, cpu or cuda")
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise WrongUse("--device cuda: torch finds no CUDA device here; use --device cpu")
    return "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where everything goes; the library is OUT/home.")] = Path("demo"),
    cases: Annotated[int, typer.Option(min=1, help="Simulated patients.")] = 3,
    seed: int = 7,
    language: str = "en",
    viewer: Annotated[bool, typer.Option("--viewer/--no-viewer", help="Open the viewer at the end.")] = True,
    port: int = 8501,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Simulate patients, write them as DICOM, then go the user's way: ingest, predict, report, library, viewer."""
    _verbosity(verbose)
    from .demo import run_demo

    result = run_demo(out, cases=cases, seed=seed, language=language, log=_talk)
    lines = [
        f"{c['case_id']}: {', '.join(c['modalities'])}, {c['seconds']:.1f} s, {c['folder']}" for c in result["cases"]
    ]
    _emit(result, as_json, "\n".join(lines))
    if viewer:
        from .viewer import serve

        serve(port=port, home=out / "home", log=_talk)


@app.command()
def simulate(
    cases: Annotated[int, typer.Option(min=1)],
    out: Annotated[Path, typer.Option()],
    seed: int = 1,
    file_format: Annotated[
        str, typer.Option("--format", help="dicom or nifti (with label maps, for training).")
    ] = "dicom",
    missing: Annotated[float, typer.Option(min=0.0, max=1.0, help="Chance that each modality was not acquired.")] = 0.0,
    shifted: Annotated[
        bool, typer.Option(help="Another scanner park: 3 T, sharper kernel, more noise, another probe.")
    ] = False,
    split: Annotated[
        str | None,
        typer.Option(help="Write this split for every case (default: five of six train, one val)."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Simulated patients on disk, with a manifest. Not patients: every header says SIMULATED."""
    _verbosity(verbose)
    from .errors import WrongUse

    if file_format not in ("dicom", "nifti"):
        raise WrongUse(f"--format {file_format}: give dicom or nifti")
    import os

    from .simulation.population import write_population

    manifest = write_population(
        out, cases=cases, seed=seed, file_format=file_format, missing=missing, shifted=shifted, split=split,
        workers=min(os.cpu_count() or 1, cases) if cases > 3 else 1, progress=_progress("simulated"),
    )  # fmt: skip
    _emit({"manifest": str(manifest)}, as_json, str(manifest))


@app.command()
def ingest(
    paths: list[Path],
    export: Annotated[str | None, typer.Option(help="nifti: also write one NIfTI a readable image to --out.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where --export writes.")] = None,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="De-identify first; only the changed copies are added.")
    ] = False,
    window: Annotated[int, typer.Option(help="Studies of one patient within so many days are one case.")] = 30,
    ledger: Annotated[Path | None, typer.Option(help="Write what became of every file to this CSV.")] = None,
    reread: Annotated[
        bool, typer.Option("--reread", help="Open files again that an earlier ingest saw unchanged.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Add folders, files, zips or DICOMDIRs to the library. Every file is accounted for."""
    _verbosity(verbose)
    from .errors import WrongUse
    from .intake import ingest_command

    if export not in (None, "nifti"):
        raise WrongUse(f"--export {export}: only nifti can be exported")
    if export and out is None:
        raise WrongUse("--export needs --out: the folder to write to")
    result = ingest_command(
        paths, window=window, export=out if export else None, deidentify=deidentify, progress=_progress,
        reuse=not reread, ledger_file=ledger,
    )  # fmt: skip
    _emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def cases(
    with_: Annotated[list[str] | None, typer.Option("--with", help="Only cases that have this modality.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Only cases that lack this modality.")] = None,
    set_role: Annotated[str | None, typer.Option(help="SERIES_UID=ROLE: correct the role of a series.")] = None,
    confirm: Annotated[
        str | None, typer.Option(help="CASE whose identifiers disagree: you have looked, use it as it is.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """What the library holds."""
    _verbosity(verbose)
    from .errors import WrongUse
    from .library import store

    if set_role is not None:
        uid, _, role = set_role.partition("=")
        if not role:
            raise WrongUse(f"--set-role {set_role}: write SERIES_UID=ROLE")
        store.set_role(uid, role)
    if confirm is not None:
        store.confirm(confirm)
    rows = store.list_cases(tuple(with_ or ()), tuple(without or ()))
    text = [
        f"{r['case_id']:<44} {r['study_date']:<10} {'+'.join(r['modalities']):<10} {r['state']}{' simulated' if r['simulated'] else ''}"
        + (f" WAITS: {r['conflict']}" if r["conflict"] else "")
        for r in rows
    ]
    _emit(
        {"cases": rows},
        as_json,
        "\n".join(text) or "The library is empty; add cases with medfuse ingest PATH.",
    )


@app.command()
def predict(
    path: Annotated[
        str | None, typer.Argument(help="A case of the library, or a folder, DICOMDIR, zip or file.")
    ] = None,
    us: Annotated[list[Path] | None, typer.Option(help="Ultrasound of the case.")] = None,
    ct: Annotated[list[Path] | None, typer.Option(help="CT of the case.")] = None,
    mr: Annotated[list[Path] | None, typer.Option(help="MR of the case.")] = None,
    out: Annotated[Path, typer.Option(help="OUT/<case_id>/ holds the result.")] = Path("medfuse-out"),
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    language: str = "en",
    device: Device = "auto",
    add: Annotated[bool, typer.Option(help="Also add the case and its result to the library.")] = False,
    outside_domain: Annotated[
        bool, typer.Option(help="Show uncalibrated scores for images outside the validated domain.")
    ] = False,
    window: int = 30,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """One case: findings with probabilities, lesions, a drafted report, and pictures that show where."""
    _verbosity(verbose)
    from .pipeline import predict_command

    result = predict_command(
        path, {"US": us or [], "CT": ct or [], "MR": mr or []}, out=out, bundle=bundle, language=language,
        device=_device(device), add=add, outside_domain=outside_domain, window=window, log=_talk,
    )  # fmt: skip
    _emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def report(
    case: str,
    file_format: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    language: Annotated[str | None, typer.Option(help="Compose the draft in this language.")] = None,
    verbose: Verbose = 0,
) -> None:
    """The latest drafted report of a case in the library."""
    _verbosity(verbose)
    from .errors import WrongUse
    from .pipeline import library_report

    if file_format not in ("text", "json"):
        raise WrongUse(f"--format {file_format}: give text or json")
    from .reporting.text import report_text

    found = library_report(case, language)
    print(report_text(found) if file_format == "text" else found.model_dump_json(indent=1))


@app.command()
def deidentify(
    path: Path,
    out: Annotated[Path, typer.Option()],
    key: Annotated[
        Path | None, typer.Option(help="Secret file; default MEDFUSE_HOME/deidentify.key, made when missing.")
    ] = None,
    retain_uids: Annotated[bool, typer.Option(help="Keep UIDs as they are.")] = False,
    dates: Annotated[str, typer.Option(help="shift (same days for all of a patient) or remove.")] = "shift",
    descriptors: Annotated[str, typer.Option(help="clean (radiological words only) or remove.")] = "clean",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """DICOM without the person: PS3.15 Basic Profile, keyed UIDs, ultrasound banners blacked out on every frame."""
    _verbosity(verbose)
    from .errors import WrongUse
    from .intake import deidentify_command

    if dates not in ("shift", "remove") or descriptors not in ("clean", "remove"):
        raise WrongUse("--dates takes shift or remove, --descriptors takes clean or remove")
    result = deidentify_command(
        path,
        out,
        key=key,
        retain_uids=retain_uids,
        shift=dates == "shift",
        clean=descriptors == "clean",
        progress=_progress("de-identified"),
    )
    _emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def train(
    task: Annotated[str, typer.Argument(help="A task YAML, or the name of a shipped task.")],
    manifest: Annotated[Path, typer.Option()],
    out: Annotated[Path | None, typer.Option(help="The bundle's folder.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1)] = 60.0,
    seed: int = 1,
    fusion: Annotated[str, typer.Option(help="co, merge or cross.")] = "co",
    encoder_steps: Annotated[int | None, typer.Option(help="Exact encoder steps instead of minutes.")] = None,
    work: Annotated[
        Path | None, typer.Option(help="Checkpoints and caches (default OUT.work); reused when they exist.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check the manifest.")] = False,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Train a bundle on any manifest within a time budget."""
    _verbosity(verbose)
    from .errors import WrongUse
    from .io.manifest import read_manifest
    from .task import load_task
    from .training.train import TrainOptions, check_manifest
    from .training.train import train as run

    loaded = load_task(task)
    if check:
        found = check_manifest(loaded, read_manifest(manifest))
        text = [f"{found['cases']} cases, splits {found['splits']}"] + [
            f"{k}: {v[0]} without, {v[1]} with, {v[2]} unknown" for k, v in found["counts_0_1_unknown"].items()
        ]
        _emit(found, as_json, "\n".join([*text, *found["problems"]]))
        raise typer.Exit(1 if found["problems"] else 0)
    if out is None:
        raise WrongUse("train needs --out: the folder of the bundle")
    if fusion not in ("co", "merge", "cross"):
        raise WrongUse(f"--fusion {fusion}: give co, merge or cross")
    options = TrainOptions(minutes, seed, _device(device), fusion, encoder_steps, work)
    command = f"medfuse train {task} --manifest MANIFEST --out {out.name} --minutes {minutes:g} --seed {seed} --fusion {fusion}"
    result = run(loaded, manifest, out, options, command=command, log=_talk)
    _emit(
        result,
        as_json,
        f"{result['bundle']}\nvalidation, mean over subsets: macro AUROC {result['validation']['mean_over_subsets']:.3f}",
    )


@app.command()
def evaluate(
    bundle: str,
    manifest: Annotated[Path, typer.Option()],
    out: Annotated[Path | None, typer.Option(help="Write evaluation.json and evaluation.md here.")] = None,
    split: str | None = None,
    seed: int = 0,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Score a bundle on a manifest: every subset of the modalities, beside the logistic stack and late concatenation."""
    _verbosity(verbose)
    from .evaluation.evaluate import evaluate as run
    from .evaluation.evaluate import markdown, write_tables
    from .models.bundle import load_bundle

    result = run(
        load_bundle(bundle),
        manifest,
        device=_device(device),
        split=split,
        seed=seed,
        progress=_progress("evaluated"),
    )
    if out is not None:
        write_tables(result, out)
    _emit(result, as_json, markdown(result))
    raise typer.Exit(3 if result["refused"] else 0)


@app.command()
def view(
    port: int = 8501,
    address: Annotated[str, typer.Option(help="Only loopback addresses are served in this version.")] = "127.0.0.1",
    verbose: Verbose = 0,
) -> None:
    """Open the viewer on the library."""
    _verbosity(verbose)
    from .settings import settings
    from .viewer import serve

    serve(port=port, home=settings().home, address=address, log=_talk)


@app.command()
def info(as_json: Json = False, verbose: Verbose = 0) -> None:
    """Versions, devices, bundles, transfer syntaxes."""
    _verbosity(verbose)
    from .info import collect

    data = collect()
    text = [f"{k} {v}" for k, v in data["versions"].items()] + [f"device {d}" for d in data["devices"]]
    text += [f"bundle {b['name']} {b['hash'][:12]} {b['path']}" for b in data["bundles"]]
    text += [f"decodes {c['name']} ({c['uid']}) by {c['decoder']}" for c in data["codecs"]]
    _emit(data, as_json, "\n".join(text))
