"""Batches: each case exactly once, whatever is killed; refusals named; outputs whole, identical and
resumable."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import dask
import psutil
import pytest
from certificates import self_signed
from dask.utils import parse_timedelta
from distributed import Client, WorkerPlugin
from distributed.scheduler import KilledWorker
from distributed.security import Security
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from medfuse.batch import run as batch_run
from medfuse.batch.cluster import DASK, ClusterTls, local_cluster, uninterrupted
from medfuse.batch.ledger import Ledger, patiently
from medfuse.batch.plan import LIBRARY, Job, plan_batch, stat_hash
from medfuse.batch.run import BatchOptions, run_batch
from medfuse.batch.worker import ReadersKilled, Settle, run_job
from medfuse.case import Case, Refusal
from medfuse.cli import app
from medfuse.errors import MachineError, OutputError, UnreadableError, UserError, WrongUse
from medfuse.io.child import KILLED
from medfuse.library import Library, results
from medfuse.library.ingest import ingest
from medfuse.simulation.population import write_population
from medfuse.workflows.predict import PredictOptions

QUICK = PredictOptions(formats=("json",))


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> Path:
    """Four simulated patients as DICOM, the first with all modalities, the others with ultrasound alone, and
    a file that is no image."""
    folder = tmp_path_factory.mktemp("batch")
    write_population(folder, cases=4, seed=11)
    for patient in sorted(p for p in folder.iterdir() if p.is_dir())[1:]:
        for other in ("CT", "MR"):
            shutil.rmtree(patient / other)
    (folder / "notes.txt").write_text("not an image")
    (folder / "manifest.jsonl").unlink()
    return folder


@pytest.fixture(scope="module")
def ready() -> BatchOptions:
    """A cluster of one worker that several batches use one after another: it loads the libraries once."""
    with other_cluster() as address:
        yield BatchOptions(1, cluster=address, cluster_plain=True)


@pytest.fixture(scope="module")
def reference(cases, ready, tmp_path_factory) -> dict[str, tuple[bytes, bytes]]:
    """What an undisturbed run writes."""
    home = tmp_path_factory.mktemp("home")
    old = os.environ.get("MEDFUSE_HOME")
    os.environ["MEDFUSE_HOME"] = str(home)
    try:
        out = tmp_path_factory.mktemp("reference") / "out"
        summary = run_batch(plan_batch(str(cases)), out, QUICK, ready, bundle=None)
    finally:
        if old is not None:
            os.environ["MEDFUSE_HOME"] = old
    assert (summary.done, summary.refused, summary.failed) == (4, 0, 0)
    return outputs(out)


def outputs(out: Path) -> dict[str, tuple[bytes, bytes]]:
    return {
        p.parent.name: ((p.parent / "prediction.json").read_bytes(), p.read_bytes())
        for p in out.glob("*/report.json")
    }


def command(cases, out, home, *more) -> subprocess.Popen:
    line = [
        sys.executable,
        "-m",
        "medfuse",
        "batch",
        str(cases),
        "--out",
        str(out),
        "--workers",
        "2",
        "--formats",
        "json",
        "--json",
        *more,
    ]
    return subprocess.Popen(
        line,
        env={**os.environ, "MEDFUSE_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def children_of(process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_the_contract(cases, ready, reference, tmp_path, home):
    def asked() -> tuple[list[dict], dict]:
        line = ["batch", str(cases), "--out", str(tmp_path / "out"), "--formats", "json", "--json"]
        done = CliRunner().invoke(app, [*line, "--cluster", ready.cluster, "--cluster-plain"])
        assert done.exit_code == 0, done.output
        *events, last = (json.loads(x) for x in done.stdout.splitlines())
        return events, last

    events, last = asked()
    assert set(last) == {"cases", "done", "skipped", "refused", "failed", "seconds"}
    assert (last["cases"], last["done"], last["skipped"]) == (4, 4, 0)
    assert outputs(tmp_path / "out") == reference
    assert {e["case_id"] for e in events} == set(reference)
    _, again = asked()
    assert (again["done"], again["skipped"]) == (0, 4)
    assert (tmp_path / "out" / "summary.html").read_text().count('class="done"') == 4
    assert len((tmp_path / "out" / "summary.csv").read_text().splitlines()) == 5


def workers_of(process) -> set[int]:
    """Process ids of the workers that a batch has now."""
    found = set()
    for p in children_of(process):
        with contextlib.suppress(psutil.Error):  # one that has just died
            if "spawn_main" in " ".join(p.cmdline()):
                found.add(p.pid)
    return found


def kill_the_parent(process) -> None:
    """kill -9, and whoever outlives it is told."""
    family = children_of(process)
    process.kill()
    alive = psutil.wait_procs(family, timeout=30)[1]
    assert not [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE], "outlived it"
    process.communicate()


def test_killed_parents_and_workers(cases, reference, tmp_path, home):
    """kill -9 of the parent just after a worker that replaces a killed one was born, before it has spoken to
    the scheduler (at moments by chance in `tests/soak.py`): resumed, one output a case, all identical. A
    worker that is killed in the end costs nobody a case."""
    out = tmp_path / "out"
    process = command(cases, out, home)
    assert json.loads(process.stdout.readline())["state"] == "done"
    first = workers_of(process)
    os.kill(min(first), signal.SIGKILL)
    until = time.monotonic() + 20
    while not workers_of(process) - first and time.monotonic() < until:
        time.sleep(0.01)
    assert workers_of(process) - first, "no worker was started again"
    kill_the_parent(process)
    process = command(cases, out, home)
    assert json.loads(process.stdout.readline())["state"] == "done"
    os.kill(min(workers_of(process)), signal.SIGKILL)
    last = json.loads(process.communicate(timeout=300)[0].splitlines()[-1])
    assert last["done"] + last["skipped"] == 4
    assert last["failed"] == 0
    assert last["skipped"] >= 1
    assert outputs(out) == reference
    assert not list(out.glob(".*.part"))


def test_a_poison_case_is_quarantined_and_the_others_go_on(cases, ready, tmp_path, home, monkeypatch):
    """A case that kills its worker each time fails after three tries; nobody else is blamed."""
    plan = plan_batch(str(cases))
    poison = plan.jobs[1].case_id
    monkeypatch.setenv("MEDFUSE_TEST_POISON", poison)
    monkeypatch.setattr(batch_run, "run_job", poisoned)
    events = []
    summary = run_batch(plan, tmp_path / "out", QUICK, BatchOptions(1), bundle=None, event=events.append)
    assert (summary.done, summary.failed) == (3, 1)
    (failed,) = [e for e in events if e["state"] == "failed"]
    assert failed["case_id"] == poison
    assert "quarantined after 3 tries: its worker died each time" in failed["reason"]
    monkeypatch.undo()
    monkeypatch.setenv("MEDFUSE_HOME", str(home))
    again = run_batch(plan, tmp_path / "out", QUICK, ready, bundle=None)
    assert (again.done, again.skipped) == (1, 3)  # the cause is gone


def poisoned(job, work):
    from medfuse.batch.worker import run_job

    if job.case_id == os.environ.get("MEDFUSE_TEST_POISON"):
        os.kill(os.getpid(), signal.SIGKILL)
    return run_job(job, work)


def test_readers_that_cannot_start_stop_the_batch_and_refuse_nobody(
    cases, ready, tmp_path, home, monkeypatch
):
    """It would meet each case: one sentence, and the same command goes on."""
    plan = plan_batch(str(cases))
    monkeypatch.setenv("MEDFUSE_DECODE_MEMORY_GIB", "0.01")
    with pytest.raises(UserError, match=r"no process that reads files can start.*run the same command again"):
        run_batch(plan, tmp_path / "out", QUICK, BatchOptions(1), bundle=None)
    monkeypatch.undo()
    monkeypatch.setenv("MEDFUSE_HOME", str(home))
    again = run_batch(plan, tmp_path / "out", QUICK, ready, bundle=None)
    assert (again.done, again.skipped, again.refused) == (4, 0, 0)


def held(**read) -> tuple[SimpleNamespace, SimpleNamespace]:
    """A job whose reading ends so, and what it shares with others."""
    home = os.environ["MEDFUSE_HOME"]
    return SimpleNamespace(read=Mock(**read), library=False), SimpleNamespace(home=home, database_url="")


@pytest.mark.parametrize(
    "read",
    [
        {"return_value": Case("a", [], refused=[Refusal("a.dcm", KILLED)])},
        {"side_effect": UnreadableError("a.dcm", KILLED)},
    ],
)
def test_a_case_whose_readers_the_machine_killed_is_tried_again_and_not_refused(home, read):
    with pytest.raises(ReadersKilled, match=r"a\.dcm: its reader was killed"):
        run_job(*held(**read))


@pytest.mark.parametrize(
    "error",
    [MachineError("no process starts"), OperationalError("select", {}, Exception("server closed"))],
)
def test_a_fault_of_the_machine_is_no_refusal(home, error):
    with pytest.raises(MachineError, match=r"no process starts|does not answer"):
        run_job(*held(side_effect=error))


def test_what_another_time_may_not_meet_is_tried_by_the_next_run(home, tmp_path):
    jobs = [Job("a", "1"), Job("b", "2")]
    hashes = {j.case_id: (j.input_hash, "bundle", "settings") for j in jobs}
    ledger = Ledger(tmp_path)
    ledger.plan([(j.case_id, hashes[j.case_id], "waiting") for j in jobs], forget=True)
    for job, reason in zip(jobs, (KILLED, "is damaged"), strict=True):
        ledger.finish(job.case_id, "refused", reason=f"a.dcm: {reason}")
    assert batch_run._done(jobs, ledger, tmp_path, hashes, SimpleNamespace(choose=True)) == {"b"}


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a shell: processes that run tests beside each other ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_while_workers_start_waits_and_reaches_none_of_them(interruptible):
    line = [sys.executable, "-c", "import signal; print(signal.pthread_sigmask(signal.SIG_BLOCK, []))"]
    seen: list[str] = []

    def pressed() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGINT)
            seen.append(subprocess.run(line, capture_output=True, text=True, check=True).stdout)

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert "SIGINT" in seen[0]
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(KeyboardInterrupt):  # as before
        signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
def test_a_worker_that_is_silent_for_a_while_is_not_taken_for_dead(cases, tmp_path, home, monkeypatch):
    """A crowded machine: every worker stands still for 25 seconds in its first case, and no case is tried
    twice."""
    monkeypatch.setattr(batch_run, "run_job", silenced)
    tried = []
    running = Ledger.running
    monkeypatch.setattr(Ledger, "running", lambda self, case, n: tried.append(n) or running(self, case, n))
    summary = run_batch(plan_batch(str(cases)), tmp_path / "out", QUICK, BatchOptions(2), bundle=None)
    assert (summary.done, summary.failed) == (4, 0)
    assert tried == [1, 1, 1, 1]


def silenced(job, work):
    from medfuse.batch.worker import run_job

    if "MEDFUSE_TEST_SILENCED" not in os.environ:
        os.environ["MEDFUSE_TEST_SILENCED"] = "once"
        subprocess.Popen(["sh", "-c", f"sleep 25; kill -CONT {os.getpid()}"], start_new_session=True)
        os.kill(os.getpid(), signal.SIGSTOP)
    return run_job(job, work)


def test_a_worker_that_is_slow_to_start_again_is_not_given_up(monkeypatch):
    """dask closed it for good if it was not back when 15 s had gone, and with the only one a batch waited
    forever."""
    waits: list[float] = []
    monkeypatch.setattr(
        "distributed.deploy.spec.parse_timedelta",
        lambda said: waits.append(parse_timedelta(said)) or waits[-1],
    )
    with dask.config.set(DASK), local_cluster(1, 1) as client:
        with pytest.raises(KilledWorker):
            client.submit(os.kill, next(iter(client.run(os.getpid).values())), signal.SIGKILL).result(30)
        assert client.submit(abs, -1).result(timeout=60) == 1
    assert min(waits) >= 600


def test_a_full_output_stops_with_a_name_and_goes_on_later(cases, ready, tmp_path, home, reference):
    """A small tmpfs as output: one sentence, nothing half-written; with room the same command finishes."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small tmpfs takes root")
    out = tmp_path / "small"
    out.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(out)], capture_output=True, check=False
    ).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    try:
        with pytest.raises(UserError, match=r"cannot be written .*No space left.*run the same command again"):
            run_batch(plan_batch(str(cases)), out, QUICK, ready, bundle=None)
        whole = list(out.glob("*/report.json"))
        assert all((p.parent / "prediction.json").exists() for p in whole)
        subprocess.run(["mount", "-o", "remount,size=64m", str(out)], check=True)
        summary = run_batch(plan_batch(str(cases)), out, QUICK, ready, bundle=None)
        assert summary.done + summary.skipped == 4
        assert outputs(out) == reference
    finally:
        subprocess.run(["umount", str(out)], check=False)


