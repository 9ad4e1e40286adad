"""Messages between browser and Python: one set of models, types for the front end made from them, and a front
end that a compiler has checked against those."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from apps.viewer.typedefs import TARGET, typedefs
from medfuse.display.contract import Measured, ReportChange, Typing, read_message
from medfuse.errors import WrongUse

FRONT_END = TARGET.parent
SENTENCE = {"text": "Ascites.", "finding": "ascites", "assertion": "present", "state": "edited"}
CHANGE = {"revision": 3, "serial": 1, "sections": [{"id": "findings", "sentences": [SENTENCE]}]}


def test_the_committed_types_are_those_of_the_models():
    assert TARGET.read_text() == typedefs(), "run python -m apps.viewer.typedefs"


def compiler() -> str | None:
    """TypeScript from npm in the front end's folder, or Debian's."""
    own = FRONT_END / "node_modules" / ".bin" / "tsc"
    return str(own) if own.exists() else shutil.which("tsc")


@pytest.mark.skipif(compiler() is None, reason="no tsc: npm ci in apps/viewer/frontend, or node-typescript")
@pytest.mark.parametrize("broken", [False, True])
def test_the_front_end_fits_the_types(tmp_path, broken):
    """And a front end that reads a field which no message has is found out."""
    for name in ("src", "contract.d.ts", "outside.d.ts", "tsconfig.json", "package.json"):
        source = FRONT_END / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    if broken:
        part = tmp_path / "src" / "findings.js"
        text = part.read_text()
        assert "x.size" in text
        part.write_text(text.replace("x.size", "x.sizes"))
    done = subprocess.run(
        [str(compiler()), "-p", str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode != 0) == broken, done.stdout
    assert ("'sizes' does not exist" in done.stdout) == broken


@pytest.mark.parametrize(
    ("model", "message", "said"),
    [
        (ReportChange, {**CHANGE, "revision": "new"}, "revision"),
        (ReportChange, {k: v for k, v in CHANGE.items() if k != "sections"}, "sections: Field required"),
        (ReportChange, {**CHANGE, "signed_by": "me"}, "signed_by"),
        (
            ReportChange,
            {**CHANGE, "sections": [{"id": "findings", "sentences": [{**SENTENCE, "state": "signed"}]}]},
            "sections.0.sentences.0.state",
        ),
        (Typing, {"text": "half"}, "need section, sentence and revision"),
        (Measured, {"drawings": [{"serial": 1, "measurement": None}]}, "drawings.0.measurement"),
        (Measured, {"drawings": []}, "drawings"),
        (Measured, "distance", "valid dictionary"),
    ],
)
def test_a_message_that_does_not_fit_is_one_sentence(model, message, said):
    with pytest.raises(WrongUse, match="nothing was stored") as e:
        read_message(model, message)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


def test_messages_that_fit_are_taken():
    change = read_message(ReportChange, CHANGE)
    assert change.sections[0].sentences[0].text == "Ascites."
    assert read_message(Typing, {"text": None}).text is None
    assert Path(FRONT_END / "built" / "medfuse.js").read_text().count("measurement:") >= 1
