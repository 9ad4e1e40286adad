"""Figures of matplotlib, set up as `medfuse.plotting` says."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["Axes", "Figure", "plt"]
