"""Does an embedding find its partner? Recall at 1, 5, 10 among all others, beside chance and a label-only
oracle."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

KS = (1, 5, 10)


def recall(queries: Float[np.ndarray, "n d"], gallery: Float[np.ndarray, "n d"]) -> dict[str, float]:
    """queries, gallery (N, D) unit rows, row i of one belongs to row i of the other. Ties count against the
    query."""
    similarity = queries @ gallery.T
    own = np.diag(similarity)
    rank = (similarity >= own[:, None]).sum(1)  # 1 is best
    return {f"r{k}": round(float((rank <= k).mean()), 4) for k in KS}


def chance(n: int) -> dict[str, float]:
    """Recall at each k by guessing among n."""
    return {f"r{k}": round(min(1.0, k / n), 4) for k in KS} if n else {}


def label_oracle(labels: Int[np.ndarray, "n f"], seed: int = 0) -> dict[str, float]:
    """What knowing every finding and nothing else would give: cases with the same findings are in random
    order."""
    rng = np.random.default_rng(seed)
    noise = rng.random((len(labels), len(labels)))
    agree = (labels[:, None] == labels[None]).sum(-1) + 0.5 * noise
    own = np.diag(agree).copy()
    rank = 1 + (agree > own[:, None]).sum(1)
    return {f"r{k}": round(float((rank <= k).mean()), 4) for k in KS}


def retrieval_table(
    embedding: dict[str, np.ndarray], there: dict[str, np.ndarray], labels: np.ndarray
) -> dict[str, dict[str, float] | int]:
    """Recall for case and text both ways, and for every ordered pair of modalities (never trained together:
    emergent).

    embedding: sense → (N, D) unit rows, with "joint" and, where reports exist, "text"; there: sense → (N,)
        bool.
    """
    out: dict[str, dict[str, float] | int] = {}
    if "text" in embedding:
        has = there["text"]
        if has.sum() > 1:
            joint = embedding["joint"][has]
            text = embedding["text"][has]
            out["case->text"] = recall(joint, text)
            out["text->case"] = recall(text, joint)
            out["oracle_labels"] = label_oracle(labels[has])
            out["chance"] = chance(int(has.sum()))
            out["n"] = int(has.sum())
    senses = [s for s in embedding if s not in ("joint", "text")]
    for a in senses:
        for b in senses:
            both = there[a] & there[b]
            if a != b and both.sum() > 1:
                out[f"{a}->{b}"] = recall(embedding[a][both], embedding[b][both])
    return out
