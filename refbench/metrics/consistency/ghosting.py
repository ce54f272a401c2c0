"""Ghosting: does the draft's own detail shine through what was put in its place (a double exposure)?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from refbench.images import Image
from refbench.metrics.checks import Form, Second, bare, boxes, high_pass, masked, middle, noise
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.filters import Floats, blur, unit
from refbench.metrics.regions import composite, cut, region_box
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

DETAIL = 1.5
"""Sigma in px: detail is the image minus its Gaussian blur."""
WINDOW = 12.0
"""Sigma in px of the windows in which the draft's share is estimated."""
FLOOR = 1e-5
"""Energy of detail (summed over channels of [0, 1]) below which there is nothing to see."""
RISE, FALL = (0.2, 0.5), (0.8, 1.0)
"""Shares between which a remnant of the draft becomes visible, and between which it is simply the draft."""


def _taps(sigma: float) -> int:
    return 2 * int(4.0 * sigma + 0.5) + 1


def _windowed(a: Floats, b: Floats) -> Floats:
    out: Floats = blur((a * b).sum(axis=2), _taps(WINDOW), WINDOW)
    return out


def draft_share(output: Floats, target: Floats, draft: Floats, mask: Floats) -> tuple[Floats, Floats]:
    """How strongly the draft's own detail shows in the output, and how much of it there is.

    In each window the output's detail is regressed on the target's and the draft's; the share is the draft's
    coefficient, clipped to [0, 1].

    Args:
        output, target, draft: (h, w, 3) RGB in [0, 1].
        mask: (h, w) 1 inside, 0 outside.

    Returns:
        (h, w) share, and (h, w) energy of the draft's detail that the target's does not explain.
    """
    o, t, d = ((image - blur(image, _taps(DETAIL), DETAIL)) * mask[..., None] for image in (output, target, draft))
    tt, td = _windowed(t, t) + FLOOR, _windowed(t, d)
    own = np.maximum(_windowed(d, d) - td * td / tt, 0.0)
    share = (_windowed(o, d) - _windowed(o, t) * td / tt) / (own + FLOOR)
    return np.clip(share, 0.0, 1.0), own


def doubled(share: Floats) -> Floats:
    """1 where two exposures are visible, 0 where the draft is gone or untouched, ramps between (RISE, FALL)."""
    rise = np.clip((share - RISE[0]) / (RISE[1] - RISE[0]), 0.0, 1.0)
    fall = np.clip((FALL[1] - share) / (FALL[1] - FALL[0]), 0.0, 1.0)
    out: Floats = rise * fall
    return out


def _second(truth: Truth, output: Image) -> float:
    """scipy, and a least-squares fit by numpy in each window."""
    from scipy.ndimage import gaussian_filter

    assert truth.draft is not None
    box = region_box(truth.mask, truth.target.shape[:2])
    mask = cut(masked(truth), box)
    images = (boxes(truth, output)[0], boxes(truth, output)[1], np.ascontiguousarray(cut(truth.draft, box)))
    o, t, d = (high_pass(composite(image, images[1], mask) / 255.0, 1.5, 6) * mask[..., None] for image in images)

    def window(x: Floats, y: Floats) -> Floats:
        out: Floats = gaussian_filter((x * y).sum(2), 12.0, mode="mirror", radius=48)[mask]
        return out

    floor = 1e-5
    tt, td, dd = window(t, t) + floor, window(t, d), window(d, d)
    left = np.stack([np.stack([tt, td], -1), np.stack([td, np.maximum(dd, td * td / tt) + floor], -1)], -2)
    share = np.linalg.solve(left, np.stack([window(o, t), window(o, d)], -1)[..., None])[:, 1, 0].clip(0, 1)
    weight = np.maximum(dd - td * td / tt, 0.0)
    seen = np.interp(share, (0.2, 0.5), (0, 1)) * np.interp(share, (0.8, 1.0), (1, 0))
    return float((seen * weight).sum() / weight.sum()) if weight.mean() >= floor else 0.0


class Ghosting(Metric):
    """Share of the draft's own detail that is left at part strength."""

    perfect = 0.0
    second = Second("scipy, and a least-squares fit by numpy in each window", _second)
    needs = frozenset({"mask", "draft", "reference"})
    smallest = 8

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="ghosting",
            definition="detail is RGB minus its Gaussian blur (sigma 1.5 px), masked; in Gaussian windows (sigma 12 "
            "px) the output's detail is regressed on the target's and the draft's, and s is the draft's coefficient in "
            "[0, 1]; mean over masked pixels of min(1, (s - 0.2) / 0.3) x min(1, (1 - s) / 0.2), negative as 0, "
            "weighted by the energy of the draft's detail that the target's does not explain",
            paper="this project; a partial regression (Frisch & Waugh 1933, doi 10.2307/1907330) in local windows",
            axis="local_consistency",
            region="inside",
            higher_is_better=False,
            range=(0.0, 1.0),
            colour="sRGB in [0,1]",
            region_rule="on the mask's box with 16 px margin, detail outside the mask set to 0",
            border_rule="reflected",
            backend=opencv(),
            trivial="blend",
            note="0 for the untouched draft, which is not double; a draft softened by about a pixel counts as double "
            "too; blind to ghosts of anything but the draft",
            unit=0.92,
            tolerance=1e-4,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        draft = view.truth.draft
        assert draft is not None
        inside = composite(np.ascontiguousarray(cut(draft, view.box)), view.known.target, view.mask)
        share, own = draft_share(view.rgb, view.known.rgb, unit(inside), view.mask.astype(np.float64))
        weight = own[view.mask]
        if weight.mean() < FLOOR:
            return 0.0
        return float((doubled(share[view.mask]) * weight).sum() / weight.sum())

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        target, draft = noise(), np.ascontiguousarray(noise()[::-1])
        truth = bare(target, middle(), target, draft)
        for share, expected in ((0.0, 0.0), (0.35, 0.5), (0.65, 1.0), (1.0, 0.0)):
            mixed = np.rint(share * draft + (1.0 - share) * target).astype(np.uint8)
            yield Form(f"the draft at a share of {share:g} over the target", expected, self.number(truth, mixed), 0.02)
