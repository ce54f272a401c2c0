"""Contestants that are a diffusers pipeline: which picture goes into which slot, and how each is asked.

`flux-kontext`, `flux-kontext-inpaint`, `flux2-klein`, `qwen-image-edit`, `sd-inpaint`, `sdxl-ip-adapter`. What they
share, options included, is in :mod:`refbench.adapters.diffusion`. Where a card has a download size or graphics memory,
it is computed from published parameter counts at two bytes each, not measured; docs/adapters.md names the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from refbench.adapters.diffusion import DiffusersEditor, located
from refbench.adapters.editing import Work, beside, mask_picture
from refbench.errors import RefbenchError
from refbench.images import Image
from refbench.schema import AdapterCard

REQUIRES = ("torch", "diffusers", "transformers", "accelerate")
FLUX_DEV = "FLUX.1 [dev] Non-Commercial License"


def picture(image: Image) -> Any:
    """An array (H, W, 3) as the PIL image that pipelines take."""
    from PIL import Image as PILImage

    return PILImage.fromarray(image)


def _flat(values: Sequence[Any]) -> Any:
    """One sample's value itself, several as the list that the pipelines take for a batch."""
    return values[0] if len(values) == 1 else list(values)


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
            "image": _flat([picture(beside(work.draft, work.reference)) for work in works]),
            "prompt": _flat([self.prompt(work) for work in works]),
            "height": height,
            "width": width,
            "max_area": height * width,
            "guidance_scale": self.guidance,
            "_auto_resize": False,
        }


class FluxKontextInpaint(DiffusersEditor):
    """FLUX.1 Kontext repainting the mask, with the reference as its picture to look at.

    Args:
        strength: share of the noise schedule that is run; 1 starts from pure noise inside the mask.
        **options: as :class:`DiffusersEditor`.
    """

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

    def __init__(self, *, strength: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.strength = share("strength", strength)

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """The draft in `image`, the reference in `image_reference`, the mask in `mask_image`."""
        return {
            "image": _flat([picture(work.draft) for work in works]),
            "image_reference": _flat([picture(work.reference) for work in works]),
            "mask_image": _flat([picture(mask_picture(work.mask)).convert("L") for work in works]),
            "prompt": _flat([self.prompt(work) for work in works]),
            "height": works[0].size[0],
            "width": works[0].size[1],
            "strength": self.strength,
            "guidance_scale": self.guidance,
            "_auto_resize": False,
        }


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


class StableDiffusionInpaint(DiffusersEditor):
    """Stable Diffusion 1.5 inpainting: no reference; what words alone can do.

    Args:
        strength: share of the noise schedule that is run.
        **options: as :class:`DiffusersEditor`.
    """

    card = AdapterCard(
        name="sd-inpaint",
        summary="Stable Diffusion 1.5 repaints the mask from the prompt alone; no reference.",
        licence="CreativeML OpenRAIL-M", open_weights=True, paper="https://arxiv.org/abs/2112.10752",
        weights="stable-diffusion-v1-5/stable-diffusion-inpainting", parameters=1_066_000_000, vram_gb=2.2,
        needs_reference=False, requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "StableDiffusionInpaintPipeline"
    repository = "stable-diffusion-v1-5/stable-diffusion-inpainting"
    default_steps = 50
    default_guidance = 7.5
    default_size = 512
    multiple = 8
    batches = True

    def __init__(self, *, strength: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.strength = share("strength", strength)

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """The draft in `image`, the mask in `mask_image`."""
        return {
            "image": _flat([picture(work.draft) for work in works]),
            "mask_image": _flat([picture(mask_picture(work.mask)).convert("L") for work in works]),
            "prompt": _flat([self.prompt(work) for work in works]),
            "height": works[0].size[0],
            "width": works[0].size[1],
            "strength": self.strength,
            "guidance_scale": self.guidance,
        }


class SDXLIPAdapter(DiffusersEditor):
    """SDXL inpainting with the reference as an image prompt, through IP-Adapter; one sample at a time.

    Args:
        ip_adapter: local folder, or hub id, of the IP-Adapter.
        ip_adapter_file: its weights in the folder, with the folder they lie in.
        ip_adapter_encoder: folder of its image encoder.
        ip_adapter_scale: weight of the reference beside the words, 0 to 1.
        strength: share of the noise schedule that is run; the published weights ask for less than 1.
        **options: as :class:`DiffusersEditor`.
    """

    card = AdapterCard(
        name="sdxl-ip-adapter",
        summary="SDXL repaints the mask with the reference as an image prompt through IP-Adapter Plus.",
        licence="CreativeML OpenRAIL++-M, IP-Adapter Apache-2.0", open_weights=True,
        paper="https://arxiv.org/abs/2308.06721",
        weights="diffusers/stable-diffusion-xl-1.0-inpainting-0.1 + h94/IP-Adapter", parameters=4_525_000_000,
        vram_gb=9.1, requires=REQUIRES,
    )  # fmt: skip
    pipeline_class = "StableDiffusionXLInpaintPipeline"
    repository = "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"
    default_steps = 20
    default_guidance = 8.0
    multiple = 8
    adapter_repository: ClassVar[str] = "h94/IP-Adapter"
    adapter_file: ClassVar[str] = "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors"
    adapter_encoder: ClassVar[str] = "models/image_encoder"
    extra_files = ((adapter_repository, adapter_file, f"{adapter_encoder}/*"),)

    def __init__(
        self,
        *,
        ip_adapter: str | None = None,
        ip_adapter_file: str | None = None,
        ip_adapter_encoder: str | None = None,
        ip_adapter_scale: float = 0.6,
        strength: float = 0.99,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.ip_adapter = str(ip_adapter or self.adapter_repository)
        self.ip_adapter_file = ip_adapter_file or self.adapter_file
        self.ip_adapter_encoder = ip_adapter_encoder or self.adapter_encoder
        self.ip_adapter_scale = share("ip_adapter_scale", ip_adapter_scale)
        self.strength = share("strength", strength)

    def add_parts(self, pipeline: Any) -> None:
        """Load the IP-Adapter and its image encoder."""
        files = (self.ip_adapter_file, f"{self.ip_adapter_encoder}/*")
        folder = located(self.ip_adapter, self.ip_adapter_file, None, *files)
        subfolder, _, name = self.ip_adapter_file.rpartition("/")
        pipeline.load_ip_adapter(
            folder, subfolder=subfolder, weight_name=name, image_encoder_folder=self.ip_adapter_encoder,
            local_files_only=True,
        )  # fmt: skip
        pipeline.set_ip_adapter_scale(self.ip_adapter_scale)

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """The draft in `image`, the mask in `mask_image`, the reference in `ip_adapter_image`."""
        (work,) = works
        return {
            "image": picture(work.draft),
            "mask_image": picture(mask_picture(work.mask)).convert("L"),
            "ip_adapter_image": picture(work.reference),
            "prompt": self.prompt(work),
            "height": work.size[0],
            "width": work.size[1],
            "strength": self.strength,
            "guidance_scale": self.guidance,
        }


def share(name: str, value: Any) -> float:
    """An option between 0 (excluded) and 1.

    Raises:
        RefbenchError: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise RefbenchError(f"Expected the option {name} to be above 0 and at most 1, but it is '{value}'.")
    return float(value)
