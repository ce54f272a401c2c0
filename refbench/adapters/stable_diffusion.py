"""Models of the Stable Diffusion family: `sd-inpaint`, and `sdxl-ip-adapter`, whose reference is an image prompt.

What they share with the other editors is in :mod:`refbench.adapters.diffusion`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from refbench.adapters.diffusion import REQUIRES, InpaintEditor, located, share
from refbench.adapters.editing import Work, picture
from refbench.schema import AdapterCard


class StableDiffusionInpaint(InpaintEditor):
    """Stable Diffusion 1.5 inpainting: no reference; what words alone can do."""

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


class SDXLIPAdapter(InpaintEditor):
    """SDXL inpainting with the reference as an image prompt, through IP-Adapter; one sample at a time.

    Args:
        ip_adapter: local folder, or hub id, of the IP-Adapter.
        ip_adapter_file: its weights in the folder, with the folder they lie in.
        ip_adapter_encoder: folder of its image encoder.
        ip_adapter_scale: weight of the reference beside the words, 0 to 1.
        strength: share of the noise schedule that is run; the published weights ask for less than 1.
        **options: as :class:`InpaintEditor`.
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
        super().__init__(strength=strength, **options)
        self.ip_adapter = str(ip_adapter or self.adapter_repository)
        self.ip_adapter_file = ip_adapter_file or self.adapter_file
        self.ip_adapter_encoder = ip_adapter_encoder or self.adapter_encoder
        self.ip_adapter_scale = share("ip_adapter_scale", ip_adapter_scale)

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
        """As :class:`InpaintEditor`, the reference in `ip_adapter_image`."""
        (work,) = works
        return {**super().arguments(works), "ip_adapter_image": picture(work.reference)}
