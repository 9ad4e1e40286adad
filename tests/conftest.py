"""Fixtures: a library of its own for every test, the real data where it lies, simulated patients made once a
session."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from medfuse.simulation.dicom_writer import write as write_dicom
from medfuse.simulation.nifti_writer import write as write_nifti
from medfuse.simulation.patient import SimulatedPatient, simulate
from medfuse.simulation.population import write_population

ROOT = Path(__file__).resolve().parent.parent
COARSE = ROOT / "tests" / "coarse_abdomen.yaml"  # a task: the upper abdomen with an eighth of the voxels
SHARED = Path(os.environ.get("MEDFUSE_SHARED", ROOT.parent / "shared")) / "data"
# A file runs in one process. The files that take longest begin first, so that none is left to run alone.
LONGEST = (
    "test_batch",
    "test_training",
    "test_viewer_browser",
    "test_training_long",
    "test_viewer_handling",
    "test_generation",
    "test_viewer_grid",
    "test_viewer_marks",
    "test_viewer_whole",
    "test_viewer_planes",
    "test_viewer_objects",
    "test_whole_images",
    "test_writer",
    "test_backends",
    "test_borrowed",
    "test_whole_volumes",
    "test_local_text",
    "test_pet",
    "test_demo_real",
)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run tests that take minutes")


def pytest_collection_modifyitems(config, items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real data at {SHARED} (MEDFUSE_SHARED)"))
        if "browser" in item.keywords:
            # a real browser shares two cores with trainings: it can be too late once; the summary names each
            # such test, and a test that fails twice fails
            item.add_marker(pytest.mark.flaky(reruns=1))
            # its own limit (`viewers.browsing`) comes first: an alarm in Playwright's loop ends nothing
            item.add_marker(pytest.mark.timeout(0 if "slow" in item.keywords else 1800, method="thread"))
        elif "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(0))


@pytest.fixture(autouse=True)
def beside_themselves() -> Iterator[None]:
    """`medfuse.__main__.main` keeps what this process starts from looking into its own folder first. Scripts
    of the tests look beside themselves for one another, whichever test ran before."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty MEDFUSE_HOME for every test."""
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Postgres:
    """A PostgreSQL server on a Unix socket of its own, that can be stopped hard and started again."""

    def __init__(self) -> None:
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not binaries:
            pytest.skip("PostgreSQL is not installed (.ci/install-debian)")
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # a socket path must be short
        self.as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        if self.as_user:
            shutil.chown(self.folder, "postgres")
        self.tool = binaries[-1]
        self.data = self.folder / "data"
        self.made = itertools.count()
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "--no-sync")
        self.start()

    def run(self, tool: str, *arguments: str) -> None:
        subprocess.run(
            [*self.as_user, str(self.tool / tool), *arguments], check=True, capture_output=True, cwd="/"
        )

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c fsync=off"
        self.run("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", str(self.data), "-m", "immediate", "stop")

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test{next(self.made)}"
        self.run("createdb", "-h", str(self.folder), "-U", "postgres", name)
        return f"postgresql+psycopg://postgres@/{name}?host={self.folder}"

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres():
    """A server of this test session: a function that makes an empty database, and its URL."""
    server = Postgres()
    yield server.database
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request, home, monkeypatch) -> str:
    """The test runs on SQLite and on PostgreSQL."""
    if request.param == "postgresql":
        monkeypatch.setenv("MEDFUSE_DATABASE_URL", request.getfixturevalue("postgres")())
    return request.param


@pytest.fixture(autouse=True)
def _main():
    """Streamlit's AppTest puts its script in the place of __main__ and leaves it there; processes that are
    spawned later would run it."""
    own = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = own


@pytest.fixture(scope="session", autouse=True)
def _threads():
    """One thread here and in each program that a test starts: several tests share the cores already."""
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()  # the libraries stay: they need not be looked through again by each collection
    with pytest.MonkeyPatch.context() as patch:
        for library in ("OMP", "MKL", "OPENBLAS"):
            patch.setenv(f"{library}_NUM_THREADS", os.environ.get(f"{library}_NUM_THREADS", "1"))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    return SHARED


@pytest.fixture(scope="session")
def patient() -> SimulatedPatient:
    """A patient with a lesion and all three modalities."""
    return simulate(5, 4)


@pytest.fixture(scope="session")
def patient_dicom(patient, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sim") / patient.case_id
    write_dicom(patient, folder)
    return folder


@pytest.fixture(scope="session")
def two_patients_dicom(patient, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    write_dicom(patient, folder / "a")
    write_dicom(simulate(5, 5), folder / "b")
    return folder


@pytest.fixture(scope="session")
def patient_nifti(patient, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nii") / patient.case_id
    write_nifti(patient, folder)
    return folder


@pytest.fixture(scope="session")
def viewer_library(patient, patient_dicom, tmp_path_factory):
    """A library with one predicted case, and beside what the model found one lesion at its true place in the
    CT: its home, what predict gave, and the case. Not to be changed: copy it."""
    from viewers import predicted_library

    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("viewer") / "home"
        patch.setenv("MEDFUSE_HOME", str(home))
        return predicted_library(home, patient, patient_dicom)


@pytest.fixture(scope="session")
def six_patients(tmp_path_factory) -> Path:
    """The manifest of six simulated patients as NIfTI, with reports and label maps. Not to be changed."""
    return write_population(tmp_path_factory.mktemp("six"), cases=6, seed=31, file_format="nifti")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
