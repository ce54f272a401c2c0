"""The doctor: is every metric, here and now, the number that its card defines?

Each metric is held against closed forms (inputs whose value can be worked out on paper, or was published) and
against a second library on a real picture. A check that needs a package that is not installed is skipped by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from refbench.errors import RefbenchError
from refbench.images import Image, Mask
from refbench.metrics.registry import METRICS, default_metrics, make_metrics
from refbench.metrics.view import View
from refbench.schema import Truth

if TYPE_CHECKING:
    from refbench.metrics.contract import Metric

Found: TypeAlias = tuple[str, float, float, float]
"""What is checked, expected, found, tolerance."""

SHARMA = (
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
)
"""Pairs 1, 17, 25, 29 and 34 of Sharma, Wu, Dalal 2005, table 1: two CIELAB colours and their CIEDE2000."""


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison."""

    metric: str
    name: str
    """What was held against what."""
    expected: float
    found: float
    tolerance: float
    passed: bool | None
    """None where it was skipped."""
    note: str = ""
    """Why it was skipped, or what went wrong."""

    @property
    def difference(self) -> float:
        """|found - expected|; 0 where both are the same infinity."""
        return 0.0 if self.found == self.expected else abs(self.found - self.expected)


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


def _flat(level: int, side: int = 192) -> Image:
    return np.full((side, side, 3), level, dtype=np.uint8)


def _bare(target: Image, mask: Mask | None = None, reference: Image | None = None, draft: Image | None = None) -> Truth:
    return Truth("", target, draft, reference, mask)


def _middle(side: int = 192) -> Mask:
    mask = np.zeros((side, side), dtype=bool)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = True
    return mask


def _noise(side: int = 192) -> Image:
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)


def closed_forms(metric: Metric) -> Iterator[Found]:
    """(what, expected, found, tolerance) of values that can be worked out by hand."""
    name = metric.card_once.name

    def one(truth: Truth, output: Image) -> float:
        value = metric.values([View(truth, output)])[0]
        return math.nan if value is None else value

    a, b = 100, 140
    x, y = a / 255.0, b / 255.0
    luminance = (2 * x * y + 1e-4) / (x * x + y * y + 1e-4)
    if name in ("psnr", "mse"):
        expected = 20 * math.log10(255 / (b - a)) if name == "psnr" else ((b - a) / 255.0) ** 2
        yield f"two greys {b - a} levels apart", expected, one(_bare(_flat(a)), _flat(b)), 1e-9
    elif name == "ssim":
        yield "two greys: the luminance term", luminance, one(_bare(_flat(a)), _flat(b)), 5e-6
    elif name == "ms_ssim":
        yield "two greys: the luminance term ^ 0.1333", luminance**0.1333, one(_bare(_flat(a)), _flat(b)), 5e-6
    elif name == "ssim_hf":
        yield "two greys have the same detail", 1.0, one(_bare(_flat(a)), _flat(b)), 1e-9
    elif name in ("vifp", "fsimc", "haarpsi"):
        yield "an image and itself", 1.0, one(_bare(_noise()), _noise()), 1e-6
    elif name == "spectrum":
        yield "twice the amplitude: 20 log10(2) dB", 20 * math.log10(2), one(_bare(_contrast(2)), _contrast(1)), 0.02
    elif name in ("gmsd", "mdsi", "squeeze"):
        yield "an image and itself", 0.0, one(_bare(_noise()), _noise()), 0.0
    elif name == "ocr_cer":
        yield from _reading(one)
    elif name == "embed":
        yield "a region and itself as reference", 1.0, one(_bare(_noise(), reference=_noise()), _noise()), 1e-6
    elif name == "keypoint_gain":
        truth = _bare(_noise(), reference=_noise(), draft=_noise())
        yield "the draft itself", 0.0, one(truth, _noise()), 0.0
    elif name == "palette":
        yield from _colours(one)
    elif name in ("background_mse", "background_exact"):
        changed = _flat(a)
        changed[:8] += 40
        share = 8 * 192 / float((~_middle()).sum())
        expected = share * (40 / 255) ** 2 if name == "background_mse" else 1.0 - share
        yield "eight rows outside moved by 40 levels", expected, one(_bare(_flat(a), _middle()), changed), 1e-12
    elif name == "background_ssim":
        yield "a change inside only", 1.0, one(_bare(_flat(a), _middle()), _shifted(a, b)), 1e-12
    elif name in ("seam", "illumination"):
        step = _lightness(b) - _lightness(a)
        yield "a grey patch on grey: the difference of L*", step, one(_bare(_flat(a), _middle()), _shifted(a, b)), 1e-5
    elif name in ("squeeze_pooled", "squeeze_match", "contextual"):
        moved = np.roll(_noise(), 16, axis=1)
        expected = {"squeeze_pooled": 1.0, "squeeze_match": 0.0, "contextual": 1.0}[name]
        tolerance = 2e-2 if name == "contextual" else 0.0
        yield "an image and itself", expected, one(_bare(_noise(), reference=_noise()), _noise()), tolerance
        if name == "squeeze_pooled":
            yield "an image moved around by 16 px", 1.0, one(_bare(_noise()), moved), 2e-2
    elif name == "sharpness":
        strong, weak = _contrast(2.0), _contrast(1.0)
        step = math.log((2 * _deviation(weak) + 0.005) / (_deviation(weak) + 0.005))
        yield "twice the contrast: ln((2 s + c) / (s + c))", step, one(_bare(weak), strong), 0.02
    elif name == "ghosting":
        target, draft, mask = _noise(), np.ascontiguousarray(_noise()[::-1]), _middle()
        for share, expected in ((0.0, 0.0), (0.35, 0.5), (0.65, 1.0), (1.0, 0.0)):
            mixed = np.rint(share * draft + (1.0 - share) * target).astype(np.uint8)
            truth = _bare(target, mask, target, draft)
            yield f"the draft at a share of {share:g} over the target", expected, one(truth, mixed), 0.02
    elif name in ("outside_shift", "outside_zoom", "outside_drift"):
        yield "a change inside only", 0.0, one(_bare(_flat(a), _middle()), _shifted(a, b)), 0.0
        if name == "outside_drift":
            step = _lightness(b) - _lightness(a)
            yield "two greys: the difference of L*", step, one(_bare(_flat(a), _middle()), _flat(b)), 1e-5
    elif name == "copied":
        yield "a region and itself as reference", 1.0, one(_bare(_noise(), reference=_noise()), _noise()), 0.0
    elif name == "sharpness_change":
        yield "an image and itself", 0.0, one(_bare(_noise()), _noise()), 1e-9


