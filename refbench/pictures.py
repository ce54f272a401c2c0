"""Pictures and masks as a caller has them, paths, PIL images or arrays, as the arrays of :mod:`refbench.images`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, Mask, from_pillow, load_image, load_mask, mask_from_pillow

if TYPE_CHECKING:
    from PIL import Image as PILImage

Picture: TypeAlias = "str | os.PathLike[str] | PILImage.Image | Image"
"""A path, a PIL image of any mode, or an (H, W, 3) uint8 array."""
Marked: TypeAlias = "str | os.PathLike[str] | PILImage.Image | Mask"
"""A path or PIL image that is black and white, or an (H, W) bool array."""


def where(given: object, what: str) -> str:
    """How a message names a picture: its path, or "the draft array"."""
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    return f"the {what} {'image' if _is_pil(given) else 'array'}"


def as_image(given: Picture, what: str) -> Image:
    """An (H, W, 3) uint8 array, from any form.

    Raises:
        RefbenchError: a file that cannot be read, or an array of another type or shape; floats are not scaled.
    """
    if isinstance(given, str | os.PathLike):
        return load_image(given)
    if _is_pil(given):
        return from_pillow(given, where(given, what))
    array: Any = given
    if not isinstance(array, np.ndarray):
        raise RefbenchError(
            f"Expected a path, a PIL image or an (H, W, 3) uint8 array as {what}, but got a {type(given).__name__}; of "
            "an adapter that answers with an image and facts give the image alone."
        )
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise RefbenchError(
            f"Expected an (H, W, 3) uint8 array as {what}, but got {array.dtype} of shape {array.shape}; convert it to "
            "RGB with values 0 to 255."
        )
    return np.ascontiguousarray(array)


def as_mask(given: Marked) -> Mask:
    """An (H, W) bool array, from any form.

    Raises:
        RefbenchError: a file that cannot be read, grey in a picture, or an array of another type or shape.
    """
    if isinstance(given, str | os.PathLike):
        return load_mask(given)
    if _is_pil(given):
        return mask_from_pillow(given, where(given, "mask"))
    array: Any = np.asarray(given)
    if array.dtype != np.bool_ or array.ndim != 2:
        raise RefbenchError(
            f"Expected an (H, W) bool array as mask, but got {array.dtype} of shape {array.shape}; compare it with a "
            "threshold first."
        )
    return np.ascontiguousarray(array)


def _is_pil(given: object) -> TypeGuard[PILImage.Image]:
    """Whether it is a PIL image, without importing Pillow for arrays."""
    return any((kind.__module__, kind.__name__) == ("PIL.Image", "Image") for kind in type(given).__mro__)
