"""What every editor that works on a picture of its own size shares: focus, sizes, the reference, paste-back.

An *editor* (FLUX.1 Kontext, Qwen-Image-Edit, OmniGen2 ...) takes pictures of about one size and gives one back. Here
a sample is brought to that size, as a whole or as a crop around the mask (*focus*), and the answer is brought back to
the draft's frame, as it is or only inside the mask (*paste-back*). Only numpy and Pillow are needed (OpenCV for
paste-back), so that scripts in environments of their own use the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from refbench.crops import MARGIN, Square, crop_box, cut, keep_outside, put_crop, square_around
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, resize

if TYPE_CHECKING:
    from refbench.schema import Inputs


@dataclass(frozen=True, slots=True)
class Options:
    """How a sample is brought to an editor's size and back."""

    focus: bool = False
    """Work on an enlarged crop around the mask, and show the same of the reference where its box is known."""
    paste_back: bool = False
    """Take only the mask's inside from the answer, with a soft edge; the rest stays the draft, pixel for pixel."""
    size: int = 1024
    """Side in px of the square whose area the editor works at."""
    multiple: int = 16
    """Both sides are rounded to multiples of it."""
    margin: float = MARGIN
    """Around the mask's box in a focus crop, share of its longer side."""

    @property
    def suffix(self) -> str:
        """What the name on the board gets: "+focus", "+paste-back" or both."""
        return "+focus" * self.focus + "+paste-back" * self.paste_back

    def on_card(self, summary: str) -> str:
        """A card's summary with what is worked at and what stands outside the mask."""
        notes = ["on an enlarged crop around the mask"] * self.focus
        notes.append(f"outside the mask {'the draft' if self.paste_back else 'its own pixels'}")
        return f"{summary.rstrip('.')}; {', '.join(notes)}."


@dataclass(frozen=True, slots=True)
class Work:
    """One sample at the editor's size."""

    inputs: Inputs
    draft: Image
    """(h, w, 3), the whole draft or the crop."""
    reference: Image
    """(h', w', 3) of about the same area and its own shape, sides in the same multiples."""
    mask: Mask
    """(h, w)."""
    box: Square | None
    """Where the crop was cut out; None for the whole draft."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at which the editor works."""
        return self.draft.shape[0], self.draft.shape[1]


def flag(value: Any, name: str) -> bool:
    """A yes or no option, which may have come as text.

    Raises:
        RefbenchError: it is neither.
    """
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = words.get(str(value).lower())
    if found is None:
        raise RefbenchError(f"Expected the option {name} to be true or false, but it is '{value}'.")
    return found


def working_size(height: int, width: int, size: int, multiple: int) -> tuple[int, int]:
    """(height, width) in multiples of `multiple`, of about `size` x `size` px in area and the same shape.

    A frame of more than 4 : 1 is worked at 4 : 1: the editors refuse or distort longer ones.
    """
    shape = float(np.clip(width / height, 0.25, 4.0))
    sides = (size / shape**0.5, size * shape**0.5)
    return max(multiple, round(sides[0] / multiple) * multiple), max(multiple, round(sides[1] / multiple) * multiple)


def resize_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """A mask at (height, width): true wherever any of its pixels falls."""
    from PIL import Image as PILImage

    if mask.shape == size:
        return mask
    grey = PILImage.fromarray(mask.astype(np.uint8) * 255).resize((size[1], size[0]), PILImage.Resampling.BOX)
    return np.asarray(np.asarray(grey) > 0)


def prepare(inputs: Inputs, options: Options) -> Work:
    """Bring a sample to the editor's size.

    With focus the draft is a square crop around the mask, mirrored where it reaches over the frame, and the reference
    a square around its box; without, both are whole.
    """
    draft, mask, reference, box = inputs.draft, inputs.mask, inputs.reference, None
    if options.focus:
        box = crop_box(mask, options.margin)
        draft, mask = cut(draft, box), cut(mask.astype(np.uint8)[..., None], box)[..., 0] > 0
        if inputs.reference_box is not None:
            frame = (reference.shape[0], reference.shape[1])
            reference = cut(reference, square_around(inputs.reference_box, frame, options.margin))
    size = working_size(draft.shape[0], draft.shape[1], options.size, options.multiple)
    shown = working_size(reference.shape[0], reference.shape[1], options.size, options.multiple)
    return Work(inputs, resize(draft, size), resize(reference, shown), resize_mask(mask, size), box)


def finish(work: Work, answer: Image, options: Options) -> Image:
    """Bring an editor's answer (any size, 3 channels) back to the draft's frame."""
    draft = work.inputs.draft
    if work.box is not None:
        out = put_crop(draft, answer, work.box)
    else:
        out = resize(answer, (draft.shape[0], draft.shape[1]))
    return keep_outside(draft, out, work.inputs.mask) if options.paste_back else out


def beside(left: Image, right: Image) -> Image:
    """Two pictures on one canvas, the right one scaled to the left one's height.

    It is at most twice as wide as the left one; a longer one is scaled further and stands on white.

    Returns:
        (H, W + W', 3), W' a multiple of 16.
    """
    height, width = left.shape[:2]
    scale = min(height / right.shape[0], 2 * width / right.shape[1])
    shown = resize(right, (max(1, round(right.shape[0] * scale)), max(16, round(right.shape[1] * scale / 16) * 16)))
    panel = np.full((height, shown.shape[1], 3), 255, np.uint8)
    panel[: shown.shape[0]] = shown[:height]
    return np.concatenate([left, panel], axis=1)


def mask_picture(mask: Mask) -> Image:
    """A mask as a black and white RGB picture."""
    return np.repeat((mask.astype(np.uint8) * 255)[..., None], 3, axis=2)


def picture(image: Image) -> Any:
    """An array (H, W, 3) as the PIL image that pipelines take."""
    from PIL import Image as PILImage

    return PILImage.fromarray(image)
