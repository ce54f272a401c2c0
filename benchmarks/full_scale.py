"""FLUX.1-Kontext's published shapes, random, through refbench's own code: time, memory, share of the chip's peak.

    python benchmarks/full_scale.py OUT

On a GPU (80 GB or more) the model is the 12 B one in bfloat16, its encoders of text and pictures with it. On a CPU it
is 1/64 of that, its width an eighth, in float32 at an eighth of the sides: that shows that the script runs, and no
figure of the full scale. Each row stands beside `kontext.estimate` of the same shapes. ``OUT/full_scale.md`` and
``.json`` are written after every row, so that a run that is cut off keeps what it has.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refbench.devices import AUTO, described, resolve
from refbench.omnirefiner.config import Config, load_config
from refbench.omnirefiner.flux.kontext import TRANSFORMER, Estimate, estimate
from refbench.omnirefiner.method.pipeline import OmniRefinerPipeline
from refbench.omnirefiner.refine import refine_many
from refbench.omnirefiner.training.grpo import GRPOLearner
from refbench.omnirefiner.training.loop import Learner, train
from refbench.omnirefiner.training.sft import SupervisedLearner
from refbench.omnirefiner.training.stages import prompts_of
from refbench.tasks.suite import load_suite
from tests.omnirefiner.toys import NoiseSampler, scheduler, tokenizers

PEAKS = {"H200 NVL": 835.5, "H200": 989.5, "H100 NVL": 835.5, "H100 PCIe": 756.5, "H100": 989.5, "A100": 312.0}
"""Dense bf16 in TFLOP/s. NVIDIA's data sheets give 1,979 (SXM), 1,671 (NVL) and 1,513 (PCIe) for H200 and H100 with
sparsity, which is twice the dense rate (nvidia.com/en-us/data-center/h200, .../h100), and 312 for A100 without."""
SMALLER = 8
"""By which width and sides are divided on a CPU."""
GB = 1e9


@dataclass(frozen=True, slots=True)
class Row:
    """What one thing took."""

    name: str
    seconds: float | None
    """None where it could not be run; `note` says why."""
    memory_gb: float | None = None
    """Most memory: of the GPU, or of this process."""
    teraflop: float | None = None
    """Counted by torch while it ran: matrix products, attention and convolutions, recomputation with them."""
    estimated: float | None = None
    """TFLOP by `kontext.estimate`, which leaves out encoders and autoencoder; computed, not measured."""
    note: str = ""


@dataclass(slots=True)
class Bench:
    """One model on one device, and what was measured of it."""

    device: str
    out: Path
    config: Config
    transformer: dict[str, Any]
    sizes: tuple[int, int]
    usual: int
    """Tokens of text of the plain rows."""
    pipeline: OmniRefinerPipeline
    rows: list[Row]
    text: int = 0
    """Tokens of text of the row that is measured."""

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU."""
        return self.device.startswith("cuda")

    def add(self, name: str, measure: Callable[[], Row]) -> Row:
        """Measure, write everything out, and go on where it cannot be done."""
        try:
            row = replace(measure(), name=name)
        except (RuntimeError, ValueError, ImportError) as error:
            row = Row(name, None, note=f"not measured: {str(error).strip().splitlines()[0][:120]}")
            if self.cuda:
                torch.cuda.empty_cache()
        self.rows.append(row)
        write(self)
        sys.stderr.write(f"{row}\n")
        return row

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Fills in seconds and memory_gb of what runs inside."""
        found: dict[str, float] = {}
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        yield found
        if self.cuda:
            torch.cuda.synchronize()
        found["seconds"] = time.perf_counter() - start
        used = torch.cuda.max_memory_allocated() if self.cuda else peak_memory()
        found["memory_gb"] = used / GB

    @contextmanager
    def counted(self) -> Iterator[FlopCounterMode]:
        """Counts operations. On a CPU attention is taken apart first: torch has no count of its fused kernel."""
        with ExitStack() as stack:
            if not self.cuda:
                stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            yield stack.enter_context(FlopCounterMode(display=False))

    def estimate(self, size: int, text: int | None = None) -> Estimate:
        """Of this model's shapes."""
        rank = self.config.sft.lora_rank
        assert rank is not None
        return estimate(size, text or self.text, rank, transformer=self.transformer)


