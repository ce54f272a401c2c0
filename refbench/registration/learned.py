"""A network's matches between what is seen of a draft around its mask and a reference (XFeat and LighterGlue)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask, mask_box
from refbench.registration.hypotheses import Matches
from refbench.registration.lighterglue import load_lighterglue
from refbench.registration.opencv import cv2
from refbench.registration.xfeat import MULTIPLE, load_xfeat

if TYPE_CHECKING:
    from torch import Tensor

    from refbench.schema import Box

SIDE = 400
"""Long side in px to which a close look at a detail is brought, its margin included."""
MARGIN = 0.5
"""Around the detail's box in a close look, share of its longer side."""
MOST = 1024
"""Most keypoints of a picture."""
LEAST_SIDE = 320
"""A smaller picture is enlarged to this long side (px)."""


class Found:
    """The keypoints of a part of a picture.

    Args:
        picture: (H, W, 3).
        box: the part (x, y, width, height), or None for all of it.
    """

    def __init__(self, picture: Image, box: Box | None) -> None:
        x, y, width, height = box or (0, 0, picture.shape[1], picture.shape[0])
        part = np.ascontiguousarray(picture[y : y + height, x : x + width])
        long = max(width, height)
        factor = SIDE / long if box else max(1.0, LEAST_SIDE / long)
        self.size = (_whole(width * factor), _whole(height * factor))
        how = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
        points, self.described = load_xfeat().detect(cv2.resize(part, self.size, interpolation=how), MOST)
        self.points: Tensor = points.float()
        """(n, 2) in px of the part as the network sees it."""
        scale = np.array(self.size) / (width, height)
        self.places: NDArray[np.float64] = (points.numpy() + 0.5) / scale - 0.5 + (x, y)
        """(n, 2) in px of the picture."""


class Matcher:
    """Matches one draft with any number of references.

    Args:
        draft: (H, W, 3).
        mask: (H, W), not empty.
    """

    def __init__(self, draft: Image, mask: Mask) -> None:
        self.whole, self.close = Found(draft, None), Found(draft, _grown(mask_box(mask), draft))

    def __call__(self, reference: Image, box: Box | None = None) -> list[Matches]:
        """The matches with a reference (h, w, 3): of the whole pictures, and of the detail with the box in the
        reference, or with all of it where there is none."""
        network, all_ = load_lighterglue(), Found(reference, None)
        found = []
        for here, there in (
            (self.whole, all_),
            (self.close, Found(reference, _grown(box, reference)) if box else all_),
        ):
            sizes = (here.size, there.size)
            pairs = network.match((here.points, here.described), (there.points, there.described), sizes).numpy()
            found.append((here.places[pairs[:, 0]], there.places[pairs[:, 1]]))
        return found


def _whole(side: float) -> int:
    return max(2, round(side / MULTIPLE)) * MULTIPLE


def _grown(box: Box, picture: Image) -> Box:
    x, y, width, height = box
    margin = round(MARGIN * max(width, height))
    left, top = max(x - margin, 0), max(y - margin, 0)
    right, bottom = min(x + width + margin, picture.shape[1]), min(y + height + margin, picture.shape[0])
    return left, top, right - left, bottom - top
