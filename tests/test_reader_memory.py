"""A process that reads foreign files and runs out of memory, by its own limit or because the machine kills
it: a sentence that says so, and the others are read."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import pytest
from PIL import Image as Picture
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit
from slices import write_slice, write_stack

from medfuse.io.cases import find_cases
from medfuse.io.child import KILLED, Child, ChildFailed, children

LARGE = 16_000  # pixels a side: 256 MB


@pytest.fixture
def child():
    made = Child()
    yield made
    made.stop()


def killed_while(flag: str) -> str:
    """Runs in a child: the first time, the machine kills it."""
    if Path(flag).exists():
        Path(flag).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return "read"


def test_one_that_was_killed_from_outside_is_asked_once_more(child, tmp_path):
    (tmp_path / "flag").touch()
    assert child.call(killed_while, str(tmp_path / "flag"), limit=60) == "read"


def test_one_that_is_killed_again_does_not_blame_the_file(child):
    with pytest.raises(ChildFailed) as failed:
        child.call(signal.raise_signal, signal.SIGKILL, limit=60)
    assert str(failed.value) == KILLED
    assert child.call(abs, -1, limit=60) == 1


def test_one_that_crashes_by_itself_is_not_asked_again(child):
    with pytest.raises(ChildFailed, match="the file is damaged"):
        child.call(signal.raise_signal, signal.SIGSEGV, limit=60)


def test_too_large_for_a_reader_is_said_and_the_others_are_read(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDFUSE_DECODE_MEMORY_GIB", "0.5")
    children().stop()  # others have another limit
    try:
        write_stack(tmp_path / "small", [(0, 0, 2.5 * k) for k in range(3)])
        write_large(tmp_path / "large.dcm")
        found = find_cases(tmp_path)
        assert [len(c.images) for c in found.cases if c.images] == [1]
        reasons = [r.reason for c in found.cases for r in c.refused]
        assert any("needs more memory to read than is allowed" in r for r in reasons), reasons
    finally:
        children().stop()


def write_large(path: Path) -> None:
    """A compressed CT slice of 256 MB, of another patient."""
    packed = io.BytesIO()
    Picture.new("L", (LARGE, LARGE)).save(packed, "JPEG")
    extra = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "patient": "LARGE", "study": "1.2.8"}
    ds = write_slice(path, position=(0, 0, 0), series="1.2.8.1", **extra)
    ds.Rows = ds.Columns = LARGE
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([packed.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