def test_changed_inputs_and_settings_are_done_again(cases, ready, tmp_path, home):
    folder = tmp_path / "copy"
    shutil.copytree(sorted(p for p in cases.iterdir() if p.is_dir())[1], folder / "a")

    def once(options: PredictOptions, batch: BatchOptions = ready) -> tuple[int, int]:
        summary = run_batch(plan_batch(str(folder)), tmp_path / "out", options, batch, bundle=None)
        return summary.done, summary.skipped

    assert once(QUICK) == (1, 0)
    chinese = PredictOptions(language="zh-TW", formats=("json",))
    assert once(chinese) == (1, 0)
    assert once(chinese) == (0, 1)
    os.utime(next(folder.rglob("*.dcm")))
    assert once(chinese) == (1, 0)
    assert once(chinese, replace(ready, restart=True)) == (1, 0)


def test_a_manifest_with_missing_files_and_bad_rows(ready, tmp_path, home, patient_nifti):
    rows = [
        {
            "case_id": "good",
            "simulated": True,
            "images": [
                {"path": str(p), "modality": "MR", "role": p.stem.removeprefix("MR_")}
                for p in sorted(patient_nifti.glob("MR_*.nii"))
            ],
        },
        {"case_id": "gone", "images": [{"path": "nowhere.nii.gz", "modality": "CT"}]},
        {"case_id": "../escape", "images": []},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(r) + "\n" for r in rows))
    plan = plan_batch(str(manifest))
    assert {r.path: r.reason for r in plan.refused}.keys() == {"gone", "../escape"}
    summary = run_batch(plan, tmp_path / "out", QUICK, ready, bundle=None)
    assert (summary.cases, summary.done, summary.refused) == (3, 1, 2)
    (tmp_path / "no.csv").write_text("case_id,path\n1,x\n")
    with pytest.raises(UserError, match="lacks the column"):
        plan_batch(str(tmp_path / "no.csv"))
    (tmp_path / "twice.jsonl").write_text((json.dumps(rows[0]) + "\n") * 2)
    with pytest.raises(UserError, match="appears twice"):
        plan_batch(str(tmp_path / "twice.jsonl"))
    with pytest.raises(WrongUse, match="no such folder"):
        plan_batch(str(tmp_path / "nothing"))


