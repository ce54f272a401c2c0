"""Model `texture-transfer`: patches of the reference, chosen by the draft's coarse content, give the detail.

No geometry is estimated. In the manner of image analogies (Hertzmann et al., SIGGRAPH 2001) the blurred reference is
to the reference as the draft is to the answer: for each patch of the draft the reference's patch of the most similar
coarse content is found, and its fine detail is laid over the draft's coarse content. A second round also asks the
detail to agree with what its neighbours laid there (Kwatra et al., SIGGRAPH 2005). Deterministic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from refbench.baselines import reference_content
from refbench.images import Image, Mask, mask_box, resize
from refbench.registration.light import masked_blur, shrink_mask, to_lab, to_rgb
from refbench.registration.opencv import cv2
from refbench.schema import AdapterCard, Box, Inputs

Float = NDArray[np.float32]

PATCH = 7
STRIDE = 3
SIDE = 320
"""The masked part is reduced to this long side (px) for the search."""
CALM = 0.04
"""Weight of a patch's own detail energy in the search."""
COHERENCE = 0.5
"""Weight, in the second round, of agreement with what the neighbours laid."""
LIBRARY = 12_000
"""Most patches of the reference that are searched."""


class TextureTransfer:
    """Lays the reference's fine detail over the draft's coarse content, patch by patch."""

    card = AdapterCard(
        name="texture-transfer",
        summary="For each patch, the reference's patch of the most similar coarse content gives its fine detail "
        "(image analogies); the draft keeps its coarse content.",
        licence="Apache-2.0",
        paper="https://doi.org/10.1145/383259.383295",
        requires=("cv2",),
    )

    def __init__(self, *, device: str = "cpu", coarse: float = 2.5) -> None:
        """`coarse` is the sigma in px below which detail is taken from the reference."""
        self.device = device
        self.coarse = coarse

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft with new fine detail inside the mask."""
        x, y, w, h = mask_box(inputs.mask, 2 * PATCH)
        draft, mask = inputs.draft[y : y + h, x : x + w], inputs.mask[y : y + h, x : x + w]
        factor = min(1.0, SIDE / max(w, h))
        size = (max(2 * PATCH, round(h * factor)), max(2 * PATCH, round(w * factor)))
        small, small_mask = resize(draft, size), shrink_mask(mask, size)
        source = _to_scale(inputs.reference, inputs.reference_box, mask_box(small_mask))
        before = to_lab(small)
        after = transfer(before, small_mask, to_lab(source), self.coarse)
        change = cv2.resize(after - before, (w, h), interpolation=cv2.INTER_CUBIC)
        edge = cv2.GaussianBlur(np.pad(mask, 2).astype(np.float32), (0, 0), 1.0)[2:-2, 2:-2]
        result = to_rgb(to_lab(draft) + change * np.clip(2 * edge - 0.8, 0, 1)[..., None])
        out = inputs.draft.copy()
        out[y : y + h, x : x + w][mask] = result[mask]
        return out


def _to_scale(reference: Image, box: Box | None, target: Box) -> Image:
    """The reference's content at the scale at which the mask shows it: box on box, or as it is where none is known."""
    content = reference_content(reference, box)
    height, width = content.shape[:2]
    scale = 1.0 if box is None else float(np.clip(np.sqrt(target[2] * target[3] / (width * height)), 0.25, 2.0))
    scale = min(scale, SIDE / max(height, width))
    return resize(content, (max(2 * PATCH, round(height * scale)), max(2 * PATCH, round(width * scale))))


def transfer(draft: Float, mask: Mask, reference: Float, coarse: float) -> Float:
    """New detail for the masked part of a draft, from a reference at the same scale.

    Args:
        draft: (H, W, 3) Lab.
        mask: (H, W) bool.
        reference: (h, w, 3) Lab.
        coarse: sigma in px between coarse content (kept) and detail (new).

    Returns:
        (H, W, 3) Lab; equal to the draft where no patch reached.
    """

    def low(image: Float) -> Float:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), coarse), np.float32)

    base, base_there = low(draft), low(reference)
    matched = _match(base_there, base, mask)
    detail_there = (reference - base_there) * np.array([1, 0.5, 0.5], np.float32)  # prints bleed less in luma alone
    places, centres = _places(mask), _library(reference.shape[:2])
    coarse_here, coarse_there = _patches(base, places), _patches(matched, centres)
    basis = _basis(coarse_there, 12)
    here, there = coarse_here @ basis, coarse_there @ basis
    fine_there = _patches(detail_there, centres)
    # where the coarse content does not tell, a calm patch is the safer guess
    calm = CALM * 0.5 * (fine_there * fine_there).sum(1)
    nearest = _nearest(here, there, calm)
    detail = _lay(detail_there, centres[nearest], places, draft.shape)
    fine_basis = _basis(fine_there, 8)
    here = np.hstack([here, COHERENCE * _patches(detail, places) @ fine_basis])
    there = np.hstack([there, COHERENCE * fine_there @ fine_basis])
    nearest = _nearest(here, there, calm)
    detail = _lay(detail_there, centres[nearest], places, draft.shape)
    reached = np.any(detail != 0, axis=2, keepdims=True)
    return np.where(reached, base + detail, draft).astype(np.float32)


