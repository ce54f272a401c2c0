"""Stand-ins for the authors' checkouts: the same files, entry points and signatures, which write down what they got.

Each records the mean colour of every picture in its slot, and the other arguments, in ``record.json`` in the checkout,
and answers with a picture of one colour of the size asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = """
import json, pathlib
import numpy as np
from PIL import Image

PLACE = pathlib.Path(__file__).resolve().parent

def plain(value):
    if isinstance(value, Image.Image):
        value = np.asarray(value.convert("RGB"))
    if isinstance(value, np.ndarray):
        return {"size": list(value.shape[:2]), "colour": [round(float(v)) for v in value.reshape(-1, 3).mean(0)]}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "initial_seed"):
        return {"seed": value.initial_seed()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__

def record(**found):
    path = PLACE / "record.json"
    old = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps(old + [plain(found)]))

def answer(height, width):
    return Image.new("RGB", (width, height), (10, 240, 10))

class Images:
    def __init__(self, *images):
        self.images = list(images)
"""

OMNIGEN2 = {
    "omnigen2/__init__.py": "",
    "omnigen2/models/__init__.py": "",
    "omnigen2/models/transformers/__init__.py": "",
    "omnigen2/models/transformers/transformer_omnigen2.py": """
class OmniGen2Transformer2DModel:
    @classmethod
    def from_pretrained(cls, path, subfolder, torch_dtype):
        from standin import record
        record(transformer=str(path), subfolder=subfolder, dtype=str(torch_dtype))
        return cls()
""",
    "omnigen2/pipelines/__init__.py": "",
    "omnigen2/pipelines/omnigen2/__init__.py": "",
    "omnigen2/pipelines/omnigen2/pipeline_omnigen2.py": """
from omnigen2.models.transformers.transformer_omnigen2 import OmniGen2Transformer2DModel
from standin import Images, answer, record

class OmniGen2Pipeline:
    transformer = None

    @classmethod
    def from_pretrained(cls, path, torch_dtype, trust_remote_code):
        return cls()

    def to(self, device):
        record(device=device)
        return self

    def enable_model_cpu_offload(self):
        record(offload=True)

    def __call__(self, prompt, input_images, width, height, num_inference_steps, max_sequence_length,
                 text_guidance_scale, image_guidance_scale, cfg_range, negative_prompt, num_images_per_prompt,
                 generator, output_type):
        assert isinstance(self.transformer, OmniGen2Transformer2DModel)
        record(prompt=prompt, input_images=input_images, width=width, height=height, steps=num_inference_steps,
               generator=generator)
        return Images(answer(height, width))
""",
}

BAGEL = {
    "data/__init__.py": "",
    "data/data_utils.py": """
def add_special_tokens(tokenizer):
    return tokenizer, {"start_of_image": 1}, 1
""",
    "data/transforms.py": """
class ImageTransform:
    def __init__(self, longest, shortest, stride):
        self.sizes = [longest, shortest, stride]
""",
    "modeling/__init__.py": "",
    "modeling/autoencoder.py": """
import torch

def load_ae(local_path):
    assert local_path.endswith("ae.safetensors")
    return torch.nn.Identity(), {"z_channels": 16}
""",
    "modeling/qwen2.py": """
class Qwen2Tokenizer:
    @classmethod
    def from_pretrained(cls, path):
        return cls()
""",
    "modeling/bagel/__init__.py": "from .bagel import *\n",
    "modeling/bagel/bagel.py": """
import json, types
import torch

class _Config:
    @classmethod
    def from_json_file(cls, path):
        found = cls()
        found.__dict__.update(json.load(open(path)))
        return found

class Qwen2Config(_Config): ...
class SiglipVisionConfig(_Config): ...

class BagelConfig:
    def __init__(self, **fields):
        self.__dict__.update(fields)

