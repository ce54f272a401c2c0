"""Model `warp-blend`: lay the reference over the draft by geometry, match its light, blend it into the mask.

The strongest classical answer. How the reference lies is found by :mod:`refbench.registration.hypotheses` (keypoints,
boxes, figures, template search) and :mod:`refbench.registration.pose` (ECC); :mod:`refbench.registration.light`
matches light and cuts the figure out of the reference's background (GrabCut), and
:mod:`refbench.registration.placement` puts them together. Deterministic.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from refbench.images import Image
from refbench.registration.placement import lay, place, told
from refbench.schema import AdapterCard, Inputs


class WarpBlend:
    """Warps, relights and blends the reference into the mask."""

    card = AdapterCard(
        name="warp-blend",
        summary="Keypoints, RANSAC homography and ECC polish lay the reference over the draft; "
        "its light is matched in Lab, its background cut away, and it is blended into the mask.",
        licence="Apache-2.0",
        paper="https://doi.org/10.1145/882262.882269",
        requires=("cv2",),
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The refined image, and how it was made (:func:`refbench.registration.placement.told`)."""
        asked = inputs.draft, inputs.reference, inputs.mask, inputs.reference_box
        found = place(*asked, inputs.prompt)
        image = inputs.draft.copy()
        if found.confident:
            done = lay(*asked, found.matrix, same_scene=found.pose.same_scene, other=found.other)
            image, found = done.picture, replace(found, figure=done.figure)
        return image, told(inputs.draft, image, found)
