"""Commands on one case: predict, report, sign, ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .app import Device, Json, Verbose, app, device_of, emit, talk, verbosity

User = Annotated[
    str, typer.Option("--user", help="Your account; the password is asked for, or read from MEDFUSE_PASSWORD.")
]


def account_of(user: str):
    """The account behind --user, its password asked for without echo."""
    import getpass
    import os

    from ..library.accounts import authenticate

    password = os.environ.get("MEDFUSE_PASSWORD")
    return authenticate(user, getpass.getpass(f"password of {user}: ") if password is None else password)


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
    writer: Annotated[str, typer.Option(help="structured, learned or local-llm.")] = "structured",
    llm: Annotated[Path | None, typer.Option(help="With local-llm: the folder of a causal language model.")] = None,
    backend: Annotated[str, typer.Option(help="torch, or openvino (extra) on a CPU.")] = "torch",
    indication: Annotated[str, typer.Option(help="Why the patient was imaged.")] = "",
    risk: Annotated[str, typer.Option(help="Documented risk status, such as cirrhosis.")] = "",
    labs: Annotated[
        Path | None, typer.Option(help="CSV of laboratory values: loinc, value, unit (UCUM), date, name.")
    ] = None,
    add: Annotated[bool, typer.Option(help="Also add the case and its result to the library.")] = False,
    outside_domain: Annotated[
        bool, typer.Option(help="Show uncalibrated scores for images outside the validated domain.")
    ] = False,
    window: int = 30,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """One case: findings with probabilities, lesions, a drafted report, and pictures that show where."""
    verbosity(verbose)
    from ..pipeline import PredictOptions, predict_command

    options = PredictOptions(language, device_of(device), outside_domain, writer, llm, backend=backend)
    result = predict_command(
        path, {"US": us or [], "CT": ct or [], "MR": mr or []}, out=out, bundle=bundle, options=options, add=add,
        window=window, log=talk, indication=indication, risk=risk, labs=labs,
    )  # fmt: skip
    emit(result.data, as_json, result.text)
    raise typer.Exit(result.exit_code)


@app.command()
def report(
    case: str,
    file_format: Annotated[
        str, typer.Option("--format", help="text, json, pdf, sr, seg, fhir, encapsulated or all.")
    ] = "text",
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; text and JSON go to stdout without it.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Compose the draft in this language.")] = None,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """The newest report of a case in the library, in any format."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..pipeline import export_report, library_report
    from ..reporting.exports import FORMATS
    from ..reporting.text import report_text

    formats = FORMATS if file_format == "all" else tuple(file_format.split(","))
    unknown = set(formats) - set(FORMATS)
    if unknown:
        raise WrongUse(f"--format {file_format}: give {', '.join(FORMATS)} or all")
    if out is None and formats in (("text",), ("json",)):
        found = library_report(case, language)
        print(report_text(found) if formats == ("text",) else found.model_dump_json(indent=1))
        return
    folder = out or Path("medfuse-out")
    names, problems = export_report(case, formats, folder, language)
    for problem in problems:
        talk(f"medfuse: {problem}")
    files = [str(folder / case / n) for n in names]
    emit({"files": files, "not_made": problems}, as_json, "\n".join(files))
    raise typer.Exit(0 if not problems else 3 if names else 1)


@app.command()
def sign(
    case: str,
    user: User,
    accept_all: Annotated[
        bool,
        typer.Option("--accept-all", help="You have read every sentence: accept those that nobody has decided on."),
    ] = False,
    amend: Annotated[str, typer.Option(help="REASON: open a new version of a signed report instead.")] = "",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Sign a report with your account: only when every sentence is decided on. A signed version never changes."""
    verbosity(verbose)
    from ..errors import WrongUse
    from ..library import reports

    account = account_of(user)
    now = reports.current(case)
    if now is None:
        raise WrongUse(f"{case}: has no report; run medfuse predict {case}")
    if amend:
        done = reports.amend(case, account, amend)
    else:
        if accept_all and reports.waiting(now.report):
            now = reports.save(case, now.revision, reports.set_states(now.report, "accepted"), account)
        done = reports.sign(case, now.revision, account)
    data = {
        "case_id": case,
        "state": done.state,
        "version": done.version,
        "revision": done.revision,
        "sha256": done.sha256,
    }
    emit(data, as_json, f"{case}: version {done.version} is {done.state} ({done.sha256[:12]})")


@app.command()
def ask(
    case: Annotated[str, typer.Argument(help="A case of the library, a folder, or a picture for a vqa bundle.")],
    question: str,
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    device: Device = "auto",
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """A question about a case: the answer with its probability and place, or "cannot tell from these images"."""
    verbosity(verbose)
    from ..asking import ask as run

    found = run(case, question, bundle=bundle, device=device_of(device))
    p = "" if found["probability"] is None else f" (probability {found['probability']:.2f})"
    emit(found, as_json, f"{found['answer']}{p}\n{found['source']}: {found['why']}")
