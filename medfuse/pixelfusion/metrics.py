"""Metrics of pixel-level fusion, as the field computes them: on grey values 0 to 255 of pictures (H, W). None
is a measure of use.

What each can be fooled by stands in `WARNINGS`; the shared black background is set to zero in every picture
before scoring, for every method alike. Entropy and mutual information are in bits.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Num
from scipy.ndimage import gaussian_filter, sobel, uniform_filter

WARNINGS = {
    "en": "noise raises it",
    "sd": "clipping CT + MRI raises it",
    "sf": "noise raises it",
    "mi": "copying one source raises it",
    "scd": "clipping CT + MRI raises it",
    "vif": "copying one source raises it",
    "qabf": "knows edges only",
    "ssim": "the historic sum over both sources: 2 is the most, smooth pictures do well",
}
BACKGROUND = 1.0  # grey value up to which both sources count as background


def entropy(f: Num[np.ndarray, "h w"]) -> float:
    """EN: Shannon entropy of the histogram of 256 levels, bits (Roberts et al. 2008)."""
    p = np.bincount(_levels(f).ravel(), minlength=256) / f.size
    p = p[p > 0]
    return float(-(p * np.log2(p)).sum())


def deviation(f: Num[np.ndarray, "h w"]) -> float:
    """SD: standard deviation of grey values (Rao 1997)."""
    return float(np.std(f))


def spatial_frequency(f: Num[np.ndarray, "h w"]) -> float:
    """SF: root of the mean squared differences along rows and columns (Eskicioglu & Fisher 1995)."""
    rows = np.diff(f, axis=1)
    columns = np.diff(f, axis=0)
    return float(np.sqrt((rows**2).mean() + (columns**2).mean()))


def mutual_information(a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"]) -> float:
    """Mutual information of two pictures' 256-level histograms, bits."""
    joint = (
        np.bincount((_levels(a).ravel() * 256 + _levels(b).ravel()), minlength=65536).reshape(256, 256)
        / a.size
    )
    outer = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log2(joint[there] / outer[there])).sum())


def correlation(a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"]) -> float:
    a = a - a.mean()
    b = b - b.mean()
    below = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / below) if below > 0 else 0.0


def scd(a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"], f: Num[np.ndarray, "h w"]) -> float:
    """Sum of the correlations of differences (Aslantas & Bendes 2015)."""
    return correlation(f - b, a) + correlation(f - a, b)


def vif(reference: Num[np.ndarray, "h w"], distorted: Num[np.ndarray, "h w"], noise: float = 2.0) -> float:
    """Visual information fidelity in the pixel domain, four scales (Sheikh & Bovik 2006, the authors'
    vifp)."""
    a = reference.astype(np.float64)
    b = distorted.astype(np.float64)
    above = below = 0.0
    for scale in range(1, 5):
        n = 2 ** (5 - scale) + 1
        if scale > 1:
            a = _window(a, n)[::2, ::2]
            b = _window(b, n)[::2, ::2]
        if min(a.shape) < n:
            break
        mu_a = _window(a, n)
        mu_b = _window(b, n)
        var_a = np.maximum(_window(a * a, n) - mu_a**2, 0)
        var_b = np.maximum(_window(b * b, n) - mu_b**2, 0)
        cov = _window(a * b, n) - mu_a * mu_b
        g = cov / (var_a + 1e-10)
        left = var_b - g * cov
        g[var_a < 1e-10] = 0
        left[var_a < 1e-10] = var_b[var_a < 1e-10]
        var_a[var_a < 1e-10] = 0
        g[var_b < 1e-10] = left[var_b < 1e-10] = 0
        left[g < 0] = var_b[g < 0]
        g[g < 0] = 0
        left = np.maximum(left, 1e-10)
        above += float(np.log10(1 + g**2 * var_a / (left + noise)).sum())
        below += float(np.log10(1 + var_a / noise).sum())
    return above / below if below > 0 else 1.0


def _window(x: np.ndarray, n: int) -> np.ndarray:
    """Gaussian window of n pixels and sigma n / 5, valid part only."""
    half = n // 2
    smooth = gaussian_filter(x, n / 5, radius=half, mode="nearest")
    return smooth[half : x.shape[0] - half, half : x.shape[1] - half]


# Xydeas & Petrovic 2000
_G = 0.9994
_KG = -15.0
_SG = 0.5
_A = 0.9879
_KA = -22.0
_SA = 0.8


def qabf(a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"], f: Num[np.ndarray, "h w"]) -> float:
    """Q_AB/F: how well strength and direction of the sources' edges are kept (Xydeas & Petrovic 2000), Sobel
    edges."""
    (ga, da), (gb, db), (gf, df) = (_edges(x) for x in (a, b, f))

    def kept(g: np.ndarray, d: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            strength = np.where(g > gf, gf / g, np.where(g == gf, gf, g / gf))
        strength = np.nan_to_num(strength)
        angle = 1 - np.abs(d - df) / (np.pi / 2)
        return _G / (1 + np.exp(_KG * (strength - _SG))) * _A / (1 + np.exp(_KA * (angle - _SA)))

    total = (ga + gb).sum()
    return float((kept(ga, da) * ga + kept(gb, db) * gb).sum() / total) if total > 0 else 0.0


def _edges(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    horizontal = sobel(x, 1, mode="constant")
    vertical = sobel(x, 0, mode="constant")
    with np.errstate(divide="ignore", invalid="ignore"):
        direction = np.where(horizontal == 0, np.pi / 2, np.arctan(vertical / horizontal))
    return np.hypot(horizontal, vertical), direction


def ssim(a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"]) -> float:
    """SSIM with Gaussian window of 11 pixels, sigma 1.5, data range 255 (Wang et al. 2004), mean over the
    valid part."""
    c1 = (0.01 * 255) ** 2
    c2 = (0.03 * 255) ** 2
    n = 5

    def w(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, radius=n)[n:-n, n:-n]

    mu_a = w(a)
    mu_b = w(b)
    var_a = w(a * a) - mu_a**2
    var_b = w(b * b) - mu_b**2
    cov = w(a * b) - mu_a * mu_b
    value = (2 * mu_a * mu_b + c1) * (2 * cov + c2) / ((mu_a**2 + mu_b**2 + c1) * (var_a + var_b + c2))
    return float(value.mean())


def score(
    a: Num[np.ndarray, "h w"], b: Num[np.ndarray, "h w"], f: Num[np.ndarray, "h w"]
) -> dict[str, float]:
    """All metrics of a fused picture f against its sources a and b, each (H, W) with grey values 0 to 255."""
    a, b, f = (np.clip(np.asarray(x, np.float64), 0, 255) for x in (a, b, f))
    background = uniform_filter(np.maximum(a, b), 3) <= BACKGROUND
    a, b, f = (np.where(background, 0.0, x) for x in (a, b, f))
    return {
        "en": entropy(f),
        "sd": deviation(f),
        "sf": spatial_frequency(f),
        "mi": mutual_information(a, f) + mutual_information(b, f),
        "scd": scd(a, b, f),
        "vif": vif(a, f) + vif(b, f),
        "qabf": qabf(a, b, f),
        "ssim": ssim(a, f) + ssim(b, f),
    }


def _levels(x: np.ndarray) -> np.ndarray:
    return np.clip(np.round(x), 0, 255).astype(np.int64)
