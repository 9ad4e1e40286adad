"""Simulated Doppler sound: the formula, the side, what findings do to the flow and the anatomy to the noise,
and the way of a sound into a fused model."""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files

import numpy as np
import pytest
import torch
from scipy.io import wavfile
from test_simulation import anatomy_where

from medfuse.bundles.calibration import calibrated
from medfuse.io.manifest import read_manifest
from medfuse.io.sound import read_sides, read_sound
from medfuse.models.feature_set import FeatureSet, collect, label_matrix, predict_logits
from medfuse.models.features import CaseFeatures
from medfuse.models.model import FusionModel, ModelConfig
from medfuse.models.senses import add_senses
from medfuse.models.senses.audio import SIZE
from medfuse.models.subsets import name, shapley, subsets, use_only
from medfuse.simulation.doppler import (
    ARTERY,
    PORTAL,
    SAYS,
    Beam,
    Flow,
    doppler_sound,
    draw_beam,
    draw_flow,
    fat_grade,
    speeds,
    table,
    write_doppler,
)
from medfuse.simulation.patient import Variant, simulate
from medfuse.simulation.population import write_population
from medfuse.task import load_task
from medfuse.training.calibrate import calibrate

FLOW = Flow(portal=15.0, vpi=0.05, peak=60.0, ri=0.6, heart=1.2, breath=0.25)
BEAM = Beam(cosine=0.8, depth_mm=120.0, clear_db=40.0)


def test_values_are_frozen():
    """They were fixed before a sound was bound to anything; another table is another world."""
    data = files("medfuse.simulation").joinpath("doppler.yaml").read_bytes()
    assert sha256(data).hexdigest().startswith("41cbc10fb284")
    assert table().portal_vein.source
    assert table().hepatic_artery.source


def spectrum(samples, rate):
    power = np.abs(np.fft.rfft(samples)) ** 2
    return power, np.fft.rfftfreq(len(samples), 1 / rate)


def edge(samples, rate):
    """Below it lies 95 % of the power."""
    power, at = spectrum(samples, rate)
    return at[np.searchsorted(np.cumsum(power) / power.sum(), 0.95)]


def heard(flow, beam=BEAM, vessel=PORTAL, seed=0):
    return doppler_sound(np.random.default_rng(seed), flow, beam, vessel)


def test_a_speed_is_heard_at_the_frequency_of_the_formula():
    """2 x 2 MHz / 1540 m/s x .3 m/s x .8: 623 Hz at the middle of a vessel with 15 cm/s on the mean."""
    one = heard(FLOW)
    assert edge(one.samples[:, 0], one.rate) == pytest.approx(0.95 * 623, rel=0.08)
    twice = heard(replace(FLOW, portal=30.0))
    assert edge(twice.samples[:, 0], one.rate) == pytest.approx(2 * 0.95 * 623, rel=0.08)
    aslant = heard(FLOW, replace(BEAM, cosine=0.4))
    assert edge(aslant.samples[:, 0], one.rate) == pytest.approx(0.5 * 0.95 * 623, rel=0.15)


def test_flow_away_from_the_liver_is_heard_on_the_other_side():
    for flow, side in ((FLOW, 0), (replace(FLOW, portal=-15.0), 1)):
        loud = (heard(flow).samples ** 2).mean(0)
        assert loud[side] > 100 * loud[1 - side]


@pytest.mark.parametrize("index", [0.5, 0.8])
def test_indices_are_those_that_were_asked_for(index):
    t = np.arange(0, 4, 1e-3)
    artery = speeds(replace(FLOW, ri=index), ARTERY, t)
    assert (artery.max() - artery.min()) / artery.max() == pytest.approx(index, abs=0.01)
    assert artery.max() == pytest.approx(60, rel=0.01)
    vein = speeds(replace(FLOW, vpi=0.3), PORTAL, t)
    assert (vein.max() - vein.min()) / vein.max() == pytest.approx(0.3, abs=0.03)


def test_findings_move_the_flow_as_published_and_the_draws_stay():
    sound, _ = anatomy_where(cirrhosis=False, steatosis=False, metastasis_like=False, ascites=False)
    was = draw_flow(np.random.default_rng(1), sound)

    def now(**findings):
        changed = replace(sound, findings={**sound.findings, **findings})
        return draw_flow(np.random.default_rng(1), changed)

    hard = now(cirrhosis=True)
    assert hard.portal == pytest.approx(0.68 * was.portal)
    assert hard.ri > was.ri + 0.05
    assert now(cirrhosis=True, ascites=True).portal < hard.portal
    assert now(ascites=True) == was
    assert now(metastasis_like=True) == replace(was, peak=was.peak * 1.8)
    assert now(gallstone=True, iron=True) == was
    fat = replace(sound, diffuse=replace(sound.diffuse, pdff=0.3))
    assert fat_grade(fat) == 3
    flow = draw_flow(np.random.default_rng(1), fat)
    assert flow.portal == pytest.approx(0.643 * was.portal)
    assert flow.vpi < was.vpi
    assert flow.ri == pytest.approx(was.ri - 0.13)
    turned = [
        draw_flow(np.random.default_rng(n), replace(sound, findings={**sound.findings, "cirrhosis": True}))
        for n in range(2000)
    ]
    assert np.mean([f.portal < 0 for f in turned]) == pytest.approx(table().portal_vein.reversed, abs=0.012)


