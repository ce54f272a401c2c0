# /// script
# requires-python = ">=3.11,<3.12"
# dependencies = [
#     "torch==2.2.0", "torchvision==0.17.0", "accelerate==1.5.2", "pytorch-lightning==2.5.2", "diffusers==0.25.1",
#     "transformers==4.31.0", "safetensors==0.5.3", "peft==0.10.0", "opencv-python-headless==4.11.0.86",
#     "pillow==11.0.0",
#     "omegaconf==2.3.0", "scikit-image==0.25.2", "kornia==0.8.1", "timm==1.0.15", "lpips==0.1.4", "einops==0.8.1",
#     "numpy==1.26.0", "scipy==1.15.2", "huggingface-hub==0.24.6", "fairscale", "lmdb", "pyyaml", "requests", "tqdm",
# ]
# ///
"""Model `adarefsr`: Ada-RefSR, one-step super-resolution by a reference, out of its authors' checkout.

Written against demo.py and my_utils/testing_utils.py of github.com/vivoCameraResearch/AdaRefSR at 7673620. It restores
a whole picture at its own size, and knows no mask and no prompt (its own tagger writes those), so that `focus` and
`paste_back` are on unless turned off. Its code calls CUDA by name: there is no other device. The pins are the
authors', less those that only their training and metrics import.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _boot  # type: ignore[import-not-found]  # noqa: F401

# isort: split
from refbench.adapters.editing import Work, picture
from refbench.adapters.scripts.driver import Editor, checkout, serve, weights
from refbench.errors import RefbenchError

CARD = {
    "name": "adarefsr",
    "summary": "Ada-RefSR restores the draft in one step of SD-Turbo, with the reference's features gated by likeness.",
    "licence": "not stated by the authors; base SD-Turbo under Stability AI's licence",
    "open_weights": True,
    "paper": "https://arxiv.org/abs/2602.01864",
    "weights": "hangfrieddays/AdaRefSR + zhangap/S3Diff + stabilityai/sd-turbo + RAM, DAPE",
    "vram_gb": 15.6,
    "needs_reference": True,
    "deterministic": True,
}
NEEDS = {
    "checkout": {
        "repository": "https://github.com/vivoCameraResearch/AdaRefSR",
        "variable": "ADAREFSR_CHECKOUT",
        "files": ["demo.py", "main_code/model/gen_model.py", "main_code/model/ref_model.py"],
    },
    "weights": {
        "stabilityai/sd-turbo": "model_index.json",
        "zhangap/S3Diff": "s3diff.pkl",
        "hangfrieddays/AdaRefSR": "adarefsr.pkl",
    },
}
OPTIONS = {
    "focus": True, "paste_back": True, "size": 512, "base": "stabilityai/sd-turbo", "backbone": "zhangap/S3Diff",
    "model": "hangfrieddays/AdaRefSR", "ram": "models/ram_swin_large_14m.pth", "dape": "models/DAPE.pth",
    "de_net": "assets/mm-realsr/de_net.pth",
}  # fmt: skip
SOURCES = {
    "ram": "https://huggingface.co/spaces/xinyu1205/recognize-anything",
    "dape": "https://github.com/cswry/SeeSR",
    "de_net": "https://github.com/ArcticHare105/S3Diff",
}
"""Of the files that no hub repository holds alone, as the authors' readme names them."""


def _file(root: Path, options: dict[str, Any], name: str) -> str:
    path = root / Path(str(options[name])).expanduser()
    if not path.is_file():
        raise RefbenchError(
            f"Expected the file {path} for adarefsr, but it is not there; get it from {SOURCES[name]} and name it with "
            f"-o {name}=./FILE."
        )
    return str(path)


def load(device: str, options: dict[str, Any]) -> Editor:
    """Both branches with their attention coupled, the degradation's judge and the two taggers, loaded once."""
    root = checkout(NEEDS, options)
    files = {name: _file(root, options, name) for name in SOURCES}
    base = weights(options["base"], "model_index.json")
    backbone = f"{weights(options['backbone'], 's3diff.pkl')}/s3diff.pkl"
    model = f"{weights(options['model'], 'adarefsr.pkl')}/adarefsr.pkl"

    import torch
    from main_code.model.anymate_anyone.reference_attention import (  # type: ignore[import-not-found]
        ReferenceNetAttention,
    )
    from main_code.model.de_net import DEResNet  # type: ignore[import-not-found]
    from main_code.model.gen_model import GenModel  # type: ignore[import-not-found]
    from main_code.model.ref_model import RefModel  # type: ignore[import-not-found]
    from my_utils.testing_utils import parse_args_paired_testing  # type: ignore[import-not-found]
    from my_utils.wavelet_color import wavelet_color_fix  # type: ignore[import-not-found]
    from ram import inference_ram  # type: ignore[import-not-found]
    from ram.models.ram import ram  # type: ignore[import-not-found]
    from ram.models.ram_lora import ram as ram_of_degraded  # type: ignore[import-not-found]
    from torchvision import transforms

    half = torch.float32 if device.startswith("cpu") else torch.float16
    arguments = parse_args_paired_testing([])
    restorer = GenModel(sd_path=base, pretrained_backbone_path=backbone, pretrained_ref_gen_path=model, args=arguments)
    guide = RefModel(sd_path=base)
    judge = DEResNet(num_in_ch=3, num_degradation=2)
    judge.load_model(files["de_net"])
    settings: dict[str, Any] = {"image_size": 384, "vit": "swin_l"}
    tagger = ram(pretrained=files["ram"], **settings).eval().to(device, dtype=half)
    tagger_of_degraded = ram_of_degraded(pretrained=files["ram"], pretrained_condition=files["dape"], **settings)
    tagger_of_degraded = tagger_of_degraded.eval().to(device, dtype=half)
    shared = {"fusion_blocks": arguments.fusion_blocks, "is_image": True, "dtype": half}
    writer = ReferenceNetAttention(guide.unet, mode="write", **shared)
    reader = ReferenceNetAttention(restorer.unet, mode="read", **shared)
    for network in (restorer, guide, judge):
        network.to(device, dtype=half).eval()
    as_tagged = transforms.Compose([
        transforms.Resize((384, 384)),
        transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ])  # fmt: skip

    @torch.no_grad()
    def edit(work: Work) -> Any:
        draft, reference = (
            transforms.ToTensor()(picture(image)).unsqueeze(0).to(device, dtype=half)
            for image in (work.draft, work.reference)
        )
        torch.manual_seed(work.inputs.seed)  # the latents are drawn from the global generator
        degraded = judge(draft)
        guide(reference * 2 - 1, prompt=inference_ram(as_tagged(reference), tagger))
        reader.update(writer, dtype=half)
        found = restorer(draft * 2 - 1, degraded, prompt=inference_ram(as_tagged(draft), tagger_of_degraded))
        reader.clear()
        writer.clear()
        image = transforms.ToPILImage()((found[0] * 0.5 + 0.5).clamp(0, 1).float().cpu())
        return wavelet_color_fix(image, picture(work.draft))

    return edit


if __name__ == "__main__":
    serve(CARD, NEEDS, load, OPTIONS)
