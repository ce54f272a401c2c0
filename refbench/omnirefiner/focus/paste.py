"""Paste back: put a refined crop into the picture it was cut from (see ``crop.py``)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from refbench.crops import soft_mask
from refbench.images import Image
from refbench.omnirefiner.focus.crop import Focus
from refbench.omnirefiner.tensors import resize_crop


def paste_back(focused: Focus, refined: Tensor) -> Image:
    """Put a refined crop (3, S, S) in [-1, 1] back; every pixel outside the mask stays as it was.

    What is added is the *change* at the working size, enlarged: detail of the draft finer than the working size
    stays, so that a crop which needed no change comes back exactly.
    """
    x, y, side, _ = focused.box
    change = resize_crop(refined.float() - focused.draft, side)
    moved = change.permute(1, 2, 0).numpy() * 127.5
    height, width = focused.picture.shape[:2]
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    weights = soft_mask(focused.picture_mask)[top:bottom, left:right, None]
    out = focused.picture.copy()
    old = out[top:bottom, left:right].astype(np.float32)
    new = old + weights * moved[top - y : bottom - y, left - x : right - x]
    out[top:bottom, left:right] = np.where(weights > 0, np.clip(np.rint(new), 0, 255), old).astype(np.uint8)
    return out