def peak_memory() -> int:
    """Most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def build(device: str, transformer: dict[str, Any], smaller: int, working_size: int) -> OmniRefinerPipeline:
    """All of FLUX.1-Kontext's components with random weights, made where they stay and in their precision."""
    from diffusers import AutoencoderKL, FluxTransformer2DModel
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip_words, t5_words = tokenizers()
    flux: Any = FluxTransformer2DModel
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16 if device.startswith("cuda") else torch.float32)
    try:
        with torch.device(device):
            network = flux(**transformer)
            vae: Any = AutoencoderKL(
                block_out_channels=tuple(c // smaller for c in (128, 256, 512, 512)), layers_per_block=2,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
                latent_channels=16, norm_num_groups=32 // min(smaller, 2), scaling_factor=0.3611, shift_factor=0.1159,
                use_quant_conv=False, use_post_quant_conv=False,
            )  # fmt: skip
            t5 = T5EncoderModel(T5Config(
                vocab_size=32128, d_model=4096 // smaller, d_kv=64, d_ff=10240 // smaller, num_layers=24,
                num_heads=64 // smaller, feed_forward_proj="gated-gelu",
            ))  # fmt: skip
            clip = CLIPTextModel(CLIPTextConfig(
                vocab_size=49408, hidden_size=768 // smaller, intermediate_size=3072 // smaller, num_hidden_layers=12,
                num_attention_heads=12, max_position_embeddings=77, projection_dim=768 // smaller, bos_token_id=0,
                eos_token_id=1, pad_token_id=1,
            ))  # fmt: skip
    finally:
        torch.set_default_dtype(before)
    pipeline = OmniRefinerPipeline(
        scheduler(), vae.eval(), network.eval(), clip.eval(), clip_words, t5.eval(), t5_words,
        working_size=working_size, default_steps=28, guidance=2.5,
    )  # fmt: skip
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


class Samples:
    """Quadruplets made of noise on a device; what they show takes no part in time and memory."""

    def __init__(self, size: int, device: str) -> None:
        self.made, self.device = NoiseSampler(size), device

    def batch(self, count: int, misalignment: float | Tensor = 1.0, details: bool = False) -> dict[str, Tensor]:
        """As :class:`refbench.omnirefiner.training.data.Sampler` has it."""
        return {name: part.to(self.device) for name, part in self.made.batch(count, misalignment, details).items()}


def set_text(bench: Bench, tokens: int) -> None:
    """Let prompts be padded to so many tokens, in place of FLUX's 512."""
    bench.text = tokens
    bench.pipeline.embed_prompts = partial(OmniRefinerPipeline.embed_prompts, bench.pipeline, max_length=tokens)


def stage1(bench: Bench, steps: int, batch: int = 1, count: bool = True) -> Row:
    """A step of stage 1: one counted and warming up, then the mean of `steps`."""
    config = bench.config.sft.model_copy(update={"batch": batch, "steps": 1, "validate_every": 0})
    learner: Learner = SupervisedLearner(
        bench.pipeline, config, Samples(config.size, bench.device), {}, prompts_of(bench.pipeline), stage="sft",
        device=bench.device,
    )  # fmt: skip
    teraflop, found = run(bench, learner, steps, count)
    made = None if teraflop is None else bench.estimate(config.size).teraflop_step * batch
    return Row("", found["seconds"], found["memory_gb"], teraflop, made)


def run(bench: Bench, learner: Learner, steps: int, count: bool) -> tuple[float | None, dict[str, float]]:
    """TFLOP of a first step, and seconds and memory of `steps` more, by the loop that trains."""
    where = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=where) as folder:
        with ExitStack() as stack:
            counter = stack.enter_context(bench.counted()) if count else None
            train(learner, Path(folder) / "first")
        teraflop = None if counter is None else counter.get_total_flops() / 1e12
        learner.settings = replace(learner.settings, steps=steps + 1, log_every=1)
        with bench.watched() as found:
            train(learner, Path(folder) / "timed")
        lines = [json.loads(line) for line in (Path(folder) / "timed" / "log.jsonl").read_text().splitlines()]
    taken = [line["seconds_a_step"] for line in lines if "seconds_a_step" in line]
    # a GPU's first step is still being worked on when it is logged: the later ones are whole
    found["seconds"] = sum(taken[1:]) / steps
    return teraflop, found


def grpo(bench: Bench, conditions: int) -> Row:
    """One iteration of stage 2 with so many questions."""
    config = bench.config.grpo.model_copy(update={"conditions": conditions, "iterations": 1, "validate_every": 0})
    learner = GRPOLearner(
        bench.pipeline, config, bench.config.sft, Samples(config.size, bench.device), {}, prompts_of(bench.pipeline),
        device=bench.device,
    )  # fmt: skip
    learner.settings = replace(learner.settings, validate_first=False)
    teraflop, found = run(bench, learner, 1, True)
    facts, samples = bench.estimate(config.size), conditions * config.group
    explored = samples * min(config.window[1], config.steps - 1)
    calls = samples * config.steps + explored
    made = calls * facts.teraflop_forward + (explored + conditions) * facts.teraflop_step
    note = (
        f"{conditions} x {config.group} samples, {config.steps} steps, {config.micro_batch} a call; the configuration "
        f"has {bench.config.grpo.conditions} x {bench.config.grpo.group}"
    )
    return Row("", found["seconds"], found["memory_gb"], teraflop, made, note)


