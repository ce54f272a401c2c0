"""Feature similarity with colour, FSIMc (Zhang, Zhang, Mou, Zhang 2011, doi 10.1109/TIP.2011.2109730)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.metrics.checks import by_piq
from refbench.metrics.contract import Metric, library, opencv
from refbench.metrics.filters import SCHARR, Floats, gradient, similarity
from refbench.metrics.view import View
from refbench.schema import MetricCard

Singles: TypeAlias = NDArray[np.float32]
SCALES, ORIENTATIONS = 4, 4
SHORTEST_WAVE, WAVE_FACTOR = 6.0, 2.0
SIGMA_F, DELTA_THETA, K = 0.55, 1.2, 2.0
T1, T2, T3, T4, LAMBDA = 0.85, 160.0, 200.0, 200.0, 0.03
YIQ = np.array(
    [
        [0.299, 0.587, 0.114],
        [0.5959, -0.2746, -0.3213],
        [0.2115, -0.5227, 0.3112],
    ]
)


@dataclass(frozen=True)
class Bank:
    """Log-Gabor filters for one image size as radial times angular parts, and what the noise estimate needs."""

    radial: Singles
    """(scales, h, w), frequency zero at the corner."""
    angular: Singles
    """(orientations, h, w)."""
    energy: Floats
    """(orientations,) summed square of each orientation's finest filter."""
    spread: Floats
    """(orientations,) factor from noise power to expected squared noise energy."""


def _grid(size: int) -> Floats:
    if size % 2:
        return np.arange(-(size - 1) / 2.0, size / 2.0) / (size - 1)
    return np.arange(-size / 2.0, size / 2.0) / size


