"""Models `omnirefiner` and `omnirefiner-sft`: this package's own refiner, after its last stage and after stage 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.schema import AdapterCard, Inputs

if TYPE_CHECKING:
    from refbench.omnirefiner.method.refiner import Refiner
    from refbench.omnirefiner.retouch.refiner import Retoucher


def _card(name: str, summary: str) -> AdapterCard:
    return AdapterCard(
        name=name, summary=summary, licence="Apache-2.0", open_weights=True, paper="https://arxiv.org/abs/2511.19990",
        weights="in the package, refbench/omnirefiner/checkpoints", parameters=5_033_192, download_mb=0.0,
        requires=("torch", "cv2"),
    )  # fmt: skip


class OmniRefiner:
    """The reference placed by rule (``place-blend``), and retouched by a U-Net after the last stage that there is.

    Args:
        device: where the model runs.
        checkpoint: folder or hub id of another checkpoint, of the U-Net or of the paper's diffusion transformer; by
            default the shipped U-Net.
        steps: Euler steps of a diffusion transformer; by default the checkpoint's.
    """

    variant = "omnirefiner"
    card = _card(
        "omnirefiner",
        "The reference placed by rule and retouched by a U-Net (gains of detail, light, motion; stage 1); with "
        "checkpoint= the paper's diffusion transformer.",
    )

    def __init__(self, *, device: str = "cpu", checkpoint: str | None = None, steps: int | None = None) -> None:
        if steps is not None and steps < 1:
            raise RefbenchError(f"Expected the option steps to be a whole number of at least 1, but it is '{steps}'.")
        self.device, self.checkpoint, self.steps = device, checkpoint, steps
        self.pipeline: Retoucher | Refiner | None = None

    def setup(self) -> None:
        """Load the weights."""
        from refbench.omnirefiner.refine import load_refiner

        self.pipeline = load_refiner(self.variant, checkpoint=self.checkpoint, device=self.device)

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The refined picture of one sample, and how it was made (:func:`refbench.registration.placement.told`)."""
        return self.refine_batch([inputs])[0]

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[tuple[Image, dict[str, Any]]]:
        """The same of several samples at once."""
        from refbench.omnirefiner.refine import refine_many

        if self.pipeline is None:
            self.setup()
        assert self.pipeline is not None
        questions = [(i.draft, i.reference, i.mask, i.reference_box, i.prompt, i.seed) for i in batch]
        return refine_many(questions, self.pipeline, steps=self.steps)


class OmniRefinerSFT(OmniRefiner):
    """The same after stage 1 alone. The shipped weights have no other stage."""

    variant = "omnirefiner-sft"
    card = _card(
        "omnirefiner-sft", "Stage 1 alone, for checkpoints of omnirefiner with a stage 2; the shipped has none."
    )