def _match(source: Float, to: Float, mask: Mask) -> Float:
    """The reference's coarse colours brought to the draft's, for comparing only.

    Colour transfer after Reinhard et al. (IEEE CG&A 2001), in Lab, with gains kept in [0.6, 1.6].
    """
    here, there = source.reshape(-1, 3), np.resize(to[mask], (source.shape[0] * source.shape[1], 3))
    if len(here) < 16:
        return source
    gain = np.clip((there.std(0) + 1.0) / (here.std(0) + 1.0), 0.6, 1.6)
    return np.asarray((source - here.mean(0)) * gain + there.mean(0), np.float32)


def _places(mask: Mask) -> NDArray[np.int64]:
    """Top left corners (n, 2) as (row, column) of the patches that touch the mask, every STRIDE px."""
    rows, columns = (np.unique(np.r_[np.arange(0, n - PATCH, STRIDE), n - PATCH]) for n in mask.shape)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    integral = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    r, c = grid.T
    touched = integral[r + PATCH, c + PATCH] - integral[r, c + PATCH] - integral[r + PATCH, c] + integral[r, c]
    return np.asarray(grid[touched > 0])


def _library(size: tuple[int, int]) -> NDArray[np.int64]:
    """Top left corners of the reference's patches, on a grid just coarse enough to keep LIBRARY of them."""
    step = max(1, int(np.ceil(np.sqrt((size[0] - PATCH + 1) * (size[1] - PATCH + 1) / LIBRARY))))
    rows, columns = (np.arange(0, n - PATCH + 1, step) for n in size)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)


def _patches(image: Float, places: NDArray[np.int64]) -> Float:
    """Patches as rows (n, PATCH * PATCH * 3)."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (PATCH, PATCH), axis=(0, 1))
    return np.ascontiguousarray(windows[places[:, 0], places[:, 1]].reshape(len(places), -1))


def _basis(rows: Float, count: int) -> Float:
    """The first principal directions (columns) of rows."""
    sample = rows[:: max(1, len(rows) // 4000)]
    centred = sample - sample.mean(0)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count], np.float32)


def _nearest(here: Float, there: Float, cost: Float) -> NDArray[np.int64]:
    """For each row of `here` the row of `there` of least half squared distance plus `cost`, exactly, in blocks."""
    norms = 0.5 * (there * there).sum(1) + cost
    found = [(block @ there.T - norms).argmax(1) for block in np.array_split(here, max(1, len(here) // 512))]
    return np.concatenate(found)


def _lay(detail: Float, sources: NDArray[np.int64], places: NDArray[np.int64], shape: tuple[int, ...]) -> Float:
    """Average overlapping patches of detail, then give back the contrast that averaging took away."""
    ramp = np.exp(-0.5 * ((np.arange(PATCH) - PATCH // 2) / (PATCH / 4)) ** 2).astype(np.float32)
    window = np.outer(ramp, ramp)
    total, energy = np.zeros(shape, np.float32), np.zeros(shape[:2], np.float32)
    weight = np.zeros(shape[:2], np.float32)
    power = (detail[..., 0] ** 2).astype(np.float32)
    for i in range(PATCH):
        for j in range(PATCH):
            at, of = (places[:, 0] + i, places[:, 1] + j), (sources[:, 0] + i, sources[:, 1] + j)
            # the places of one offset are distinct, so plain indexed addition is enough
            total[at] += window[i, j] * detail[of]
            energy[at] += window[i, j] * power[of]
            weight[at] += window[i, j]
    reached = weight > 0
    total[reached] /= weight[reached][:, None]
    energy[reached] /= weight[reached]
    cover = reached.astype(np.float32)
    wanted = masked_blur(energy, cover, 3.0)
    left = masked_blur(total[..., 0] ** 2, cover, 3.0)
    gain = np.clip(np.sqrt((wanted + 0.05) / (left + 0.05)), 1.0, 2.0)
    return np.asarray(total * (gain * cover)[..., None], np.float32)
