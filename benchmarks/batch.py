"""Cost of a batch beside the work itself, and the node beside pynetdicom's own storage application; ratios of
one run.

    python benchmarks/batch.py [--cases 200] [--only batch|node|openvino|scale] [--json]

batch: wall time of `run_batch` over the sum of single-process predictions with the model loaded, divided by
    the workers; and against a new `medfuse predict` a case. node: objects of 512 KB with fsync at 4
    associations. scale: the ledger's cost a case with a STUB for the network (nothing is predicted), and
    catalogue queries on synthetic rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from medfuse.library import Library


def predicted_alone(jobs: list, out: Path) -> float:
    """Seconds of one process for these cases, model loaded and warm."""
    from medfuse.bundles.bundle import load_bundle
    from medfuse.workflows.predict import PredictOptions, predict_and_write

    torch.set_num_threads(1)
    bundle = load_bundle()
    options = PredictOptions()
    predict_and_write(jobs[0].read(), bundle, out / "warm", options)
    started = time.perf_counter()
    for job in jobs:
        predict_and_write(job.read(), bundle, out, options)
    return time.perf_counter() - started


def all_at_once(jobs: list, out: Path, workers: int) -> float:
    """Seconds a case where every core runs such a process: cores of one machine share caches and memory, and
    are slower together."""
    parts = [jobs[k::workers] for k in range(workers)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        spent = list(pool.map(predicted_alone, parts, [out / str(k) for k in range(workers)]))
    return sum(spent) / len(jobs)


def batch(cases: int, workers: int) -> dict:
    from medfuse.batch.plan import plan_batch
    from medfuse.batch.run import BatchOptions, run_batch
    from medfuse.bundles.bundle import load_bundle
    from medfuse.simulation.population import write_population
    from medfuse.workflows.predict import Known, PredictOptions, predict_and_write

    with tempfile.TemporaryDirectory(prefix="medfuse-bench-") as folder:
        root = Path(folder)
        os.environ["MEDFUSE_HOME"] = str(root / "home")
        write_population(root / "dicom", cases=cases, seed=21, workers=2)
        (root / "dicom" / "manifest.jsonl").unlink()
        plan = plan_batch(str(root / "dicom"))
        options = PredictOptions()
        torch.set_num_threads(1)
        bundle = load_bundle()
        single = 0.0
        stages = {}
        sample = plan.jobs[: max(10, cases // 5)]
        predict_and_write(sample[0].read(), bundle, root / "warm", options)
        for job in sample:
            started = time.perf_counter()
            case = job.read()
            read = time.perf_counter() - started
            done = predict_and_write(case, bundle, root / "single", options, known=Known(read_seconds=read))
            single += time.perf_counter() - started
            for k, v in done.seconds.items():
                stages[k] = stages.get(k, 0.0) + v
        together = all_at_once(sample[: 8 * workers], root / "together", workers)
        started = time.perf_counter()
        summary = run_batch(plan, root / "batch", options, BatchOptions(workers), bundle=None)
        wall = time.perf_counter() - started
        work = single / len(sample) * cases / workers
        started = time.perf_counter()
        first = sorted(p for p in (root / "dicom").iterdir() if p.is_dir())[0]
        subprocess.run(
            [sys.executable, "-m", "medfuse", "predict", str(first), "--out", str(root / "cold")],
            check=True,
            capture_output=True,
        )
        cold = time.perf_counter() - started
        total = sum(stages.values())
        return {
            "cases": cases,
            "workers": workers,
            "summary": asdict(summary),
            "wall_s": round(wall, 1),
            "single_process_s_a_case": round(single / len(sample), 2),
            "measured_on": len(sample),
            "overhead": round(wall / work, 3),
            "single_process_s_a_case_all_cores_busy": round(together, 2),
            "overhead_over_busy_cores": round(wall / (together * cases / workers), 3),
            "faster_than_predict_each_time": round(cold * cases / wall, 2),
            "share_of_time": {k: round(v / total, 3) for k, v in stages.items()},
        }


def objects(folder: Path, n: int) -> list[Path]:
    """MR objects of about 512 KB."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["bench", str(i)])
        ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        ds.SOPClassUID = meta.MediaStorageSOPClassUID
        ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
        ds.PatientID = "BENCH"
        ds.StudyInstanceUID = "1.2.3"
        ds.SeriesInstanceUID = f"1.2.3.{i % 4}"
        ds.Modality = "MR"
        ds.Rows = ds.Columns = 512
        ds.BitsAllocated = ds.BitsStored = 16
        ds.HighBit = 15
        ds.PixelRepresentation = 0
        ds.SamplesPerPixel = 1
        ds.PhotometricInterpretation = "MONOCHROME2"
        ds.PixelData = rng.integers(0, 4096, (512, 512), dtype=np.uint16).tobytes()
        path = folder / f"{i}.dcm"
        ds.save_as(path, enforce_file_format=True)
        out.append(path)
    return out


