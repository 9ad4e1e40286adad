"""Commands on many cases: batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..exports.registry import formats_named
from ..io.cells import harmless_line
from .app import app, device_of, progress, talk, verbosity
from .options import Bundle, Device, Json, Language, OutsideDomain, Verbose, Window, takes

if TYPE_CHECKING:
    from ..batch.cluster import ClusterTls
    from ..batch.run import BatchSummary


@dataclass(frozen=True, kw_only=True)
class BatchArguments:
    """What a user may give to `medfuse batch`."""

    path: Annotated[str, typer.Argument(help="A folder, a manifest.jsonl or .csv, or the word library.")]
    out: Annotated[Path, typer.Option(help="OUT/<case_id>/ holds each result, whole or not at all.")]
    workers: Annotated[int, typer.Option(min=1, help="Worker processes on this machine.")] = 2
    cluster: Annotated[
        str, typer.Option(help="Address of a dask scheduler, such as tls://host:8786, instead.")
    ] = ""
    cluster_ca: Annotated[
        Path | None, typer.Option(help="PEM certificate of the CA that the scheduler's must be of.")
    ] = None
    cluster_cert: Annotated[
        Path | None, typer.Option(help="Our PEM certificate, which the scheduler asks for.")
    ] = None
    cluster_key: Annotated[Path | None, typer.Option(help="Its key.")] = None
    cluster_plain: Annotated[
        bool,
        typer.Option(
            "--cluster-plain",
            help="Also call a scheduler without TLS: all who reach it can run code and read patients.",
        ),
    ] = False
    restart: Annotated[
        bool,
        typer.Option("--restart/--resume", help="Do everything again, or (default) only what is not done."),
    ] = False
    with_: Annotated[
        list[str] | None, typer.Option("--with", help="Of the library: cases that have this modality.")
    ] = None
    without: Annotated[
        list[str] | None, typer.Option(help="Of the library: cases that lack this modality.")
    ] = None
    bundle: Bundle = None
    language: Language = "en"
    writer: Annotated[str, typer.Option(help="structured or learned.")] = "structured"
    formats: Annotated[
        str, typer.Option(help="Files of each report, such as text,json,sr; all by default.")
    ] = "all"
    outside_domain: OutsideDomain = False
    backend: Annotated[str, typer.Option(help="torch or openvino.")] = "torch"
    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Cases that pass the encoders together: by default 4 on a GPU, 1 on a CPU."),
    ] = None
    device: Device = "auto"
    window: Window = 30
    as_json: Json = False
    verbose: Verbose = 0


@app.command()
@takes(BatchArguments)
def batch(given: BatchArguments) -> None:
    """Thousands of cases: predictions and reports, each exactly once, on this machine or a dask cluster."""
    verbosity(given.verbose)
    from ..batch.plan import plan_batch
    from ..batch.run import BatchOptions, run_batch
    from ..bundles.bundle import check_backend, load_bundle
    from ..drafting.draft import check_writer
    from ..workflows.outputs import check_folder
    from ..workflows.predict import PredictOptions

    wanted = formats_named(given.formats, "--formats")
    # report.json is always there: it is half of what a batch is for
    wanted = tuple(dict.fromkeys(["json", *wanted]))
    where = device_of(given.device)
    size = given.micro_batch or (4 if where == "cuda" else 1)
    options = PredictOptions(
        language=given.language,
        device=where,
        outside_domain=given.outside_domain,
        writer=given.writer,
        formats=wanted,
        backend=given.backend,
        micro_batch=size,
    )
    check_writer(load_bundle(given.bundle), given.writer, given.language, None)
    check_backend(given.backend)
    check_folder(given.out)
    plan = plan_batch(
        given.path,
        window=given.window,
        with_modality=tuple(given.with_ or ()),
        without=tuple(given.without or ()),
        progress=progress("headers"),
    )
    with _shown(len(plan.jobs), given.as_json) as event:
        summary = run_batch(
            plan,
            given.out,
            options,
            BatchOptions(
                workers=given.workers,
                cluster=given.cluster,
                cluster_tls=_cluster_tls(given),
                cluster_plain=given.cluster_plain,
                restart=given.restart,
                threads=size + 2 if size > 1 else 0,
            ),
            bundle=given.bundle,
            event=event,
        )
    _tell(summary, given)


def _cluster_tls(given: BatchArguments) -> ClusterTls | None:
    """The PEM files for a cluster; None where none was given. Raises WrongUse for some of the three."""
    from ..batch.cluster import ClusterTls
    from ..errors import WrongUse

    files = (given.cluster_ca, given.cluster_cert, given.cluster_key)
    if not any(files):
        return None
    authority, certificate, key = files
    if authority is None or certificate is None or key is None:
        raise WrongUse("--cluster-ca, --cluster-cert and --cluster-key belong together; give all three")
    return ClusterTls(authority, certificate, key)


def _tell(summary: BatchSummary, given: BatchArguments) -> None:
    """Print how many cases came to which end, and stop with the exit code of that."""
    if given.as_json:
        print(json.dumps(asdict(summary)))
    else:
        print(", ".join(f"{v} {k}" for k, v in asdict(summary).items()))
        print(given.out / "summary.html")
    lost = summary.refused + summary.failed
    raise typer.Exit(0 if not lost else 3 if summary.done + summary.skipped else 1)


class _shown:
    """Progress with rate, remaining time and losses on stderr; with --json each event is a line on stdout."""

    def __init__(self, total: int, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.as_json = as_json
        self.bar = Progress(
            TextColumn("cases"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[lost]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task("", total=total, rate="", lost="")

    def __enter__(self) -> Callable[[dict], None]:
        self.bar.start()
        return self.event

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def event(self, e: dict) -> None:
        if self.as_json:
            print(json.dumps(e), flush=True)
        if e["state"] != "done":
            talk(harmless_line(f"medfuse: {e['case_id']}: {e['state']}: {e['reason']}"))
        if "of" in e:
            lost = f"{e['refused']} refused, {e['failed']} failed"
            self.bar.update(
                self.task, completed=e["finished"], total=e["of"], rate=f"{e['rate']:.2f}/s", lost=lost
            )
