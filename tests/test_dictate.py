"""Dictation: spoken words become text, sentences find their section, what does not agree is asked, and a
sound is heard by a recogniser from disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from scipy.io import wavfile
from test_report import TASK, lesion, prediction
from typer.testing import CliRunner

from medfuse.cli import app
from medfuse.drafting.dictated import dictation
from medfuse.drafting.spoken import number, number_zh, written
from medfuse.errors import UnreadableError, UserError, WrongUse
from medfuse.io.sound import Sound, read_sound, voiced
from medfuse.models.speech import FILE, Recogniser
from medfuse.workflows import dictate as workflow
from medfuse.workflows.dictate import checked, dictate, hear, pieces


@pytest.mark.parametrize(
    ("spoken", "text"),
    [
        (
            "findings colon a simple cyst measuring thirty two by twenty seven millimeters period no ascites",
            "Findings: A simple cyst measuring 32 x 27 mm. No ascites.",
        ),
        ("one point five centimetres in segment four comma benign full stop", "1.5 cm in segment 4, benign."),
        ("it grew over a period of two years period", "It grew over a period of two years."),
        ("mild ascites period scratch that no ascites period", "No ascites."),
        ("density of minus ten hounsfield units new line normal", "Density of -10 HU\nNormal."),
        ("one simple cyst period", "One simple cyst."),
        ("A cyst of 3.2 cm. No ascites.", "A cyst of 3.2 cm. No ascites."),
        ("右葉有三十二乘二十七毫米單純性囊腫句號無腹水", "右葉有 32 x 27 mm 單純性囊腫。無腹水。"),
        ("一點五公分囊腫句號有腹水句號刪除上一句無腹水句號", "1.5 cm 囊腫。無腹水。"),
    ],
)
def test_spoken_words_are_written(spoken, text):
    assert written(spoken) == text
    assert written(text) == text


@pytest.mark.parametrize(
    ("words", "digits"),
    [
        ("twelve", "12"),
        ("one hundred and five", "105"),
        ("ninety nine", "99"),
        ("two point two five", "2.25"),
    ],
)
def test_numbers(words, digits):
    assert number(words) == digits


@pytest.mark.parametrize(
    ("words", "digits"),
    [("十二", "12"), ("三十", "30"), ("一百零五", "105"), ("兩點二五", "2.25"), ("七", "7")],
)
def test_chinese_numbers(words, digits):
    assert number_zh(words) == digits


def test_sentences_find_their_section():
    words = (
        "CT was performed with contrast period a simple cyst is seen period compared with the prior study it "
        "is unchanged period most likely represents a benign cyst follow up in a year period"
    )
    found = dictation(words, TASK).sentences
    assert [s.section for s in found] == ["technique", "findings", "comparison", "impression"]
    assert [s.finding for s in found][1] == "simple_cyst"
    assert {s.source for s in found} == {"dictated"}
    spoken = dictation("indication colon pain new line impression colon ascites", TASK).sentences
    assert [(s.section, s.finding) for s in spoken] == [("indication", ""), ("impression", "ascites")]


def cyst(side="right", long=30.0):
    return lesion().model_copy(update={"side": side, "long_axis_mm": long})


CYST = {"simple_cyst": 0.95, "focal_lesion": 0.97}


@pytest.mark.parametrize(
    ("words", "p", "kinds"),
    [
        ("a thirty millimeter simple cyst in the right lobe", CYST, []),
        ("a thirty millimeter simple cyst in the left lobe", CYST, ["side"]),
        ("a twelve millimeter simple cyst in the right lobe", CYST, ["size"]),
        ("肝左葉有三十毫米單純性囊腫", CYST, ["side"]),
        ("ascites is present", {"ascites": 0.05}, ["presence"]),
        ("ascites is present", {"ascites": 0.5}, []),
        ("no ascites", {"ascites": 0.9}, ["absence"]),
        ("no ascites", {"ascites": 0.05}, []),
        ("no focal lesion period a simple cyst on the right", CYST, ["absence", "contradiction"]),
        ("the patient is tall", {}, []),
        ("the ascites has increased", {"ascites": 0.95}, ["change"]),
        ("單純性囊腫較前變大", CYST, ["change"]),
        ("no ascites comma and a twelve millimeter simple cyst in the right lobe", CYST, ["size"]),
        ("a simple cyst is seen on the right comma and it measures 50 millimeters", CYST, ["size"]),
    ],
)
def test_what_does_not_agree_is_asked(words, p, kinds):
    found = dictation(words, TASK, prediction(p, lesions=[cyst()]))
    assert [q.kind for q in found.questions] == kinds
    assert all(q.asked.endswith("?") for q in found.questions)


def test_a_spoken_left_against_a_right_lesion_is_asked_and_not_changed():
    found = dictation("a simple cyst in the left lobe", TASK, prediction(CYST, lesions=[cyst()]))
    (question,) = found.questions
    assert question.asked == 'Spoken "left"; simple cyst was outlined on the right. Which side?'
    assert found.sentences[0].text == "A simple cyst in the left lobe."
    unseen = prediction({"abscess": 0.9}, not_assessed=("abscess",))
    assert [q.kind for q in dictation("an abscess", TASK, unseen).questions] == ["not_assessed"]


RATE = 16_000


def burst(seconds=2.0, seed=0):
    """Something that comes and goes as speech does: noise, four times a second, then nothing."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    noise = rng.normal(0, 0.2, len(t)) * (np.sin(2 * np.pi * 4 * t) > 0)
    return np.concatenate([np.zeros(RATE // 2), noise, np.zeros(RATE // 2)]).astype(np.float32)


def test_where_there_is_speech():
    (stretch,) = voiced(Sound(samples=burst(), rate=RATE))
    assert stretch == pytest.approx((0.5, 2.4), abs=0.15)
    t = np.arange(2 * RATE) / RATE
    hum = np.sin(2 * np.pi * 120 * t).astype(np.float32)
    hiss = np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)
    for nothing in (np.zeros(RATE, np.float32), hum, hiss, np.zeros(10, np.float32)):
        assert voiced(Sound(samples=nothing, rate=RATE)) == []


def test_stretches_are_joined_and_cut_to_what_is_heard_at_once():
    assert pieces([(0, 3), (4, 6), (9, 12)], 10.4) == [(0, 6), (9, 12)]
    assert pieces([(0, 25)], 10.4) == [(0, 10), (10, 20), (20, 25)]


@pytest.mark.parametrize("kind", ["int16", "uint8", "float32"])
def test_sounds_are_read(tmp_path, kind):
    t = np.arange(8000) / 8000
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    made = {"int16": tone * 32767, "uint8": tone * 127 + 128, "float32": tone}[kind].astype(kind)
    wavfile.write(tmp_path / "a.wav", 8000, np.stack([made, made], 1))
    sound = read_sound(tmp_path / "a.wav")
    assert sound.samples == pytest.approx(tone, abs=0.02)
    assert len(sound.at(RATE).samples) == RATE


def test_what_is_no_sound_is_one_sentence(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"RIFF1234WAVEfmt ")
    for name in ("a.wav", "missing.wav"):
        with pytest.raises(UnreadableError):
            read_sound(tmp_path / name)
    wavfile.write(tmp_path / "empty.wav", RATE, np.zeros(0, np.int16))
    with pytest.raises(UnreadableError, match="holds no sound"):
        read_sound(tmp_path / "empty.wav")


@pytest.fixture(scope="module")
def asr(tmp_path_factory):
    """A Wav2Vec2 of transformers with random weights: it hears nonsense, by the real road."""
    from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    folder = tmp_path_factory.mktemp("asr")
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({c: n for n, c in enumerate(letters)}))
    Wav2Vec2CTCTokenizer(str(folder / "vocab.json")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    Wav2Vec2ForCTC(config).save_pretrained(folder, safe_serialization=True)
    (folder / FILE).write_text("kind: ctc\nlanguages: {en: english}\n")
    return folder


def test_whisper_is_told_the_language(tmp_path):
    """Of random weights, too: what it hears is nonsense, that it hears is not."""
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    special = ["endoftext", "startoftranscript", "en", "zh", "translate", "transcribe", "notimestamps"]
    words = [*"abcdefghij", *(f"<|{w}|>" for w in special)]
    number_of = {w: n for n, w in enumerate(words)}
    (tmp_path / "vocab.json").write_text(json.dumps(number_of))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    letters = WhisperTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    letters.add_special_tokens({"additional_special_tokens": words[11:]})
    letters.save_pretrained(tmp_path)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(tmp_path)
    ends = {"pad_token_id": 10, "bos_token_id": 10, "eos_token_id": 10, "decoder_start_token_id": 11}
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(words),
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_target_positions=24,
            suppress_tokens=None,
            begin_suppress_tokens=None,
            **ends,
        )
    )
    model.generation_config = GenerationConfig(
        lang_to_id={"<|en|>": 12, "<|zh|>": 13},
        task_to_id={"transcribe": 15, "translate": 14},
        is_multilingual=True,
        no_timestamps_token_id=16,
        max_length=20,
        **ends,
    )
    model.save_pretrained(tmp_path)
    (tmp_path / FILE).write_text("kind: whisper\n")
    recogniser = Recogniser(tmp_path)
    for language in ("en", "zh-TW"):
        assert set(recogniser.hear(burst(), language)) <= set("abcdefghij ")


