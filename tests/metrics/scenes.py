"""Small real scenes for the metric tests: parts of scikit-image's photographs, with a masked and damaged region."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from refbench.images import Image, Mask
from refbench.metrics import checks
from refbench.metrics.checks import lettered
from refbench.schema import Truth


@lru_cache
def scene(height: int = 200, width: int = 232, key: str = "") -> Truth:
    """A photograph; an ellipse of it is blurred, tinted and noisy in the draft; the reference is another crop of it."""
    import cv2
    from skimage import data

    whole = data.chelsea()
    target: Image = np.ascontiguousarray(whole[40 : 40 + height, 100 : 100 + width])
    rows, columns = np.mgrid[:height, :width]
    mask: Mask = ((rows - height / 2) / (height / 4)) ** 2 + ((columns - width / 2) / (width / 4)) ** 2 < 1
    generator = np.random.default_rng(5)
    soft = cv2.GaussianBlur(np.roll(target, 3, axis=1), (0, 0), 2.0)
    spoilt = soft * [1.08, 1.0, 0.92] + generator.normal(0, 3, target.shape)
    draft = np.where(mask[..., None], np.clip(spoilt, 0, 255), target).astype(np.uint8)
    reference: Image = np.ascontiguousarray(whole[20:300, 60:400])
    box = (40 + width // 4, 20 + height // 4, width // 2, height // 2)
    return Truth("cat", target, draft, reference, mask, reference_box=box, category="object", key=key)


@lru_cache
def wrong_thing() -> Truth:
    """:func:`scene` with another thing in the draft's region: the photograph upside down."""
    truth = scene()
    assert truth.mask is not None
    draft = np.where(truth.mask[..., None], truth.target[::-1], truth.target)
    return replace(truth, draft=np.ascontiguousarray(draft))


def halfway(truth: Truth, share: float = 0.5) -> Image:
    """An answer between draft (0) and target (1)."""
    assert truth.draft is not None
    mixed = (1 - share) * truth.draft + share * truth.target
    return np.rint(mixed).astype(np.uint8)


def text_truth(word: str = "BENCHMARK", text: str | None = None) -> Truth:
    """The word as target, no mask."""
    return Truth("word", lettered(word), None, None, None, text=text, category="text")


@lru_cache
def face_truth() -> tuple[Truth, Image]:
    """A photograph with a face (E. Collins, NASA, public domain), masked, and a damaged answer."""
    return checks.scene()
