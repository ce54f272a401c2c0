"""Controls of OmniRefiner: another sample's reference, and a constant in place of stage 2.

    refbench eval --model benchmarks/controls.py:Shuffled
    refbench eval --model benchmarks/controls.py:Constant -o state=OUT/constant/average.safetensors

A model that does as well with a shuffled reference has not learned the task, and a stage 2 that does no better than a
constant (`refbench train stage2 --constant`) has learned a constant. Without a reference the draft stays: that control
is `identity`. The control without a network is `place-blend`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from refbench.adapters.omnirefiner import OmniRefiner, OmniRefinerSFT
from refbench.schema import AdapterCard, Inputs


def _card(name: str, summary: str) -> AdapterCard:
    return OmniRefiner.card.model_copy(update={"name": name, "summary": summary})


class Shuffled(OmniRefiner):
    """The reference, with its box, of the sample that was asked for before this one; the first has its own.

    Samples come task after task, so it is nearly always one of the same task. Evaluate with one worker and in one go.
    """

    card = _card("omnirefiner-shuffled", "Control: OmniRefiner with another sample's reference.")
    before: Inputs | None = None

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Any]:
        """The pictures refined by wrong references."""
        asked = []
        for inputs in batch:
            shown, self.before = self.before or inputs, inputs
            asked.append(dataclasses.replace(inputs, reference=shown.reference, reference_box=shown.reference_box))
        return super().refine_batch(asked)


class Constant(OmniRefinerSFT):
    """Stage 1 and eight numbers that are added everywhere: no stage 2.

    Args:
        state: ``average.safetensors`` of ``refbench train stage2 --constant``.
    """

    card = _card("omnirefiner-constant", "Control: stage 1 with a constant in place of stage 2.")

    def __init__(self, *, state: str, checkpoint: str | None = None) -> None:
        super().__init__(checkpoint=checkpoint)
        self.state = state

    def setup(self) -> None:
        """Load stage 1 and put the constant into its last layer's bias."""
        from safetensors.torch import load_file

        from refbench.omnirefiner.retouch.refiner import Retoucher

        super().setup()
        assert isinstance(self.pipeline, Retoucher)
        bias = self.pipeline.network.head.bias
        assert bias is not None
        with torch.no_grad():
            bias += load_file(self.state)["shift"].float().view(-1)
