"""`medfuse dictate`: a recorded sound to sentences in their sections, with a question on each that does not
agree with the case."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..bundles.bundle import load_bundle
from ..bundles.registry import find_by_hash
from ..drafting.dictated import DictatedSentence, Dictation, Question, dictation
from ..errors import UserError, WrongUse
from ..io.sound import Sound, read_sound, voiced
from ..library import Library, results
from ..models.speech import Recogniser

PAUSE_S = 0.2  # of what is around a stretch of speech, so that no first letter is cut


@dataclass(frozen=True, kw_only=True)
class Dictated:
    """text: as written down. sentences, questions: see `drafting.dictated`. heard: what the recogniser
    gave. case: whose findings it was held against; "" for none. seconds: of sound."""

    text: str
    sentences: tuple[DictatedSentence, ...]
    questions: tuple[Question, ...]
    heard: str
    case: str
    seconds: float

    def as_json(self) -> dict[str, object]:
        """As JSON data."""
        return asdict(self)


def dictate(
    audio: Path, asr: Path, *, case: str = "", bundle: str | None = None, language: str = "en"
) -> Dictated:
    """Hear, write down and check. The sound is read and not kept. Raises UserError for a sound without
    speech."""
    sound = read_sound(audio)
    recogniser = Recogniser(asr)
    heard = hear(sound, recogniser, language)
    if not heard:
        raise UserError(f"{audio}: no speech was heard in {sound.seconds:.1f} s of sound; record it again")
    found = checked(heard, case=case, bundle=bundle)
    return Dictated(
        text=found.text,
        sentences=found.sentences,
        questions=found.questions,
        heard=heard,
        case=case,
        seconds=round(sound.seconds, 2),
    )


def hear(sound: Sound, recogniser: Recogniser, language: str) -> str:
    """The words of every stretch of speech, in order; "" where there is none."""
    sound = sound.at(recogniser.file.rate)
    words = []
    for start, end in pieces(voiced(sound), recogniser.file.seconds):
        first = max(0, int((start - PAUSE_S) * sound.rate))
        words.append(recogniser.hear(sound.samples[first : int((end + PAUSE_S) * sound.rate)], language))
    return " ".join(w for w in words if w)


def pieces(stretches: list[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """Stretches joined while they fit into what is heard at once; one that is longer is cut."""
    room = longest - 2 * PAUSE_S
    out: list[tuple[float, float]] = []
    for start, end in stretches:
        if out and end - out[-1][0] <= room:
            out[-1] = (out[-1][0], end)
            continue
        while end - start > room:
            out.append((start, start + room))
            start += room
        out.append((start, end))
    return out


def checked(words: str, *, case: str = "", bundle: str | None = None) -> Dictation:
    """Heard words, held against what the library has of a case. Raises WrongUse where it has no
    prediction."""
    if not case:
        return dictation(words, load_bundle(bundle).task)
    stored = results.load_result(Library(), case)
    if stored is None:
        raise WrongUse(f"{case}: has no prediction in the library; predict it first, or leave --case out")
    said = stored[0]
    loaded = load_bundle(bundle or find_by_hash(said.bundle, said.bundle_hash))
    return dictation(words, loaded.task, said, results.prior_of(Library(), case))
