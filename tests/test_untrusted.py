"""What a stranger wrote, in a header, a manifest or a bundle, never becomes a path or code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from slices import write_slice, write_stack
from test_cli import run

import medfuse
from medfuse import pattern as pattern_module
from medfuse.bundles.registry import find_bundle, list_bundles, shipped_folder
from medfuse.case import Case, Image, Source
from medfuse.deidentify.folder import deidentify_folder
from medfuse.deidentify.profile import Options
from medfuse.drafting import labeller
from medfuse.drafting.templates import LONGEST, Sentences
from medfuse.errors import UserError, WrongUse
from medfuse.exports.case_folder import write_case
from medfuse.inference.predictor import Predicted
from medfuse.io.export import export_name
from medfuse.io.names import plain_name, uid_name
from medfuse.knowledge import Concept
from medfuse.library import Library
from medfuse.network.archive import Archive, Instance
from medfuse.task import load_task
from medfuse.workflows.view import serve

ATTACKS = (
    "../../ESCAPED",
    "/tmp/ESCAPED",
    "..",
    ".",
    "",
    "1.2.3/../../X",
    "1.2\x00",
    "1." * 40 + "1",
    "1..2",
)


def files_below(folder: Path) -> set[Path]:
    return {p for p in folder.rglob("*") if p.is_file()}


@pytest.mark.attack
@pytest.mark.parametrize("uid", ATTACKS)
def test_what_is_no_uid_becomes_a_hash(uid):
    assert uid_name(uid) == uid_name(uid)
    assert uid_name(uid).startswith("sha256-")
    assert uid_name(uid) != uid_name(uid + "x")


def test_names_that_are_names_stay():
    assert uid_name("1.2.840.10008.1") == "1.2.840.10008.1"
    assert plain_name("SIM-900006-00000-ab12") == "SIM-900006-00000-ab12"
    assert plain_name("王 case 1.b") == "王 case 1.b"


@pytest.mark.attack
@pytest.mark.parametrize("text", ["../x", "..", ".hidden", "a/b", "a\\b", "", "C:x", "a\nb", "x" * 300])
def test_a_plain_name_is_one_part_of_a_path(text):
    name = plain_name(text)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert not set(name) & set("/\\:\n\0")
    assert len(name) < 100


@pytest.mark.attack
def test_a_received_object_stays_in_the_quarantine(home, tmp_path):
    archive = Archive()
    try:
        for data in (b"first", b"other"):
            archive.store(
                Instance(data, {"SOPInstanceUID": "../../ESCAPED"}, str(ExplicitVRLittleEndian), "test")
            )
    finally:
        archive.close()
    assert [p for p in files_below(tmp_path) if not p.is_relative_to(home)] == []
    (kept,) = (home / "quarantine").iterdir()
    assert kept.read_bytes() == b"other"


@pytest.mark.attack
def test_deidentified_copies_stay_in_their_folder(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.dcm"
    write_slice(path, position=(0, 0, 0))
    ds = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        ds.StudyInstanceUID = "../../../AA"
        ds.SeriesInstanceUID = "../../BB"
        ds.SOPInstanceUID = "../../CC"
        ds.save_as(path)
    out = tmp_path / "deep" / "er" / "out"
    report = deidentify_folder(tmp_path / "in", out, key=b"k" * 32, options=Options(True, True, True)).report
    assert report.written == 1
    assert {p for p in files_below(tmp_path) if p.suffix == ".dcm"} - {path} == {out / report.files[0].path}
    assert (out / report.files[0].path).resolve().is_relative_to(out)


def test_an_exported_image_has_one_name():
    image = Image("MR", np.zeros((2, 2, 2), np.float32), Source("x", series_uid="../../AA"), np.eye(4))
    image.role = "../../t2"
    name = export_name(image, 1)
    assert Path(name).name == name
    plain = Image("MR", np.zeros((2, 2, 2), np.float32), Source("x", series_uid="1.2.3"), np.eye(4))
    assert export_name(plain, 1) == "0001_MR_unknown_1.2.3.nii.gz"


@pytest.mark.attack
def test_a_registration_is_noted_in_its_folder(home, tmp_path, monkeypatch):
    from medfuse.library import registrations, store
    from medfuse.registration.quality import Quality

    monkeypatch.setattr(store, "has_series", lambda library, uid: True)
    source = Source("x", series_uid="../../AA")
    image = Image("MR", np.zeros((2, 2, 2), np.float32), source, np.eye(4))
    other = Image("CT", np.zeros((2, 2, 2), np.float32), replace(source, series_uid="1.2"), np.eye(4))
    quality = object.__new__(Quality)
    quality.verdict, quality.reasons = "check", []
    registrations._keep(Library(), tmp_path, quality, image, other)
    (note,) = files_below(tmp_path)
    assert note.parent == home / "registrations"


@pytest.mark.attack
def test_a_case_is_written_below_its_output(tmp_path):
    """A manifest row may have any case id; the folder of the case is replaced, so it must be the case's."""
    from test_report import TASK, prediction

    from medfuse.drafting.compose import compose

    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    p = prediction().model_copy(update={"case_id": "../precious"})
    case = Case("../precious")
    report = compose(p, case, TASK, "en")
    predicted = Predicted(p, [])
    done = write_case(tmp_path / "out", predicted, report, case, TASK, seconds={}, formats=("text",))
    assert (precious / "file").read_text() == "mine"
    assert done.folder.parent == tmp_path / "out"
    assert "prediction.json" in done.files