def _lightness(level: int) -> float:
    """CIE L* of a grey level, by the definition."""
    linear: float = ((level / 255.0 + 0.055) / 1.055) ** 2.4
    return float(116.0 * linear ** (1.0 / 3.0) - 16.0)


def _shifted(a: int, b: int) -> Image:
    image = _flat(a)
    image[_middle()] = b
    return image


def _reading(one: Callable[[Truth, Image], float]) -> Iterator[Found]:
    right, wrong = (_lettered(word) for word in ("BENCHMARK", "BENCHMURK"))
    truth = Truth("", right, None, None, None, text="Benchmark", category="text")
    yield "a printed word", 0.0, one(truth, right), 0.0
    yield "the same word with one of nine letters wrong", 1 / 9, one(truth, wrong), 1e-9


def _contrast(factor: float) -> Image:
    quarter = (_noise().astype(np.float64) - 128.0) / 4.0
    return np.clip(np.rint(quarter * factor + 128.0), 0, 255).astype(np.uint8)


def _deviation(image: Image) -> float:
    """Root mean square of the detail that `sharpness` looks at, over the whole picture."""
    from refbench.metrics.consistency.sharpness import DETAIL
    from refbench.metrics.filters import blur, luma, unit

    grey = luma(unit(image))
    return float(np.sqrt(np.square(grey - blur(grey, 17, DETAIL)).mean()))


def _lettered(word: str) -> Image:
    import cv2

    image = np.full((96, 320, 3), 245, dtype=np.uint8)
    cv2.putText(image, word, (14, 62), cv2.FONT_HERSHEY_DUPLEX, 1.4, (20, 20, 30), 2, cv2.LINE_AA)
    return image


