# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.4.1", "torchvision==0.19.1", "diffusers==0.32.0", "transformers>=4.45,<4.50", "peft==0.15.0",
#     "accelerate==1.1.1", "numpy==1.26.4", "protobuf", "sentencepiece", "opencv-python-headless<4.12", "pillow",
# ]
# ///
"""Model `hifi-inpaint`: HiFi-Inpaint, inpainting by a product picture on FLUX.1-dev, out of its authors' checkout.

Written against scripts/infer_hard_case.py (07d7e84), src/flux/generate.py and src/flux/condition.py (4f4187d) of
github.com/Correr-Zhou/HiFi-Inpaint. It sees the draft with the mask's inside black, so nothing of the wrong detail, the
reference, and the reference's high frequencies; `paste_back` is on unless turned off. Its requirements name no versions
but diffusers>=0.32; these are those of OminiControl, on which it is built.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, mask_picture, picture
from refbench.adapters.scripts.driver import Editor, checkout, dtype_on, generator, serve, weights

CARD = {
    "name": "hifi-inpaint",
    "summary": "HiFi-Inpaint paints the mask from the reference and its high frequencies on FLUX.1-dev.",
    "licence": "code Apache-2.0; base FLUX.1 [dev] Non-Commercial License",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2603.02210",
    "weights": "donghao-zhou/HiFi-Inpaint + black-forest-labs/FLUX.1-dev",
    "vram_gb": 34,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/Correr-Zhou/HiFi-Inpaint",
        "variable": "HIFI_INPAINT_CHECKOUT",
        "files": ["scripts/infer_hard_case.py", "src/flux/generate.py", "src/flux/condition.py"],
    },
    "weights": {
        "black-forest-labs/FLUX.1-dev": "model_index.json",
        "donghao-zhou/HiFi-Inpaint": "pytorch_lora_weights.safetensors",
    },
    "accept": "FLUX.1-dev-Non-Commercial",
    "terms": "The weights of FLUX.1 [dev] may be used for non-commercial purposes only "
    "(https://huggingface.co/black-forest-labs/FLUX.1-dev).",
}
OPTIONS = {
    "paste_back": True, "size": 768, "steps": 28, "guidance": 3.5, "base": "black-forest-labs/FLUX.1-dev",
    "lora": "donghao-zhou/HiFi-Inpaint",
}  # fmt: skip
LORA = "pytorch_lora_weights.safetensors"
ALPHAS = "alpha_blocks.pt"


def load(device: str, options: dict[str, Any]) -> Editor:
    """FLUX.1-dev with the LoRA and the weights of the shared enhancement attention, and the authors' generate()."""
    checkout(NEEDS, options)
    base = weights(options["base"], "model_index.json")
    lora = weights(options["lora"], LORA)

    import torch
    from diffusers import FluxPipeline
    from scripts.infer_hard_case import apply_high_pass_filter  # type: ignore[import-not-found]
    from src.flux.condition import Condition  # type: ignore[import-not-found]
    from src.flux.generate import generate  # type: ignore[import-not-found]

    pipeline: Any = FluxPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        base, torch_dtype=dtype_on(device)
    ).to(device)
    pipeline.load_lora_weights(lora, weight_name=LORA, adapter_name="subject")
    if (Path(lora) / ALPHAS).is_file():
        alphas = torch.load(Path(lora) / ALPHAS, map_location=device, weights_only=True)
        for number, block in enumerate(pipeline.transformer.transformer_blocks):
            block.alpha = torch.nn.Parameter(alphas[f"alpha_block_{number}"].clone().detach())
    else:
        sys.stderr.write(f"{lora} has no {ALPHAS}: the shared enhancement attention is as the authors' code makes it\n")

    def edit(work: Work) -> Any:
        hidden = work.draft.copy()
        hidden[work.mask] = 0
        masked, reference = picture(hidden), picture(work.reference)
        texture = apply_high_pass_filter(reference).convert("RGB")
        shown = Condition("subject", condition=masked, position_delta=None)
        torch.manual_seed(work.inputs.seed)  # the conditions' latents are drawn from the global generator
        return generate(
            pipeline,
            prompt=work.inputs.prompt or " ",
            conditions=[Condition("subject", condition=reference, position_delta=[0, -work.size[0] // 16]), shown],
            conditions_texture=[Condition("subject", condition=texture, position_delta=None), shown],
            conditions_texture_mask=picture(mask_picture(work.mask)).convert("L"),
            image=reference,
            mask_image=masked,
            num_inference_steps=options["steps"],
            guidance_scale=options["guidance"],
            height=work.size[0],
            width=work.size[1],
            generator=generator(work.inputs.seed, device),
            use_texture_image=True,
            default_lora=True,
        ).images[0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