def own_bundle(home: Path, name: str) -> Path:
    folder = home / "bundles" / name
    shutil.copytree(shipped_folder() / "breast-ultrasound", folder)
    return folder


def test_a_users_bundle_comes_before_a_shipped_one(home):
    own = own_bundle(home, "upper-abdomen-simulated")
    assert find_bundle("upper-abdomen-simulated") == own
    assert [p for p in list_bundles() if p.name == "upper-abdomen-simulated"] == [own]
    assert find_bundle("breast-ultrasound") == shipped_folder() / "breast-ultrasound"


def test_the_viewer_names_the_findings_of_the_bundle_that_is_used(home):
    from apps.viewer.words import finding_names

    own_bundle(home, "upper-abdomen-simulated")
    finding_names.cache_clear()
    try:
        assert "ascites" not in finding_names("upper-abdomen-simulated", "en")
        assert finding_names("not-here", "en") == {}
    finally:
        finding_names.cache_clear()


@pytest.mark.attack
def test_a_folder_here_is_used_only_when_it_is_given_as_a_path(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(shipped_folder() / "breast-ultrasound", tmp_path / "upper-abdomen-simulated")
    shutil.copytree(shipped_folder() / "breast-ultrasound", tmp_path / "mine")
    assert find_bundle("upper-abdomen-simulated") == shipped_folder() / "upper-abdomen-simulated"
    assert find_bundle("./upper-abdomen-simulated") == tmp_path / "upper-abdomen-simulated"
    assert find_bundle(Path("mine")) == tmp_path / "mine"
    with pytest.raises(WrongUse, match=r"write \./mine"):
        find_bundle("mine")
    with pytest.raises(WrongUse, match="no such folder"):
        find_bundle("./nothing")


NOT_YAML = (
    "[" * 3000 + "]" * 3000,
    "a: " + "9" * 5000,
    "a: 9999-99-99",
    "&a {a: *a}",
    "!!python/object/apply:os.getcwd []",
    "? [1]\n: 2",
)


@pytest.mark.attack
@pytest.mark.parametrize("text", NOT_YAML)
def test_what_a_yaml_parser_cannot_hold_is_one_sentence(tmp_path, text):
    """In the task, the templates and the lexicon of somebody else's bundle."""
    task = tmp_path / "task"
    shutil.copytree(shipped_folder() / "breast-ultrasound" / "task", task)
    (tmp_path / "lexicon.yaml").write_text(text)
    with pytest.raises(UserError, match="not a lexicon"):
        labeller.load_lexicon(tmp_path / "lexicon.yaml")
    (task / "task.yaml").write_text(text)
    with pytest.raises(UserError, match="not a task"):
        load_task(task)


PROGRAM = """
import sys
from medfuse.__main__ import main
sys.argv = ["medfuse", *sys.argv[1:]]
main()
"""


@pytest.mark.attack
def test_a_study_folder_that_holds_modules_runs_none_of_them(tmp_path):
    """`cd STUDY; medfuse ingest .`: the processes that read its files looked for modules there first."""
    study = tmp_path / "study"
    write_stack(study, [(0, 0, 2.0 * k) for k in range(3)])
    for name in ("medfuse", "numpy", "pydicom", "multiprocessing", "random", "json"):
        mark = f"open({str(tmp_path / 'RAN')!r}, 'a').write({name!r}); raise ImportError"
        (study / f"{name}.py").write_text(mark)
    script = tmp_path / "bin" / "medfuse-command"
    script.parent.mkdir()
    script.write_text(PROGRAM)
    environment = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"},
        "MEDFUSE_HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(Path(medfuse.__file__).resolve().parents[1]),
    }
    done = subprocess.run(
        [sys.executable, str(script), "ingest", ".", "--json"],
        cwd=study,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "RAN").exists(), (tmp_path / "RAN").read_text()
    assert json.loads(done.stdout)["ledger"]["read"] == 3, done.stderr