def test_the_anatomy_decides_the_noise():
    lean, _ = anatomy_where(steatosis=False, ascites=False)
    thick = replace(lean, diffuse=replace(lean.diffuse, us_attenuation=lean.diffuse.us_attenuation + 0.3))
    was, now = (draw_beam(np.random.default_rng(1), a) for a in (lean, thick))
    assert now.clear_db < was.clear_db - 5
    assert (now.cosine, now.depth_mm) == (was.cosine, was.depth_mm)
    assert 0.5 < was.cosine <= 1
    power, at = spectrum(heard(FLOW, replace(BEAM, clear_db=0.0)).samples[:, 0], 8000)
    clear, _ = spectrum(heard(FLOW).samples[:, 0], 8000)
    assert power[at > 2000].sum() / power.sum() > 20 * clear[at > 2000].sum() / clear.sum()


def test_a_patient_with_sounds_is_the_same_patient():
    plain, too = simulate(3, 4, Variant(missing=0.95)), simulate(3, 4, Variant(missing=0.95, sounds="too"))
    assert plain.sounds == []
    assert [s.vessel for s in too.sounds] == [PORTAL, ARTERY]
    assert (plain.labels, plain.report, plain.labs) == (too.labels, too.report, too.labs)
    for x, y in zip(plain.acquisitions, too.acquisitions, strict=True):
        assert np.array_equal(x.pixels, y.pixels)
    only = simulate(3, 4, Variant(sounds="only"))
    assert only.acquisitions == []
    assert np.array_equal(only.sounds[0].samples, too.sounds[0].samples)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    out = tmp_path_factory.mktemp("sounds")
    return write_population(out, cases=6, seed=5, file_format="sounds", variant=Variant(sounds="only"))


def test_a_written_sound_says_that_it_is_simulated(population):
    (row, *_) = read_manifest(population)
    assert row.images == []
    assert row.simulated
    assert [p.rsplit("_", 1)[1] for p in row.sounds] == ["SIMULATED.wav"] * 2
    for path in map(population.parent.__truediv__, row.sounds):
        data = path.read_bytes()
        assert SAYS.encode() in data
        assert int.from_bytes(data[4:8], "little") == len(data) - 8
        rate, samples = wavfile.read(path)
        assert (rate, samples.shape) == (8000, (32000, 2))
        left, right = read_sides(path)
        assert (left.samples + right.samples) / 2 == pytest.approx(read_sound(path).samples, abs=1e-6)
    assert "sounds" in json.loads(population.read_text().splitlines()[0])


def test_subsets_calibration_and_shapley_hold_of_a_sound(population, tmp_path):
    task = load_task("upper-abdomen").model_copy(update={"further": ("AUDIO",)})
    rows = read_manifest(population)
    rows[0].sounds = []
    cases = [CaseFeatures() for _ in rows]
    for case, row in zip(cases, rows, strict=True):
        add_senses(case, task.further, row)
    assert not cases[0].has("AUDIO")
    assert cases[1].features["AUDIO"].shape == (32, SIZE)  # two vessels, two sides, four seconds
    assert set(cases[1].kind["AUDIO"].tolist()) == {0, 1}
    torch.manual_seed(0)
    model = FusionModel(task, ModelConfig(vocabulary=1, additive=True), encoders=False).eval()
    data = FeatureSet([r.case_id for r in rows], cases, label_matrix(task, rows), [""] * len(rows))
    batch = collect(task, model.sizes, data).batch
    model.tokenisers["AUDIO"].fit(*batch["AUDIO"])
    every = subsets(task.senses)
    logits = {s: predict_logits(model, batch, use_only(s, task.senses, len(rows))) for s in every}
    assert all(np.isfinite(x).all() for x in logits.values())
    assert name(("US", "CT", "MR", "AUDIO")) in {name(s) for s in every}
    alone = logits[("AUDIO",)]
    assert not np.allclose(alone[1], alone[2])
    whole = tuple(task.senses)
    none = predict_logits(model, batch, use_only((), task.senses, len(rows)))
    values = {frozenset(s): float(x[1, 0]) for s, x in logits.items()} | {frozenset(): float(none[1, 0])}
    shares = shapley(values, whole)
    assert sum(shares.values()) == pytest.approx(values[frozenset(whole)] - values[frozenset()], abs=1e-5)
    assert shares["AUDIO"] != 0
    assert shares["CT"] == pytest.approx(0, abs=1e-6)  # the case has no image
    found = calibrate(task, model, data).calibration
    assert set(found.temperature) == {"AUDIO"}  # the one subset that these cases have
    chances = calibrated(alone, found.temperature["AUDIO"])
    assert ((chances > 0) & (chances < 1)).all()


def test_sounds_are_written_as_simulated_where_nothing_else_is(tmp_path):
    assert write_doppler([heard(FLOW)], tmp_path / "SIM-1") == ["SIM-1/doppler_portal_vein_SIMULATED.wav"]
