"""What all models that are a diffusers pipeline share: loading, memory, sizes, seeds, batches, errors.

Weights are read from a local folder or from the hub's cache; nothing is downloaded during a run. The editors
themselves are in :mod:`refbench.adapters.editors`; each says which picture goes into which slot of its pipeline.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from refbench.adapters.contract import RefusedError
from refbench.adapters.editing import Options, Work, finish, flag, mask_picture, picture, prepare
from refbench.adapters.ready import fetch_command, hub_folder, no_gpu, no_weights, reasons
from refbench.errors import RefbenchError, UnavailableError, missing_package
from refbench.images import Image
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs

Offload = Literal["none", "model", "sequential"]
REQUIRES = ("torch", "diffusers", "transformers", "accelerate")
"""Modules of every editor's card."""
DTYPES = {"bfloat16": "bfloat16", "bf16": "bfloat16", "float16": "float16", "fp16": "float16", "float32": "float32"}


class DiffusersEditor:
    """A diffusers pipeline as an adapter; subclasses fill in the class variables and :meth:`arguments`.

    Args:
        device: where it runs; "cuda", "cuda:1", "mps" or "cpu".
        model: local folder, or hub id, of other weights for the same pipeline.
        revision: commit of the hub repository.
        dtype: "bfloat16", "float16" or "float32"; "auto" is bfloat16 on a GPU and float32 on a processor.
        offload: "model" keeps one component at a time on the GPU, "sequential" one layer at a time (slow, smallest).
        steps: denoising steps; by default as published.
        guidance: guidance scale; by default as published.
        size: side in px of the square whose area is worked at; by default as published.
        focus: work on an enlarged crop around the mask.
        paste_back: keep only the mask's inside of the answer.
        instruction: what is asked, with {prompt} where the sample's prompt belongs.
    """

    card: AdapterCard
    pipeline_class: ClassVar[str | type[Any]]
    """The class, or its name in diffusers."""
    repository: ClassVar[str]
    """Hub id of the published weights, or a local folder."""
    default_steps: ClassVar[int]
    default_guidance: ClassVar[float]
    default_size: ClassVar[int] = 1024
    multiple: ClassVar[int] = 16
    batches: ClassVar[bool] = False
    """Whether the pipeline takes several samples of one size at once."""
    default_instruction: ClassVar[str] = "{prompt}"
    __signature__: ClassVar[inspect.Signature]
    extra_files: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """(hub id, file, what else to fetch) of further weights."""

    def __init_subclass__(cls) -> None:
        """Show an editor's own options and the shared ones as one signature, for messages about unknown ones."""
        found = {**inspect.signature(DiffusersEditor.__init__).parameters, **inspect.signature(cls.__init__).parameters}
        kept = sorted((p for p in found.values() if p.kind is p.KEYWORD_ONLY), key=lambda p: p.name)
        cls.__signature__ = inspect.Signature(kept)

    def __init__(
        self,
        *,
        device: str = "cpu",
        model: str | None = None,
        revision: str | None = None,
        dtype: str = "auto",
        offload: Offload = "none",
        steps: int | None = None,
        guidance: float | None = None,
        size: int | None = None,
        focus: bool = False,
        paste_back: bool = False,
        instruction: str | None = None,
    ) -> None:
        if offload not in get_args(Offload):
            raise RefbenchError(f"Expected the option offload to be none, model or sequential, but it is '{offload}'.")
        if offload != "none" and device.startswith("cpu"):
            raise RefbenchError(
                f"Expected a GPU to offload from (offload={offload}), but the device is cpu; leave offload out, or add "
                "--device cuda."
            )
        if dtype != "auto" and dtype not in DTYPES:
            raise RefbenchError(
                f"Expected the option dtype to be auto or one of {', '.join(DTYPES)}, but it is '{dtype}'."
            )
        self.device, self.revision, self.offload = device, revision, offload
        self.model = str(model or self.repository)
        self.dtype = DTYPES.get(dtype, "float32" if device.startswith("cpu") else "bfloat16")
        self.steps = _positive("steps", steps, self.default_steps)
        self.guidance = self.default_guidance if guidance is None else float(guidance)
        self.instruction = instruction or self.default_instruction
        self.options = Options(
            focus=flag(focus, "focus"),
            paste_back=flag(paste_back, "paste_back"),
            size=_positive("size", size, self.default_size),
            multiple=self.multiple,
        )
        self.card = self._card_of(type(self).card)
        self.pipeline: Any = None

    def _card_of(self, published: AdapterCard) -> AdapterCard:
        """The class's card with what the options change: name, summary, and where the weights come from."""
        summary = self.options.on_card(published.summary)
        update: dict[str, Any] = {"name": published.name + self.options.suffix, "summary": summary}
        if self.model != self.repository:
            folder = Path(self.model).expanduser()
            update["weights"] = f"local folder {folder.name}" if folder.is_dir() else self.model
            update |= {"download_mb": None, "vram_gb": None, "licence": "of the weights the user chose"}
        return published.model_copy(update=update)

    @classmethod
    def ready(cls) -> str | None:
        """Why it cannot run here with the published weights."""
        found = [no_weights(cls.repository), *(no_weights(repo, files[0], *files) for repo, *files in cls.extra_files)]
        return reasons([*found, no_gpu(cls.card.vram_gb)])

    # ---- loading

    def setup(self) -> None:
        """Load the weights and put them where they are to run.

        Raises:
            UnavailableError: they are not here; says what fetches them.
            RefbenchError: they are damaged or of another pipeline, or memory ran out.
        """
        try:
            import diffusers
            import torch
        except ImportError as error:
            raise missing_package(error, f"for '{self.card.name}'") or error from None
        asked = self.pipeline_class
        kind: Any = getattr(diffusers, asked, None) if isinstance(asked, str) else asked
        if kind is None:
            raise UnavailableError(
                f"Expected a diffusers with {self.pipeline_class}, but it is {diffusers.__version__}; upgrade it."
            )
        folder = located(self.model, "model_index.json", self.revision)
        try:
            self.pipeline = kind.from_pretrained(folder, torch_dtype=getattr(torch, self.dtype), local_files_only=True)
            self.add_parts(self.pipeline)
            self._place(self.pipeline)
        except RefbenchError:
            raise
        except Exception as error:
            raise self._failure(error) or RefbenchError(
                f"Expected weights of {self.pipeline_class} at '{self.model}', but they do not load "
                f"({type(error).__name__}: {one_line(error, 200)}); fetch them again with "
                f"`{fetch_command(self.repository)}`, or name the right folder with -o model=PATH."
            ) from error
        self.pipeline.set_progress_bar_config(disable=True)

    def add_parts(self, pipeline: Any) -> None:
        """Load what the pipeline needs beside its own folder."""

    def _place(self, pipeline: Any) -> None:
        if self.offload == "model":
            pipeline.enable_model_cpu_offload(device=self.device)
        elif self.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=self.device)
        else:
            pipeline.to(self.device)

    def close(self) -> None:
        """Let go of the weights."""
        self.pipeline = None

    # ---- running

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """Keyword arguments of the pipeline's call for samples of one size: which picture goes into which slot."""
        raise NotImplementedError

    def prompt(self, work: Work) -> str:
        """The instruction for one sample."""
        return self.instruction.replace("{prompt}", work.inputs.prompt)

    def refine(self, inputs: Inputs, /) -> Image:
        """The refined picture of one sample."""
        return self.refine_batch([inputs])[0]

    def refine_batch(self, batch: Sequence[Inputs], /) -> list[Image]:
        """The refined pictures of several samples, those of one working size together where the pipeline can.

        Raises:
            RefbenchError: out of memory, or values that are not finite.
            RefusedError: the pipeline's safety checker declined.
        """
        if self.pipeline is None:
            self.setup()
        works = [prepare(inputs, self.options) for inputs in batch]
        done: dict[int, Image] = {}
        for group in self._groups(works):
            answers = self._answers([works[index] for index in group])
            for index, answer in zip(group, answers, strict=True):
                done[index] = finish(works[index], answer, self.options)
        return [done[index] for index in range(len(works))]

    def _groups(self, works: Sequence[Work]) -> Iterable[list[int]]:
        if not self.batches:
            return [[index] for index in range(len(works))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for index, work in enumerate(works):
            found.setdefault((work.draft.shape, work.reference.shape), []).append(index)
        return found.values()

    def _answers(self, works: Sequence[Work]) -> list[Image]:
        import torch

        # on the processor, so that one seed gives one noise on every device
        generators = [torch.Generator("cpu").manual_seed(work.inputs.seed) for work in works]
        several = len(works) > 1
        try:
            answer = self.pipeline(
                **self.arguments(works),
                num_inference_steps=self.steps,
                generator=generators if several else generators[0],
                output_type="np",
            )
        except Exception as error:
            failure = self._failure(error)
            if failure is None:
                raise
            raise failure from None
        flagged = getattr(answer, "nsfw_content_detected", None) or []
        if any(flagged):
            raise RefusedError("The pipeline's safety checker declined to show the picture.")
        images = np.asarray(answer.images)
        if not np.isfinite(images).all():
            raise RefbenchError(
                f"Expected finite values from '{self.card.name}', but some are NaN in {self.dtype}; use "
                "-o dtype=float32 (or bfloat16 in place of float16)."
            )
        if images.shape[-1] == 4:  # with alpha: over white
            images = images[..., :3] * images[..., 3:] + 1 - images[..., 3:]
        return [np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8) for image in images]

    def _failure(self, error: BaseException) -> RefbenchError | None:
        """An error of memory in one sentence with what helps; None for any other."""
        import torch

        text = str(error).lower()
        words = ("out of memory", "not enough memory", "can't allocate memory")
        memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in text for word in words)
        if not memory:
            return None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        helps = ["--batch-size 1"] if self.batches else []
        if not self.device.startswith("cpu"):
            helps += ["-o offload=model"] * (self.offload == "none")
            helps += ["-o offload=sequential"] * (self.offload != "sequential")
        helps += [f"-o size={self.options.size * 3 // 4 // 16 * 16}"]
        needs = f" (it needs about {self.card.vram_gb:g} GB)" if self.card.vram_gb else ""
        return RefbenchError(
            f"Expected enough memory on {self.device} for '{self.card.name}'{needs}, but it ran out; try "
            f"{' or '.join(part for part in (', '.join(helps[:-1]), helps[-1]) if part)}."
        )