def test_the_library_as_source(database, cases, ready, tmp_path, home):
    ingest(Library(), sorted(p for p in cases.iterdir() if p.is_dir())[0])
    plan = plan_batch(LIBRARY, with_modality=("CT",))
    assert len(plan.jobs) == 1
    summary = run_batch(plan, tmp_path / "out", QUICK, ready, bundle=None)
    assert summary.done == 1
    assert results.load_result(Library(), plan.jobs[0].case_id) is not None


def test_two_batches_in_one_folder_and_a_cluster_that_is_not_there(cases, tmp_path, home):
    out = tmp_path / "out"
    out.mkdir()
    with batch_run._alone(out), pytest.raises(WrongUse, match="another batch is writing there"):
        run_batch(plan_batch(str(cases)), out, QUICK, BatchOptions(1), bundle=None)
    with pytest.raises(UserError, match="no dask scheduler answers there"):
        run_batch(
            plan_batch(str(cases)),
            tmp_path / "o2",
            QUICK,
            BatchOptions(1, cluster="tcp://127.0.0.1:9", cluster_plain=True),
            bundle=None,
        )


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("no"), OSError("timed out in")])
def test_workers_that_cannot_start_in_time_are_one_sentence(cases, tmp_path, home, monkeypatch, error):
    def late(**options):
        raise error

    monkeypatch.setattr("medfuse.batch.cluster.LocalCluster", late)
    with pytest.raises(UserError, match="the 2 workers cannot start"):
        run_batch(plan_batch(str(cases)), tmp_path / "out", QUICK, BatchOptions(2), bundle=None)