def refine(bench: Bench, size: int, steps: int, count: bool = True) -> Row:
    """A sample of `core` refined at a working size: the call of the network and the autoencoder, without the search
    of the reference."""
    bench.pipeline.register_to_config(working_size=size)
    bench.pipeline.transformer.eval()
    suite = load_suite("core")
    sample = suite.truth(suite.ids[0])
    assert sample.draft is not None
    assert sample.reference is not None
    focused = bench.pipeline.focus(sample.draft, sample.reference, sample.mask, reference_box=sample.reference_box)

    def once() -> None:
        bench.pipeline([focused], ["Restore the detail inside the mask from the reference."], [0], steps=steps)

    teraflop = None
    with ExitStack() as stack:
        counter = stack.enter_context(bench.counted()) if count else None
        once()
    if counter is not None:
        teraflop = counter.get_total_flops() / 1e12
    with bench.watched() as found:
        once()
    made = steps * bench.estimate(size).teraflop_forward if count else None
    return Row("", found["seconds"], found["memory_gb"], teraflop, made, f"{steps} steps")


def whole(bench: Bench, steps: int) -> Row:
    """The same from picture to picture, with the search, as the adapter refines."""
    suite = load_suite("core")
    sample = suite.truth(suite.ids[0])
    assert sample.draft is not None
    assert sample.reference is not None
    asked = (sample.draft, sample.reference, sample.mask, sample.reference_box, "Restore it.", 0)
    with bench.watched() as found:
        refine_many([asked], bench.pipeline, steps=steps)
    return Row("", found["seconds"], found["memory_gb"], note=f"{steps} steps, with the search of the reference")


def compiled(module: nn.Module, backend: str | None) -> None:
    """Compile a transformer's blocks, or with None run them as they are written again."""
    torch._dynamo.reset()
    if backend is not None:
        module.compile_repeated_blocks(backend=backend)  # type: ignore[operator]
        return
    for part in module.modules():
        part._compiled_call_impl = None


def peak(device: str) -> float | None:
    """Dense bf16 in TFLOP/s by the data sheet; None for a chip that is not in :data:`PEAKS`."""
    name = described(device)
    return next((rate for chip, rate in PEAKS.items() if all(word in name for word in chip.split())), None)


