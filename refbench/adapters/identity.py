"""Model `identity`: the draft, untouched. It is 0 in texture, alignment and score by definition."""

from __future__ import annotations

from collections.abc import Sequence

from refbench.images import Image
from refbench.schema import AdapterCard, Inputs


class Identity:
    """Returns the draft."""

    card = AdapterCard(
        name="identity",
        summary="Returns the draft as it is; the zero of texture fidelity and reference alignment.",
        licence="Apache-2.0",
        needs_reference=False,
    )

    def __init__(self, *, device: str = "cpu") -> None:
        self.device = device

    def refine(self, inputs: Inputs, /) -> Image:
        """The draft."""
        return inputs.draft

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Image]:
        """The drafts."""
        return [inputs.draft for inputs in batch]
