"""Keypoint gain: how many more keypoints does the refined region share with the reference than the draft did?

FidelityBench (arXiv 2602.21402) reports the mean of this number over samples as AKI, and the share of samples where
it is positive as KGain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask
from refbench.metrics.checks import Form, Second, bare, inside, masked, noise
from refbench.metrics.contract import Metric, opencv
from refbench.metrics.regions import composite, cut, reference_crop, region_box
from refbench.metrics.view import View
from refbench.schema import MetricCard, Truth

RATIO = 0.8
"""Lowe's ratio test (2004, section 7.1)."""
MOST = 2000
"""Strongest keypoints kept of one image."""


def descriptors(image: Image, mask: Mask | None = None) -> NDArray[np.uint8]:
    """SIFT descriptors (n, 128), whole numbers from 0 to 255, of an RGB image's keypoints whose centre is masked."""
    import cv2

    sift = cv2.SIFT.create(nfeatures=MOST)
    where = None if mask is None else np.where(mask, np.uint8(255), np.uint8(0))
    found: Any = sift.detectAndCompute(cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY), where)[1]
    if found is None:
        return np.zeros((0, 128), dtype=np.uint8)
    out: NDArray[np.uint8] = np.clip(np.rint(found), 0, 255).astype(np.uint8)
    return out


def matches(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Pairs of descriptors that are each other's nearest and pass the ratio test; `b` needs two or more."""
    if len(a) == 0 or len(b) < 2:
        return 0
    x, y = a.astype(np.float32), b.astype(np.float32)
    # Squared distances of whole numbers below 2^24: exact in float32.
    distance = (x * x).sum(1)[:, None] + (y * y).sum(1)[None] - 2.0 * (x @ y.T)
    nearest = distance.argmin(axis=1)
    two = np.partition(distance, 1, axis=1)[:, :2]
    mutual = distance.argmin(axis=0)[nearest] == np.arange(len(a))
    return int((mutual & (two[:, 0] < RATIO**2 * two[:, 1])).sum())


def _second(truth: Truth, output: Image) -> float:
    """OpenCV's SIFT and brute-force matcher."""
    import cv2

    box = region_box(truth.mask, truth.target.shape[:2])
    mask = np.ascontiguousarray(cut(masked(truth), box)).astype(np.uint8) * 255
    assert truth.draft is not None
    sift = cv2.SIFT.create(nfeatures=MOST)
    counts = []
    for image in (output, truth.draft):
        part = np.ascontiguousarray(cut(inside(truth, image), box))
        found = [
            sift.detectAndCompute(cv2.cvtColor(np.ascontiguousarray(i), cv2.COLOR_RGB2GRAY), m)[1]
            for i, m in ((part, mask), (reference_crop(truth), None))
        ]
        if any(f is None or len(f) < 2 for f in found):
            counts.append(0)
            continue
        matcher = cv2.BFMatcher()
        back = {m.queryIdx: m.trainIdx for m in matcher.match(found[1], found[0])}
        pairs = matcher.knnMatch(found[0], found[1], k=2)
        counts.append(sum(a.distance < RATIO * b.distance and back[a.trainIdx] == a.queryIdx for a, b in pairs))
    return float(counts[0] - counts[1])


class KeypointGain(Metric):
    """Matched keypoints with the reference, minus those of the draft."""

    second = Second("OpenCV's SIFT and brute-force matcher", _second)
    target_free = True
    needs = frozenset({"reference", "draft"})
    smallest = 32

    def card(self) -> MetricCard:
        """The whole definition."""
        return MetricCard(
            name="keypoint_gain",
            definition="number of SIFT keypoints in the refined region that match the reference (mutual nearest, "
            "ratio 0.8), minus the same number for the draft; its mean is AKI, the share of positive values KGain",
            paper="FidelityBench, arXiv 2602.21402; SIFT: Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94",
            axis="reference_alignment",
            region="inside",
            higher_is_better=True,
            range=(None, None),
            colour="8-bit grey",
            region_rule="keypoints whose centre is masked, found on the mask's box with 16 px margin of the output "
            "composited over the target outside the mask; the reference on its box with 16 px margin made square (all "
            "of it without a box)",
            border_rule="none found at the border, as SIFT does",
            backend=opencv(),
            note="FidelityBench does not name its detector; blind to colour; at most 2000 keypoints an image",
            tolerance=0.0,
            unit=11.0,
        )

    def value(self, view: View) -> float:
        """The number for one output."""
        known = view.known

        def reference_side() -> dict[str, NDArray[np.generic]]:
            draft = known.truth.draft
            assert draft is not None
            part = cut(draft, view.box)
            if view.truth.mask is not None:
                part = composite(part, known.target, view.mask)
            found = descriptors(reference_crop(view.truth))
            return {"reference": found, "draft": np.array(matches(descriptors(part, view.mask), found))}

        truth = known.feature("keypoint_gain.reference", self.hash, reference_side)
        reference = truth["reference"].astype(np.uint8)
        return float(matches(descriptors(view.image, view.mask), reference) - int(truth["draft"]))

    def closed_forms(self) -> Iterator[Form]:
        """See :meth:`Metric.closed_forms`."""
        truth = bare(noise(), reference=noise(), draft=noise())
        yield Form("the draft itself", 0.0, self.number(truth, noise()), 0.0)