class Qwen2ForCausalLM(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.proj = torch.nn.Linear(2, 2)

class SiglipVisionModel(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = config.num_hidden_layers
        self.vision_model = torch.nn.Module()
        self.vision_model.embeddings = torch.nn.Module()
        self.vision_model.embeddings.convert_conv2d_to_linear = lambda config, meta: None

class Bagel(torch.nn.Module):
    def __init__(self, language_model, vit_model, config):
        super().__init__()
        self.language_model, self.vit_model, self.config = language_model, vit_model, config
""",
    "inferencer.py": """
import numpy as np
import random, torch
from standin import answer, record

class InterleaveInferencer:
    def __init__(self, model, vae_model, tokenizer, vae_transform, vit_transform, new_token_ids):
        weight = model.language_model.proj.weight
        record(weight=float(weight.float().sum()), meta=weight.is_meta, layers=model.vit_model.layers,
               qk_norm=model.config.llm_config.qk_norm, vae=vae_transform.sizes, vit=vit_transform.sizes)

    def interleave_inference(self, input_lists, think=False, understanding_output=False, max_think_token_n=1000,
                             do_sample=False, text_temperature=0.3, cfg_text_scale=3.0, cfg_img_scale=1.5,
                             cfg_interval=[0.4, 1.0], timestep_shift=3.0, num_timesteps=50, cfg_renorm_min=0.0,
                             cfg_renorm_type="global", image_shapes=(1024, 1024)):
        record(inputs=input_lists, steps=num_timesteps, cfg=[cfg_text_scale, cfg_img_scale], interval=cfg_interval,
               noise=float(torch.randn(1)) + float(np.random.rand()) + random.random())
        for item in input_lists:
            if not isinstance(item, str):
                image_shapes = item.size[::-1]
        return [answer(*image_shapes)]
""",
}

DREAMO = {
    "dreamo/__init__.py": "",
    "dreamo/dreamo_pipeline.py": "",
    "dreamo_generator.py": """
from standin import Images, answer, record

class Generator:
    def __init__(self, **args):
        record(args=args)

    def pre_condition(self, ref_images, ref_tasks, ref_res, seed):
        conditions = [{"img": i, "task": t, "idx": n + 1} for n, (i, t) in enumerate(zip(ref_images, ref_tasks))]
        record(ref_images=ref_images, ref_tasks=ref_tasks, ref_res=ref_res, seed=seed)
        return conditions, ref_images, int(seed)

    def dreamo_pipeline(self, prompt, width, height, num_inference_steps, guidance_scale, ref_conds, generator,
                        true_cfg_scale, true_cfg_start_step, true_cfg_end_step, negative_prompt, neg_guidance_scale,
                        first_step_guidance_scale):
        record(prompt=prompt, width=width, height=height, ref_conds=ref_conds, generator=generator)
        return Images(answer(height, width))
""",
}

MOSAIC = {
    "inference.py": "",
    "utils.py": """
from PIL import Image

def process_image(image_path, target_size, pad_color=(255, 255, 255), scale=0.8):
    return Image.open(image_path).convert("RGB").resize((target_size, target_size))
""",
    "src/__init__.py": "",
    "src/flux_omini.py": """
from standin import answer, record

class Condition:
    def __init__(self, condition, adapter_setting, position_delta=None):
        self.condition, self.adapter, self.position_delta = condition, adapter_setting, position_delta

def generate(pipeline, prompt, conditions, num_inference_steps, num_images_per_prompt, height, width, guidance_scale,
             generator):
    record(prompt=prompt, conditions=[[c.condition, c.adapter, c.position_delta] for c in conditions], height=height,
           width=width, generator=generator, adapters=pipeline.get_active_adapters(), kind=type(pipeline).__name__)
    return ([answer(height, width)],)
""",
}

IMAGECRITIC = {
    "src/__init__.py": "",
    "src/detail_encoder.py": """
import torch

class DetailEncoder(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.fuse = torch.nn.Parameter(torch.ones(3))
""",
    "src/lora_helper.py": """
from standin import record

def set_single_lora(transformer, local_path, lora_weights=[], cond_size=512):
    record(lora=local_path.rsplit("/", 1)[1], transformer=transformer, lora_weights=lora_weights)
""",
    "src/kontext_custom_pipeline.py": """
from standin import Images, answer, record

class FluxKontextPipelineWithPhotoEncoderAddTokens:
    transformer = "the transformer"
    detail_encoder = None

    @classmethod
    def from_pretrained(cls, path, torch_dtype):
        record(base=str(path))
        return cls()

    def to(self, device):
        return self

    def __call__(self, image_A, image_B, prompt, height, width, num_inference_steps, guidance_scale, generator):
        record(image_A=image_A, image_B=image_B, prompt=prompt, height=height, width=width,
               steps=num_inference_steps, generator=generator, encoder=self.detail_encoder.fuse.tolist())
        return Images(answer(height, width))
""",
}

HIFI_INPAINT = {
    "scripts/infer_hard_case.py": """
def apply_high_pass_filter(image):
    return image.convert("L").point(lambda value: 255 - value)
""",
    "src/__init__.py": "",
    "src/flux/__init__.py": "",
    "src/flux/condition.py": """
class Condition:
    def __init__(self, condition_type, raw_img=None, condition=None, mask=None, position_delta=None):
        assert condition_type == "subject" and raw_img is None and mask is None
        self.condition, self.position_delta = condition, position_delta
""",
    "src/flux/generate.py": """
import torch
from standin import Images, answer, record

def generate(pipeline, conditions=None, conditions_texture=None, conditions_texture_mask=None, config_path=None,
             model_config={}, condition_scale=1.0, default_lora=False, use_texture_image=False, **params):
    params.pop("generator")
    record(conditions=[[c.condition, c.position_delta] for c in conditions], use_texture=use_texture_image,
           texture=[[c.condition, c.position_delta] for c in conditions_texture], mask=conditions_texture_mask,
           alphas=[float(block.alpha.detach().sum()) for block in pipeline.transformer.transformer_blocks],
           adapters=pipeline.get_active_adapters(), lora=default_lora, noise=float(torch.randn(1)), **params)
    return Images(answer(params["height"], params["width"]))
""",
}

ADAREFSR = {
    "demo.py": "",
    "models/ram_swin_large_14m.pth": "",
    "models/DAPE.pth": "",
    "assets/mm-realsr/de_net.pth": "",
    "main_code/__init__.py": "",
    "main_code/model/__init__.py": "",
    "main_code/model/anymate_anyone/__init__.py": "",
    "main_code/model/anymate_anyone/reference_attention.py": """
class ReferenceNetAttention:
    def __init__(self, unet, mode, fusion_blocks, is_image, dtype):
        assert (mode, fusion_blocks, is_image) in (("write", "full", True), ("read", "full", True))
        self.unet, self.features = unet, None

    def update(self, writer, dtype):
        self.unet.seen = writer.unet.seen

    def clear(self):
        self.unet.seen = None
""",
    "main_code/model/de_net.py": """
import torch
from standin import record

class DEResNet(torch.nn.Module):
    def __init__(self, num_in_ch, num_degradation):
        super().__init__()
        self.count = num_degradation

    def load_model(self, path):
        record(judge=path.rsplit("/", 1)[1])

    def forward(self, x):
        return x.new_full((1, self.count), 0.5)
""",
    "main_code/model/ref_model.py": """
import torch

class RefModel(torch.nn.Module):
    def __init__(self, sd_path):
        super().__init__()
        self.unet = torch.nn.Identity()

    def forward(self, x, prompt):
        self.unet.seen = (x, prompt)
""",
    "main_code/model/gen_model.py": """
import torch
from standin import record

class GenModel(torch.nn.Module):
    def __init__(self, sd_path, pretrained_backbone_path, pretrained_ref_gen_path, args):
        super().__init__()
        self.unet = torch.nn.Identity()
        record(files=[p.rsplit("/", 1)[1] for p in (pretrained_backbone_path, pretrained_ref_gen_path)],
               tokens=args.learnable_tokens)

    def forward(self, c_t, deg_score, prompt):
        reference, words = self.unet.seen
        colours = [[round(float(v)) for v in ((x[0] * 0.5 + 0.5) * 255).mean((1, 2))] for x in (c_t, reference)]
        record(draft=colours[0], reference=colours[1], degraded=deg_score.flatten().tolist(), prompts=[prompt, words],
               range=[float(c_t.min()) >= -1, float(c_t.max()) <= 1], noise=float(torch.randn(1)))
        green = torch.tensor([10.0, 240.0, 10.0], dtype=c_t.dtype) / 127.5 - 1
        return green.view(1, 3, 1, 1).expand_as(c_t)
""",
    "my_utils/__init__.py": "",
    "my_utils/testing_utils.py": """
import types

def parse_args_paired_testing(input_args=None):
    assert input_args == []
    return types.SimpleNamespace(fusion_blocks="full", learnable_tokens=16)
""",
    "my_utils/wavelet_color.py": """
from standin import record

def wavelet_color_fix(target, source):
    record(coloured_by=source)
    return target
""",
    "ram/__init__.py": """
def inference_ram(image, model):
    assert image.shape[-2:] == (384, 384)
    return model.words
""",
    "ram/models/__init__.py": "",
    "ram/models/ram.py": """
import torch

class Tagger(torch.nn.Module):
    def __init__(self, words):
        super().__init__()
        self.words = words

def ram(pretrained, image_size, vit):
    assert (image_size, vit) == (384, "swin_l")
    return Tagger("a reference")
""",
    "ram/models/ram_lora.py": """
from ram.models.ram import Tagger

def ram(pretrained, pretrained_condition, image_size, vit):
    assert pretrained_condition.endswith("DAPE.pth")
    return Tagger("a draft")
""",
}

CHECKOUTS: dict[str, Mapping[str, str]] = {
    "omnigen2": OMNIGEN2, "bagel": BAGEL, "dreamo": DREAMO, "mosaic": MOSAIC, "imagecritic": IMAGECRITIC,
    "hifi-inpaint": HIFI_INPAINT, "adarefsr": ADAREFSR,
}  # fmt: skip


def write_checkout(folder: Path, name: str) -> Path:
    """A stand-in for the authors' checkout of a model."""
    for file, text in {**CHECKOUTS[name], "standin.py": RECORD}.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def records(folder: Path) -> dict[str, Any]:
    """Everything a stand-in has written down, the last word of each name."""
    found: dict[str, Any] = {}
    for entry in json.loads((folder / "record.json").read_text(encoding="utf-8")):
        found |= entry
    return found


def touch(folder: Path, *files: str) -> Path:
    """A folder with empty files."""
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}", encoding="utf-8")
    return folder
