"""What metrics are held against: pictures whose value can be worked out on paper, and parts of second libraries.

A metric names its checks itself: :attr:`~refbench.metrics.contract.Metric.second` and
:meth:`~refbench.metrics.contract.Metric.closed_forms`, where what several need stands here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, Mask
from refbench.metrics.filters import Floats
from refbench.metrics.regions import composite, cut, region_box
from refbench.schema import Truth

if TYPE_CHECKING:
    import torch

GREYS = 100, 140
"""Two levels of flat pictures."""
SIDE = 192
"""Their height and width in px."""


class Form(NamedTuple):
    """A value that can be worked out by hand, or was published."""

    what: str
    expected: float
    found: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Second:
    """The same number by straight calls to published libraries, one image at a time, as one would script it by hand."""

    words: str
    """Which libraries, in words."""
    number: Callable[[Truth, Image], float | None]
    tolerance: float = 1e-5
    """Largest difference; wider than 1e-5, which is the promise, where the library works in single precision."""
    module: str = "numpy"
    """The package that may be missing."""
    scene: Callable[[], tuple[Truth, Image]] | None = None
    """What it is compared on; None is the doctor's picture."""


# ---- pictures


def flat(level: int) -> Image:
    """A grey picture."""
    return np.full((SIDE, SIDE, 3), level, dtype=np.uint8)


def middle() -> Mask:
    """The middle half of it."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = True
    return mask


def patched() -> Image:
    """The first of :data:`GREYS`, the second in the middle."""
    image = flat(GREYS[0])
    image[middle()] = GREYS[1]
    return image


def noise() -> Image:
    """White noise, always the same."""
    return np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def contrasted(factor: float) -> Image:
    """A quarter of :func:`noise`'s contrast, times a factor."""
    quarter = (noise().astype(np.float64) - 128.0) / 4.0
    return np.clip(np.rint(quarter * factor + 128.0), 0, 255).astype(np.uint8)


def lettered(word: str) -> Image:
    """A word on a light label, 96 x 320 px."""
    import cv2

    image = np.full((96, 320, 3), 245, dtype=np.uint8)
    cv2.putText(image, word, (14, 62), cv2.FONT_HERSHEY_DUPLEX, 1.4, (20, 20, 30), 2, cv2.LINE_AA)
    return image


def bare(target: Image, mask: Mask | None = None, reference: Image | None = None, draft: Image | None = None) -> Truth:
    """A truth of these pictures alone."""
    return Truth("", target, draft, reference, mask)


def lightness(level: int) -> float:
    """CIE L* of a grey level, by the definition."""
    linear: float = ((level / 255.0 + 0.055) / 1.055) ** 2.4
    return float(116.0 * linear ** (1.0 / 3.0) - 16.0)


def grey_luminance() -> float:
    """SSIM's luminance term of :data:`GREYS`."""
    x, y = (level / 255.0 for level in GREYS)
    return (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)


def scene() -> tuple[Truth, Image]:
    """A real picture with a masked part, and a damaged answer: blurred, tinted, with a few pixels changed outside."""
    import cv2
    from skimage import data

    whole: Image = data.astronaut()  # type: ignore[no-untyped-call]
    target: Image = np.ascontiguousarray(whole[0:300, 80:400])
    mask: Mask = np.zeros(target.shape[:2], dtype=bool)
    filled = np.zeros(target.shape[:2], dtype=np.uint8)
    cv2.ellipse(filled, (145, 115), (62, 80), 10, 0, 360, 1, -1)
    mask[filled > 0] = True
    soft = cv2.GaussianBlur(target, (0, 0), 2.0).astype(np.float64) * (1.06, 1.0, 0.95)
    draft = np.where(mask[..., None], np.clip(np.rint(soft), 0, 255), target).astype(np.uint8)
    output = draft.copy()
    output[100:200, 120:180] = target[100:200, 120:180]
    output[250:270, 20:120] ^= 3
    reference: Image = np.ascontiguousarray(whole[10:280, 110:380])
    truth = Truth("doctor", target, draft, reference, mask, reference_box=(60, 20, 130, 170), category="face")
    return truth, output


# ---- parts of second libraries


def inside(truth: Truth, image: Image) -> Image:
    """The output's masked pixels over the target, whole frame."""
    return image if truth.mask is None else composite(image, truth.target, truth.mask)


def masked(truth: Truth) -> NDArray[np.bool_]:
    """The mask, all true where there is none."""
    return np.ones(truth.target.shape[:2], dtype=bool) if truth.mask is None else truth.mask


def boxes(truth: Truth, image: Image, smallest: int = 64) -> tuple[Image, Image]:
    """Output (composited) and target on the region's box."""
    box = region_box(truth.mask, truth.target.shape[:2], smallest)
    return np.ascontiguousarray(cut(inside(truth, image), box)), np.ascontiguousarray(cut(truth.target, box))


def tensors(*images: Image) -> list[torch.Tensor]:
    """Batches of one, RGB in [0, 1]."""
    import torch

    return [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255.0 for image in images]


def skimage_ssim(x: Floats, y: Floats, mask: NDArray[np.bool_]) -> float:
    """scikit-image's SSIM averaged over masked pixels whose window lies in the frame."""
    from skimage.metrics import structural_similarity

    _, full = structural_similarity(  # type: ignore[no-untyped-call]
        x, y, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(full[5:-5, 5:-5].mean(axis=2)[mask[5:-5, 5:-5]].mean())


def by_piq(name: str, tolerance: float = 1e-5, *, double: bool = False) -> Second:
    """A function of piq on the region's box; `double` where its single precision is off by more than that."""

    def run(truth: Truth, output: Image) -> float:
        import piq

        x, y = tensors(*boxes(truth, output))
        if double:
            # 255 levels in double precision are not 255 levels in single precision taken to double.
            x, y = ((image.double() * 255.0).round() / 255.0 for image in (x, y))
        return float(getattr(piq, name)(x, y))

    return Second(f"piq.{name}", run, tolerance, "piq")


@lru_cache(maxsize=1)
def _torchvision_squeezenet() -> Any:
    from torchvision.models import squeezenet1_1

    from refbench.metrics.backbones import read_weights

    features = squeezenet1_1(weights=None).features
    features.load_state_dict(read_weights("squeezenet1_1"))
    return features.eval()


def squeezenet_taps(image: Image) -> list[torch.Tensor]:
    """Activations of torchvision's squeezenet1_1 at the taps of :mod:`refbench.metrics.backbones.squeezenet`."""
    import torch

    from refbench.metrics.backbones.squeezenet import MEAN, TAPS

    x, stages = tensors(image)[0] * 255.0 - torch.tensor(MEAN).view(1, 3, 1, 1), []
    for index, layer in enumerate(_torchvision_squeezenet()):
        x = layer(x)
        if index in TAPS:
            stages.append(x)
    return stages


def covered(truth: Truth, size: tuple[int, int]) -> torch.Tensor:
    """(1, 1, h, w) share of each position's cell that is masked."""
    import torch
    import torch.nn.functional as F

    box = region_box(truth.mask, truth.target.shape[:2])
    return F.adaptive_avg_pool2d(torch.from_numpy(cut(masked(truth), box).astype(np.float32))[None, None], size)


def high_pass(image: Floats, sigma: float, radius: int) -> Floats:
    """scipy's image minus its blur, (h, w) or (h, w, c)."""
    from scipy.ndimage import gaussian_filter

    out: Floats = image - gaussian_filter(image, (sigma, sigma, *(0,) * (image.ndim - 2)), mode="mirror", radius=radius)
    return out
