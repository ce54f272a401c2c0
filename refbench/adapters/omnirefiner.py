"""Models `omnirefiner`, `omnirefiner-sft` and `omnirefiner-base`: this package's own refiner at three stages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.schema import AdapterCard, Inputs

if TYPE_CHECKING:
    from refbench.omnirefiner.method.refiner import Refiner


def _card(name: str, summary: str, *, reference: bool, parameters: int) -> AdapterCard:
    return AdapterCard(
        name=name, summary=summary, licence="Apache-2.0", open_weights=True, paper="https://arxiv.org/abs/2511.19990",
        weights="in the package, refbench/omnirefiner/checkpoints", needs_reference=reference,
        parameters=parameters, download_mb=0.0, requires=("torch", "cv2"),
    )  # fmt: skip


class OmniRefiner:
    """Stages 1 and 2 on the base editor.

    Args:
        device: where the model runs.
        checkpoint: folder of another checkpoint; by default the shipped one.
        steps: Euler steps; by default the checkpoint's.
    """

    variant = "omnirefiner"
    card = _card(
        "omnirefiner",
        "Dual-input diffusion transformer, LoRA fine-tuned and then refined by GRPO; tiny.",
        reference=True,
        parameters=5_654_428,
    )

    def __init__(self, *, device: str = "cpu", checkpoint: str | None = None, steps: int | None = None) -> None:
        if steps is not None and steps < 1:
            raise RefbenchError(f"Expected the option steps to be a whole number of at least 1, but it is '{steps}'.")
        self.device, self.checkpoint, self.steps = device, checkpoint, steps
        self.pipeline: Refiner | None = None

    def setup(self) -> None:
        """Load the weights."""
        from refbench.omnirefiner.refine import load_refiner

        self.pipeline = load_refiner(self.variant, checkpoint=self.checkpoint, device=self.device)

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The refined picture of one sample, and how it was made (:func:`refbench.registration.laying.told`)."""
        return self.refine_batch([inputs])[0]

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[tuple[Image, dict[str, Any]]]:
        """The same of several samples at once."""
        from refbench.omnirefiner.refine import refine_many

        if self.pipeline is None:
            self.setup()
        assert self.pipeline is not None
        questions = [(i.draft, i.reference, i.mask, i.reference_box, i.prompt, i.seed) for i in batch]
        return refine_many(questions, self.pipeline, steps=self.steps, use_reference=self.card.needs_reference)


class OmniRefinerSFT(OmniRefiner):
    """Stage 1 alone: the supervised LoRA adapter on the base editor."""

    variant = "omnirefiner-sft"
    card = _card(
        "omnirefiner-sft",
        "Dual-input diffusion transformer after stage 1 (supervised LoRA); tiny.",
        reference=True,
        parameters=5_466_012,
    )


class OmniRefinerBase(OmniRefiner):
    """The base editor: it sees the draft and the mask, and no reference."""

    variant = "omnirefiner-base"
    card = _card(
        "omnirefiner-base",
        "The single-image base editor of omnirefiner, without the reference; tiny.",
        reference=False,
        parameters=4_358_448,
    )
