"""A short run of the fuzz harness; `make fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from fuzz import report_seeds, run, seeds_under, volume_seeds


@pytest.mark.attack
def test_mutants_never_escape(tmp_path, patient_dicom):
    shipped = Path(pydicom.__file__).parent / "data" / "test_files"
    seeds = seeds_under(shipped) + seeds_under(patient_dicom)
    result = run(seeds, 250, seed=11, bombs=False)
    assert result["escaped"] == []
    assert result["over_limit"] == []
    assert sum(result["statuses"].values()) == 250
    assert len(result["statuses"]) >= 3
    assert result["largest_child_mib"] < 2048


@pytest.mark.attack
def test_bombs_go_off_in_the_child(tmp_path, patient_dicom):
    result = run(seeds_under(patient_dicom), 2, seed=3)
    assert result["escaped"] == []
    assert result["over_limit"] == []
    assert result["statuses"].get("read", 0) == 0


@pytest.mark.attack
def test_mutants_of_volume_files_never_escape(tmp_path):
    result = run(volume_seeds(tmp_path), 150, seed=5, bombs=False)
    assert result["escaped"] == []
    assert result["over_limit"] == []
    assert sum(result["statuses"].values()) == 150
    assert result["statuses"].get("read", 0) > 10


@pytest.mark.attack
def test_mutants_of_reports_masks_and_films_never_escape(tmp_path):
    besides = report_seeds(tmp_path / "seeds")
    result = run(list(besides), 60, seed=2, bombs=False, besides=besides)
    assert result["escaped"] == []
    assert result["over_limit"] == []
    assert sum(result["statuses"].values()) == 60
    assert {"refused mask", "read report"} <= set(result["statuses"])
