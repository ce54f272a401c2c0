"""What was seen of each registered model: on its own weights, on stand-ins alone, and what only more can show.

A stand-in is a random tiny model of the published classes, saved and loaded in the published layout; a small checkout
with the authors' entry points and signatures; or a local server that speaks the documented formats. It shows that
pictures, masks, words, sizes and seeds go where they belong, and nothing about how good a model is.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tried:
    """Three cells of the table of models; empty where there is nothing to say."""

    here: str = ""
    """Run on the model's own weights, on a processor."""
    stand_in: str = ""
    """Run on stand-ins alone."""
    open: str = ""
    """What only a GPU with the real weights, or an account, can show."""


_BOARD = Tried("`core` and `mini`, on the board")
_EDITOR = "slots, sizes, seed, batch, bfloat16, focus, paste-back on a random tiny model of its classes"
_CHECKOUT = "pictures, words, sizes and seed in a stand-in checkout"
_WEIGHTS = "quality; memory, `offload` and time"
_FLUX = f"a random tiny FLUX.1 with a LoRA; {_CHECKOUT}"
_SERVICE = Tried(
    "", "requests, answers, faults, refusals and money against a local server", "names, prices and limits; quality"
)


TRIED: dict[str, Tried] = {
    **dict.fromkeys(
        ("identity", "reference-paste", "sharpen", "texture-transfer", "warp-blend", "place-blend", "waifu2x"), _BOARD
    ),
    **dict.fromkeys(("omnirefiner", "omnirefiner-sft"), _BOARD),
    **dict.fromkeys(
        ("realesrgan-x4", "realsr"),
        Tried("single pictures; its values held against ncnn's", "", "a whole suite in reasonable time"),
    ),
    "flux-kontext": Tried("", _EDITOR, f"that it keeps to its half of the canvas; {_WEIGHTS}"),
    "flux-kontext-inpaint": Tried("", f"{_EDITOR}; `check-adapter`", f"masks of a few pixels; {_WEIGHTS}"),
    "flux2-klein": Tried("", _EDITOR, _WEIGHTS),
    "flux2-klein-inpaint": Tried("", _EDITOR, f"masks of a few pixels; {_WEIGHTS}"),
    "qwen-image-edit": Tried("", f"{_EDITOR}; `check-adapter`", f"whether it reads a picture as a mask; {_WEIGHTS}"),
    "qwen-image-2.1": Tried("", _EDITOR, f"whether it reads a picture as a mask; {_WEIGHTS}"),
    "sd-inpaint": Tried("", _EDITOR, f"its safety filter as it fires; {_WEIGHTS}"),
    "sdxl-ip-adapter": Tried("", f"{_EDITOR} and a projection of the published layout", _WEIGHTS),
    "refine-anything": Tried(
        "", "a random tiny Qwen-Image-Edit with two LoRAs, by hand under its four pins too",
        f"that the public LoRA's names are the documented ones; {_WEIGHTS}",
    ),
    "omnigen2": Tried("", _CHECKOUT, f"the authors' code as it is; {_WEIGHTS}"),
    "bagel": Tried("", _CHECKOUT, f"the authors' code as it is, flash-attn; {_WEIGHTS}"),
    "dreamo": Tried("", _CHECKOUT, f"the authors' code as it is, facexlib; {_WEIGHTS}"),
    "mosaic": Tried("", _FLUX, f"the authors' `generate()`; {_WEIGHTS}"),
    "imagecritic": Tried("", _CHECKOUT, f"the authors' code as it is; {_WEIGHTS}"),
    "hifi-inpaint": Tried("", _FLUX, f"the authors' `generate()`; {_WEIGHTS}"),
    "adarefsr": Tried("", _CHECKOUT, f"the authors' code as it is, which runs on CUDA alone; {_WEIGHTS}"),
    **dict.fromkeys(("gemini-image", "gpt-image", "seedream-4"), _SERVICE),
    "openai-images": Tried(
        "", "each dialect, every layout, mask polarity, answers by URL, faults and money against a local server",
        "a real vLLM-Omni, SGLang or LiteLLM",
    ),
}  # fmt: skip
"""Registered name -> what was seen of it."""
