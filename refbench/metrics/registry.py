"""The metrics by name, in the order in which tables show them; other packages add theirs by entry point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from refbench.errors import RefbenchError
from refbench.registry import Registry
from refbench.schema import AXES, MetricCard

if TYPE_CHECKING:
    from refbench.metrics.contract import Metric
    from refbench.schema import MetricCard

_TEXTURE = {
    "squeeze_pooled": "squeeze_pooled:SqueezePooled",
    "squeeze_match": "squeeze_match:SqueezeMatch",
    "ocr_cer": "ocr_cer:CharacterErrorRate",
    "squeeze": "squeeze:Squeeze",
    "spectrum": "spectrum:Spectrum",
}
_ALIGNMENT = {
    "contextual": "contextual:Contextual",
    "keypoint_gain": "keypoint_gain:KeypointGain",
    "face_id": "face_id:FaceIdentity",
    "embed": "embed:Embedding",
    "palette": "palette:Palette",
}
_CONSISTENCY = {
    "seam": "seam:Seam",
    "illumination": "illumination:Illumination",
    "sharpness": "sharpness:Sharpness",
    "ghosting": "ghosting:Ghosting",
    "background_ssim": "background:BackgroundSSIM",
    "background_exact": "background:BackgroundExact",
    "background_mse": "background:BackgroundMSE",
}
_PIXEL = {
    "psnr": "error:PSNR",
    "mse": "error:MSE",
    "ssim": "ssim:SSIM",
    "ms_ssim": "ms_ssim:MultiScaleSSIM",
    "ssim_hf": "ssim_hf:HighPassSSIM",
    "gmsd": "gmsd:GMSD",
    "vifp": "vifp:VIFp",
    "fsimc": "fsimc:FSIMc",
    "haarpsi": "haarpsi:HaarPSI",
    "mdsi": "mdsi:MDSI",
}
_DIAGNOSTICS = {
    "outside_shift": "outside:OutsideShift",
    "outside_zoom": "outside:OutsideZoom",
    "outside_drift": "outside:OutsideDrift",
    "copied": "inside:Copied",
    "sharpness_change": "inside:SharpnessChange",
}

_LEARNED = {
    "lpips_alex": "distances:LPIPSAlex",
    "lpips_vgg": "distances:LPIPSVGG",
    "lpips_squeeze": "distances:LPIPSSqueeze",
    "vgg_distance": "distances:VGGDistance",
    "dists": "distances:DISTS",
    "dreamsim": "similarity:Dreamsim",
    "dreamsim_single": "similarity:DreamsimSingle",
    "clip_target": "similarity:ClipTarget",
    "dinov2_target": "similarity:Dinov2Target",
    "topiq": "quality:TOPIQ",
    "musiq": "quality:MUSIQ",
    "niqe": "quality:NIQE",
    "clip_i": "similarity:ClipI",
    "clip_i_b32": "similarity:ClipIB32",
    "dinov2": "similarity:Dinov2",
    "dinov2_small": "similarity:Dinov2Small",
    "dreamsim_reference": "similarity:DreamsimReference",
    "face_onnx": "face:FaceONNX",
    "background_lpips": "distances:BackgroundLPIPS",
    "fid": "suitewide:FID",
    "kid": "suitewide:KID",
}
_ROOMS = (
    ("texture", _TEXTURE),
    ("alignment", _ALIGNMENT),
    ("consistency", _CONSISTENCY),
    ("pixel", _PIXEL),
    ("diagnostics", _DIAGNOSTICS),
    ("learned", _LEARNED),
)

METRICS = Registry(
    "metric",
    {name: f"refbench.metrics.{room}.{where}" for room, metrics in _ROOMS for name, where in metrics.items()},
    "refbench.metrics",
)
"""Name -> class of :class:`refbench.metrics.contract.Metric`."""

SUITE_LEVEL = ("fid", "kid")
"""Metrics of a whole run; they have no value for a sample."""


def is_learned(name: str) -> bool:
    """Whether a metric needs downloaded weights, and is therefore measured only when asked for."""
    return name in METRICS and METRICS[name].startswith("refbench.metrics.learned.")


def default_metrics() -> list[str]:
    """What is measured when nothing is asked for: all but the learned ones."""
    return [name for name in METRICS if not is_learned(name)]


def score_metrics() -> list[str]:
    """The metrics that make the score, on every installation the same, whether they can run here or not."""
    return [name for name, card in cards_of(default_metrics()).items() if card.scored and card.axis in AXES]


def smallest_sides() -> dict[str, tuple[int, tuple[str, ...] | None]]:
    """Default metric -> shortest side in px of a picture on which it is defined, and the categories it is for."""
    made = make_metrics(default_metrics())
    return {name: (metric.smallest, metric.card_once.categories) for name, metric in made.items()}


def cards_of(names: Iterable[str]) -> dict[str, MetricCard]:
    """The cards of these metrics as this installation defines them, in the registry's order, without unknown names."""
    wanted = set(names)
    known = [name for name in METRICS if name in wanted]
    return {name: metric.card_once for name, metric in make_metrics(known).items()} if known else {}


def expanded(names: Sequence[str]) -> list[str]:
    """Names with the groups "default", "learned" and "all" spelt out, each name once.

    Raises:
        RefbenchError: an unknown name, with the nearest known ones.
    """
    groups = {
        "default": default_metrics(),
        "learned": [name for name in METRICS if is_learned(name)],
        "all": list(METRICS),
    }
    found = [one for name in names for one in groups.get(name, [name])]
    for name in found:
        METRICS[name]  # an unknown one is told here
    return list(dict.fromkeys(found))


def make_metrics(names: Sequence[str] | None = None, device: str = "cpu") -> dict[str, Metric]:
    """Instances by name, in the order asked for (all of them when `names` is None).

    Raises:
        RefbenchError: an unknown name, with the nearest known ones, or a metric of another package that would score.
    """
    made: dict[str, Metric] = {}
    for name in METRICS if names is None else expanded(names):
        made[name] = METRICS.load(name)(device)
        if METRICS.is_plugin(name) and made[name].card_once.scored:
            raise RefbenchError(
                f"Expected the metric '{name}' of another package to stand beside the score, which is made of the same "
                "metrics on every installation, but its card says scored; set scored=False there and say why in its "
                "note."
            )
    return made


def list_cards() -> list[tuple[MetricCard, str | None]]:
    """Every metric's card, and None where it can run here or the sentence that says what is missing."""
    return [(metric.card_once, metric.missing()) for metric in make_metrics().values()]
