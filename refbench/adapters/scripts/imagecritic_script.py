# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.7.1", "torchvision==0.22.1", "diffusers>=0.35,<0.37", "transformers>=4.51,<5", "accelerate>=1.6,<2",
#     "safetensors", "sentencepiece", "protobuf", "einops", "open_clip_torch", "huggingface-hub<1", "numpy", "pillow",
#     "opencv-python-headless",
# ]
# ///
"""Model `imagecritic`: ImageCritic, FLUX.1 Kontext with a detail encoder, out of its authors' checkout.

Written against app.py of github.com/HVision-NKU/ImageCritic at c54c71d: the reference is its picture A, the draft its
picture B, both cropped, and the prompt names IMG1 and IMG2 as the authors do. Their requirements have no versions.
It is CC-BY-NC 4.0: for non-commercial use only, which must be accepted once.
"""

from __future__ import annotations

from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, picture
from refbench.adapters.scripts.driver import Editor, checkout, dtype_on, generator, serve, weights
from refbench.images import resize

CARD = {
    "name": "imagecritic",
    "summary": "ImageCritic corrects the draft's crop by the reference's, with FLUX.1 Kontext and a detail encoder.",
    "licence": "CC-BY-NC-4.0",
    "open_weights": True,
    "paper": "https://ouyangziheng.github.io/ImageCritic-Page/",
    "weights": "ziheng1234/ImageCritic + black-forest-labs/FLUX.1-Kontext-dev",
    "vram_gb": 34,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/HVision-NKU/ImageCritic",
        "variable": "IMAGECRITIC_CHECKOUT",
        "files": ["src/kontext_custom_pipeline.py", "src/detail_encoder.py", "src/lora_helper.py"],
    },
    "weights": {
        "black-forest-labs/FLUX.1-Kontext-dev": "model_index.json",
        "ziheng1234/ImageCritic": "detail_encoder.safetensors",
    },
    "accept": "CC-BY-NC-4.0",
    "terms": "Its code and weights may be used for non-commercial purposes only, with attribution "
    "(https://creativecommons.org/licenses/by-nc/4.0/).",
}
OPTIONS = {
    "focus": True, "steps": 28, "guidance": 3.5, "object": "product", "base": "black-forest-labs/FLUX.1-Kontext-dev",
    "model": "ziheng1234/ImageCritic",
}  # fmt: skip


def load(device: str, options: dict[str, Any]) -> Editor:
    """Kontext with the detail encoder and the LoRA, put together as in the authors' page."""
    checkout(NEEDS, options)
    base = weights(options["base"], "model_index.json")
    files = ("detail_encoder.safetensors", "lora.safetensors")
    found = {weights(options["model"], file, *files) for file in files}
    folder = min(found)

    import torch
    from safetensors.torch import load_file
    from src.detail_encoder import DetailEncoder  # type: ignore[import-not-found]
    from src.kontext_custom_pipeline import (  # type: ignore[import-not-found]
        FluxKontextPipelineWithPhotoEncoderAddTokens,
    )
    from src.lora_helper import set_single_lora  # type: ignore[import-not-found]

    dtype = dtype_on(device)
    pipeline = FluxKontextPipelineWithPhotoEncoderAddTokens.from_pretrained(base, torch_dtype=dtype)
    pipeline.to(device)
    learned = load_file(f"{folder}/detail_encoder.safetensors")
    encoder = DetailEncoder().to(dtype=dtype, device=device)
    with torch.no_grad():  # the file holds what is added to the encoder's own weights
        for name, parameter in encoder.named_parameters():
            if name in learned:
                parameter.add_(learned[name].to(parameter.device))
    pipeline.detail_encoder = encoder
    set_single_lora(pipeline.transformer, f"{folder}/lora.safetensors", lora_weights=[1.0])
    what = options["object"]

    def edit(work: Work) -> Any:
        return pipeline(
            image_A=picture(resize(work.reference, work.size)),
            image_B=picture(work.draft),
            prompt=f"use the {what} in IMG1 as a reference to refine, replace, enhance the {what} in IMG2",
            height=work.size[0],
            width=work.size[1],
            num_inference_steps=options["steps"],
            guidance_scale=options["guidance"],
            generator=generator(work.inputs.seed, device.split(":")[0]),
        ).images[0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
