"""`import medfuse` is quick, and its names lead a script through the whole way."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import medfuse
from medfuse.bundles.bundle import load_bundle


def test_every_name_is_there_and_no_other():
    there = [n for n in medfuse.__all__ if n != "Library" or find_spec("medfuse.library.library")]
    assert all(getattr(medfuse, n) is not None for n in there)
    assert set(medfuse.__all__) <= set(dir(medfuse))
    assert medfuse.load_bundle is load_bundle
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        medfuse.nothing  # noqa: B018 - the access is the test


def test_the_import_brings_nothing_heavy():
    code = "import sys, medfuse; print([m for m in ('torch', 'numpy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_says_that_it_is_typed():
    root = Path(medfuse.__file__).parent
    assert (root / "py.typed").exists()
    packaged = tomllib.loads((root.parent / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]
    assert "py.typed" in packaged["medfuse"]


def test_a_script_goes_from_files_to_a_report(patient_nifti):
    bundle = medfuse.load_bundle()
    us = next(patient_nifti.glob("US_cine.nii"))
    case = medfuse.open_case({"US": [us]})
    case.state_simulated()
    prediction = medfuse.Predictor(bundle)(case)
    assert prediction.in_domain
    assert prediction.modalities["US"] == "present"
    report = medfuse.draft(prediction, case, bundle, "zh-TW")
    assert report.language == "zh-TW"
    assert report.section("impression").sentences
