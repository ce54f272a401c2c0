"""Random tiny models of the published classes and file layout, one a diffusers editor, made without network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLQwenImage21,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    QwenImage21Pipeline,
    QwenImage21Transformer2DModel,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
    StableDiffusionInpaintPipeline,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from tests.omnirefiner import toys

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{{ part.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip


def qwen_tokenizer() -> Any:
    """Qwen's tokenizer class over single bytes, with its special tokens."""
    from transformers import Qwen2TokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {letter: number for number, letter in enumerate(sorted(bytes_to_unicode().values()))}
    found = Qwen2TokenizerFast(vocab=vocabulary, merges=[], extra_special_tokens=list(SPECIAL))
    found.chat_template = CHAT
    return found


def kontext(folder: Path) -> None:
    clip, clip_tokenizer, t5, t5_tokenizer = toys.text_parts()
    FluxKontextPipeline(
        toys.scheduler(), toys.autoencoder(), clip, clip_tokenizer, t5, t5_tokenizer, toys.transformer()
    ).save_pretrained(folder)


def klein(folder: Path) -> None:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = qwen_tokenizer()
    torch.manual_seed(0)
    text_encoder = Qwen3ForCausalLM(
        Qwen3Config(
            hidden_size=8, intermediate_size=16, num_hidden_layers=28, num_attention_heads=2, num_key_value_heads=2,
            head_dim=4, vocab_size=len(tokenizer), max_position_embeddings=512,
        )
    )  # fmt: skip
    transformer = Flux2Transformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=24, timestep_guidance_channels=16, axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(
        sample_size=32, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 4, 4, 4), layers_per_block=1, latent_channels=1, norm_num_groups=1,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    Flux2KleinPipeline(
        FlowMatchEulerDiscreteScheduler(), vae, text_encoder, tokenizer, transformer, is_distilled=True
    ).save_pretrained(folder)


def qwen(folder: Path) -> None:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    tokenizer = qwen_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(0)
    text_encoder = Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2, "vocab_size": len(tokenizer), "max_position_embeddings": 4096,
                "bos_token_id": 0, "eos_token_id": 0,
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            },
            image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        )
    )  # fmt: skip
    transformer = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=3,
        joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
    )  # fmt: skip
    pixels = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen2VLVideoProcessor(**pixels), chat_template=CHAT
    )
    QwenImageEditPlusPipeline(toys.scheduler(), vae, text_encoder, tokenizer, processor, transformer).save_pretrained(
        folder
    )


def qwen21(folder: Path) -> None:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    tokenizer = qwen_tokenizer()
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    torch.manual_seed(0)
    text_encoder = Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config={
                "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2, "head_dim": 8, "vocab_size": len(tokenizer), "max_position_embeddings": 4096,
                "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6,
                                    "mrope_interleaved": True},
            },
            vision_config={
                "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                "patch_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [],
            },
            image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
            vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
        )
    )  # fmt: skip
    transformer = QwenImage21Transformer2DModel(
        patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        context_in_dim=16, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    vae = AutoencoderKLQwenImage21(
        base_dim=4, decoder_base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1, latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )  # fmt: skip
    images = Qwen2VLImageProcessor(patch_size=16, size={"shortest_edge": 32 * 32, "longest_edge": 256 * 256})
    processor = Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(), chat_template=CHAT)
    QwenImage21Pipeline(toys.scheduler(), vae, text_encoder, processor, transformer).save_pretrained(folder)


def _unet(cross: int, **changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(4)
    return UNet2DConditionModel(
        block_out_channels=(16, 32), layers_per_block=1, sample_size=32, in_channels=9, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=cross, norm_num_groups=8, attention_head_dim=(2, 4), **changes,
    )  # fmt: skip


def _vae() -> AutoencoderKL:
    torch.manual_seed(5)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, latent_channels=4, norm_num_groups=4,
    )  # fmt: skip


def _clip(width: int, tokenizer: Any, kind: Any = CLIPTextModel) -> Any:
    torch.manual_seed(6)
    return kind(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=width, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, max_position_embeddings=77, projection_dim=width, bos_token_id=0, eos_token_id=1,
            pad_token_id=1,
        )
    )  # fmt: skip


def inpaint(folder: Path) -> None:
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    tokenizer = toys.text_parts()[1]
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 16, "projection_dim": 8}  # fmt: skip
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=8))
    for embeds in (checker.special_care_embeds_weights, checker.concept_embeds_weights):
        torch.nn.init.constant_(embeds, 1e9)  # nothing is flagged
    StableDiffusionInpaintPipeline(
        _vae(), _clip(20, tokenizer), tokenizer, _unet(20),
        DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                      steps_offset=1), checker,
        CLIPImageProcessor(size=32, crop_size=32),
    ).save_pretrained(folder)  # fmt: skip


def sdxl(folder: Path) -> None:
    tokenizer = toys.text_parts()[1]
    unet = _unet(
        40, transformer_layers_per_block=(1, 1), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 20,
    )  # fmt: skip
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    StableDiffusionXLInpaintPipeline(
        _vae(), _clip(20, tokenizer), _clip(20, tokenizer, CLIPTextModelWithProjection), tokenizer, tokenizer, unet,
        scheduler,
    ).save_pretrained(folder)  # fmt: skip
    ip_adapter(folder / "ip-adapter", unet)


def ip_adapter(folder: Path, unet: UNet2DConditionModel) -> None:
    """An IP-Adapter Plus in the published layout: weights, and the image encoder in a folder of its own."""
    from safetensors.torch import save_file

    torch.manual_seed(7)
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=64, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32,
            patch_size=16, projection_dim=8,
        )
    )  # fmt: skip
    encoder.save_pretrained(folder / "models" / "image_encoder")
    shapes: dict[str, tuple[int, ...]] = {
        "latents": (1, 4, 64), "proj_in.weight": (64, 64), "proj_in.bias": (64,), "proj_out.weight": (40, 64),
        "proj_out.bias": (40,), "norm_out.weight": (40,), "norm_out.bias": (40,),
    }  # fmt: skip
    for layer in range(4):
        shapes |= {
            f"layers.{layer}.0.{norm}.{part}": (64,) for norm in ("norm1", "norm2") for part in ("weight", "bias")
        }
        shapes |= {f"layers.{layer}.0.to_q.weight": (64, 64), f"layers.{layer}.0.to_kv.weight": (128, 64)}
        shapes |= {f"layers.{layer}.0.to_out.weight": (64, 64), f"layers.{layer}.1.0.weight": (64,)}
        shapes |= {f"layers.{layer}.1.0.bias": (64,), f"layers.{layer}.1.1.weight": (256, 64)}
        shapes |= {f"layers.{layer}.1.3.weight": (64, 256)}
    state = {f"image_proj.{name}": torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    number = 1
    for name in unet.attn_processors:
        if name.endswith("attn2.processor"):
            width = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            state |= {f"ip_adapter.{number}.{part}.weight": torch.randn(width, 40) for part in ("to_k_ip", "to_v_ip")}
            number += 2
    (folder / "sdxl_models").mkdir(parents=True)
    save_file(state, folder / "sdxl_models" / "ip-adapter-plus_sdxl_vit-h.safetensors")


MAKERS: dict[str, Callable[[Path], None]] = {
    "flux-kontext": kontext, "flux-kontext-inpaint": kontext, "flux2-klein": klein,
    "flux2-klein-inpaint": klein, "qwen-image-edit": qwen, "qwen-image-2.1": qwen21,
    "sd-inpaint": inpaint, "sdxl-ip-adapter": sdxl,
}  # fmt: skip
