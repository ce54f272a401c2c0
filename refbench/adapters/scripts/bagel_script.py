# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "torch==2.5.1", "torchvision==0.20.1", "transformers==4.49.0", "accelerate>=0.34,<2", "huggingface_hub==0.29.1",
#     "safetensors==0.4.5", "sentencepiece==0.2.0", "einops==0.8.1", "numpy>=1.26,<2", "pillow", "PyYAML",
#     "opencv-python-headless<4.12", "scipy", "requests", "tqdm", "flash-attn==2.5.8; sys_platform == 'linux'",
# ]
#
# [tool.uv.extra-build-dependencies]
# flash-attn = [{ requirement = "torch", match-runtime = true }]
# ///
"""Model `bagel`: BAGEL-7B-MoT through its authors' interleaved inference, out of their checkout.

Written against app.py (a384f61) and inferencer.py (5c4703e) of github.com/ByteDance-Seed/Bagel: loading as in `mode 1`,
on one GPU, and the settings of its editing page. The interleaved inference answers at the size of the *last* picture,
so that the reference comes first and the draft last. Their pins of numpy, scipy and sentencepiece are for Python 3.10;
the nearest that install on 3.11 stand in. The inferencer names 'cuda' itself.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, picture
from refbench.adapters.scripts.driver import Editor, checkout, dtype_on, serve, weights
from refbench.errors import RefbenchError

CARD = {
    "name": "bagel",
    "summary": "BAGEL-7B-MoT is shown the reference, then the draft, then told what to edit; it does not see the mask.",
    "licence": "Apache-2.0",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2505.14683",
    "weights": "ByteDance-Seed/BAGEL-7B-MoT",
    "parameters": 14000000000,
    "download_mb": 29200,  # in bfloat16, with the memory of a 1,024 px picture: card of DFloat11/BAGEL-7B-MoT-DF11
    "vram_gb": 30.1,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/ByteDance-Seed/Bagel",
        "variable": "BAGEL_CHECKOUT",
        "files": ["inferencer.py", "modeling/bagel/bagel.py", "data/data_utils.py"],
    },
    "weights": {"ByteDance-Seed/BAGEL-7B-MoT": "ema.safetensors"},
}
OPTIONS = {
    "model": "ByteDance-Seed/BAGEL-7B-MoT", "steps": 50, "cfg_text": 4.0, "cfg_image": 2.0, "timestep_shift": 3.0,
    "instruction": "The first image is the reference. Edit the second image: {prompt} Keep everything else unchanged.",
}  # fmt: skip


def load(device: str, options: dict[str, Any]) -> Editor:
    """The model on one device, as the authors' page loads it."""
    checkout(NEEDS, options)
    folder = Path(weights(options["model"], "ema.safetensors"))

    import numpy as np
    import torch
    from accelerate import init_empty_weights, load_checkpoint_and_dispatch
    from data.data_utils import add_special_tokens  # type: ignore[import-not-found]
    from data.transforms import ImageTransform  # type: ignore[import-not-found]
    from inferencer import InterleaveInferencer  # type: ignore[import-not-found]
    from modeling.autoencoder import load_ae  # type: ignore[import-not-found]
    from modeling.bagel import (  # type: ignore[import-not-found]
        Bagel,
        BagelConfig,
        Qwen2Config,
        Qwen2ForCausalLM,
        SiglipVisionConfig,
        SiglipVisionModel,
    )
    from modeling.qwen2 import Qwen2Tokenizer  # type: ignore[import-not-found]

    llm = Qwen2Config.from_json_file(str(folder / "llm_config.json"))
    llm.qk_norm, llm.tie_word_embeddings, llm.layer_module = True, False, "Qwen2MoTDecoderLayer"
    vit = SiglipVisionConfig.from_json_file(str(folder / "vit_config.json"))
    vit.rope = False
    vit.num_hidden_layers -= 1
    autoencoder, vae = load_ae(local_path=str(folder / "ae.safetensors"))
    config = BagelConfig(
        visual_gen=True, visual_und=True, llm_config=llm, vit_config=vit, vae_config=vae,
        vit_max_num_patch_per_side=70, connector_act="gelu_pytorch_tanh", latent_patch_size=2, max_latent_size=64,
    )  # fmt: skip
    with init_empty_weights():
        model = Bagel(Qwen2ForCausalLM(llm), SiglipVisionModel(vit), config)
        model.vit_model.vision_model.embeddings.convert_conv2d_to_linear(vit, meta=True)
    tokenizer, new_tokens, _ = add_special_tokens(Qwen2Tokenizer.from_pretrained(str(folder)))
    model = load_checkpoint_and_dispatch(
        model, checkpoint=str(folder / "ema.safetensors"), device_map={"": device}, dtype=dtype_on(device),
        force_hooks=True,
    ).eval()  # fmt: skip
    inferencer = InterleaveInferencer(
        model=model, vae_model=autoencoder.to(device), tokenizer=tokenizer,
        vae_transform=ImageTransform(1024, 512, 16), vit_transform=ImageTransform(980, 224, 14),
        new_token_ids=new_tokens,
    )  # fmt: skip

    def edit(work: Work) -> Any:
        random.seed(work.inputs.seed)
        np.random.seed(work.inputs.seed % 2**32)
        torch.manual_seed(work.inputs.seed)
        prompt = options["instruction"].replace("{prompt}", work.inputs.prompt)
        found = inferencer.interleave_inference(
            [picture(work.reference), picture(work.draft), prompt],
            cfg_text_scale=options["cfg_text"],
            cfg_img_scale=options["cfg_image"],
            cfg_interval=[0.0, 1.0],
            timestep_shift=options["timestep_shift"],
            num_timesteps=options["steps"],
            cfg_renorm_min=0.0,
            cfg_renorm_type="text_channel",
        )
        images = [item for item in found if not isinstance(item, str)]
        if not images:
            raise RefbenchError("Expected an image from BAGEL, but it answered in words only; ask for an edit.")
        return images[-1]

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
