"""Which values of headers are the same: texts to the letter, numbers and directions but for rounding."""

from __future__ import annotations

from collections.abc import Sequence

SAME = 1e-3  # share of a value, or of a direction's unit vector, below which two are one


def classes(values: Sequence[object]) -> list[int]:
    """A whole number a value, equal for values that are the same: within SAME for numbers and directions."""
    known: dict[object, int] = {}  # what was seen to the bit: thousands of frames say the same
    seen: list[object] = []
    near = _near([v for v in values if isinstance(v, float)])
    out = []
    for value in values:
        value = near.get(value, value) if isinstance(value, float) else value
        if value not in known:
            tuples = enumerate(seen) if isinstance(value, tuple) else ()
            known[value] = next((i for i, other in tuples if _alike(value, other)), len(seen))
            if known[value] == len(seen):
                seen.append(value)
        out.append(known[value])
    return out


def _near(values: Sequence[float]) -> dict[float, float]:
    """Each number → the least of those that count as the same."""
    out: dict[float, float] = {}
    least = None
    for value in sorted(set(values)):
        if least is None or not _alike(least, value):
            least = value
        out[value] = least
    return out


def _alike(a: object, b: object) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return abs(a - b) <= SAME * max(abs(a), abs(b), 1e-3)
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return all(abs(x - y) <= SAME * max(1.0, abs(x)) for x, y in zip(a, b, strict=True))
    return a == b
