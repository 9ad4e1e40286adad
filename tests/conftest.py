"""Fixtures: a library of its own for every test, the real data where it lies, simulated patients made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from medfuse.simulation.dicom_writer import write as write_dicom
from medfuse.simulation.nifti_writer import write as write_nifti
from medfuse.simulation.patient import SimulatedPatient, simulate

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("MEDFUSE_SHARED", ROOT.parent / "shared")) / "data"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run tests that take minutes")


def pytest_collection_modifyitems(config, items):
    for item in items:
        if "slow" in item.keywords and not config.getoption("--slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
        if "shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"no real data at {SHARED} (MEDFUSE_SHARED)"))


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """An empty MEDFUSE_HOME for every test."""
    monkeypatch.setenv("MEDFUSE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session", autouse=True)
def _threads():
    torch.set_num_threads(1)


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


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
