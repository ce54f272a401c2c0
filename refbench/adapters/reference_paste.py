"""Model `reference-paste`: the trivial answer that pastes the reference hard into the mask."""

from __future__ import annotations

from refbench.baselines import paste_reference
from refbench.images import Image
from refbench.schema import AdapterCard, Inputs


class ReferencePaste:
    """Pastes the reference hard into the mask."""

    card = AdapterCard(
        name="reference-paste",
        summary="Resizes the reference (its box, where known) into the mask's box and pastes it hard.",
        licence="Apache-2.0",
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft with the reference pasted into the mask; see :func:`refbench.baselines.paste_reference`."""
        return paste_reference(inputs.draft, inputs.reference, inputs.mask, inputs.reference_box)