@contextlib.contextmanager
def other_cluster(security=None, workers: int = 1):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address="127.0.0.1:0",
        host="127.0.0.1",
        security=security,
    ) as cluster:
        yield cluster.scheduler_address


def keys_of(folder: Path, name: str) -> tuple[ClusterTls, Security]:
    """A certificate that is its own CA, as we show it and as a cluster does."""
    certificate, key = self_signed(folder, name)
    roles = {f"tls_{r}_{part}": str(f) for r in ROLES for part, f in (("cert", certificate), ("key", key))}
    security = Security(tls_ca_file=str(certificate), require_encryption=True, **roles)
    return ClusterTls(certificate, certificate, key), security


ROLES = ("scheduler", "worker", "client")


def test_another_dask_cluster(cases, tmp_path, home, reference):
    ours, theirs = keys_of(tmp_path, "cluster")
    with other_cluster(theirs) as address:
        summary = run_batch(
            plan_batch(str(cases)),
            tmp_path / "out",
            QUICK,
            BatchOptions(1, cluster=address, cluster_tls=ours),
            bundle=None,
        )
    assert summary.done == 4
    assert outputs(tmp_path / "out") == reference


def test_a_lost_database_is_waited_for_then_named(home, monkeypatch, tmp_path):
    from sqlalchemy.exc import OperationalError

    from medfuse.batch import ledger

    monkeypatch.setattr(ledger, "PATIENCE_S", 1.0)
    tries = []

    @patiently
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("select", {}, Exception("server closed the connection"))
        return "back"

    assert flaky() == "back"

    @patiently
    def gone():
        raise OperationalError("select", {}, Exception("server closed the connection"))

    with pytest.raises(UserError, match=r"cannot be reached .*run the same command again"):
        gone()
    made = Ledger(tmp_path)
    made.plan([("a", ("1", "2", "3"), "waiting")], forget=False)
    assert made.counts() == {"waiting": 1}