def node(n: int, associations: int = 4) -> dict:
    from medfuse.network.client import send_files
    from medfuse.network.node import Peer

    with tempfile.TemporaryDirectory(prefix="medfuse-bench-") as folder:
        root = Path(folder)
        files = objects(root, n)
        environment = {**os.environ, "MEDFUSE_HOME": str(root / "home")}
        peers = {
            "medfuse node (fsync and index)": (
                [sys.executable, "-m", "medfuse", "node", "--port", "21112", "--quiet", "9999"],
                21112,
            ),
            "pynetdicom storescp (no fsync, no index)": (
                [sys.executable, "-m", "pynetdicom", "storescp", "21113", "-od", str(root / "theirs")],
                21113,
            ),
        }
        rates = {}
        for name, (command, port) in peers.items():
            process = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            try:
                peer = Peer("ANY-SCP" if port == 21113 else "MEDFUSE", "127.0.0.1", port)
                _wait(peer)
                with ThreadPoolExecutor(associations) as pool:
                    started = time.perf_counter()
                    parts = [files[k::associations] for k in range(associations)]
                    sent = [done.sent for done in pool.map(partial(send_files, peer), parts)]
                    seconds = time.perf_counter() - started
                rates[name] = {"objects_per_s": round(sum(sent) / seconds, 1), "stored": sum(sent)}
            finally:
                process.terminate()
                process.wait()
        ours, theirs = (r["objects_per_s"] for r in rates.values())
        return {
            "objects": n,
            "bytes": 524_288,
            "associations": associations,
            **rates,
            "ratio": round(ours / theirs, 2),
        }


def _wait(peer) -> None:
    from medfuse.errors import UserError
    from medfuse.network.client import echo

    for _ in range(150):
        try:
            if echo(peer):
                return
        except UserError:
            time.sleep(0.2)
    raise RuntimeError("the peer did not come up")


def openvino(repeats: int = 5) -> dict:
    from medfuse.bundles.bundle import load_bundle
    from medfuse.inference.predictor import Predictor
    from medfuse.io.read import open_case
    from medfuse.simulation.nifti_writer import write
    from medfuse.simulation.patient import simulate

    torch.set_num_threads(os.cpu_count() or 1)
    with tempfile.TemporaryDirectory(prefix="medfuse-bench-") as folder:
        patient = simulate(5, 4)
        write(patient, Path(folder))
        parts = {m: sorted(Path(folder).glob(f"{m}_*.nii")) for m in ("US", "CT", "MR")}
        case = open_case(parts)
        case.state_simulated()
    bundle = load_bundle()
    seconds = {}
    said = {}
    for backend in ("torch", "openvino"):
        Predictor(bundle, backend=backend)(case)
        runs = [Predictor(bundle, backend=backend).details(case) for _ in range(repeats)]
        seconds[backend] = min(r.seconds["network"] for r in runs)
        said[backend] = [f.probability or 0.0 for f in runs[0].prediction.findings]
    most = max(abs(a - b) for a, b in zip(said["torch"], said["openvino"], strict=True))
    return {
        "network_s": {k: round(v, 3) for k, v in seconds.items()},
        "openvino_over_torch": round(seconds["torch"] / seconds["openvino"], 2),
        "largest_difference_of_a_probability": round(most, 6),
    }


def scale(sizes: tuple[int, ...], rows: int) -> dict:
    """The ledger a case (STUB network), and queries on synthetic series rows."""
    from sqlalchemy import insert, select, text

    from medfuse.batch.ledger import Ledger
    from medfuse.library.catalogue import InstanceRow

    out: dict = {"stub_network": True, "ledger_ms_a_case": {}}
    with tempfile.TemporaryDirectory(prefix="medfuse-bench-") as folder:
        os.environ["MEDFUSE_HOME"] = folder
        for n in sizes:
            ledger = Ledger(Path(folder) / str(n))
            started = time.perf_counter()
            ledger.plan([(f"case-{i}", ("a", "b", "c"), "waiting") for i in range(n)], forget=False)
            for i in range(n):
                ledger.running(f"case-{i}", 1)
                ledger.finish(f"case-{i}", "done", seconds={"whole": 1.0})
            out["ledger_ms_a_case"][n] = round(1000 * (time.perf_counter() - started) / n, 3)
        with Library().session() as s:
            for start in range(0, rows, 10_000):
                s.execute(
                    insert(InstanceRow),
                    [
                        {
                            "uid": f"1.{i}",
                            "sha256": "0" * 64,
                            "sop_class": "1.2",
                            "transfer_syntax": "1.2",
                            "study_uid": f"9.{i // 200}",
                            "series_uid": f"8.{i // 50}",
                            "patient_id": f"P{i // 600}",
                            "keys": {"Modality": "MR"},
                            "source": "BENCH",
                            "filed": True,
                        }
                        for i in range(start, min(rows, start + 10_000))
                    ],
                )
        queries = {
            "instances of a study": select(InstanceRow.uid).where(InstanceRow.study_uid == "9.17"),
            "a patient's studies": select(InstanceRow.study_uid)
            .where(InstanceRow.patient_id == "P9")
            .distinct(),
            "one instance": select(InstanceRow.sha256).where(InstanceRow.uid == f"1.{rows // 2}"),
            "anything not filed": select(InstanceRow.patient_id).where(InstanceRow.filed.is_(False)).limit(1),
        }
        out["rows"] = rows
        out["query_ms"] = {}
        for name, query in queries.items():
            times = []
            for _ in range(5):
                started = time.perf_counter()
                with Library().session() as s:
                    s.execute(query).all()
                times.append(time.perf_counter() - started)
            out["query_ms"][name] = round(1000 * float(np.median(times)), 2)
        with Library().engine.connect() as c:
            out["database"] = c.dialect.name + " " + str(c.execute(text("select sqlite_version()")).scalar())
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", choices=("batch", "node", "openvino", "scale"))
    parser.add_argument("--json", action="store_true")
    a = parser.parse_args()
    result: dict = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"}
    if a.only in (None, "node"):
        result["node"] = node(a.objects)
    if a.only in (None, "openvino"):
        result["openvino"] = openvino()
    if a.only in (None, "scale"):
        result["scale"] = scale((100, 1000, 5000), a.rows)
    if a.only in (None, "batch"):
        result["batch"] = batch(a.cases, a.workers)
    print(json.dumps(result) if a.json else json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
