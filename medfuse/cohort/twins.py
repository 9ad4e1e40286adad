"""Persons and copies that must stay on one side of every split."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from .pixels import SAME_BITS, SIDE


class Groups:
    """Disjoint sets that grow together (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Hashable, Hashable] = {}

    def find(self, item: Hashable) -> Hashable:
        """The one that stands for an item's set."""
        self._above.setdefault(item, item)
        while self._above[item] != item:
            self._above[item] = self._above[self._above[item]]
            item = self._above[item]
        return item

    def join(self, a: Hashable, b: Hashable) -> None:
        """Make one set of two."""
        self._above[self.find(b)] = self.find(a)


def alike(looks: list[tuple[str, str]]) -> list[tuple[int, int]]:
    """Pairs of cines whose middle frames look the same. looks: hash of each and of its mirror image. Pairs
    (i, j) with i < j."""
    if len(looks) < 2:
        return []
    own = np.stack([_bits(a) for a, _ in looks])
    mirrored = np.stack([_bits(b) for _, b in looks])
    out = []
    for i in range(len(looks) - 1):
        rest = slice(i + 1, None)
        same = _apart(own[i], own[rest]) <= SAME_BITS
        same |= _apart(own[i], mirrored[rest]) <= SAME_BITS
        out += [(i, int(i + 1 + j)) for j in np.flatnonzero(same)]
    return out


def _bits(text: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(text), np.uint8)


def _apart(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Bits in which a hash (SIDE²/8,) differs from each of many."""
    assert len(one) * 8 == SIDE * SIDE
    return np.bitwise_count(many ^ one).sum(1)


def group_cases(
    people: dict[str, str], digests: dict[str, list[str]], looks: dict[str, list[tuple[str, str]]]
) -> dict[str, str]:
    """Case id → its group: cases of one person, with an image whose decoded pixels are the same, or with
    frames that look the same, and all that follows from that. people: case id → person."""
    groups = Groups()
    for case, person in people.items():
        groups.join(("person", person), ("case", case))
        for digest in digests.get(case, ()):
            groups.join(("pixels", digest), ("case", case))
    flat = [(case, pair) for case, pairs in looks.items() for pair in pairs]
    for i, j in alike([pair for _, pair in flat]):
        groups.join(("case", flat[i][0]), ("case", flat[j][0]))
    names: dict[Hashable, str] = {}
    out = {}
    for case in people:
        out[case] = names.setdefault(groups.find(("case", case)), case)
    return out
