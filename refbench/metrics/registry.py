"""The metrics by name, in the order in which tables show them; other packages add theirs by entry point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refbench.registry import Registry
from refbench.schema import MetricCard

if TYPE_CHECKING:
    from refbench.metrics.contract import Metric

_TEXTURE = {
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
    "spectrum": "spectrum:Spectrum",
    "squeeze": "squeeze:Squeeze",
    "ocr_cer": "ocr_cer:CharacterErrorRate",
}
_ALIGNMENT = {
    "embed": "embed:Embedding",
    "keypoint_gain": "keypoint_gain:KeypointGain",
    "palette": "palette:Palette",
    "face_id": "face_id:FaceIdentity",
}
_CONSISTENCY = {
    "background_mse": "background:BackgroundMSE",
    "background_ssim": "background:BackgroundSSIM",
    "background_exact": "background:BackgroundExact",
    "seam": "seam:Seam",
    "illumination": "illumination:Illumination",
    "shape": "shape:Shape",
}

METRICS = Registry(
    "metric",
    {
        name: f"refbench.metrics.{room}.{where}"
        for room, metrics in (("texture", _TEXTURE), ("alignment", _ALIGNMENT), ("consistency", _CONSISTENCY))
        for name, where in metrics.items()
    },
    "refbench.metrics",
)
"""Name -> class of :class:`refbench.metrics.contract.Metric`."""


def make_metrics(names: Sequence[str] | None = None, device: str = "cpu") -> dict[str, Metric]:
    """Instances by name, in the order asked for (all of them when `names` is None).

    Raises:
        RefbenchError: an unknown name, with the nearest known ones.
    """
    return {name: METRICS.load(name)(device) for name in (METRICS if names is None else dict.fromkeys(names))}


def list_cards() -> list[tuple[MetricCard, str | None]]:
    """Every metric's card, and None where it can run here or the sentence that says what is missing."""
    return [(metric.card_once, metric.missing()) for metric in make_metrics().values()]
