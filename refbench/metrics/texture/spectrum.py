"""Spectrum error: does the region hold the right amount of detail at every frequency?

After the azimuthal integral of Durall, Keuper, Keuper 2020 (arXiv 2003.01826), taken of the mask's box.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image
from refbench.metrics.checks import Form, Second, bare, boxes, contrasted
from refbench.metrics.contract import Metric, library
from refbench.metrics.filters import Floats
from refbench.metrics.view import LARGE, View
from refbench.schema import MetricCard, Truth

BANDS = 16
FLOOR = (1.0 / 255.0) ** 2 / 12.0
"""Power of 8-bit rounding noise in each frequency; nothing below it can be seen in a file."""


def _rings(height: int, width: int) -> tuple[Floats, NDArray[np.intp], Floats]:
    """Hann window (h, w), band of each rfft2 bin flattened, and weighted number of bins in each band."""
    return _new_rings(height, width) if height * width > LARGE else _kept_rings(height, width)


@lru_cache(maxsize=32)
def _kept_rings(height: int, width: int) -> tuple[Floats, NDArray[np.intp], Floats]:
    return _new_rings(height, width)


def _new_rings(height: int, width: int) -> tuple[Floats, NDArray[np.intp], Floats]:
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    band = np.minimum((radius * 2.0 * BANDS).astype(np.intp), BANDS).ravel()
    count = np.bincount(band, minlength=BANDS + 1)[:BANDS].astype(np.float64)
    return window, band, count


def bands(luma: Floats) -> Floats:
    """Mean power (16,) in dB over rings of 1/32 cycles per px up to Nyquist, of luma (h, w) in [0, 1].

    The mean is taken out, a Hann window put on, and the power scaled so that white noise of variance v has v in
    every band; the power of 8-bit rounding is added, so that a flat region has a finite spectrum.
    """
    window, band, count = _rings(*luma.shape)
    centred = luma - float((luma * window).sum() / window.sum())
    power = np.abs(np.fft.rfft2(centred * window)) ** 2 / float((window**2).sum())
    total = np.bincount(band, weights=power.ravel(), minlength=BANDS + 1)[:BANDS]
    out: Floats = 10.0 * np.log10(total / np.maximum(count, 1.0) + FLOOR)
    return out


def _second(truth: Truth, output: Image) -> float:
    """scipy's full FFT and labelled means."""
    from scipy import fft, ndimage

    bands = []
    for image in boxes(truth, output):
        luma = (image / 255.0) @ np.array([0.299, 0.587, 0.114])
        height, width = luma.shape
        window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
        power = np.abs(fft.rfft2((luma - np.average(luma, weights=window)) * window)) ** 2 / (window**2).sum()
        radius = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width))
        means = ndimage.mean(power, np.floor(radius * 32).astype(int), np.arange(16))
        bands.append(10.0 * np.log10(means + (1 / 255) ** 2 / 12))
    return float(np.sqrt(np.mean((bands[0] - bands[1]) ** 2)))


class Spectrum(Metric):
    """Root mean squared difference of the band powers in dB."""

    perfect, symmetric = 0.0, True
    second = Second("scipy's full FFT and labelled means", _second)
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="spectrum",
            definition="root mean squared difference in dB of the power in 16 rings of spatial frequency (width 1/32 "
            "cycles per px, DC taken out, Hann window, 8-bit rounding power as floor)",
            paper="after Durall, Keuper, Keuper 2020, arXiv 2003.01826",
            axis="texture_fidelity",
            region="inside",
            higher_is_better=False,
            range=(0.0, None),
            colour="BT.601 luma in [0,1]",
            region_rule="on the mask's box with 16 px margin, at least 64 px a side, of the output composited over "
            "the target outside the mask",
            border_rule="Hann window",
            backend=library("numpy"),
            scored=False,
            note="not scored, by the audit: blind to where things are, so that a shift or melted geometry hardly move "
            "it while other texture of the right energy (the pasted reference, a sharpened draft) recovers; blind to "
            "colour",
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        known = view.known.feature("spectrum.bands", self.hash, lambda: {"dB": bands(view.known.luma)})
        return float(np.sqrt(np.mean((bands(view.luma) - known["dB"].astype(np.float64)) ** 2)))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        expected, found = 20 * math.log10(2), self.number(bare(contrasted(2)), contrasted(1))
        yield Form("twice the amplitude: 20 log10(2) dB", expected, found, 0.02)