@pytest.mark.attack
def test_what_a_command_starts_imports_nothing_from_the_current_folder(home, monkeypatch, capsys):
    """Workers and pools, which start through Python's own modules."""
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert run(monkeypatch, capsys, "cases")[0] == 0
    asked = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.flags.safe_path)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert asked.stdout == "True\n"


@pytest.mark.attack
def test_a_folder_with_settings_of_the_web_server_serves_no_viewer(home, tmp_path, monkeypatch):
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text("[server]\nenableXsrfProtection = false\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WrongUse, match=r"holds \.streamlit"):
        serve(port=1, home=home, log=lambda line: None)


@pytest.mark.attack
def test_a_study_folder_says_nothing_of_how_pictures_are_drawn(tmp_path):
    """A `matplotlibrc` in it did: what programs run for text, and what a figure shows."""
    (tmp_path / "matplotlibrc").write_text("figure.dpi: 7\ntext.usetex: True\n")
    modules = (
        "medfuse.cli, medfuse.evaluation.plots, medfuse.exports.pdf, medfuse.exports.registration, "
        "medfuse.crossvalidation.papers"
    )
    program = (
        f"import {modules}, matplotlib; print(*map(matplotlib.rcParams.get, ('figure.dpi', 'text.usetex')))"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert said.stdout == "100.0 False\n"


def test_matplotlib_is_imported_in_one_place():
    root = Path(medfuse.__file__).resolve().parent
    files = [f for folder in (root, root.parent / "apps") for f in folder.rglob("*.py")]
    found = {
        str(f.relative_to(root.parent))
        for f in files
        if re.search(r"^\s*(import|from) matplotlib", f.read_text(), re.MULTILINE)
    }
    assert found == {"medfuse/plotting/__init__.py", "medfuse/plotting/pyplot.py"}


TEMPLATES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''.__class__.__mro__ }}",
    "{{ name.upper() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ self._TemplateReference__context }}",
    "{% include '/etc/passwd' %}",
    "{% set x = name %}{{ x }}",
    "{% macro f() %}x{% endmacro %}{{ f() }}",
    "{{ range(9) }}",
    "{{ 'a' * 999999999 }}",
    "{{ name * 9 }}",
    "{{ [1] * 9 }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%999999999d'|format(1) }}",
    "{{ '%.999999999f'|format(1.0) }}",
    "{{ '%*d'|format(999999999, 1) }}",
    "{{ 9 ** 999999999 }}",
    "{{ 'x'|center(999999999) }}",
    "{% for a in name %}{% for b in name %}{{ a }}{% endfor %}{% endfor %}",
    "{{ name|attr('__class__') }}",
    "{{ 1 / 0 }}",
)


@pytest.mark.attack
@pytest.mark.parametrize("text", TEMPLATES)
def test_a_template_that_does_more_than_say_is_refused(tmp_path, text):
    import yaml

    path = tmp_path / "xx.yaml"
    path.write_text(yaml.safe_dump({"size": text}))
    with pytest.raises(UserError, match=r"xx\.yaml line 1: template size: .+") as e:
        Sentences(path, "xx").render("size", name="cyst")
    assert "\n" not in str(e.value)


