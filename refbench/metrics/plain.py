"""Every metric a second time: straight calls to published libraries, one image at a time, nothing shared.

This is how one would write an evaluation script by hand. The doctor and the tests compare the metrics with it, and
``benchmarks/bench_measure.py`` compares their speed. Nothing else uses it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from refbench.images import Image, resize
from refbench.metrics.alignment import face_id, keypoint_gain, palette
from refbench.metrics.alignment.embed import SIDE
from refbench.metrics.filters import Floats
from refbench.metrics.regions import composite, cut, reference_crop, region_box
from refbench.metrics.texture import ocr_cer, reader
from refbench.schema import Truth

if TYPE_CHECKING:
    import torch

Plain: TypeAlias = Callable[[Truth, Image], float | None]


def _inside(truth: Truth, image: Image) -> Image:
    """The output's masked pixels over the target, whole frame."""
    return image if truth.mask is None else composite(image, truth.target, truth.mask)


def _mask(truth: Truth) -> NDArray[np.bool_]:
    return np.ones(truth.target.shape[:2], dtype=bool) if truth.mask is None else truth.mask


def _boxes(truth: Truth, image: Image, smallest: int = 64) -> tuple[Image, Image]:
    """Output (composited) and target on the region's box."""
    box = region_box(truth.mask, truth.target.shape[:2], smallest)
    return np.ascontiguousarray(cut(_inside(truth, image), box)), np.ascontiguousarray(cut(truth.target, box))


def _tensors(*images: Image) -> list[torch.Tensor]:
    import torch

    return [torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255.0 for image in images]


def mse(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import mean_squared_error

    mask = _mask(truth)
    return float(mean_squared_error(truth.target[mask] / 255.0, output[mask] / 255.0))


def psnr(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import peak_signal_noise_ratio

    mask = _mask(truth)
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth.target[mask] / 255.0, output[mask] / 255.0, data_range=1.0))  # type: ignore[no-untyped-call]


