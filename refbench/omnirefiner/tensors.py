"""Pictures as tensors, and crops at another size."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Placed(nn.Module):
    """A network that knows where its weights are and in which precision."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Their precision."""
        return next(self.parameters()).dtype


def to_tensor(picture: NDArray[np.uint8]) -> Tensor:
    """(H, W, C) uint8 -> (C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 127.5 - 1


def resize_crop(picture: Tensor, size: int) -> Tensor:
    """(C, H, W) -> (C, size, size), antialiased bicubic."""
    if picture.shape[-1] == size and picture.shape[-2] == size:
        return picture
    return torch.nn.functional.interpolate(picture[None], (size, size), mode="bicubic", antialias=True)[0]
