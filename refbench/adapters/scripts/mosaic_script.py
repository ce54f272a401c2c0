# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.4.1", "torchvision==0.19.1", "diffusers==0.32.0", "transformers>=4.45,<4.50", "peft==0.15.0",
#     "accelerate==1.1.1", "numpy==1.26.4", "protobuf", "sentencepiece", "opencv-python-headless<4.12", "pillow",
# ]
# ///
"""Model `mosaic`: MOSAIC, subject-driven generation on FLUX.1-dev at 512 px, out of its authors' checkout.

Written against inference.py, utils.py and src/flux_omini.py of github.com/bytedance-fanqie-ai/MOSAIC at 72a5b00. It
generates a new picture from subjects and has no picture to edit: it is shown the draft and the reference as two
subjects, each set to the left of the one before, as its authors place them; `paste_back` is on unless turned off.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work
from refbench.adapters.scripts.driver import Editor, checkout, dtype_on, generator, serve, weights
from refbench.images import save_png

CARD = {
    "name": "mosaic",
    "summary": "MOSAIC generates a picture of two subjects, draft and reference, on FLUX.1-dev; not an editor.",
    "licence": "code and LoRA not stated by the authors; base FLUX.1 [dev] Non-Commercial License",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2509.01977",
    "weights": "ByteDance-FanQie/MOSAIC + black-forest-labs/FLUX.1-dev",
    "vram_gb": 34,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/bytedance-fanqie-ai/MOSAIC",
        "variable": "MOSAIC_CHECKOUT",
        "files": ["src/flux_omini.py", "utils.py", "inference.py"],
    },
    "weights": {
        "black-forest-labs/FLUX.1-dev": "model_index.json",
        "ByteDance-FanQie/MOSAIC": "subject_512.safetensors",
    },
    "accept": "FLUX.1-dev-Non-Commercial",
    "terms": "The weights of FLUX.1 [dev] may be used for non-commercial purposes only "
    "(https://huggingface.co/black-forest-labs/FLUX.1-dev).",
}
OPTIONS = {
    "paste_back": True, "size": 512, "steps": 28, "guidance": 3.5, "base": "black-forest-labs/FLUX.1-dev",
    "lora": "ByteDance-FanQie/MOSAIC",
}  # fmt: skip
SUBJECT = 512


def load(device: str, options: dict[str, Any]) -> Editor:
    """FLUX.1-dev with the LoRA, and the authors' generate()."""
    checkout(NEEDS, options)
    base = weights(options["base"], "model_index.json")
    lora = weights(options["lora"], "subject_512.safetensors", "subject_512.safetensors")

    import torch
    from diffusers import FluxPipeline
    from src.flux_omini import Condition, generate  # type: ignore[import-not-found]
    from utils import process_image  # type: ignore[import-not-found]

    pipeline: Any = FluxPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        base, torch_dtype=dtype_on(device)
    ).to(device)
    pipeline.load_lora_weights(lora, weight_name="subject_512.safetensors", adapter_name="subject")
    pipeline.set_adapters(["subject"], [1])

    def edit(work: Work) -> Any:
        conditions = []
        with tempfile.TemporaryDirectory() as folder:
            for number, image in enumerate((work.draft, work.reference)):
                path = Path(folder) / f"{number}.png"
                save_png(path, image)
                shown = process_image(str(path), target_size=SUBJECT, pad_color=(255, 255, 255), scale=0.9)
                conditions.append(Condition(shown, "subject", [0, -(SUBJECT * (number + 1)) // 16]))
        with torch.no_grad():
            return generate(
                pipeline,
                prompt=work.inputs.prompt,
                conditions=conditions,
                num_inference_steps=options["steps"],
                num_images_per_prompt=1,
                height=work.size[0],
                width=work.size[1],
                guidance_scale=options["guidance"],
                generator=generator(work.inputs.seed, device),
            )[0][0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