def test_a_sound_goes_the_whole_way(asr, tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, (burst() * 32767).astype(np.int16))
    run = CliRunner().invoke(app, ["dictate", str(tmp_path / "a.wav"), "--asr", str(asr), "--json"])
    assert run.exit_code == 0, run.exception
    found = json.loads(run.stdout)
    assert {"text", "sentences", "questions"} <= set(found)
    assert found["heard"]
    assert found["seconds"] == 3.0
    assert all(s["source"] == "dictated" for s in found["sentences"])
    again = hear(read_sound(tmp_path / "a.wav"), Recogniser(asr), "en")
    assert again == found["heard"]


def test_a_sound_without_speech_and_a_language_that_is_not_heard(asr, tmp_path):
    wavfile.write(tmp_path / "a.wav", RATE, np.zeros(RATE, np.int16))
    with pytest.raises(UserError, match=r"no speech was heard in 1\.0 s of sound"):
        dictate(tmp_path / "a.wav", asr)
    with pytest.raises(UserError, match="hears en, not zh-TW"):
        Recogniser(asr).hear(burst(), "zh-TW")


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (FILE, "has no asr.yaml"),
        ("vocab.json", "lacks the tokenizer"),
        ("model.safetensors", "lacks model.safetensors"),
        ("preprocessor_config.json", "lacks preprocessor_config.json"),
        ("config.json", "lacks the model's config.json"),
    ],
)
def test_a_folder_that_is_no_recogniser_is_one_sentence(asr, tmp_path, gone, words):
    for file in asr.iterdir():
        if file.name not in (gone, "tokenizer.json"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=words):
        Recogniser(tmp_path)


@pytest.mark.parametrize("text", ["kind: magic", "[", "kind: ctc\ncolour: blue", "kind: ctc\nrate: 1"])
def test_a_wrong_asr_yaml_is_one_sentence(asr, tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=r"asr\.yaml"):
        Recogniser(tmp_path)


def test_another_rate_and_damaged_weights(asr, tmp_path):
    for file in asr.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / FILE).write_text(yaml.safe_dump({"kind": "ctc", "rate": 8000}))
    with pytest.raises(UserError, match="differs from 16000"):
        Recogniser(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded"):
        Recogniser(tmp_path)


def test_a_case_is_held_against_its_own_prediction(monkeypatch):
    stored = prediction(CYST, lesions=[cyst()]).model_copy(update={"bundle": "upper-abdomen-simulated"})
    monkeypatch.setattr(
        workflow.results, "load_result", lambda _, case: (stored, None) if case == "c" else None
    )
    assert [q.kind for q in checked("a simple cyst in the left lobe", case="c").questions] == ["side"]
    assert checked("a simple cyst in the left lobe").questions == ()
    with pytest.raises(WrongUse, match="has no prediction"):
        checked("a cyst", case="other")
