"""Sound as a sense: tokens that hear what sounds differ in and not how loud they are, through a manifest
into fusion."""

from __future__ import annotations

import json
import struct
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from medfuse.errors import UnreadableError
from medfuse.io import sound
from medfuse.io.manifest import read_manifest
from medfuse.io.sound import Sound
from medfuse.models.features import CaseFeatures, collate
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.senses import SENSES, add_senses
from medfuse.models.senses.audio import (
    AUDIO,
    BANDS,
    HIGHEST_HZ,
    LOWEST_HZ,
    RATE,
    SIZE,
    mel_filters,
    read,
    tokens,
)
from medfuse.task import load_task


def tone(hertz, seconds=2.0, rate=RATE, loud=0.3):
    t = np.arange(int(seconds * rate)) / rate
    return Sound(samples=(loud * np.sin(2 * np.pi * hertz * t)).astype(np.float32), rate=rate)


def test_filters_cover_the_bands():
    filters = mel_filters()
    assert filters.shape[0] == BANDS
    assert filters.sum(1) == pytest.approx(np.ones(BANDS))
    peaks = filters.argmax(1)
    assert (np.diff(peaks) >= 0).all()
    assert LOWEST_HZ <= peaks[0] * RATE / 256 < peaks[-1] * RATE / 256 <= HIGHEST_HZ


def test_a_higher_tone_is_heard_in_a_higher_band_at_any_rate_and_loudness():
    low, high = (tokens(tone(f))[:, :BANDS].mean(0).argmax() for f in (150, 900))
    assert low < high
    assert tokens(tone(440, loud=0.01)) == pytest.approx(tokens(tone(440, loud=0.9)), abs=0.01)
    other = tokens(tone(440, rate=2 * RATE))
    assert other[:, :BANDS].mean(0).argmax() == tokens(tone(440))[:, :BANDS].mean(0).argmax()
    assert tokens(tone(440)).shape == (4, SIZE)


def test_what_comes_and_goes_differs_from_what_stays():
    steady = tone(300)
    beat = Sound(samples=steady.samples * (np.arange(len(steady.samples)) % 800 < 400), rate=RATE)
    assert tokens(beat)[:, BANDS:].max() > 2 * tokens(steady)[1:-1, BANDS:].max()


def test_silence_and_a_click_give_no_token():
    for samples in (np.zeros(RATE, np.float32), np.ones(100, np.float32), np.zeros(0, np.float32)):
        assert tokens(Sound(samples=samples, rate=RATE)).shape == (0, SIZE)


def test_a_manifest_brings_sounds_into_a_model(tmp_path):
    task = load_task("upper-abdomen").model_copy(update={"further": ("AUDIO",)})
    lines = []
    for n in range(8):
        wavfile.write(tmp_path / f"{n}.wav", RATE, tone(200 + 100 * n).samples)
        lines.append(json.dumps({"case_id": f"c{n}", "sounds": [f"{n}.wav"] if n else []}))
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    rows = read_manifest(tmp_path / "m.jsonl")
    cases = [CaseFeatures() for _ in rows]
    for case, row in zip(cases, rows, strict=True):
        add_senses(case, task.further, row)
    assert "AUDIO" not in cases[0].features
    assert cases[1].features["AUDIO"].shape == (4, SIZE)
    assert SENSES["AUDIO"] is AUDIO
    model = FusionModel(task, ModelConfig(vocabulary=1), encoders=False).eval()
    batch = collate(cases, task.senses, model.sizes)
    model.tokenisers["AUDIO"].fit(*batch["AUDIO"])
    with torch.inference_mode():
        logits = model(batch, {m: torch.ones(len(rows), dtype=torch.bool) for m in task.senses}).logits
    assert logits.isfinite().all()
    assert not torch.allclose(logits[1], logits[7])
    missing = SimpleNamespace(heard=[str(tmp_path / "gone.wav")])
    with pytest.raises(UnreadableError, match="no such file"):
        read(missing)


@pytest.mark.attack
@pytest.mark.parametrize("claim", ["true", "fast", "none"])
def test_a_sound_of_hours_is_refused_before_it_is_read(tmp_path, monkeypatch, claim):
    """Its length was judged once all of it was in memory."""
    path = tmp_path / "long.wav"
    rate = {"true": 8000, "fast": 2**32 - 1, "none": 8000}[claim]
    fields = struct.pack("<HHIIHH", 1, 1, rate, 0, 1, 8)
    head = b"RIFF" + struct.pack("<I", 2**31) + b"WAVE" + (b"fmt " if claim != "none" else b"fmx ")
    path.write_bytes(head + struct.pack("<I", 16) + fields + b"data" + struct.pack("<I", 2**31 - 64))
    with path.open("r+b") as f:
        f.truncate(2**31)  # a hole: two GiB that take no room on the disk
    monkeypatch.setattr(sound.wavfile, "read", lambda *_: pytest.fail("it was read"))
    with pytest.raises(UnreadableError, match=r"longer than 30 minutes|samples a second|not a WAV"):
        sound.read_sound(path)
