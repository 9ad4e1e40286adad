"""The text side of MedPix: claims through medfuse's labeller, and words (TF-IDF)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from medfuse.drafting.labeller import claims, load_lexicon

LEXICON = Path(__file__).with_name("medpix_lexicon.yaml")
READ = ("Title", "Findings", "Case Diagnosis", "Differential Diagnosis")  # of a case's report
PARTS = ("caption words", "case words", "claims")


def texts_of(cases: list[dict]) -> dict[str, str]:
    """What a case's report says, by case; its discussion of the disease in general is left out."""
    return {c["U_id"]: " ".join(c["Case"].get(k) or "" for k in READ) for c in cases}


def claimed(texts: list[str]) -> csr_matrix:
    """(N, 2 F + 2): which findings a text affirms and which it denies, and the sides that it names."""
    lexicon = load_lexicon(LEXICON)
    place = {f: n for n, f in enumerate(lexicon.findings)}
    out = np.zeros((len(texts), 2 * len(place) + 2), np.float32)
    for row, text in zip(out, texts, strict=True):
        for c in claims(text, lexicon):
            row[2 * place[c.finding] + (c.said == "absent")] = 1
            if c.side:
                row[-1 if c.side == "left" else -2] = 1
    return csr_matrix(out)


class Words:
    """Features of the texts of all rows, each kind of unit length, weighted as the training rows ask."""

    def __init__(self, captions: list[str], cases: list[str], found: csr_matrix, train: np.ndarray) -> None:
        self.parts = {}
        for name, texts in (("caption words", captions), ("case words", cases)):
            weigh = TfidfVectorizer(min_df=2, ngram_range=(1, 2), sublinear_tf=True, stop_words="english")
            weigh.fit([texts[i] for i in train])
            self.parts[name] = weigh.transform(texts)
        rare = np.log(len(train) / (1 + np.asarray((found[train] > 0).sum(0)).ravel()))
        self.parts["claims"] = normalize(found.multiply(rare).tocsr())

    def kernels(
        self, train: np.ndarray, test: np.ndarray, parts: tuple[str, ...] = PARTS
    ) -> tuple[np.ndarray, np.ndarray]:
        """(T, T) and (len(test), T): mean cosines over the parts."""
        every = [self.parts[p] for p in parts]
        own = sum((x[train] @ x[train].T).toarray() for x in every)
        other = sum((x[test] @ x[train].T).toarray() for x in every)
        return own / len(every), other / len(every)
