"""How long a stage may train: minutes, or an exact number of steps (which makes a run repeatable bit by bit
on CPU)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Budget:
    minutes: float | None = None
    steps: int | None = None
    started: float = field(default_factory=time.monotonic)

    def fraction(self, step: int) -> float:
        """Share of the budget that is spent, 0 to 1 and beyond."""
        if self.steps is not None:
            return step / self.steps
        assert self.minutes is not None
        return (time.monotonic() - self.started) / (60 * self.minutes)


def learning_rate(peak: float, fraction: float) -> float:
    """Warm up over a twentieth of the budget, then cosine to a hundredth of the peak."""
    import math

    if fraction < 0.05:
        return peak * (0.1 + 0.9 * fraction / 0.05)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (fraction - 0.05) / 0.95))))
