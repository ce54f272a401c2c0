"""The models that have a name: built in, and from other packages by the entry point ``refbench.adapters``."""

from __future__ import annotations

from refbench.registry import Registry

MODELS = Registry(
    "model",
    {
        "identity": "refbench.adapters.identity:Identity",
        "reference-paste": "refbench.adapters.reference_paste:ReferencePaste",
        "sharpen": "refbench.adapters.sharpen:Sharpen",
        "texture-transfer": "refbench.adapters.texture_transfer:TextureTransfer",
        "warp-blend": "refbench.adapters.warp_blend:WarpBlend",
        "place-blend": "refbench.adapters.place_blend:PlaceBlend",
        "realesrgan-x4": "refbench.adapters.restoration.models:RealESRGAN",
        "realsr": "refbench.adapters.restoration.models:RealSR",
        "waifu2x": "refbench.adapters.restoration.models:Waifu2x",
        "omnirefiner": "refbench.adapters.omnirefiner:OmniRefiner",
        "omnirefiner-sft": "refbench.adapters.omnirefiner:OmniRefinerSFT",
        "flux-kontext": "refbench.adapters.editors:FluxKontext",
        "flux-kontext-inpaint": "refbench.adapters.editors:FluxKontextInpaint",
        "flux2-klein": "refbench.adapters.editors:Flux2Klein",
        "flux2-klein-inpaint": "refbench.adapters.editors:Flux2KleinInpaint",
        "qwen-image-edit": "refbench.adapters.editors:QwenImageEdit",
        "qwen-image-2.1": "refbench.adapters.editors:QwenImage21",
        "sd-inpaint": "refbench.adapters.stable_diffusion:StableDiffusionInpaint",
        "sdxl-ip-adapter": "refbench.adapters.stable_diffusion:SDXLIPAdapter",
        "refine-anything": "refbench.adapters.scripts:REFINE_ANYTHING",
        "omnigen2": "refbench.adapters.scripts:OMNIGEN2",
        "bagel": "refbench.adapters.scripts:BAGEL",
        "dreamo": "refbench.adapters.scripts:DREAMO",
        "mosaic": "refbench.adapters.scripts:MOSAIC",
        "imagecritic": "refbench.adapters.scripts:IMAGECRITIC",
        "hifi-inpaint": "refbench.adapters.scripts:HIFI_INPAINT",
        "adarefsr": "refbench.adapters.scripts:ADAREFSR",
        "gemini-image": "refbench.adapters.web.services:GeminiImage",
        "gpt-image": "refbench.adapters.web.openai_images:GPTImage",
        "seedream-4": "refbench.adapters.web.services:Seedream",
        "openai-images": "refbench.adapters.web.openai_images:OpenAIImages",
    },
    "refbench.adapters",
)
"""Name -> "module:attribute". The attribute is a class or function called with ``device`` and options, or a
``pathlib.Path`` to a file (a script with a PEP 723 header runs in an environment of its own)."""
