"""Several readers, the same cases, several versions: whether versions differ beyond these readers and these
cases (Obuchowski and Rockette, Communications in Statistics 24(2), 1995; degrees of freedom after Hillis,
Statistics in Medicine 26(3), 2007)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution


@dataclass(frozen=True, kw_only=True)
class Covariances:
    """Of figures of merit, over cases: cov1 of one reader between versions, cov2 of one version between
    readers, cov3 between both."""

    cov1: float
    cov2: float
    cov3: float


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Two or more versions. f, df1, df2, p: that all are alike, readers and cases both random. margin: half
    of the 95 % interval of a difference of two versions."""

    f: float
    df1: int
    df2: float
    p: float
    margin: float


def covariances(scores: Float[np.ndarray, "versions readers cases"]) -> Covariances:
    """Of mean scores, by the jackknife over cases. Needs two cases, readers and versions at least."""
    versions, readers, cases = scores.shape
    left_out = (scores.sum(2, keepdims=True) - scores) / (cases - 1)
    flat = left_out.reshape(versions * readers, cases)
    apart = flat - flat.mean(1, keepdims=True)
    every = (apart @ apart.T * (cases - 1) / cases).reshape(versions, readers, versions, readers)
    same_version = np.eye(versions, dtype=bool)[:, None, :, None]
    same_reader = np.eye(readers, dtype=bool)[None, :, None, :]

    def mean(which: np.ndarray) -> float:
        return float(every[np.broadcast_to(which, every.shape)].mean())

    return Covariances(
        cov1=mean(~same_version & same_reader),
        cov2=mean(same_version & ~same_reader),
        cov3=mean(~same_version & ~same_reader),
    )


def obuchowski_rockette(merit: Float[np.ndarray, "versions readers"], over: Covariances) -> Compared:
    """The analysis of a figure of merit of each version by each reader; ``over``: its covariances over cases.
    Two readers and two versions at least."""
    versions, readers = merit.shape
    whole = merit.mean()
    by_version = merit.mean(1, keepdims=True)
    by_reader = merit.mean(0, keepdims=True)
    df1 = versions - 1
    of_versions = readers * float(((by_version - whole) ** 2).sum()) / df1
    rest = float(((merit - by_version - by_reader + whole) ** 2).sum()) / (df1 * (readers - 1))
    below = rest + max(readers * (over.cov2 - over.cov3), 0.0)
    if below == 0:
        alike = of_versions == 0
        p = 1.0 if alike else 0.0
        return Compared(f=0.0 if alike else float("inf"), df1=df1, df2=float("inf"), p=p, margin=0.0)
    df2 = below**2 / (rest**2 / (df1 * (readers - 1))) if rest > 0 else float("inf")
    found = of_versions / below
    p = float(f_distribution.sf(found, df1, min(df2, 1e9)))
    margin = float(t_distribution.ppf(0.975, min(df2, 1e9))) * (2 / readers * below) ** 0.5
    return Compared(f=found, df1=df1, df2=df2, p=p, margin=margin)
