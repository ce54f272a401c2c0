# /// script
# requires-python = ">=3.11,<3.13"
# dependencies = [
#     "torch==2.7.0", "torchvision==0.22.0", "protobuf", "optimum-quanto==0.2.7", "einops", "timm", "diffusers==0.33.1",
#     "transformers==4.45.2", "sentencepiece", "huggingface_hub<1", "accelerate==0.32.0", "peft<0.16",
#     "facexlib @ git+https://github.com/ToTheBeginning/facexlib.git", "opencv-python-headless", "numpy<2.3", "pillow",
# ]
# ///
"""Model `dreamo`: DreamO, a customiser on FLUX.1-dev, out of its authors' checkout.

Written against dreamo_generator.py (3ad62b3) and app.py (004415c) of github.com/bytedance/DreamO. It composes a new
picture from up to two references and has no picture to edit: it is shown the draft and the reference, both as "ip",
whose background its own matting removes, so that `paste_back` is on unless it is turned off. The generator downloads
its matting and face models into the checkout's `models` folder when it first starts.
"""

from __future__ import annotations

from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work
from refbench.adapters.scripts.driver import Editor, checkout, generator, serve
from refbench.errors import RefbenchError

CARD = {
    "name": "dreamo",
    "summary": "DreamO composes a picture from draft and reference on FLUX.1-dev; a customiser, not an editor.",
    "licence": "code Apache-2.0; base FLUX.1 [dev] Non-Commercial License",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2504.16915",
    "weights": "ByteDance/DreamO + black-forest-labs/FLUX.1-dev",
    "vram_gb": 24,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/bytedance/DreamO",
        "variable": "DREAMO_CHECKOUT",
        "files": ["dreamo_generator.py", "dreamo/dreamo_pipeline.py"],
    },
    "weights": {"black-forest-labs/FLUX.1-dev": "model_index.json"},
    "accept": "FLUX.1-dev-Non-Commercial",
    "terms": "The weights of FLUX.1 [dev] may be used for non-commercial purposes only "
    "(https://huggingface.co/black-forest-labs/FLUX.1-dev).",
}
TASKS = ("ip", "id", "style")
OPTIONS = {
    "paste_back": True, "steps": 12, "guidance": 4.5, "version": "v1.1", "quant": "none", "offload": False,
    "draft_task": "ip", "reference_task": "ip", "reference_size": 512,
}  # fmt: skip


def load(device: str, options: dict[str, Any]) -> Editor:
    """The authors' generator."""
    for name in ("draft_task", "reference_task"):
        if options[name] not in TASKS:
            raise RefbenchError(f"Expected {name} to be one of {', '.join(TASKS)}, but it is '{options[name]}'.")
    checkout(NEEDS, options)

    from dreamo_generator import Generator  # type: ignore[import-not-found]

    found = Generator(
        version=options["version"], offload=options["offload"], no_turbo=False, quant=options["quant"], device=device
    )

    def edit(work: Work) -> Any:
        conditions, _, seed = found.pre_condition(
            ref_images=[work.draft, work.reference],
            ref_tasks=[options["draft_task"], options["reference_task"]],
            ref_res=options["reference_size"],
            seed=work.inputs.seed,
        )
        return found.dreamo_pipeline(
            prompt=work.inputs.prompt,
            width=work.size[1],
            height=work.size[0],
            num_inference_steps=options["steps"],
            guidance_scale=options["guidance"],
            ref_conds=conditions,
            generator=generator(seed),
            true_cfg_scale=1,
            true_cfg_start_step=0,
            true_cfg_end_step=0,
            negative_prompt="",
            neg_guidance_scale=3.5,
            first_step_guidance_scale=options["guidance"],
        ).images[0]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
