# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.6.0", "torchvision==0.21.0", "timm", "einops", "accelerate", "transformers==4.51.3",
#     "diffusers>=0.33,<0.36", "opencv-python-headless", "scipy", "pillow", "tqdm", "omegaconf", "python-dotenv",
#     "ninja", "numpy",
# ]
# ///
"""Model `omnigen2`: the authors' own pipeline out of their checkout, with draft and reference as its pictures.

Written against inference.py of github.com/VectorSpaceLab/OmniGen2 at 10fc7b8 (call and defaults); 17 GB of graphics
memory and Apache-2.0 are from its README.
"""

from __future__ import annotations

from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, picture
from refbench.adapters.scripts.driver import Editor, checkout, dtype_on, generator, serve, weights

CARD = {
    "name": "omnigen2",
    "summary": "OmniGen2 edits the first picture, the draft, by the second, the reference; it does not see the mask.",
    "licence": "Apache-2.0",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2506.18871",
    "weights": "OmniGen2/OmniGen2",
    "vram_gb": 17,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/VectorSpaceLab/OmniGen2",
        "variable": "OMNIGEN2_CHECKOUT",
        "files": [
            "omnigen2/pipelines/omnigen2/pipeline_omnigen2.py",
            "omnigen2/models/transformers/transformer_omnigen2.py",
        ],
    },
    "weights": {"OmniGen2/OmniGen2": "model_index.json"},
}
OPTIONS = {
    "model": "OmniGen2/OmniGen2", "steps": 50, "text_guidance": 5.0, "image_guidance": 2.0, "offload": False,
    "negative_prompt": "(((deformed))), blurry, over saturation, bad anatomy, disfigured, poorly drawn face, mutation, "
    "mutated, (extra_limb), (ugly), (poorly drawn hands), fused fingers, messy drawing, broken legs censor, censored, "
    "censor_bar",
    "instruction": "Edit the first image: {prompt} The second image is the reference. Keep everything else unchanged.",
}  # fmt: skip


def load(device: str, options: dict[str, Any]) -> Editor:
    """The pipeline and the transformer that its authors put into it."""
    checkout(NEEDS, options)
    model = weights(options["model"], "model_index.json")

    from omnigen2.models.transformers.transformer_omnigen2 import (  # type: ignore[import-not-found]
        OmniGen2Transformer2DModel,
    )
    from omnigen2.pipelines.omnigen2.pipeline_omnigen2 import OmniGen2Pipeline  # type: ignore[import-not-found]

    dtype = dtype_on(device)
    pipeline = OmniGen2Pipeline.from_pretrained(model, torch_dtype=dtype, trust_remote_code=True)
    pipeline.transformer = OmniGen2Transformer2DModel.from_pretrained(model, subfolder="transformer", torch_dtype=dtype)
    if options["offload"]:
        pipeline.enable_model_cpu_offload()
    else:
        pipeline = pipeline.to(device)

    def edit(work: Work) -> Any:
        return pipeline(
            prompt=options["instruction"].replace("{prompt}", work.inputs.prompt),
            input_images=[picture(work.draft), picture(work.reference)],
            width=work.size[1],
            height=work.size[0],
            num_inference_steps=options["steps"],
            max_sequence_length=1024,
            text_guidance_scale=options["text_guidance"],
            image_guidance_scale=options["image_guidance"],
            cfg_range=(0.0, 1.0),
            negative_prompt=options["negative_prompt"],
            num_images_per_prompt=1,
            generator=generator(work.inputs.seed, device),
            output_type="pil",
        ).images[0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