@lru_cache(maxsize=32)
def bank(height: int, width: int) -> Bank:
    """The 4 x 4 log-Gabor filters of P. Kovesi's phase congruency, as FSIM sets them."""
    rows, columns = np.meshgrid(_grid(height), _grid(width), indexing="ij")
    # piq and the MATLAB code shift by half the size rounded down, whatever its parity.
    radius = np.roll(np.sqrt(rows**2 + columns**2), (-(height // 2), -(width // 2)), (0, 1))
    theta = np.roll(np.arctan2(-columns, rows), (-(height // 2), -(width // 2)), (0, 1))
    low_pass = 1.0 / (1.0 + (radius / 0.45) ** 30)
    radius[0, 0] = 1.0
    radial = []
    for scale in range(SCALES):
        centre = 1.0 / (SHORTEST_WAVE * WAVE_FACTOR**scale)
        gabor = np.exp(-(np.log(radius / centre) ** 2) / (2.0 * math.log(SIGMA_F) ** 2)) * low_pass
        gabor[0, 0] = 0.0
        radial.append(gabor)
    sigma = math.pi / (ORIENTATIONS * DELTA_THETA)
    angular = []
    for orientation in range(ORIENTATIONS):
        angle = orientation * math.pi / ORIENTATIONS
        sine = np.sin(theta) * math.cos(angle) - np.cos(theta) * math.sin(angle)
        cosine = np.cos(theta) * math.cos(angle) + np.sin(theta) * math.sin(angle)
        angular.append(np.exp(-(np.arctan2(sine, cosine) ** 2) / (2.0 * sigma**2)))
    radials, angulars = np.stack(radial).astype(np.float32), np.stack(angular).astype(np.float32)
    energy, spread = np.zeros(ORIENTATIONS), np.zeros(ORIENTATIONS)
    for orientation in range(ORIENTATIONS):
        filters = angulars[orientation] * radials
        energy[orientation] = float(np.vdot(filters[0], filters[0]))
        # Sums over space of products of the filters' real parts, by Parseval: those of their even spectra.
        even = (0.5 * (filters + np.roll(filters[:, ::-1, ::-1], (1, 1), (1, 2)))).reshape(SCALES, -1)
        products = even @ even.T
        spread[orientation] = 2.0 * np.trace(products) + 4.0 * np.triu(products, 1).sum()
    return Bank(radials, angulars, energy, spread)


def phase_congruency(luma: Floats) -> Floats:
    """Phase congruency (h, w) in [0, 1] of luma in 0 to 255: where the Fourier phases agree, whatever the contrast."""
    from scipy import fft

    height, width = luma.shape
    gabor = bank(height, width)
    eps = float(np.finfo(np.float32).eps)
    spectrum = fft.fft2(luma.astype(np.float32))
    total_energy = np.zeros((height, width), dtype=np.float32)
    total_amplitude = np.zeros((height, width), dtype=np.float32)
    for orientation in range(ORIENTATIONS):
        response = fft.ifft2(spectrum * gabor.angular[orientation] * gabor.radial, overwrite_x=True)
        amplitude = np.sqrt(response.real**2 + response.imag**2)
        total = response.sum(axis=0)
        direction = total / (np.abs(total) + eps)
        # Components along and across the mean direction: A (cos d - |sin d|), summed over scales.
        turned = response * np.conj(direction)
        energy = (turned.real - np.abs(turned.imag)).sum(axis=0)
        median = float(np.median(amplitude[0])) ** 2
        noise_power = median / math.log(2.0) / gabor.energy[orientation]
        tau = math.sqrt(noise_power * gabor.spread[orientation] / 2.0)
        threshold = tau * (math.sqrt(math.pi / 2.0) + K * math.sqrt(2.0 - math.pi / 2.0)) / 1.7
        total_energy += np.maximum(energy - np.float32(threshold), 0.0)
        total_amplitude += amplitude.sum(axis=0)
    out: Floats = ((total_energy + eps) / (total_amplitude + eps)).astype(np.float64)
    return out


def pooled(rgb: Floats) -> Floats:
    """(h, w, 3) in [0, 1] to YIQ in 0 to 255, averaged down so that the short side is near 256 px."""
    factor = max(1, round(min(rgb.shape[:2]) / 256))
    if factor > 1:
        height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
        rgb = rgb[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
    out: Floats = (rgb * 255.0) @ YIQ.T
    return out


def fsimc(x: Floats, y: Floats, congruency_x: Floats, congruency_y: Floats) -> float:
    """FSIMc, eq. 7 to 12, of two :func:`pooled` images and their phase congruencies."""
    weight = np.maximum(congruency_x, congruency_y)
    score = similarity(congruency_x, congruency_y, T1)
    score = score * similarity(gradient(x[..., 0].copy(), SCHARR), gradient(y[..., 0].copy(), SCHARR), T2)
    chroma = similarity(x[..., 1], y[..., 1], T3) * similarity(x[..., 2], y[..., 2], T4)
    return float((score * np.abs(chroma) ** LAMBDA * weight).sum() / weight.sum())


class FSIMc(Metric):
    """FSIMc on the mask's box."""

    perfect, symmetric = 1.0, True
    second = by_piq("fsim", double=True)
    smallest = 16

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="fsimc",
            definition="FSIMc: phase congruency, gradient (Scharr) and chroma (YIQ) similarity, weighted by the "
            "larger phase congruency; 4 scales x 4 orientations of log-Gabor filters",
            paper="Zhang et al. 2011, doi 10.1109/TIP.2011.2109730",
            axis="pixel_fidelity",
            region="inside",
            higher_is_better=True,
            range=(0.0, 1.0),
            colour="YIQ of sRGB in [0,255]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask",
            resize_rule="mean of k x k cells, k = round(short side of the box / 256)",
            border_rule="periodic for phase congruency, zeros beyond the edge for gradients",
            backend=f"{library('scipy')} (float32 FFT), {opencv()}; equals piq",
            note="weak on chroma by design (power 0.03)",
            unit=0.155,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        x, y = pooled(view.rgb), pooled(view.known.rgb)
        known = view.known.feature(
            "fsimc.congruency", self.hash, lambda: {"map": phase_congruency(y[..., 0]).astype(np.float32)}
        )
        congruency = phase_congruency(x[..., 0]).astype(np.float32)
        return fsimc(x, y, congruency.astype(np.float64), known["map"].astype(np.float64))
