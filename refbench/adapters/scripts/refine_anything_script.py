# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "diffusers==0.36.0", "transformers==4.55.0", "peft==0.17.0", "safetensors==0.5.3", "huggingface-hub==0.34.3",
#     "accelerate>=1.6,<2", "torch==2.7.1", "torchvision==0.22.1", "numpy>=1.26,<3", "pillow>=11.3",
#     "opencv-python-headless>=4.10",
# ]
# ///
"""Model `refine-anything`: Qwen-Image-Edit-2511 with RefineAnything's LoRA, under its authors' pins.

Written against scripts/fast_inference.py of github.com/limuloo/RefineAnything at b304746 (seen in the copy
nikhilash6/RefineAnything): the pictures are draft, reference, mask; 8 steps with the Lightning LoRA and no guidance,
or 40 without it at guidance 4. The square focus crop and the paste-back are those that all editors here share; the
authors' crop keeps 64 px at one megapixel around the box, and their paste-back grows the mask by 3 px.
"""

from __future__ import annotations

import math
from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, mask_picture, picture
from refbench.adapters.scripts.driver import Editor, dtype_on, generator, serve, weights
from refbench.errors import RefbenchError

CARD = {
    "name": "refine-anything",
    "summary": "Qwen-Image-Edit-2511 with RefineAnything's LoRA; the mask is its third picture.",
    "licence": "base Apache-2.0; LoRA and code not stated by the authors",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2604.06870",
    "weights": "Qwen/Qwen-Image-Edit-2511 + limuloo1999/RefineAnything",
    "parameters": 28700000000,
    "download_mb": None,
    "vram_gb": 58,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "weights": {
        "Qwen/Qwen-Image-Edit-2511": "model_index.json",
        "limuloo1999/RefineAnything": "Qwen-Image-Edit-2511-RefineAny.safetensors",
        "lightx2v/Qwen-Image-Edit-2511-Lightning": "Qwen-Image-Edit-2511-Lightning-8steps-V1.0-bf16.safetensors",
    },
}
BASE, LORA, LIGHTNING = NEEDS["weights"]
OPTIONS = {
    "focus": True, "paste_back": True, "steps": 8, "offload": "none", "base": BASE, "lora": LORA,
    "lightning": LIGHTNING, "guidance": None,
}  # fmt: skip


def load(device: str, options: dict[str, Any]) -> Editor:
    """The pipeline with the LoRA, and below 20 steps the Lightning LoRA beside it."""
    if options["offload"] not in ("none", "model", "sequential"):
        raise RefbenchError(f"Expected offload to be none, model or sequential, but it is '{options['offload']}'.")
    fast = options["steps"] < 20
    guidance = float(options["guidance"]) if options["guidance"] is not None else (1.0 if fast else 4.0)
    base = weights(options["base"], "model_index.json")
    files = [("refine_anything", options["lora"], NEEDS["weights"][LORA])]
    files += [("lightning", options["lightning"], NEEDS["weights"][LIGHTNING])] * fast
    loras = [(name, weights(source, file, file), file) for name, source, file in files]

    from diffusers import FlowMatchEulerDiscreteScheduler, QwenImageEditPlusPipeline

    scheduler = FlowMatchEulerDiscreteScheduler.from_config({  # type: ignore[no-untyped-call]
        "base_image_seq_len": 256, "base_shift": math.log(3), "max_shift": math.log(3), "max_image_seq_len": 8192,
        "num_train_timesteps": 1000, "shift": 1.0, "shift_terminal": None, "time_shift_type": "exponential",
        "use_dynamic_shifting": True,
    })  # fmt: skip
    pipeline: Any = QwenImageEditPlusPipeline.from_pretrained(  # type: ignore[no-untyped-call]
        base, torch_dtype=dtype_on(device), scheduler=scheduler, local_files_only=True
    )
    for name, folder, file in loras:
        pipeline.load_lora_weights(folder, weight_name=file, adapter_name=name, local_files_only=True)
    pipeline.set_adapters([name for name, _, _ in loras], adapter_weights=[1.0] * len(loras))
    if options["offload"] == "none":
        pipeline.to(device)
    else:
        getattr(pipeline, f"enable_{options['offload']}_cpu_offload")(device=device)
    pipeline.set_progress_bar_config(disable=True)

    def edit(work: Work) -> Any:
        return pipeline(
            image=[picture(work.draft), picture(work.reference), picture(mask_picture(work.mask))],
            prompt=work.inputs.prompt,
            negative_prompt=" ",
            true_cfg_scale=guidance,
            guidance_scale=1.0,
            num_inference_steps=options["steps"],
            height=work.size[0],
            width=work.size[1],
            generator=generator(work.inputs.seed),
        ).images[0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
