"""`open_case`: one road from whatever a user names, with one sentence for what it is not."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
from slices import write_stack

from medfuse.case import Case
from medfuse.errors import UserError, WrongUse
from medfuse.io.cases import plan_cases
from medfuse.io.manifest import ManifestImage, ManifestRow
from medfuse.io.read import open_case, open_volume
from medfuse.io.rows import labelled
from medfuse.io.scan import scan_files


@pytest.fixture
def stack(tmp_path) -> Path:
    write_stack(tmp_path / "ct", [(0, 0, 5 * z) for z in range(6)])
    return tmp_path / "ct"


def pixels(case: Case) -> list[float]:
    return sorted(float(i.pixels.sum()) for i in case.images)


def test_every_road_leads_to_the_same_case(stack, tmp_path):
    files = sorted(p for p in stack.rglob("*") if p.is_file())
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", stack)
    by_folder = open_case(str(stack))
    for source in (stack, files, packed, {"CT": [stack]}):
        assert pixels(open_case(source)) == pixels(by_folder)
    (plan,) = plan_cases(scan_files(files))
    assert open_case(plan).case_id == open_case(files).case_id == by_folder.case_id


def test_the_id_of_a_case_from_a_zip_is_of_the_zip(stack, tmp_path):
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", stack))
    first, again = (open_case({"CT": [packed]}) for _ in range(2))
    assert first.case_id == again.case_id
    assert first.case_id.startswith("packed-")


def test_a_zip_stays_unpacked_as_long_as_it_is_kept(stack, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", stack)
    with ExitStack() as keep:
        case = open_case(packed, keep=keep)
        assert all(Path(f).exists() for f in case.images[0].source.files)
    assert not any(Path(f).exists() for f in case.images[0].source.files)
    assert not any(Path(f).exists() for f in open_case(packed).images[0].source.files)


def test_a_manifest_row_is_a_case(patient_nifti):
    ct = sorted(patient_nifti.glob("CT_*[!k].nii"))[0]
    row = ManifestRow(case_id="a", simulated=True, images=[ManifestImage(path=ct.name, modality="CT")])
    row.root = str(patient_nifti)
    case = open_case(row)
    assert case.case_id == row.case_id
    assert case.simulated
    assert pixels(labelled(row).case) == pixels(case)


def test_the_library_is_asked_for_what_is_no_path(stack):
    kept = open_case(stack)
    asked = []
    assert open_case("a-case", library=lambda name: asked.append(name) or kept) is kept
    assert asked == ["a-case"]
    assert open_case(str(stack), library=lambda name: pytest.fail("a path comes first")).images


def test_what_is_no_case_is_said(stack, tmp_path):
    with pytest.raises(WrongUse, match="no such file or folder"):
        open_case(tmp_path / "nothing")
    with pytest.raises(WrongUse, match="no such file or folder"):
        open_case({"CT": [tmp_path / "nothing"]})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder is empty"):
        open_case(tmp_path / "empty")
    assert open_case(tmp_path / "empty", allow_empty=True).refused
    with pytest.raises(UserError, match="was given as MR"):
        open_case({"MR": [stack]})
    write_stack(stack / "b", [(0, 0, 5 * z) for z in range(6)], study="1.2.99", series="1.2.98", patient="P2")
    with pytest.raises(WrongUse, match="holds 2 cases"):
        open_case(stack)


def test_a_volume_has_its_case(stack):
    volume = open_volume(stack)
    assert volume.image is volume.case.images[0]
    with pytest.raises(UserError, match="no volume with geometry"):
        open_volume(stack, role="never")