def write(bench: Bench) -> None:
    """Write all rows."""
    chip = peak(bench.device)
    full = bench.cuda and bench.transformer == TRANSFORMER
    size = bench.config.sft.size
    found = bench.estimate(size, bench.usual)
    what = "FLUX.1-Kontext's shapes, 12 B, bfloat16" if full else "1/64 of FLUX.1-Kontext's shapes, float32"
    lines = [
        f"Random weights: {what}; on {described(bench.device)}, torch {torch.__version__}, {torch.get_num_threads()} "
        f"thread(s); {bench.usual} tokens of text; LoRA of rank {bench.config.sft.lora_rank}.",
        "",
        f"`kontext.estimate` at {size} px of these shapes, computed and not measured: {found.tokens:,} image tokens, "
        f"{found.teraflop_forward:.4g} TFLOP a call, {found.teraflop_step:.4g} TFLOP a step of stage 1, adapter "
        f"{found.lora_gb} GB, activations of a sample {found.activations_gb} GB"
        + (f", weights {found.weights_gb} GB." if full else "."),
        "",
        f"Peak: {chip:,} TFLOP/s, dense bf16, by the vendor's data sheet." if chip else "Peak: of no chip known here.",
        *([] if full else ["", "**The figures of the full scale are not measured.**"]),
        "",
        "| | seconds | TFLOP, counted | TFLOP, estimated | of the peak | peak memory, GB | |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in bench.rows:
        share = f"{row.teraflop / row.seconds / chip:.0%}" if chip and row.teraflop and row.seconds else "not measured"
        cells = [
            "" if value is None else f"{value:.3g}"
            for value in (row.seconds, row.teraflop, row.estimated, row.memory_gb)
        ]
        cells.insert(3, share if row.teraflop else "")
        lines.append(f"| {row.name} | {' | '.join(cells)} | {row.note} |")
    bench.out.mkdir(parents=True, exist_ok=True)
    (bench.out / "full_scale.md").write_text("\n".join(lines) + "\n")
    facts = {"what": what, "device": described(bench.device), "torch": torch.__version__, "peak_tflops": chip}
    rows = [asdict(row) for row in bench.rows]
    (bench.out / "full_scale.json").write_text(json.dumps(facts | {"estimate": asdict(found), "rows": rows}, indent=1))


def main() -> None:
    """Measure everything, the plain rows first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("out", type=Path, help="folder of the results")
    parser.add_argument("--device", default=AUTO)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a row of stage 1")
    parser.add_argument("--conditions", type=int, default=1, help="questions of the GRPO iteration")
    parser.add_argument("--plain", action="store_true", help="without the options: backends, compiling, packing")
    arguments = parser.parse_args()
    device = resolve(arguments.device)
    cuda = device.startswith("cuda")
    if cuda:
        torch.set_float32_matmul_precision("high")  # as refbench.omnirefiner.training.stages has it
    smaller = 1 if cuda else SMALLER
    config, transformer, sizes = load_config("flux-kontext"), dict(TRANSFORMER), (512 // smaller, 1024 // smaller)
    calls, shorter, text = (28, 32, 512) if cuda else (2, 32, 64)
    if not cuda:
        transformer |= {"num_attention_heads": 24 // smaller}
        transformer |= {name: TRANSFORMER[name] // smaller for name in ("joint_attention_dim", "pooled_projection_dim")}
        small = {"size": sizes[0]}
        config = config.model_copy(update={
            "sft": config.sft.model_copy(update=small | {"lora_rank": 64 // smaller, "lora_alpha": 64 // smaller}),
            "grpo": config.grpo.model_copy(update=small | {"group": 2, "steps": 3, "patch": 16}),
        })  # fmt: skip
    start = time.perf_counter()
    pipeline = build(device, transformer, smaller, sizes[0])
    bench = Bench(device, arguments.out, config, transformer, sizes, text, pipeline, [])
    set_text(bench, text)
    with bench.watched() as found:
        parts = (pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2, pipeline.vae)
        held = sum(p.numel() * p.element_size() for part in parts for p in part.parameters()) / GB
    built = Row("", time.perf_counter() - start, found["memory_gb"], note=f"{held:.3g} GB of weights")
    bench.add("making the weights", lambda: built)
    for size in sizes:
        bench.add(f"refine, {size} px", partial(refine, bench, size, calls))
    bench.add(f"refine, {sizes[1]} px, picture to picture", partial(whole, bench, calls))
    bench.add(f"stage 1, {sizes[0]} px", partial(stage1, bench, arguments.steps))
    if not arguments.plain:
        options(bench, arguments.steps, calls, shorter)
    pipeline.fuse_lora(components=["transformer"])
    pipeline.unload_lora_weights()  # type: ignore[no-untyped-call]
    bench.add(f"GRPO iteration, {sizes[0]} px", partial(grpo, bench, arguments.conditions))
    sys.stdout.write((arguments.out / "full_scale.md").read_text())


def options(bench: Bench, steps: int, calls: int, shorter: int) -> None:
    """Stage 1 at the smaller size again: kernels of attention, several samples a call, short prompts, compiled."""
    net, size, text = bench.pipeline.transformer, bench.sizes[0], bench.text
    for backend in ("_native_flash", "_native_cudnn", "_native_efficient", "_native_math"):
        with_backend = partial(_with_backend, bench, backend, partial(stage1, bench, steps, count=False))
        bench.add(f"stage 1, {size} px, attention {backend.removeprefix('_native_')}", with_backend)
    bench.add(f"stage 1, {size} px, 4 samples a call", partial(stage1, bench, steps, batch=4))
    set_text(bench, shorter)
    bench.add(f"stage 1, {size} px, {shorter} tokens of text", partial(stage1, bench, steps))
    bench.add(f"refine, {size} px, {shorter} tokens of text", partial(refine, bench, size, calls))
    set_text(bench, text)
    backend = "inductor" if bench.cuda else "aot_eager"  # on a processor the graphs are found and not made faster
    compiled(net, backend)
    bench.add(f"stage 1, {size} px, torch.compile ({backend})", partial(stage1, bench, steps, count=False))
    bench.add(f"refine, {size} px, torch.compile ({backend})", partial(refine, bench, size, calls, count=False))
    compiled(net, None)


def _with_backend(bench: Bench, backend: str, measure: Callable[[], Row]) -> Row:
    bench.pipeline.transformer.set_attention_backend(backend)
    try:
        return measure()
    finally:
        bench.pipeline.transformer.set_attention_backend("native")


if __name__ == "__main__":
    main()
