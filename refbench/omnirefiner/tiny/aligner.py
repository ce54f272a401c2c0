"""A small network that moves a laid reference the last pixels onto the draft: dense flow from local correlation.

Keypoints and poses lay a reference by one plane; cloth, cylinders, faces and their own errors leave 1 to 8 px, which
is more than fine detail forgives. Features of draft and reference are compared in a window around each cell, coarse
to fine, and the reference's are warped by what was found so far (PWC-Net, Sun et al., CVPR 2018, arXiv 1709.02371).
The mask is an input: what the draft shows inside it may be wrong, and then the flow has to follow from around it.
Everything is measured in px of the crop that the network sees; it is fully convolutional.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from refbench.crops import Square, crop_box, cut
from refbench.images import Image, Mask
from refbench.omnirefiner.tensors import Placed, resize_crop, to_tensor
from refbench.registration.laying import view
from refbench.registration.pose import Matrix
from refbench.schema import Box


def warp_by(picture: Tensor, flow: Tensor) -> Tensor:
    """``picture(x + flow(x))``: (B, C, H, W) sampled bilinearly, flow (B, 2, H, W) in px as (x, y); border repeated."""
    height, width = picture.shape[-2:]
    rows = torch.arange(height, device=flow.device, dtype=flow.dtype).view(1, -1, 1)
    columns = torch.arange(width, device=flow.device, dtype=flow.dtype).view(1, 1, -1)
    u = (columns + flow[:, 0] + 0.5) * (2 / width) - 1
    v = (rows + flow[:, 1] + 0.5) * (2 / height) - 1
    return F.grid_sample(
        picture, torch.stack([u, v], dim=-1), mode="bilinear", padding_mode="border", align_corners=False
    )


@functools.lru_cache(maxsize=32)
def _window_cells(height: int, width: int, radius: int) -> Tensor:
    """For each cell of a grid the (2 radius + 1)^2 cells around it in the grid padded by `radius`: (H W, K)."""
    side, wide = 2 * radius + 1, width + 2 * radius
    rows, columns = torch.arange(height), torch.arange(width)
    first = (rows[:, None] * wide + columns[None]).reshape(-1, 1)
    offsets = (torch.arange(side)[:, None] * wide + torch.arange(side)[None]).reshape(1, -1)
    return first + offsets


def local_correlation(here: Tensor, there: Tensor, radius: int) -> Tensor:
    """Likeness (B, (2 radius + 1)^2, H, W) of each cell with those around it in the other features: 3 x the cosine.

    Each feature loses its mean over the picture first: after an activation all are positive, and everything would be
    like everything. All pairs are multiplied and the window is gathered, which is fastest for crops of up to 192 px.
    """
    batch, _, height, width = here.shape
    here, there = (F.normalize(F.instance_norm(x), dim=1) for x in (here, there))
    here, there = here.flatten(2), F.pad(there, (radius,) * 4).flatten(2)
    cells = _window_cells(height, width, radius).to(here.device)
    likeness = torch.bmm(here.transpose(1, 2), there).gather(2, cells[None].expand(batch, -1, -1))
    return 3 * likeness.transpose(1, 2).reshape(batch, -1, height, width)


def _block(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation=dilation),
        nn.GroupNorm(8, outputs),
        nn.SiLU(),
    )


class _Decoder(nn.Module):
    """Correlation, features, mask and flow so far -> hidden state and the flow's correction, in cells."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inputs, width, 1), nn.SiLU())
        self.blocks = nn.ModuleList(_block(width, width, dilation=d) for d in (1, 2, 4, 1))
        self.leave = nn.Conv2d(width, 2, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.enter(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return hidden, self.leave(hidden)


class AlignerNet(Placed):
    """Flow from a draft crop to the reference laid on its frame.

    Args:
        widths: channels at 1/2, 1/4 and 1/8 of the crop's side.
        radius: of the correlation windows at 1/8 and at 1/4, in cells.
        rounds: corrections at 1/8.
        finer: corrections at 1/4.
    """

    def __init__(
        self, widths: tuple[int, int, int] = (32, 48, 64), radius: tuple[int, int] = (4, 3), rounds: int = 2,
        finer: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.radius, self.rounds, self.finer = tuple(radius), rounds, finer
        half, quarter, eighth = widths
        self.stem = nn.Sequential(nn.Conv2d(4, half, 5, 2, 2), nn.GroupNorm(8, half), nn.SiLU())
        self.quarter = nn.Sequential(_block(half, quarter, 2), _block(quarter, quarter))
        self.eighth = nn.Sequential(_block(quarter, eighth, 2), _block(eighth, eighth))
        window8, window4 = ((2 * r + 1) ** 2 for r in radius)
        self.coarse = _Decoder(window8 + eighth + 3, eighth)
        self.down = nn.Conv2d(eighth, 24, 1)
        self.fine = _Decoder(window4 + quarter + 24 + 3, quarter)

    def _features(self, picture: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        quarter = self.quarter(self.stem(torch.cat([picture, mask], dim=1)))
        return quarter, self.eighth(quarter)

    if TYPE_CHECKING:

        def __call__(self, draft: Tensor, reference: Tensor, mask: Tensor, box: Tensor | None = None) -> list[Tensor]:
            """See :meth:`forward`."""

    def forward(self, draft: Tensor, reference: Tensor, mask: Tensor, box: Tensor | None = None) -> list[Tensor]:
        """Flows (B, 2, S, S) in px such that ``reference(x + flow)`` shows what the target shows at x.

        Args:
            draft, reference: (B, 3, S, S) in [-1, 1], S a multiple of 8.
            mask: (B, 1, S, S) in {0, 1}.
            box: (B, 1, S, S) in {0, 1}, where the reference shows the detail, as far as the user has said it.

        Returns:
            The flow after each correction, the last one the answer.
        """
        size = draft.shape[-2:]
        here4, here8 = self._features(draft, mask)
        there4, there8 = self._features(reference, torch.zeros_like(mask) if box is None else box)
        mask8, mask4 = F.avg_pool2d(mask, 8), F.avg_pool2d(mask, 4)
        flow = torch.zeros_like(here8[:, :2])
        found: list[Tensor] = []
        hidden = here8
        for _ in range(self.rounds):
            seen = local_correlation(here8, warp_by(there8, flow), self.radius[0])
            hidden, step = self.coarse(torch.cat([seen, here8, mask8, flow / 4], dim=1))
            flow = flow + step
            found.append(8 * F.interpolate(flow, size, mode="bilinear", align_corners=False))
        flow = 2 * F.interpolate(flow, here4.shape[-2:], mode="bilinear", align_corners=False)
        context = F.interpolate(self.down(hidden), here4.shape[-2:], mode="bilinear", align_corners=False)
        for _ in range(self.finer):
            seen = local_correlation(here4, warp_by(there4, flow), self.radius[1])
            _, step = self.fine(torch.cat([seen, here4, context, mask4, flow / 4], dim=1))
            flow = flow + step
            found.append(4 * F.interpolate(flow, size, mode="bilinear", align_corners=False))
        return found


SIDE = 128
"""Long side in px at which pictures are aligned."""
SHARE = 0.3
"""Share of the found flow that is followed. Laid with 0, 0.3 and 0.6 of it the validation suite scores 59.2, 59.4 and
58.5: more is sharper (texture 3.6, 4.3, 4.6) but bends faces (alignment 90.4, 90.1, 87.0)."""


def crop_map(size: int, box: Square) -> Matrix:
    """(3, 3): px of a crop shown at `size` to px of the whole picture."""
    x, y, side, _ = box
    scale = side / size
    shift = (scale - 1) / 2
    return np.array([[scale, 0, x + shift], [0, scale, y + shift], [0, 0, 1.0]])


def boxed(reference_box: Box | None, matrix: Matrix, size: int) -> NDArray[np.float32]:
    """Where the reference's box falls (size, size), 1 inside, all 0 without one; `matrix`: crop px to reference px."""
    if reference_box is None:
        return np.zeros((size, size), np.float32)
    rows, columns = np.mgrid[:size, :size]
    at = np.stack([columns, rows, np.ones_like(rows)], -1).astype(np.float64) @ matrix.T
    depth = np.where(np.abs(at[..., 2]) < 1e-9, 1e-9, at[..., 2])
    u, v = at[..., 0] / depth, at[..., 1] / depth
    x, y, w, h = reference_box
    return np.asarray((u >= x) & (u < x + w) & (v >= y) & (v < y + h), np.float32)


def crop_inputs(
    draft: Image, reference: Image, mask: Mask, reference_box: Box | None, matrix: Matrix, size: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the network sees: draft, reference (3, S, S) in [-1, 1], mask and box (1, S, S), on the mask's crop.

    Args:
        draft, reference: (H, W, 3) and (h, w, 3).
        mask: (H, W), not empty.
        reference_box: (x, y, width, height) in the reference, or None.
        matrix: (3, 3), draft px -> reference px.
        size: S in px.
    """
    box = crop_box(mask)
    shown = view(reference, matrix, box)
    marked = cut(mask.astype(np.uint8)[..., None] * 255, box)
    pictures = (
        resize_crop(to_tensor(picture), size).clamp(-1, 1) for picture in (cut(draft, box), shown, marked)
    )  # fmt: skip
    here, there, inside = pictures
    fallen = boxed(reference_box, matrix @ crop_map(size, box), size)
    return here, there, (inside > -0.4).float(), torch.from_numpy(fallen)[None]


@torch.inference_mode()
def find_flow(
    aligner: AlignerNet, draft: Image, reference: Image, mask: Mask, reference_box: Box | None, matrix: Matrix
) -> NDArray[np.float32]:
    """Flow (H, W, 2) in px, (x, y), by which draft pixels are moved before `matrix` takes them to the reference.

    It is 0 outside the crop around the mask. Arguments as in :func:`crop_inputs`.
    """
    box = crop_box(mask)
    inputs = [t[None].to(aligner.device, aligner.dtype) for t in crop_inputs(
        draft, reference, mask, reference_box, matrix, SIDE
    )]  # fmt: skip
    found = aligner(*inputs)[-1].float().cpu()
    x, y, side, _ = box
    flow = F.interpolate(found, (side, side), mode="bicubic", align_corners=False)[0] * (SHARE * side / SIDE)
    height, width = mask.shape
    top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
    out = np.zeros((height, width, 2), np.float32)
    out[top:bottom, left:right] = flow.permute(1, 2, 0).numpy()[top - y : bottom - y, left - x : right - x]
    return out


def even_light(picture: Tensor, radius: int = 6) -> Tensor:
    """A picture (B, 3, H, W) without its local mean and contrast, so that light does not count as error."""

    def mean(value: Tensor) -> Tensor:
        padded = F.pad(value, (radius,) * 4, mode="reflect")
        return F.avg_pool2d(F.avg_pool2d(padded, (1, 2 * radius + 1), 1), (2 * radius + 1, 1), 1)

    centred = picture - mean(picture)
    spread = mean(centred.square().mean(1, keepdim=True)).clamp(min=0).sqrt()
    return centred / (spread + 0.08)


def flow_error(flows: list[Tensor], even: Tensor, aim: Tensor, mask: Tensor, known: Tensor, sure: Tensor) -> Tensor:
    """Training loss (B,): distance from a known flow, and how well the moved reference meets the target.

    Args:
        flows: as :meth:`AlignerNet.forward` returns them; later ones weigh more.
        even, aim: reference and target (B, 3, S, S), both through :func:`even_light`.
        mask: (B, 1, S, S); inside counts four times.
        known: flow (B, 2, S, S) in px from the target to the reference.
        sure: (B, 1, S, S) in [0, 1], where `known` is right.
    """
    weights = 0.25 + 0.75 * mask
    total = weights.sum((1, 2, 3))
    with torch.no_grad():
        coarse_known, trusted = F.avg_pool2d(known, 4), F.avg_pool2d(sure * weights, 4)
    loss = torch.zeros(len(mask), device=mask.device)
    for k, flow in enumerate(flows):
        distance = ((F.avg_pool2d(flow, 4) - coarse_known).square().sum(1, keepdim=True) + 0.01).sqrt() - 0.1
        loss = loss + 0.7 ** (len(flows) - 1 - k) * 16 * (distance * trusted).sum((1, 2, 3)) / total
    apart = ((warp_by(even, flows[-1]) - aim).square() + 1e-4).sqrt().mean(1, keepdim=True)
    return loss + 2.0 * (apart * sure * weights).sum((1, 2, 3)) / total
