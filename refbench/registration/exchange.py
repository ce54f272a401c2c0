"""Exchange a print for another in the same place: the draft's own outline stays, and so does the light on its panel.

A wrong label and the right one lie on the same panel; a wrong pattern fills the same patch. Where the outlines agree,
the edge of the draft's print is right already, and the pixels of a panel that both show say how much light falls there,
which nothing around the print can tell. Constants were chosen on the validation suite
(reports/omnirefiner-experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask
from refbench.registration import light
from refbench.registration.opencv import cv2

Float = NDArray[np.float32]

ALIKE = 0.85
"""Least intersection over union of the two outlines at which the draft's edge is kept."""
SOLID = 0.85
"""Least share of its convex hull that a figure fills to be taken for a whole patch that was cut out with holes."""
RIM = (0.015, 0.07)
"""The rim of a figure: from so far inside its edge to so far, shares of the mask's longer side."""
LEAST = 30
"""Fewest pixels of a rim that can say anything."""
NEAR = 14.0
"""Pixels within this distance of the rim's colour belong to the panel (CIE Lab, lightness counted by 0.6)."""
EVEN = 0.7
"""Least share of the rim in the panel's colour, in both pictures: below it there is no panel."""
TINT, SHADE = 22.0, 40.0
"""Most by which the panels' chroma and lightness may differ for the difference to be light and not paint."""
GAMMA = 2.2
"""sRGB's exponent, near enough for a ratio of lights."""
GAIN = 4.0
"""Most by which the light is raised or lowered."""
INNER = 0.03
"""Over so much of the rim the draft's panel goes over into the relit one, share of the mask's longer side."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A print ready to be laid: ``base + weight (content - base)`` inside the mask."""

    base: Image
    """(h, w, 3): the draft, or the draft painted over."""
    content: Image
    """(h, w, 3), the reference in the draft's light."""
    weight: Float
    """(h, w) in [0, 1]."""
    cut: bool = False
    """Whether the reference's figure alone is laid, and the draft painted over beside it."""


def exchange(draft: Image, content: Image, matte: Float, inside: Mask, side: int) -> Exchange | None:
    """The print that the draft is to show, in the draft's light.

    Args:
        draft: (h, w, 3), a window around the mask.
        content: (h, w, 3), the reference laid over it.
        matte: (h, w) in [0, 1], the reference's figure laid over it.
        inside: (h, w), the mask.
        side: the mask's longer side in px.

    Returns:
        None where neither outline nor panel are the same: then the draft's print teaches nothing.
    """
    draft = np.ascontiguousarray(draft)
    own, laid = hulled(light.figure(draft, inside)), hulled(matte)
    figures = own > 0.5, laid > 0.5
    both = figures[0] & figures[1]
    alike = both.any() and both.sum() >= ALIKE * (figures[0] | figures[1]).sum()
    if alike:
        panel = shared_panel(draft, content, (both, both), side)
        if panel is not None:
            depth = _depth(figures[0] & inside)
            width = INNER * side
            weight = np.clip((depth - 1 - 0.4 * width) / max(0.6 * width, 1.0), 0, 1) * np.clip(laid, 0, 1)
            shown = relit(draft, content, (panel[0] & panel[1],) * 2, max(4.0, side / 8))
            return Exchange(draft, shown, np.asarray(weight, np.float32))
        lab = light.to_lab(content)
        around = light.to_lab(light.painted_over(draft, inside))
        lab[..., 0] *= light.shading(around[..., 0], side / 8)
        missing = ((laid < 0.9) & (own > 0.05)).astype(np.uint8)  # the reference's figure may end before the draft's
        return Exchange(draft, cv2.inpaint(light.to_rgb(lab), missing, 3, cv2.INPAINT_TELEA), own)
    panel = shared_panel(draft, content, figures, side)
    if panel is None:
        return None
    return Exchange(light.painted_over(draft, inside), relit(draft, content, panel, None), matte, cut=True)


def shared_panel(draft: Image, content: Image, figures: tuple[Mask, Mask], side: int) -> tuple[Mask, Mask] | None:
    """Where (h, w) each picture shows the panel of its print, or None where one shows none or another one.

    A panel is what the rim of a figure shows in one colour. Two are the same where only their light differs.

    Args:
        draft, content: (h, w, 3).
        figures: (h, w), of either.
        side: the mask's longer side in px.
    """
    colours, panels = [], []
    for picture, figure in zip((draft, content), figures, strict=True):
        depth = _depth(figure)
        rim = (depth > 1 + RIM[0] * side) & (depth < 1 + RIM[1] * side)
        if rim.sum() < LEAST:
            return None
        lab = light.to_lab(picture)
        colours.append(np.median(lab[rim], 0))
        near = np.linalg.norm((lab - colours[-1]) * np.array([0.6, 1, 1]), axis=-1) < NEAR
        if near[rim].mean() < EVEN:
            return None
        panels.append(np.asarray(figure & (depth > 1) & near, bool))
    shade, *tint = colours[0] - colours[1]
    return None if np.hypot(*tint) > TINT or abs(shade) > SHADE else (panels[0], panels[1])


def relit(draft: Image, content: Image, panels: tuple[Mask, Mask], sigma: float | None) -> Image:
    """The content (h, w, 3) in the draft's light: linear gains by channel, as the panels show them.

    Args:
        panels: (h, w), in the draft and in the content.
        sigma: in px, over which the light is averaged; None for one light for all.
    """
    means = []
    for picture, panel in zip((draft, content), panels, strict=True):
        linear = np.asarray((picture.astype(np.float32) / 255) ** GAMMA, np.float32)
        known = panel.astype(np.float32)
        means.append(linear[panel].mean(0) if sigma is None else light.masked_blur(linear, known, sigma))
    gain = np.clip(means[0] / np.maximum(means[1], 1e-3), 1 / GAIN, GAIN)
    shown = np.clip((content.astype(np.float32) / 255) ** GAMMA * gain, 0, 1) ** (1 / GAMMA)
    return np.asarray(np.rint(shown * 255), np.uint8)


def hulled(matte: Float) -> Float:
    """The convex hull of a figure (h, w) that fills most of it; any other as it is.

    GrabCut takes the motifs at a patch's edge for background or leaves them out.
    """
    solid = (matte > 0.5).astype(np.uint8)
    contours, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not contours:
        return matte
    hull = cv2.convexHull(max(contours, key=cv2.contourArea))
    if solid.sum() < SOLID * max(float(cv2.contourArea(hull)), 1.0):
        return matte
    filled = np.zeros(matte.shape, np.uint8)
    cv2.fillConvexPoly(filled, hull, 255, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(filled.astype(np.float32) / 255, (0, 0), 0.7), np.float32)


def _depth(figure: Mask) -> Float:
    """Distance in px to the figure's edge, also where the window cuts it."""
    padded = np.pad(figure.astype(np.uint8), 1)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1], np.float32)