def _ssim(x: Floats, y: Floats, mask: NDArray[np.bool_]) -> float:
    from skimage.metrics import structural_similarity

    _, full = structural_similarity(  # type: ignore[no-untyped-call]
        x, y, data_range=1.0, channel_axis=2, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    return float(full[5:-5, 5:-5].mean(axis=2)[mask[5:-5, 5:-5]].mean())


def ssim(truth: Truth, output: Image) -> float:
    """scikit-image."""
    return _ssim(_inside(truth, output) / 255.0, truth.target / 255.0, _mask(truth))


def ms_ssim(truth: Truth, output: Image) -> float:
    """pytorch-msssim."""
    import pytorch_msssim

    return float(pytorch_msssim.ms_ssim(*_tensors(*_boxes(truth, output, 176)), data_range=1.0))


def ssim_hf(truth: Truth, output: Image) -> float:
    """scipy and scikit-image."""
    from scipy.ndimage import gaussian_filter

    high = [
        image - gaussian_filter(image, (2.0, 2.0, 0.0), mode="mirror", truncate=4.0)
        for image in (_inside(truth, output) / 255.0, truth.target / 255.0)
    ]
    return _ssim(high[0], high[1], _mask(truth))


def gmsd(truth: Truth, output: Image) -> float:
    """piq's parts, because piq.gmsd has no region."""
    import torch
    import torch.nn.functional as F
    from piq.functional import gradient_map, prewitt_filter, rgb2yiq, similarity_map

    kernels = torch.stack([prewitt_filter(), prewitt_filter().transpose(-1, -2)])
    maps = []
    odd = max(output.shape[0] % 2, output.shape[1] % 2)
    for tensor in _tensors(_inside(truth, output), truth.target):
        luma = rgb2yiq(F.pad(tensor, [0, odd, 0, odd]))[:, :1]
        maps.append(gradient_map(F.avg_pool2d(luma, 2), kernels))
    region = F.pad(torch.from_numpy(_mask(truth)).float()[None, None], [0, odd, 0, odd])
    touched = F.max_pool2d(region, 2)[0, 0] > 0
    return float(similarity_map(maps[0], maps[1], 170.0 / 255.0**2)[0, 0][touched].std(correction=0))


def _piq(name: str, double: bool = False) -> Plain:
    def run(truth: Truth, output: Image) -> float:
        import piq

        x, y = _tensors(*_boxes(truth, output))
        if double:
            # 255 levels in double precision are not 255 levels in single precision taken to double.
            x, y = ((image.double() * 255.0).round() / 255.0 for image in (x, y))
        return float(getattr(piq, name)(x, y))

    run.__doc__ = f"piq.{name}."
    return run


def spectrum(truth: Truth, output: Image) -> float:
    """scipy's full FFT and labelled means."""
    from scipy import fft, ndimage

    bands = []
    for image in _boxes(truth, output):
        luma = (image / 255.0) @ np.array([0.299, 0.587, 0.114])
        height, width = luma.shape
        window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[1:-1]
        power = np.abs(fft.rfft2((luma - np.average(luma, weights=window)) * window)) ** 2 / (window**2).sum()
        radius = np.hypot(fft.fftfreq(height)[:, None], fft.rfftfreq(width))
        means = ndimage.mean(power, np.floor(radius * 32).astype(int), np.arange(16))
        bands.append(10.0 * np.log10(means + (1 / 255) ** 2 / 12))
    return float(np.sqrt(np.mean((bands[0] - bands[1]) ** 2)))


@lru_cache(maxsize=1)
def _torchvision_squeezenet() -> Any:
    from torchvision.models import squeezenet1_1

    from refbench.metrics.backbones import read_weights

    features = squeezenet1_1(weights=None).features
    features.load_state_dict(read_weights("squeezenet1_1"))
    return features.eval()


def _taps(image: Image) -> list[torch.Tensor]:
    import torch

    from refbench.metrics.backbones.squeezenet import MEAN, TAPS

    x, stages = _tensors(image)[0] * 255.0 - torch.tensor(MEAN).view(1, 3, 1, 1), []
    for index, layer in enumerate(_torchvision_squeezenet()):
        x = layer(x)
        if index in TAPS:
            stages.append(x)
    return stages


def squeeze(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = ([F.normalize(x, dim=1).half().float() for x in _taps(image)] for image in _boxes(truth, output))
        return float(np.mean([float((x - y).square().sum(1).mean()) for x, y in zip(a, b, strict=True)]))


def _covered(truth: Truth, size: tuple[int, int]) -> torch.Tensor:
    import torch
    import torch.nn.functional as F

    box = region_box(truth.mask, truth.target.shape[:2])
    return F.adaptive_avg_pool2d(torch.from_numpy(cut(_mask(truth), box).astype(np.float32))[None, None], size)


def squeeze_pooled(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's cosine similarity."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = (_taps(image)[2:] for image in _boxes(truth, output))
        weight = _covered(truth, (a[0].shape[2], a[0].shape[3]))
        pairs = [((x * weight).sum((2, 3)), (y * weight).sum((2, 3))) for x, y in zip(a, b, strict=True)]
        return float(np.mean([float(F.cosine_similarity(x, y)) for x, y in pairs]))


def squeeze_match(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's unfold."""
    import torch
    import torch.nn.functional as F

    with torch.inference_mode():
        a, b = (F.normalize(_taps(image)[2], dim=1) for image in _boxes(truth, output))
        height, width = a.shape[2:]
        weight = _covered(truth, (height, width)).flatten()
        there = F.unfold(torch.ones(1, 1, height, width), 3, padding=1)[0] > 0
        means = []
        for x, y in ((a, b), (b, a)):
            around = F.unfold(y, 3, padding=1).view(x.shape[1], 9, -1)
            apart = (x.flatten(2)[0][:, None] - around).square().sum(0).masked_fill(~there, torch.inf)
            means.append(float((apart.amin(0) * weight).sum() / weight.sum()))
        return float(np.mean(means))


def contextual(truth: Truth, output: Image) -> float:
    """torchvision's squeezenet1_1, torch's cdist."""
    import torch
    import torch.nn.functional as F

    box, crop = _boxes(truth, output)[0], np.ascontiguousarray(reference_crop(truth))
    scale = max(box.shape[:2]) / max(crop.shape[:2])
    crop = resize(crop, (max(48, round(crop.shape[0] * scale)), max(48, round(crop.shape[1] * scale))))
    with torch.inference_mode():
        x, y = (_taps(image)[2] for image in (box, crop))
        share = _covered(truth, (x.shape[2], x.shape[3])).flatten()
        a, b = (F.normalize(z.flatten(2)[0].T, dim=1) for z in (x, y))
        a = a[share >= share.max() / 2]
        a, b = F.normalize(a - b.mean(0), dim=1), F.normalize(b - b.mean(0), dim=1)
        distance = torch.cdist(a.double(), b.double()).square() / 2  # of unit vectors: 1 - cosine
        affinity = torch.softmax((1 - distance / (distance.amin(1, keepdim=True) + 1e-5)) / 0.5, dim=1)
        return float(affinity.amax(0).mean())


@lru_cache(maxsize=1)
def _timm_efficientnet() -> Any:
    """timm's architecture with the folded weights: each normalisation is set to add the bias alone."""
    import timm
    import torch

    from refbench.metrics.backbones import read_weights

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    weights = read_weights("efficientnet_lite0")
    state = model.state_dict()
    convolutions = [key for key in state if key.endswith(".weight") and state[key].ndim == 4]
    norms = [key.removesuffix(".running_mean") for key in state if key.endswith(".running_mean")]
    ours = [key.removesuffix(".weight") for key in weights if key.endswith(".weight")]

    def place(name: str) -> tuple[int, int, int]:
        parts = name.split(".")
        if parts[0] != "blocks":
            return (-1 if parts[0] == "stem" else 99), 0, 0
        return 0, int(parts[1]), ("expand", "depthwise", "project").index(parts[2])

    for convolution, norm, name in zip(convolutions, norms, sorted(ours, key=place), strict=True):
        state[convolution] = weights[f"{name}.weight"]
        state[f"{norm}.bias"] = weights[f"{name}.bias"]
        state[f"{norm}.weight"] = torch.ones_like(state[f"{norm}.weight"])
        state[f"{norm}.running_mean"] = torch.zeros_like(state[f"{norm}.running_mean"])
        state[f"{norm}.running_var"] = torch.ones_like(state[f"{norm}.running_var"]) - 1e-3
    model.load_state_dict(state)
    return model


def embed(truth: Truth, output: Image) -> float:
    """timm's tf_efficientnet_lite0."""
    import torch

    model = _timm_efficientnet()
    with torch.inference_mode():
        vectors = [
            model(_tensors(resize(np.ascontiguousarray(image), (SIDE, SIDE)))[0] * 2.0 - 1.0)
            for image in (_boxes(truth, output)[0], reference_crop(truth))
        ]
        return float(torch.nn.functional.cosine_similarity(*vectors))


def keypoints(truth: Truth, output: Image) -> float:
    """OpenCV's SIFT and brute-force matcher."""
    import cv2

    box = region_box(truth.mask, truth.target.shape[:2])
    mask = np.ascontiguousarray(cut(_mask(truth), box)).astype(np.uint8) * 255
    assert truth.draft is not None
    sift = cv2.SIFT.create(nfeatures=keypoint_gain.MOST)
    counts = []
    for image in (output, truth.draft):
        part = np.ascontiguousarray(cut(_inside(truth, image), box))
        found = [
            sift.detectAndCompute(cv2.cvtColor(np.ascontiguousarray(i), cv2.COLOR_RGB2GRAY), m)[1]
            for i, m in ((part, mask), (reference_crop(truth), None))
        ]
        if any(f is None or len(f) < 2 for f in found):
            counts.append(0)
            continue
        matcher = cv2.BFMatcher()
        back = {m.queryIdx: m.trainIdx for m in matcher.match(found[1], found[0])}
        pairs = matcher.knnMatch(found[0], found[1], k=2)
        counts.append(
            sum(a.distance < keypoint_gain.RATIO * b.distance and back[a.trainIdx] == a.queryIdx for a, b in pairs)
        )
    return float(counts[0] - counts[1])


def palette_distance(truth: Truth, output: Image) -> float:
    """Pillow, scikit-image and OpenCV."""
    import cv2
    from PIL import Image as PILImage
    from skimage.color import deltaE_ciede2000, rgb2lab

    colours, shares = [], []
    for pixels in (output[_mask(truth)], palette.reference_pixels(truth)):
        if len(pixels) > palette.MOST:
            pixels = pixels[np.linspace(0, len(pixels) - 1, palette.MOST).astype(np.intp)]
        index = np.asarray(PILImage.fromarray(pixels[None]).quantize(palette.COLOURS, PILImage.Quantize.MEDIANCUT))[0]
        used = np.unique(index)
        lab = rgb2lab(pixels[None])[0]
        colours.append(np.stack([lab[index == i].mean(axis=0) for i in used]))
        shares.append(np.array([(index == i).mean() for i in used], dtype=np.float32)[:, None])
    cost = deltaE_ciede2000(colours[0][:, None], colours[1][None]).astype(np.float32)  # type: ignore[no-untyped-call]
    return float(cv2.EMD(shares[0], shares[1], cv2.DIST_USER, cost)[0])


def faces(truth: Truth, output: Image) -> float | None:
    """dlib."""
    return face_id.face_distance(truth, _inside(truth, output), face_id.find_faces(truth))


def ocr(truth: Truth, output: Image) -> float | None:
    """onnxruntime, with the target read again for every output."""
    part, target = _boxes(truth, output)
    box = region_box(truth.mask, truth.target.shape[:2])
    lines = ocr_cer.lines_inside(reader.find_lines(target), np.ascontiguousarray(cut(_mask(truth), box)))
    texts = [
        ocr_cer.plain("".join(reader.read_strips([reader.straighten(image, line)])[0] for line in lines))
        for image in (part, target)
    ]
    right = ocr_cer.plain(truth.text or "") or texts[1]
    return ocr_cer.error_rate(texts[0], right) if right else None


def background_mse(truth: Truth, output: Image) -> float:
    """scikit-image."""
    from skimage.metrics import mean_squared_error

    outside = ~_mask(truth)
    return float(mean_squared_error(truth.target[outside] / 255.0, output[outside] / 255.0))


def background_ssim(truth: Truth, output: Image) -> float:
    """scikit-image."""
    mask = _mask(truth)
    return _ssim(composite(truth.target, output, mask) / 255.0, truth.target / 255.0, ~mask)


def background_exact(truth: Truth, output: Image) -> float:
    """numpy."""
    return float((output == truth.target).all(axis=2)[~_mask(truth)].mean())


def seam(truth: Truth, output: Image) -> float:
    """scipy and scikit-image, whole frame."""
    from scipy.ndimage import binary_erosion, gaussian_filter
    from skimage.color import rgb2lab

    mask = _mask(truth)
    edge = mask & ~binary_erosion(mask, border_value=1)
    lengths = []
    for image in (output, truth.target):
        sides = []
        for side in (mask, ~mask):
            weight = gaussian_filter(side.astype(float), 2.0, mode="constant", truncate=3.0)
            planes = [
                gaussian_filter(c * side, 2.0, mode="constant", truncate=3.0) for c in rgb2lab(image).transpose(2, 0, 1)
            ]
            sides.append(np.stack([plane[edge] / weight[edge] for plane in planes]))
        lengths.append(np.linalg.norm(sides[0] - sides[1], axis=0))
    return float(np.maximum(lengths[0] - lengths[1], 0.0).mean())


def illumination(truth: Truth, output: Image) -> float:
    """scipy and scikit-image, whole frame."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter
    from skimage.color import rgb2lab

    mask = _mask(truth)
    rim = mask if mask.all() else mask & (distance_transform_edt(mask) <= 8.5)
    planes = (rgb2lab(output) - rgb2lab(truth.target)).transpose(2, 0, 1)
    soft = [gaussian_filter(p * rim, 4.0, mode="mirror", radius=16)[rim] for p in (*planes, np.ones(mask.shape))]
    return float(np.linalg.norm([plane / soft[3] for plane in soft[:3]], axis=0).mean())


def _detail(image: Floats, sigma: float, radius: int) -> Floats:
    from scipy.ndimage import gaussian_filter

    out: Floats = image - gaussian_filter(image, (sigma, sigma, *(0,) * (image.ndim - 2)), mode="mirror", radius=radius)
    return out


def sharpness(truth: Truth, output: Image) -> float:
    """scipy."""
    from scipy.ndimage import gaussian_filter

    mask = cut(_mask(truth), region_box(truth.mask, truth.target.shape[:2]))
    lumas = [(image / 255.0) @ np.array([0.299, 0.587, 0.114]) for image in _boxes(truth, output)]
    a, b = (np.sqrt(gaussian_filter(_detail(x, 2.0, 8) ** 2, 6.0, mode="mirror", radius=24))[mask] for x in lumas)
    return float(np.abs(np.log((a + 0.005) / (b + 0.005))).mean())


def ghosting(truth: Truth, output: Image) -> float:
    """scipy, and a least-squares fit by numpy in each window."""
    from scipy.ndimage import gaussian_filter

    assert truth.draft is not None
    box = region_box(truth.mask, truth.target.shape[:2])
    mask = cut(_mask(truth), box)
    images = (_boxes(truth, output)[0], _boxes(truth, output)[1], np.ascontiguousarray(cut(truth.draft, box)))
    o, t, d = (_detail(composite(image, images[1], mask) / 255.0, 1.5, 6) * mask[..., None] for image in images)

    def window(x: Floats, y: Floats) -> Floats:
        out: Floats = gaussian_filter((x * y).sum(2), 12.0, mode="mirror", radius=48)[mask]
        return out

    floor = 1e-5
    tt, td, dd = window(t, t) + floor, window(t, d), window(d, d)
    left = np.stack([np.stack([tt, td], -1), np.stack([td, np.maximum(dd, td * td / tt) + floor], -1)], -2)
    share = np.linalg.solve(left, np.stack([window(o, t), window(o, d)], -1)[..., None])[:, 1, 0].clip(0, 1)
    weight = np.maximum(dd - td * td / tt, 0.0)
    seen = np.interp(share, (0.2, 0.5), (0, 1)) * np.interp(share, (0.8, 1.0), (1, 0))
    return float((seen * weight).sum() / weight.sum()) if weight.mean() >= floor else 0.0


PLAIN: dict[str, Plain] = {
    "psnr": psnr,
    "mse": mse,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "ssim_hf": ssim_hf,
    "gmsd": gmsd,
    "vifp": _piq("vif_p"),
    "fsimc": _piq("fsim"),
    "haarpsi": _piq("haarpsi"),
    "mdsi": _piq("mdsi"),
    "spectrum": spectrum,
    "squeeze": squeeze,
    "squeeze_pooled": squeeze_pooled,
    "squeeze_match": squeeze_match,
    "contextual": contextual,
    "ocr_cer": ocr,
    "embed": embed,
    "keypoint_gain": keypoints,
    "palette": palette_distance,
    "face_id": faces,
    "background_mse": background_mse,
    "background_ssim": background_ssim,
    "background_exact": background_exact,
    "seam": seam,
    "illumination": illumination,
    "sharpness": sharpness,
    "ghosting": ghosting,
}
"""Metric -> the same number by libraries; undefined samples as in the metric."""

PRECISE: dict[str, Plain] = PLAIN | {name: _piq(f, True) for name, f in (("vifp", "vif_p"), ("fsimc", "fsim"))}
"""The same, with piq in double precision where its single precision is off by more than 1e-5 (VIFp: 2e-4)."""