class InpaintEditor(DiffusersEditor):
    """A pipeline that repaints the mask: the draft in `image`, the mask in `mask_image`.

    Args:
        strength: share of the noise schedule that is run; 1 starts from pure noise inside the mask.
        **options: as :class:`DiffusersEditor`.
    """

    def __init__(self, *, strength: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.strength = share("strength", strength)

    def arguments(self, works: Sequence[Work]) -> dict[str, Any]:
        """What every such pipeline takes; the reference has another slot in each."""
        height, width = works[0].size
        return {
            "image": flat([picture(work.draft) for work in works]),
            "mask_image": flat([picture(mask_picture(work.mask)).convert("L") for work in works]),
            "prompt": flat([self.prompt(work) for work in works]),
            "height": height,
            "width": width,
            "strength": self.strength,
            "guidance_scale": self.guidance,
        }


def located(model: str, file: str, revision: str | None = None, *fetch: str) -> str:
    """The local folder of weights given as a folder or a hub id.

    Args:
        model: folder or hub id.
        file: that must be in it, relative.
        revision: commit of the hub repository.
        fetch: files to name in the command that downloads it; none for all.

    Raises:
        UnavailableError: nothing there, with the command that fetches it.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if not (folder / file).is_file():
            raise UnavailableError(
                f"Expected weights in diffusers' layout at {model}, but there is no {file}; name the folder that "
                "save_pretrained wrote."
            )
        return str(folder)
    found = hub_folder(model, file, revision)
    if found is None:
        raise UnavailableError(
            f"Expected the weights '{model}' in the hub's cache, but they are not there; fetch them with "
            f"`{fetch_command(model, *fetch)}` (accept the licence on its page first, where it has one), or name a "
            "local folder with -o model=PATH."
        )
    return str(found)


def _positive(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise RefbenchError(f"Expected the option {name} to be a whole number of at least 1, but it is '{value}'.")
    return value


def flat(values: Sequence[Any]) -> Any:
    """One sample's value itself, several as the list that the pipelines take for a batch."""
    return values[0] if len(values) == 1 else list(values)


def share(name: str, value: Any) -> float:
    """An option between 0 (excluded) and 1.

    Raises:
        RefbenchError: it is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value <= 1:
        raise RefbenchError(f"Expected the option {name} to be above 0 and at most 1, but it is '{value}'.")
    return float(value)
