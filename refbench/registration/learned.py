"""A network's matches between what is seen of a draft around its mask and a reference (XFeat)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration.hypotheses import Matches
from refbench.registration.opencv import cv2
from refbench.registration.xfeat import MULTIPLE, load_xfeat, match

if TYPE_CHECKING:
    from torch import Tensor

SIDES = (128, 320)
"""Sides in px to which the mask's box is brought: the network bears about twice or half the scale."""
MARGIN = 0.25
"""Around the mask's box, share of its longer side."""
MOST = 1024
"""Most keypoints of a picture."""
LEAST_SIDE = 320
"""A smaller reference is enlarged to this long side (px)."""


class Matcher:
    """Matches one draft with any number of references.

    Args:
        draft: (H, W, 3).
        mask: (H, W), not empty.
    """

    def __init__(self, draft: Image, mask: Mask) -> None:
        self.network = load_xfeat()
        side = max(mask_box(mask)[2:])
        x, y, w, h = mask_box(mask, round(MARGIN * side))
        self.drafts = []
        for wanted in SIDES:
            points, described = self._detect(draft[y : y + h, x : x + w], wanted / side)
            self.drafts.append((points + (x, y), described))

    def __call__(self, reference: Image) -> list[Matches]:
        """The matches with a reference (h, w, 3), for each size at which the mask was seen."""
        points, described = self._detect(reference, max(1.0, LEAST_SIDE / max(reference.shape[:2])))
        found = []
        for mine, own in self.drafts:
            pairs = match(own, described).numpy()
            found.append((mine[pairs[:, 0]], points[pairs[:, 1]]))
        return found

    def _detect(self, picture: Image, factor: float) -> tuple[NDArray[np.float64], Tensor]:
        """Keypoints (n, 2) in the picture's own px, and their descriptors, of the picture enlarged by `factor`."""
        size = [max(2, round(side * factor / MULTIPLE)) * MULTIPLE for side in picture.shape[1::-1]]
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        points, described = self.network.detect(cv2.resize(picture, size, interpolation=how), MOST)
        scale = np.array(size) / picture.shape[1::-1]
        return (points.numpy() + 0.5) / scale - 0.5, described
