"""Controls of OmniRefiner: another sample's reference, none, the laid reference with no network behind it, and a
constant in place of stage 2.

    refbench eval --model benchmarks/controls.py:Shuffled      # also :Absent, :Laid and :Handset

A model that does as well with a shuffled reference has not learned the task; one that does no better than the laid
reference is not needed; and a stage 2 that does no better than a constant has learned a constant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from refbench.adapters.omnirefiner import OmniRefiner, OmniRefinerSFT
from refbench.crops import crop_box, keep_outside
from refbench.images import Image
from refbench.schema import AdapterCard, Inputs

if TYPE_CHECKING:
    from torch import Tensor


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


class Absent(OmniRefiner):
    """The same weights, the reference stream left out."""

    card = _card("omnirefiner-absent", "Control: OmniRefiner without a reference.")

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Any]:
        """The pictures refined without their references."""
        from refbench.omnirefiner.refine import refine_many

        if self.pipeline is None:
            self.setup()
        assert self.pipeline is not None
        questions = [(i.draft, i.reference, i.mask, i.reference_box, i.prompt, i.seed) for i in batch]
        return refine_many(questions, self.pipeline, steps=self.steps, use_reference=False)


class Handset(OmniRefinerSFT):
    """Stage 1 with its gates taken seven times as large, the factor chosen on the validation suite: no stage 2."""

    card = _card("omnirefiner-handset", "Control: stage 1 with its gates opened by a constant in place of stage 2.")

    def setup(self) -> None:
        """Load stage 1 with another head."""
        from refbench.omnirefiner.tiny.gates import GateHead

        class Bold(GateHead):
            """Gates seven times as large."""

            def hold(self, change: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
                return super().hold(change, 7 * gate)

        super().setup()
        assert self.pipeline is not None
        self.pipeline.head = Bold()


class Laid(OmniRefiner):
    """What the transformer is shown: the reference laid, aligned and lit, and nothing more."""

    card = _card("omnirefiner-laid", "Control: the laid and aligned reference, without the transformer.")

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Any]:
        """The laid references inside the masks."""
        return [self._laid(inputs) for inputs in batch]

    def _laid(self, inputs: Inputs) -> Image:
        from refbench.omnirefiner.focus.crop import show_reference

        if self.pipeline is None:
            self.setup()
        assert self.pipeline is not None
        box = crop_box(inputs.mask)
        shown, _ = show_reference(
            inputs.draft, inputs.reference, inputs.mask, box, reference_box=inputs.reference_box, prompt=inputs.prompt,
            laying="blend", aligner=self.pipeline.aligner,
        )  # fmt: skip
        x, y, side, _ = box
        height, width = inputs.draft.shape[:2]
        top, left, bottom, right = max(y, 0), max(x, 0), min(y + side, height), min(x + side, width)
        out = inputs.draft.copy()
        out[top:bottom, left:right] = shown[top - y : bottom - y, left - x : right - x]
        return keep_outside(inputs.draft, out, inputs.mask)
