"""Model `place-blend`: what OmniRefiner does before its network, by itself.

Placement and compositing of :mod:`refbench.registration` with all that OmniRefiner uses and `warp-blend` does not:
a network (XFeat and LighterGlue) matches keypoints as well, outlines have the last word on where a print lies, a
print that is exchanged keeps its panel's light, and what the draft shows already right stays. Deterministic.
What OmniRefiner's network adds is its distance from this model.
"""

from __future__ import annotations

from typing import Any

from refbench.images import Image
from refbench.registration.placement import compose, told
from refbench.schema import AdapterCard, Inputs


class PlaceBlend:
    """Places the reference, lights it, and exchanges what differs from it inside the mask."""

    card = AdapterCard(
        name="place-blend",
        summary="OmniRefiner without its network: the reference placed by keypoints, XFeat, boxes and outlines, its "
        "light matched, laid in where it shows something else than the draft.",
        licence="Apache-2.0",
        requires=("cv2",),
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The refined image, and how it was made (:func:`refbench.registration.placement.told`)."""
        image, found = compose(inputs.draft, inputs.reference, inputs.mask, inputs.reference_box, inputs.prompt)
        return image, told(inputs.draft, image, found)
