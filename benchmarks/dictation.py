"""Dictated reports, heard: 100 reports of simulated patients, half English and half Chinese, spoken by a
synthesiser in several voices and speeds, with noise.

apt-get install espeak-ng; pip install pocketsphinx==5.1.1
python benchmarks/dictation.py --work DIR [--count 100] [--general 15]

espeak-ng speaks, punctuation aloud. English is heard by pocketsphinx with the acoustic model of its package
(a recogniser of before neural networks), with its own language model and with bigrams of 300 other reports of
the same simulator (which flatters it: the phrasings are those of the test). Chinese is not heard: no
recogniser with Mandarin weights comes with a package here. Then both go the way of `medfuse dictate`.

Word error rate: edits by words spoken. Clinical F1: findings said to be present, in the written text against
the report. "words as spoken" is what a recogniser without fault would give. Real-time factor: seconds of one
core by seconds of sound.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import re
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from medfuse.drafting.dictated import dictation
from medfuse.drafting.labeller import label, task_lexicon
from medfuse.drafting.spoken import ONES, TENS
from medfuse.io.sound import Sound, read_sound, write_sound
from medfuse.simulation import wording
from medfuse.simulation.anatomy import draw_anatomy
from medfuse.task import Task, load_task
from medfuse.workflows.dictate import hear

RATE = 16000
VOICES = ("+m1", "+m3", "+m7", "+f2", "+f4")
SPEEDS = (120, 140, 160)  # words a minute
NOISE_DB = (None, 20, 10)  # speech over noise
WORDS = {n: w for w, n in {**ONES, **TENS}.items()}
ALOUD = {".": " period ", ",": " comma ", ":": " colon ", ";": " semicolon ", "-": " ", "(": " ", ")": " "}
ALOUD_ZH = {"。": "句號", "，": "逗號", "：": "冒號", "；": "分號", " ": ""}


def report(seed: int, language: str) -> str:
    """A report with sections."""
    anatomy = draw_anatomy(np.random.default_rng([seed, 1]))
    return wording.sectioned(np.random.default_rng([seed, 2]), anatomy, held_out=False, language=language)


def in_words(digits: str) -> str:
    """0 to 99."""
    tens, ones = divmod(int(digits), 10)
    return WORDS.get(int(digits)) or f"{WORDS[10 * tens]} {WORDS[ones]}"


def in_chinese(digits: str) -> str:
    """0 to 99."""
    n = int(digits)
    tens, ones = divmod(n, 10)
    digit = "零一二三四五六七八九"
    return (("" if tens == 1 else digit[tens]) + "十" if tens else "") + (
        digit[ones] if ones or not tens else ""
    )


def aloud(text: str, language: str) -> str:
    """What a person says who dictates this text."""
    if language != "en":
        text = re.sub(r"\d+", lambda m: in_chinese(m[0]), text).replace("mm", "毫米")
        return "".join(ALOUD_ZH.get(c, c) for c in text)
    text = re.sub(r"\bmm\b", "millimeters", text.lower())
    text = re.sub(r"\d+", lambda m: in_words(m[0]), text)
    return " ".join("".join(ALOUD.get(c, c) for c in text).split())


def spoken(words: str, language: str, n: int, work: Path) -> Sound:
    """The n-th dictation as sound, with its noise, at `RATE`."""
    path = work / f"{n}-{language}.wav"
    voice = ("en-us" if language == "en" else "cmn") + VOICES[n % len(VOICES)]
    speed = str(SPEEDS[n % len(SPEEDS)])
    subprocess.run(
        ["espeak-ng", "-v", voice, "-s", speed, "-w", path, words],
        check=True,
    )
    sound = read_sound(path).at(RATE)
    samples = np.pad(sound.samples, RATE // 2)
    loud = NOISE_DB[n // len(VOICES) % len(NOISE_DB)]
    noise = np.random.default_rng(n).normal(size=len(samples))
    noise = noise + np.convolve(noise, np.ones(64) / 8, "same")  # more of it at low frequencies
    level = -45 if loud is None else -loud
    noise *= np.sqrt(np.mean(sound.samples**2) / np.mean(noise**2)) * 10 ** (level / 20)
    write_sound(path, samples + noise, RATE)
    return read_sound(path)


class Sphinx:
    """pocketsphinx as `medfuse dictate` asks a recogniser."""

    def __init__(self, lm: Path | None = None) -> None:
        from pocketsphinx import Decoder

        self.file = SimpleNamespace(rate=RATE, seconds=60.0)
        given: dict[str, Any] = {"loglevel": "ERROR", "samprate": RATE}
        self.decoder = Decoder(**given, **({"lm": str(lm)} if lm else {}))

    def knows(self, word: str) -> bool:
        """Whether it has a pronunciation."""
        return self.decoder.lookup_word(word) is not None

    def hear(self, samples: np.ndarray, language: str) -> str:
        """Words of a stretch."""
        self.decoder.start_utt()
        self.decoder.process_raw(np.round(samples * 32767).astype(np.int16).tobytes(), full_utt=True)
        self.decoder.end_utt()
        found = self.decoder.hyp()
        return re.sub(r"\(\d\)", "", found.hypstr) if found else ""


def language_model(texts: list[str], knows: Any, path: Path) -> Path:
    """Bigrams with absolute discounting (.5) as ARPA, of the words that have a pronunciation."""
    rows = [["<s>", *(w for w in text.split() if knows(w)), "</s>"] for text in texts]
    one = Counter(w for row in rows for w in row)
    two = Counter(pair for row in rows for pair in itertools.pairwise(row))
    whole = sum(one.values())
    before: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    for (a, _), n in two.items():
        before[a] += n
        kinds[a] += 1
    lines = ["\\data\\", f"ngram 1={len(one)}", f"ngram 2={len(two)}", "", "\\1-grams:"]
    for w, n in one.items():
        back = math.log10(0.5 * kinds[w] / before[w]) if before[w] else 0.0
        lines.append(f"{math.log10(n / whole):.4f} {w} {back:.4f}")
    lines += ["", "\\2-grams:"]
    for (a, b), n in two.items():
        p = (n - 0.5) / before[a] + 0.5 * kinds[a] / before[a] * one[b] / whole
        lines.append(f"{math.log10(p):.4f} {a} {b}")
    path.write_text("\n".join([*lines, "", "\\end\\", ""]))
    return path


@dataclass
class Tally:
    """Sums over dictations."""

    n: int = 0
    wrong: int = 0
    words: int = 0
    right: int = 0
    said: int = 0
    true: int = 0
    cpu: float = 0.0
    sound: float = 0.0
    by_noise: dict[str, list[int]] = field(default_factory=dict)

    def row(self) -> str:
        """As cells of a table."""
        wer = f"{self.wrong / self.words:.3f}"
        f1 = 2 * self.right / max(self.said + self.true, 1)
        noise = ", ".join(f"{k}: {w / max(n, 1):.3f}" for k, (w, n) in self.by_noise.items())
        factor = f"{self.cpu / self.sound:.2f}" if self.cpu else "–"
        return f"{self.n} | {wer} | {noise or '–'} | {f1:.3f} | {factor}"


@dataclass(frozen=True)
class Spoken:
    """One dictation. true: findings that its report says are there. noise: as a name."""

    language: str
    words: str
    true: set[str]
    sound: Sound
    noise: str


def present(text: str, lexicon: Any) -> set[str]:
    """Findings that a text says are there."""
    return {k for k, v in label(text, lexicon).items() if v in ("present", "possible")}


def count(tally: Tally, one: Spoken, found: str, cpu: float, task: Task) -> None:
    """Add what was heard of a dictation."""
    claimed = present(dictation(found, task).text, task_lexicon(task))
    said, heard = (x.split() if one.language == "en" else list(x) for x in (one.words, found))
    wrong = Levenshtein.distance(said, heard)  # words put in, left out or exchanged
    tally.n += 1
    tally.wrong += wrong
    tally.words += len(said)
    tally.right += len(claimed & one.true)
    tally.said += len(claimed)
    tally.true += len(one.true)
    tally.cpu += cpu
    tally.sound += one.sound.seconds
    cell = tally.by_noise.setdefault(one.noise, [0, 0])
    cell[0] += wrong
    cell[1] += len(said)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--general", type=int, default=15, help="as many are heard with its own model, too")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    task = load_task("upper-abdomen")
    general = Sphinx()
    learned = [aloud(report(800_000 + n, "en"), "en") for n in range(300)]
    own = Sphinx(language_model(learned, general.knows, options.work / "reports.arpa"))
    tallies: dict[str, Tally] = {}
    unknown: Counter[str] = Counter()
    for n in range(options.count):
        language = "en" if n % 2 == 0 else "zh-TW"
        text = report(900_000 + n, language)
        words = aloud(text, language)
        loud = NOISE_DB[n // 2 // len(VOICES) % len(NOISE_DB)]
        one = Spoken(
            language,
            words,
            present(text, task_lexicon(task)),
            spoken(words, language, n // 2, options.work),
            "clean" if loud is None else f"{loud} dB",
        )
        count(tallies.setdefault(f"{language}: words as spoken", Tally()), one, words, 0.0, task)
        ears = {"pocketsphinx, words of reports": own, "pocketsphinx, its own words": general}
        for name, ear in ears.items() if language == "en" else ():
            if ear is own or n // 2 < options.general:
                cpu = time.process_time()
                found = hear(one.sound, ear, language)  # type: ignore[arg-type]
                cpu = time.process_time() - cpu
                count(tallies.setdefault(f"{language}: {name}", Tally()), one, found, cpu, task)
        unknown.update(w for w in words.split() if language == "en" and not general.knows(w))
    print(
        "| heard by | n | word error rate | by noise | clinical F1 | × real time |\n|---|---|---|---|---|---|"
    )
    for name, tally in tallies.items():
        print(f"| {name} | {tally.row()} |")
    print("| zh-TW: a recogniser | – | no Mandarin recogniser could be had | – | – | – |")
    print("without a pronunciation: " + ", ".join(f"{w} {n}" for w, n in unknown.most_common(12)))
    options.out.mkdir(parents=True, exist_ok=True)
    rows = {name: {k: v for k, v in vars(t).items()} for name, t in tallies.items()}
    (options.out / "dictation.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