def _colours(one: Callable[[Truth, Image], float]) -> Iterator[Found]:
    from scipy.optimize import linprog
    from skimage.color import deltaE_ciede2000

    from refbench.metrics.alignment.palette import palette, palette_distance

    for number, (first, second, expected) in enumerate(SHARMA, 1):
        yield f"CIEDE2000 as published, pair {number}", expected, float(deltaE_ciede2000(first, second)), 5e-5  # type: ignore[no-untyped-call]
    truth, output = scene()
    a, b = palette(output[truth.mask]), palette(truth.target.reshape(-1, 3))
    cost = deltaE_ciede2000(a[0][:, None], b[0][None])  # type: ignore[no-untyped-call]
    rows, columns = np.kron(np.eye(len(a[1])), np.ones(len(b[1]))), np.kron(np.ones(len(a[1])), np.eye(len(b[1])))
    best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([a[1], b[1]]))
    yield "earth mover's distance by linear programming", float(best.fun), palette_distance(a, b), 1e-3


SECOND = {
    "ms_ssim": ("pytorch_msssim", "pytorch-msssim"),
    "squeeze": ("torchvision", "torchvision"),
    "squeeze_pooled": ("torchvision", "torchvision"),
    "squeeze_match": ("torchvision", "torchvision"),
    "contextual": ("torchvision", "torchvision"),
    "embed": ("timm", "timm"),
    "gmsd": ("piq", "piq"),
    "vifp": ("piq", "piq"),
    "fsimc": ("piq", "piq"),
    "haarpsi": ("piq", "piq"),
    "mdsi": ("piq", "piq"),
}
"""Metric -> module and package of its second library, where it is one that may be missing."""
LOOSE = {
    "gmsd": 1e-6,
    "haarpsi": 1e-5,
    "mdsi": 1e-5,
    "squeeze": 1e-5,
    "embed": 1e-5,
    "palette": 1e-4,
    "contextual": 1e-3,
    "squeeze_match": 1e-3,
    "squeeze_pooled": 1e-3,
}
"""Largest difference to the second library where it works in single precision; 1e-5 else, which is the promise."""


def second_library(metric: Metric) -> Check:
    """The metric on :func:`scene` against :mod:`refbench.metrics.plain`."""
    from importlib.util import find_spec

    from refbench.metrics.plain import PRECISE

    name = metric.card_once.name
    what = f"a real picture, by {(PRECISE[name].__doc__ or '').strip().rstrip('.')}"
    module, package = SECOND.get(name, ("numpy", "numpy"))
    if find_spec(module) is None:
        return Check(name, what, math.nan, math.nan, 0.0, None, f"skipped: {package} is not installed")
    if name == "ocr_cer":
        target = _lettered("REFINE")
        truth, output = Truth("", target, None, None, None, category="text"), _lettered("REFUSE")
    else:
        truth, output = scene()
    found = metric.values([View(truth, output)])[0]
    expected = PRECISE[name](truth, output)
    tolerance = LOOSE.get(name, 1e-5)
    if found is None or expected is None:
        same = found is None and expected is None
        return Check(
            name, what, math.nan, math.nan, tolerance, same, "undefined in both" if same else "undefined in one"
        )
    return Check(name, what, expected, found, tolerance, abs(found - expected) <= tolerance)


def run_doctor(names: Sequence[str] | None = None, device: str = "cpu") -> list[Check]:
    """Check every metric but the learned ones (or those named) on the spot, in about ten seconds.

    Returns:
        Checks in the order of the metrics; a metric that is unavailable here has one skipped check that says why.

    Raises:
        RefbenchError: an unknown metric.
    """
    from refbench.metrics.measurer import single_threaded
    from refbench.metrics.plain import PLAIN

    checks: list[Check] = []
    with single_threaded(device):
        for name, metric in make_metrics(default_metrics() if names is None else names, device).items():
            missing = metric.missing()
            if missing is not None:
                checks.append(Check(name, "available", math.nan, math.nan, 0.0, None, f"skipped: {missing}"))
                continue
            try:
                for what, expected, found, tolerance in closed_forms(metric):
                    passed = found == expected or abs(found - expected) <= tolerance
                    checks.append(Check(name, what, expected, found, tolerance, passed))
                if name in PLAIN:
                    checks.append(second_library(metric))
            except Exception as error:  # whatever a broken library raises is what the doctor is asked for
                note = (
                    str(error) if isinstance(error, RefbenchError | ImportError) else f"{type(error).__name__}: {error}"
                )
                checks.append(Check(name, "runs", math.nan, math.nan, 0.0, False, note))
    return checks


def known_metrics() -> tuple[str, ...]:
    """Names that the doctor knows."""
    return tuple(METRICS)
