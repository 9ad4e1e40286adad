"""Commands on many cases: batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .app import Device, Json, Verbose, app, device_of, progress, talk, verbosity


@app.command()
def batch(
    path: Annotated[str, typer.Argument(help="A folder, a manifest.jsonl or .csv, or the word library.")],
    out: Annotated[Path, typer.Option(help="OUT/<case_id>/ holds each result, whole or not at all.")],
    workers: Annotated[int, typer.Option(min=1, help="Worker processes on this machine.")] = 2,
    cluster: Annotated[str, typer.Option(help="Address of a dask scheduler, such as tcp://host:8786, instead.")] = "",
    restart: Annotated[
        bool, typer.Option("--restart/--resume", help="Do everything again, or (default) only what is not done.")
    ] = False,
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="Of the library: cases that have this modality.")
    ] = None,
    without: Annotated[list[str] | None, typer.Option(help="Of the library: cases that lack this modality.")] = None,
    bundle: Annotated[str | None, typer.Option(help="Folder or name of a bundle.")] = None,
    language: str = "en",
    writer: Annotated[str, typer.Option(help="structured or learned.")] = "structured",
    formats: Annotated[str, typer.Option(help="Files of each report, such as text,json,sr; all by default.")] = "all",
    outside_domain: Annotated[
        bool, typer.Option(help="Show uncalibrated scores for images outside the validated domain.")
    ] = False,
    backend: Annotated[str, typer.Option(help="torch or openvino.")] = "torch",
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Cases that pass the encoders together: by default 4 on a GPU, 1 on a CPU."),
    ] = None,
    device: Device = "auto",
    window: int = 30,
    as_json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Thousands of cases: predictions and reports, each exactly once, on this machine or a dask cluster."""
    verbosity(verbose)
    from ..batch.plan import plan_batch
    from ..batch.run import BatchOptions, run_batch
    from ..drafting import check_writer
    from ..errors import WrongUse
    from ..models.bundle import load_bundle
    from ..pipeline import PredictOptions
    from ..reporting.exports import FORMATS

    wanted = FORMATS if formats == "all" else tuple(formats.split(","))
    if set(wanted) - set(FORMATS):
        raise WrongUse(f"--formats {formats}: give {', '.join(FORMATS)} or all")
    # report.json is always there: it is half of what a batch is for
    wanted = tuple(dict.fromkeys(["json", *wanted]))
    where = device_of(device)
    size = micro_batch or (4 if where == "cuda" else 1)
    options = PredictOptions(language, where, outside_domain, writer, None, wanted, backend, size)
    check_writer(load_bundle(bundle), writer, language, None)
    plan = plan_batch(
        path,
        window=window,
        with_modality=tuple(with_ or ()),
        without=tuple(without or ()),
        progress=progress("headers"),
    )
    with _shown(len(plan.jobs), as_json) as event:
        summary = run_batch(
            plan,
            out,
            options,
            BatchOptions(workers, cluster, restart, threads=size + 2 if size > 1 else 0),
            bundle=bundle,
            event=event,
        )
    if as_json:
        print(json.dumps(summary))
    else:
        print(", ".join(f"{v} {k}" for k, v in summary.items()))
        print(out / "summary.html")
    lost = summary["refused"] + summary["failed"]
    raise typer.Exit(0 if not lost else 3 if summary["done"] + summary["skipped"] else 1)


class _shown:
    """Progress with rate, remaining time and losses on stderr; with --json each event is a line on stdout."""

    def __init__(self, total: int, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.as_json = as_json
        self.bar = Progress(
            TextColumn("cases"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
            TextColumn("{task.fields[lost]}"), console=Console(stderr=True), transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task("", total=total, rate="", lost="")

    def __enter__(self):
        self.bar.start()
        return self.event

    def __exit__(self, *_) -> None:
        self.bar.stop()

    def event(self, e: dict) -> None:
        if self.as_json:
            print(json.dumps(e), flush=True)
        if e["state"] != "done":
            talk(f"medfuse: {e['case_id']}: {e['state']}: {e['reason']}")
        if "of" in e:
            lost = f"{e['refused']} refused, {e['failed']} failed"
            self.bar.update(self.task, completed=e["finished"], total=e["of"], rate=f"{e['rate']:.2f}/s", lost=lost)
