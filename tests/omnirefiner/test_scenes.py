"""Training scenes: exact flows of prints, the focus's own crops, and one stream for any number of workers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from refbench.crops import cut
from refbench.omnirefiner.tensors import resize_crop, to_tensor
from refbench.omnirefiner.tiny.aligner import crop_inputs, warp_by
from refbench.omnirefiner.tiny.scenes import Scene, SceneQuadruplets, draw_scenes, open_scenes, print_flow, stream
from refbench.registration.laying import Placement
from refbench.registration.pose import Pose


def _scene(matrix: np.ndarray, maps: tuple[np.ndarray, np.ndarray] | None, side: int = 96) -> Scene:
    picture = np.zeros((side, side, 3), np.uint8)
    mask = np.zeros((side, side), bool)
    mask[20:76, 20:76] = True
    pose = Pose(matrix, "box", 0, 1.0, 0.0, 1.0)
    return Scene(
        picture, picture, picture, mask, (16, 16, 64, 64), "Restore it.", Placement(matrix, pose, True, False), maps
    )


def _map(side: int, shift: tuple[float, float], scale: float, bow: float = 0.0) -> np.ndarray:
    """Where pixels fall on a print whose middle is moved by `shift` px and whose half side is side * scale / 2."""
    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    u = (columns - (side - 1) / 2 - shift[0]) / (side * scale / 2)
    v = (rows - (side - 1) / 2 - shift[1]) / (side * scale / 2)
    return np.stack([u + bow * v * v, v], -1).astype(np.float32)


def test_two_shifted_prints_flow_by_it() -> None:
    maps = (_map(96, (0, 0), 0.6), _map(96, (5, -3), 0.6))
    scene = _scene(np.eye(3), maps)
    flow, sure = print_flow(scene, 64)
    scale = 64 / scene.box[2]
    held = sure[0] > 0
    assert held.float().mean() > 0.3
    # 5 and -3 px of the picture, in px of a crop shown at 64
    assert torch.allclose(flow[0][held], torch.tensor(5 * scale), atol=0.02)
    assert torch.allclose(flow[1][held], torch.tensor(-3 * scale), atol=0.02)


def test_a_right_pose_leaves_no_flow() -> None:
    maps = (_map(96, (0, 0), 0.6), _map(96, (5, -3), 0.6))
    moved = np.array([[1, 0, 5.0], [0, 1, -3.0], [0, 0, 1]])
    flow, sure = print_flow(_scene(moved, maps), 64)
    assert flow[:, sure[0] > 0].abs().max() < 0.02


def test_a_bent_print_s_flow_is_exact() -> None:
    target, reference = _map(96, (0, 0), 0.6), _map(96, (2, 1), 0.7, bow=0.2)
    scene = _scene(np.eye(3), (target, reference))
    flow, sure = print_flow(scene, 96)
    held = sure[0] > 0
    assert held.float().mean() > 0.2
    at = [torch.from_numpy(np.ascontiguousarray(m)).permute(2, 0, 1)[None] for m in (target, reference)]
    x, y, side, _ = scene.box
    rows, columns = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    scale, shift = side / 96, (side / 96 - 1) / 2
    here = torch.stack([columns * scale + x + shift, rows * scale + y + shift]).float()
    there = torch.stack(
        [(columns + flow[0]) * scale + x + shift, (rows + flow[1]) * scale + y + shift]
    ).float()  # fmt: skip
    still = torch.stack([columns, rows]).float()
    on = [warp_by(m, (p - still)[None])[0][:, held] for m, p in zip(at, (here, there), strict=True)]
    # 0.02 half sides of the print is what the search calls met; interpolation adds a little
    assert (on[0] - on[1]).abs().max() < 0.03


def test_prints_know_their_box_and_flow(assets: Path) -> None:
    found = list(draw_scenes(open_scenes(assets, 3, (0.3, 1.0)), 12))
    printed = [scene for scene in found if scene.maps is not None]
    clips = [scene for scene in found if scene.maps is None]
    assert printed
    assert clips
    for scene in printed:
        assert scene.reference_box is not None
        assert scene.maps is not None
        x, y, w, h = scene.reference_box
        rows, columns = np.nonzero(np.abs(scene.maps[1]).max(-1) <= 0.9)
        # the print's inner part lies inside the box that a user would draw around it
        assert rows.min() >= y - 3
        assert rows.max() <= y + h + 3
        assert columns.min() >= x - 3
        assert columns.max() <= x + w + 3
        outside = ~scene.mask
        assert np.array_equal(scene.draft[outside], scene.target[outside])
    assert all(scene.reference_box is None for scene in clips)


def test_the_aligner_sees_the_masks_crop(assets: Path) -> None:
    scene = next(s for s in draw_scenes(open_scenes(assets, 5, (0.3, 1.0)), 8) if s.reference_box)
    draft, reference, mask, box = crop_inputs(
        scene.draft, scene.reference, scene.mask, scene.reference_box, scene.found.matrix, 48
    )
    assert torch.equal(draft, resize_crop(to_tensor(cut(scene.draft, scene.box)), 48).clamp(-1, 1))
    assert reference.shape == (3, 48, 48)
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    share = cut(scene.mask.astype(np.uint8)[..., None], scene.box).mean()
    assert mask.mean().item() == pytest.approx(share, abs=0.08)
    assert set(box.unique().tolist()) <= {0.0, 1.0}


def test_the_reference_box_follows_the_pose() -> None:
    scene = _scene(np.array([[1, 0, 10.0], [0, 1, 0.0], [0, 0, 1]]), None)
    *_, box = crop_inputs(scene.draft, scene.reference, scene.mask, (16, 16, 64, 64), scene.found.matrix, scene.box[2])
    # draft px = reference px - 10 in x, and the crop begins at the box's corner
    x, y, side, _ = scene.box
    expected = torch.zeros(side, side)
    expected[max(16 - y, 0) : 80 - y, max(6 - x, 0) : 70 - x] = 1
    assert torch.equal(box[0], expected)


def test_drafts_are_right_outside_the_mask(assets: Path) -> None:
    opened = partial(open_scenes, assets, strength=(0.3, 1.0))
    batch = stream(SceneQuadruplets(opened, 32, "view", None, 7), 0)(6)
    assert batch.draft.shape == batch.reference.shape == batch.target.shape == (6, 3, 32, 32)
    assert batch.mask.shape == (6, 1, 32, 32)
    assert set(batch.replaced.tolist()) == {0.0, 1.0}
    gap = (batch.draft - batch.target).abs().mean(1, keepdim=True)
    eroded = -torch.nn.functional.max_pool2d(batch.mask, 5, 1, 2) + 1  # reduction mixes pixels across the edge
    assert (gap * eroded).max() < 0.1
    assert (gap * batch.mask).mean() > 5 * (gap * eroded).mean()


def test_a_worker_draws_the_same(assets: Path) -> None:
    opened = partial(open_scenes, assets, strength=(0.3, 1.0))
    alone, worked = (stream(SceneQuadruplets(opened, 32, "view", None, 7), workers)(3) for workers in (0, 1))
    assert torch.equal(alone.draft, worked.draft)
    assert torch.equal(alone.reference, worked.reference)
