"""Models that are a diffusers pipeline: which picture goes into which slot, and how each is asked.

`flux-kontext`, `flux-kontext-inpaint`, `flux2-klein`, `flux2-klein-inpaint`, `qwen-image-edit`, `qwen-image-2.1`; the
Stable Diffusion family is in :mod:`refbench.adapters.stable_diffusion`, and what all share, options included, in
:mod:`refbench.adapters.diffusion`. Where a card has a download size or graphics memory, it is computed from published
parameter counts at two bytes each, not measured; docs/running-models.md names the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refbench.adapters.diffusion import REQUIRES, DiffusersEditor, InpaintEditor, flat
from refbench.adapters.editing import Work, beside, mask_picture, picture
from refbench.schema import AdapterCard

FLUX_DEV = "FLUX.1 [dev] Non-Commercial License"


class FluxKontext(DiffusersEditor):
    """FLUX.1 Kontext with draft and reference on one canvas.

    Its pipeline takes one picture (a list is a batch), but its answer may have another size: it sees the draft with
    the reference to its right, and answers at the draft's size, so that the answer's positions are the draft's.
    """

    card = AdapterCard(
        name="flux-kontext",
        summary="FLUX.1 Kontext edits the draft with the reference beside it on one canvas; it does not see the mask.",
        licence=FLUX_DEV, open_weights=True, paper="https://arxiv.org/abs/2506.15742",
        weights="black-forest-labs/FLUX.1-Kontext-dev", parameters=16_860_000_000, download_mb=33_700, vram_gb=34,
        requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "FluxKontextPipeline"
    repository = "black-forest-labs/FLUX.1-Kontext-dev"
    default_steps = 28
    default_guidance = 2.5
    batches = True
    default_instruction = (
        "{prompt} The left part of the picture is to be edited, the right part is the reference. Give only the left "
        "part, unchanged in everything else."
    )

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """The canvas in `image`; sizes are passed through, without the pipeline's own buckets."""
        height, width = works[0].size
        return {
            "image": flat([picture(beside(work.draft, work.reference)) for work in works]),
            "prompt": flat([self.prompt(work) for work in works]),
            "height": height,
            "width": width,
            "max_area": height * width,
            "guidance_scale": self.guidance,
            "_auto_resize": False,
        }


class FluxKontextInpaint(InpaintEditor):
    """FLUX.1 Kontext repainting the mask, with the reference as its picture to look at."""

    card = AdapterCard(
        name="flux-kontext-inpaint",
        summary="FLUX.1 Kontext repaints the mask while it looks at the reference.",
        licence=FLUX_DEV, open_weights=True, paper="https://arxiv.org/abs/2506.15742",
        weights="black-forest-labs/FLUX.1-Kontext-dev", parameters=16_860_000_000, download_mb=33_700, vram_gb=34,
        requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "FluxKontextInpaintPipeline"
    repository = "black-forest-labs/FLUX.1-Kontext-dev"
    default_steps = 28
    default_guidance = 2.5
    batches = True

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """As :class:`InpaintEditor`, the reference in `image_reference`."""
        references = flat([picture(work.reference) for work in works])
        return {**super().arguments(works), "image_reference": references, "_auto_resize": False}


class Flux2Klein(DiffusersEditor):
    """FLUX.2 [klein], four steps, with draft and reference as its two pictures; one sample at a time."""

    card = AdapterCard(
        name="flux2-klein",
        summary="FLUX.2 [klein] 4B edits the first picture, the draft, by the second, the reference; no mask.",
        licence="Apache-2.0", open_weights=True, paper=None, weights="black-forest-labs/FLUX.2-klein-4B",
        parameters=8_000_000_000, download_mb=16_000, vram_gb=16, requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "Flux2KleinPipeline"
    repository = "black-forest-labs/FLUX.2-klein-4B"
    default_steps = 4
    default_guidance = 1.0
    default_instruction = (
        "{prompt} Image 1 is the picture to edit, image 2 is the reference. Keep everything else in image 1 as it is."
    )

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """Draft and reference, in this order, in `image`: a list is several pictures of one sample here."""
        (work,) = works
        return {
            "image": [picture(work.draft), picture(work.reference)],
            "prompt": self.prompt(work),
            "height": work.size[0],
            "width": work.size[1],
            "guidance_scale": self.guidance,
        }


class Flux2KleinInpaint(InpaintEditor):
    """FLUX.2 [klein] repainting the mask, with the reference as its picture to look at; one sample at a time."""

    card = Flux2Klein.card.model_copy(
        update={
            "name": "flux2-klein-inpaint",
            "summary": "FLUX.2 [klein] 4B repaints the mask while it looks at the draft and at the reference.",
        }
    )
    pipeline_class = "Flux2KleinInpaintPipeline"
    repository = Flux2Klein.repository
    default_steps = Flux2Klein.default_steps
    default_guidance = Flux2Klein.default_guidance

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """As :class:`InpaintEditor`, the reference in `image_reference`."""
        (work,) = works
        return {**super().arguments(works), "image_reference": picture(work.reference)}


class QwenImageEdit(DiffusersEditor):
    """Qwen-Image-Edit 2511 (or 2509, by the option model) with draft, reference and mask as its three pictures."""

    card = AdapterCard(
        name="qwen-image-edit",
        summary="Qwen-Image-Edit-2511 edits the draft by the reference, with the mask as a third picture.",
        licence="Apache-2.0", open_weights=True, paper="https://arxiv.org/abs/2508.02324",
        weights="Qwen/Qwen-Image-Edit-2511", parameters=28_700_000_000, download_mb=57_400, vram_gb=58,
        requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "QwenImageEditPlusPipeline"
    repository = "Qwen/Qwen-Image-Edit-2511"
    default_steps = 40
    default_guidance = 4.0
    default_instruction = (
        "{prompt} Picture 1 is to be edited, only where Picture 3 is white. Picture 2 is the reference. Keep "
        "everything else in Picture 1 as it is."
    )

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """Draft, reference and mask, in this order, in `image`; guidance is classifier-free, against " "."""
        (work,) = works
        return {
            "image": [picture(work.draft), picture(work.reference), picture(mask_picture(work.mask))],
            "prompt": self.prompt(work),
            "negative_prompt": " ",
            "true_cfg_scale": self.guidance,
            "height": work.size[0],
            "width": work.size[1],
        }


class QwenImage21(DiffusersEditor):
    """Qwen-Image-2.1 with draft, reference and mask as three of its up to ten pictures; one sample at a time."""

    card = AdapterCard(
        name="qwen-image-2.1",
        summary="Qwen-Image-2.1 edits the draft by the reference, with the mask as a third picture.",
        licence="Qwen Research License (non-commercial)", open_weights=True, paper=None, weights="Qwen/Qwen-Image-2.1",
        parameters=15_000_000_000, download_mb=30_000, vram_gb=30, requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "QwenImage21Pipeline"
    repository = "Qwen/Qwen-Image-2.1"
    default_steps = 40
    default_guidance = 1.0
    multiple = 32
    default_instruction = (
        "{prompt} Edit <image1>, only where <image3> is white. <image2> is the reference. Keep everything else in "
        "<image1> as it is."
    )

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """Draft, reference and mask, in this order, in `image`; guidance above 1 is classifier-free, against " "."""
        (work,) = works
        return {
            "image": [picture(work.draft), picture(work.reference), picture(mask_picture(work.mask))],
            "prompt": self.prompt(work),
            "negative_prompt": " " if self.guidance > 1 else None,
            "true_cfg_scale": self.guidance,
            "output_resolution": self.options.size,
            "height": work.size[0],
            "width": work.size[1],
        }