def test_a_database_that_goes_away_in_the_middle_stops_the_batch_and_loses_nothing(
    cases, tmp_path, home, reference, monkeypatch
):
    """PostgreSQL is stopped hard once the first case is done: one sentence, whole outputs; started again, the
    rest is done."""
    from conftest import Postgres

    from medfuse.batch import ledger

    server = Postgres()
    try:
        monkeypatch.setenv("MEDFUSE_DATABASE_URL", server.database())
        monkeypatch.setattr(ledger, "PATIENCE_S", 2.0)
        stopped = []

        def after_the_first(event):
            if event["event"] == "case" and not stopped:
                stopped.append(event["case_id"])
                server.stop()

        with pytest.raises(UserError, match=r"cannot be reached .*run the same command again"):
            run_batch(
                plan_batch(str(cases)),
                tmp_path / "out",
                QUICK,
                BatchOptions(1),
                bundle=None,
                event=after_the_first,
            )
        some = outputs(tmp_path / "out")
        assert stopped[0] in some
        assert all(reference[k] == v for k, v in some.items())
        server.start()
        summary = run_batch(plan_batch(str(cases)), tmp_path / "out", QUICK, BatchOptions(1), bundle=None)
        assert (summary.done + summary.skipped, summary.failed) == (4, 0)
        assert summary.skipped >= 1
        assert outputs(tmp_path / "out") == reference
        assert not list((tmp_path / "out").glob(".*.part"))
    finally:
        server.close()


