"""The net under changes of form holds: what is recorded twice is the same, and what differs is named."""

from __future__ import annotations

import pytest
import recordings
from recorded_trainings import trainings


def test_what_differs_is_named():
    before = {"a": "1", "b": "2", "c": "3"}
    after = {"a": "1", "b": "0", "d": "4"}
    assert recordings.differences(before, after) == ["missing: c", "new: d", "differs: b"]
    assert recordings.differences(before, before) == []


@pytest.mark.slow
def test_every_stage_is_trained_the_same_twice(tmp_path):
    first = dict(trainings(tmp_path / "a", recordings.STEPS))
    assert first == dict(trainings(tmp_path / "b", recordings.STEPS))
    assert len(set(first.values())) == len(first) == 7


@pytest.mark.slow
def test_predictions_reports_and_exports_are_the_same_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(recordings, "CASES", 2)
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        found.append(dict(recordings._cases(tmp_path / name)))
    assert found[0] == found[1]
    assert any(name.endswith("report.sr.dcm") for name in found[0])