def test_a_template_says_a_bounded_sentence(tmp_path):
    path = tmp_path / "xx.yaml"
    path.write_text("a: '{% for x in rows %}{{ x }}{% endfor %}'\nb: {c: d}\n")
    rows = ["0123456789"] * (LONGEST // 10)
    assert len(Sentences(path, "xx").render("a", rows=rows)) == LONGEST
    with pytest.raises(UserError, match="more than"):
        Sentences(path, "xx").render("a", rows=[*rows, "x"])
    with pytest.raises(UserError, match="must be a text"):
        Sentences(path, "xx").render("b")


BOMBS = (
    r"(a|a)*$",
    r"(a|aa)+$",
    r"(?:a*)*b",
    r"(a+)+\d",
    r"((a{1000}){1000}){1000}",
    r"(?:" * 400 + "a" + ")" * 400,
    "a" * 5000,
)


@pytest.mark.attack
@pytest.mark.parametrize("pattern", BOMBS)
def test_a_lexicon_takes_neither_hours_nor_the_memory(tmp_path, pattern):
    """One of 7 characters searched a word for hours; one of 25 filled the memory."""
    import yaml

    path = tmp_path / "lexicon.yaml"
    path.write_text(yaml.safe_dump({"findings": {"cyst": {"names": [pattern], "denied": [pattern]}}}))
    begun = time.process_time()
    with suppress(UserError):
        labeller.label(f"There is {'a' * 40}! in the liver.", labeller.load_lexicon(path))
    assert time.process_time() - begun < 2
    with suppress(ValueError):
        Concept(words=(pattern,))
    assert time.process_time() - begun < 3


@pytest.mark.attack
def test_a_pattern_that_takes_too_long_is_named(tmp_path):
    path = tmp_path / "lexicon.yaml"
    path.write_text("findings: {cyst: {names: ['(a|a)*$']}}")
    with pytest.raises(UserError, match=r"lexicon\.yaml: finding cyst: pattern .* takes over 0\.5 s"):
        labeller.label("a" * 40 + "!", labeller.load_lexicon(path))
    path.write_text("findings: {cyst: {names: ['((a{99}){99}){99}']}}")
    labeller.load_lexicon.cache_clear()
    with pytest.raises(UserError, match=r"finding cyst: pattern .* repeats 970299 times"):
        labeller.load_lexicon(path)


def test_no_other_code_puts_a_uid_into_a_path():
    """Every f-string or ``/`` that makes a path of a UID goes through names.py."""
    import re

    root = Path(__file__).resolve().parent.parent
    bare = re.compile(r"/ \S*\b(\w+\.)?(case_id|uid|series_uid|\w*InstanceUID)\b")
    found = [
        f"{p.relative_to(root)}: {line.strip()}"
        for top in ("medfuse", "apps")
        for p in (root / top).rglob("*.py")
        if p.parent.name != "simulation"  # its case ids are its own
        for line in p.read_text().splitlines()
        if bare.search(line) and "_name(" not in line and not line.lstrip().startswith(("#", '"'))
    ]
    assert found == []


def test_the_attack_of_these_tests_reaches_the_header(tmp_path):
    """A UID with slashes is really read as it stands, or the tests above would prove nothing."""
    ds = Dataset()
    with pydicom.config.disable_value_validation():
        ds.StudyInstanceUID = "../../../AA"
    ds.save_as(tmp_path / "a.dcm", implicit_vr=False, little_endian=True)
    ds = pydicom.dcmread(tmp_path / "a.dcm", force=True)
    assert str(ds.StudyInstanceUID) == "../../../AA"


def test_an_expression_is_not_blamed_for_the_work_of_others(monkeypatch):
    """What was done with each place, and by other threads of the process, counted as the expression's time: a
    report failed on a busy machine."""
    monkeypatch.setattr(pattern_module, "SECONDS", 0.05)
    found = []
    for place in pattern_module.Pattern.any_of(["mass"], "lexicon").places("mass " * 3):
        found.append(place.start)
        began = time.process_time()
        while time.process_time() - began < 0.1:
            pass
    assert found == [0, 5, 10]
    asked = []

    def busy(allowed: float) -> str:
        asked.append(allowed)
        if allowed < 1:
            raise TimeoutError
        return "found"

    assert pattern_module.Pattern.any_of(["mass"], "lexicon")._bounded(busy, "mass") == "found"
    assert asked[0] == 0.05