def test_hashes_follow_files(tmp_path):
    (tmp_path / "a").write_text("1")
    before = stat_hash([tmp_path])
    assert stat_hash([tmp_path]) == before
    (tmp_path / "a").write_text("12")
    assert stat_hash([tmp_path]) != before
    assert isinstance(OutputError("x"), UserError)
    assert Settle(1).threads == 1


@pytest.mark.attack
# dask leaves the sockets of a connection that failed to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_no_cluster_is_trusted_that_anybody_could_be(tmp_path, home, monkeypatch):
    """Whoever listens where a scheduler is expected was sent the patients' paths, without a word."""
    monkeypatch.setattr(batch_run, "Settle", lambda threads: WorkerPlugin())
    alive, start = weakref.WeakSet(), Client.start

    def start_alone(client: Client, **options: object) -> None:
        alive.add(client)
        assert len(alive) == 1, (
            "one that failed is left: collected now, it would wait for this one, and this for it"
        )
        start(client, **options)

    monkeypatch.setattr(Client, "start", start_alone)
    ours, theirs = keys_of(tmp_path, "ours")
    _, strangers = keys_of(tmp_path, "strangers")

    def reached(**options: object) -> bool:
        gc.disable()
        try:
            with batch_run._client(BatchOptions(1, **options)) as client:
                return client.submit(abs, -1).result(timeout=30) == 1
        finally:
            gc.enable()

    with other_cluster(workers=1) as plain:
        with pytest.raises(WrongUse, match="run code in its workers"):
            reached(cluster=plain)
        with pytest.raises(WrongUse, match="run code in its workers"):
            reached(cluster=plain, cluster_tls=ours)
        with pytest.raises(WrongUse, match="run code in its workers"):
            reached(cluster=plain.removeprefix("tcp://"))
        with pytest.raises(UserError, match="no dask scheduler answers"):
            reached(cluster=plain.replace("tcp", "tls"), cluster_tls=ours)
        assert reached(cluster=plain, cluster_plain=True)
    with other_cluster(strangers, workers=0) as address:
        with pytest.raises(WrongUse, match="--cluster-ca"):
            reached(cluster=address)
        with pytest.raises(UserError, match="one CA"):
            reached(cluster=address, cluster_tls=ours)
    missing = ClusterTls(tmp_path / "no.pem", ours.certificate, ours.key)
    with pytest.raises(UserError, match="cannot be used for TLS"):
        reached(cluster="tls://127.0.0.1:9", cluster_tls=missing)
    gc.collect()


@pytest.mark.attack
def test_nobody_else_reaches_the_scheduler_of_a_batch(home, monkeypatch):
    """Any process of the machine could run code in it."""
    monkeypatch.setattr(batch_run, "Settle", lambda threads: WorkerPlugin())  # ours would bring torch along
    with batch_run._client(BatchOptions(1, threads=1)) as own:
        address = own.scheduler.address
        assert own.submit(abs, -1).result(timeout=30) == 1
        bare = address.replace("tls://", "tcp://")
        for place, security in ((bare, None), (bare.replace("tcp", "tls"), Security.temporary())):
            with pytest.raises((OSError, TimeoutError)):
                Client(place, security=security, timeout="1s", set_as_default=False).submit(abs, -2).result(5)
