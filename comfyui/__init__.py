"""ComfyUI nodes: put a detail right by a model of refbench, and measure a result. Copy this folder to custom_nodes.

IMAGE is (B, H, W, 3) float in [0, 1], MASK (B, H, W) in [0, 1]; above 0.5 is to be put right. A reference may have
another size than the draft. Where there is one reference or mask for several drafts, it is taken for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import ComfyExtension, io

CATEGORY = "refbench"


def _pictures(batch: torch.Tensor) -> list[np.ndarray]:
    eight = (batch.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [np.ascontiguousarray(one[..., :3]) for one in eight]


def _masks(batch: torch.Tensor) -> list[np.ndarray]:
    return [np.ascontiguousarray(one) for one in (batch.detach().float() > 0.5).cpu().numpy()]


def _each(parts: list[np.ndarray], count: int, what: str) -> list[np.ndarray]:
    if len(parts) not in (1, count):
        raise ValueError(f"Expected 1 {what} or {count}, one for each image, but {len(parts)} came; batch them alike.")
    return parts * count if len(parts) == 1 else parts


def _models() -> list[str]:
    """Models that run here: nothing is missing, and none costs money."""
    from refbench.runs.catalogue import models

    return [str(row["name"]) for row in models() if row["ready"] == "yes" and not row["price_per_image_usd"]]


_LOADED: dict[tuple[str, str], Any] = {}
"""The one model that is held, by name and device."""


def _loaded(model: str, device: str) -> Any:
    import refbench

    if (model, device) not in _LOADED:
        while _LOADED:
            _LOADED.popitem()[1].close()
        _LOADED[model, device] = refbench.load_adapter(model, device=device)
    return _LOADED[model, device]


class RefbenchRefine(io.ComfyNode):
    """Put what the mask covers right from a reference."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Draft, reference and mask in, the refined image out."""
        names = _models()
        return io.Schema(
            node_id="RefbenchRefine",
            display_name="Refine from a reference (refbench)",
            category=CATEGORY,
            description="Puts the masked detail of an image right from a reference of the same thing.",
            inputs=[
                io.Image.Input("draft"),
                io.Image.Input("reference"),
                io.Mask.Input("mask", tooltip="White is put right; the rest stays as it is."),
                io.Combo.Input("model", options=names, default="omnirefiner" if "omnirefiner" in names else names[0]),
                io.String.Input("prompt", default="", multiline=True, tooltip="Empty: to restore the detail."),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1),
                io.Combo.Input("device", options=["auto", "cpu", "cuda", "mps"], default="auto"),
            ],
            outputs=[io.Image.Output("refined", display_name="refined")],
        )

    @classmethod
    def execute(
        cls,
        draft: torch.Tensor,
        reference: torch.Tensor,
        mask: torch.Tensor,
        model: str,
        prompt: str,
        seed: int,
        device: str,
    ) -> io.NodeOutput:
        """Refine each image of the batch."""
        from refbench.images import check_mask
        from refbench.runs.refining import PROMPT
        from refbench.schema import Inputs

        drafts = _pictures(draft)
        references = _each(_pictures(reference), len(drafts), "reference")
        masks = _each(_masks(mask), len(drafts), "mask")
        adapter, refined = _loaded(model, device), []
        for at, (one, shown, marked) in enumerate(zip(drafts, references, masks, strict=True)):
            check_mask(marked, one.shape[:2], f"the mask of image {at}")
            inputs = Inputs(f"image-{at}", one, shown, marked, prompt.strip() or PROMPT, None, seed)
            refined.append(torch.from_numpy(adapter.refine(inputs).image.copy()))
        return io.NodeOutput(torch.stack(refined).float() / 255)


class RefbenchMeasure(io.ComfyNode):
    """Score results beside their targets."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Output and target in, recovery points out."""
        return io.Schema(
            node_id="RefbenchMeasure",
            display_name="Measure a refinement (refbench)",
            category=CATEGORY,
            description="Recovery points: 0 is a trivial answer, 100 the target. Several images make one number.",
            inputs=[
                io.Image.Input("output"),
                io.Image.Input("target"),
                io.Image.Input("reference"),
                io.Mask.Input("mask"),
                io.Image.Input("draft"),
            ],
            outputs=[
                io.Float.Output("score", display_name="score"),
                io.Float.Output("texture_fidelity", display_name="texture fidelity"),
                io.Float.Output("reference_alignment", display_name="reference alignment"),
                io.Float.Output("local_consistency", display_name="local consistency"),
                io.String.Output("numbers", display_name="numbers"),
            ],
        )

    @classmethod
    def execute(
        cls,
        output: torch.Tensor,
        target: torch.Tensor,
        reference: torch.Tensor,
        mask: torch.Tensor,
        draft: torch.Tensor,
    ) -> io.NodeOutput:
        """Measure the batch as a run is measured."""
        from refbench.metrics.torch import RefBench

        count = len(output)
        parts = [_each(_pictures(one), count, "image") for one in (output, target, reference, draft)]
        masks = _each(_masks(mask), count, "mask")
        pictures = [torch.from_numpy(np.stack(part)).permute(0, 3, 1, 2).float() / 255 for part in parts]
        metric = RefBench()
        metric.update(*pictures[:3], torch.from_numpy(np.stack(masks))[:, None].float(), pictures[3])
        found = {name: float(value) for name, value in metric.compute().items()}
        text = "\n".join(f"{name.replace('_', ' ')}: {value:.1f}" for name, value in found.items())
        return io.NodeOutput(*(found[name] for name in list(found)[:4]), text)


class RefbenchExtension(ComfyExtension):
    """What this folder adds to ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Both nodes."""
        return [RefbenchRefine, RefbenchMeasure]


async def comfy_entrypoint() -> ComfyExtension:
    """Called by ComfyUI when it starts."""
    return RefbenchExtension()
