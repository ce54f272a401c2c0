"""What learned metrics share: networks loaded once, weights by name, features of outputs and truths, precision."""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from refbench import weights
from refbench.images import Image
from refbench.metrics.contract import Metric, library
from refbench.schema import MetricCard
from refbench.weights.places import known_sha256

if TYPE_CHECKING:
    import torch
    from torch import Tensor

T = TypeVar("T")
Vectors = NDArray[np.float32]

PRECISION = "REFBENCH_PRECISION"
"""Set to bf16, networks run under bfloat16 autocast; the cards say so, so that such scores are of another card."""
TOLERANCE = {"fp32": 1e-5, "bf16": 2e-2}
"""Largest difference to the original library in single precision: absolute; in bfloat16: of the value's range."""
NOT_SCORED = "not scored: the score must be the same on every machine and needs no download; it stands beside it"

_seed: int | None = None
_networks: dict[tuple[object, ...], Any] = {}
_building = threading.RLock()


def precision() -> str:
    """``fp32`` or ``bf16``, of the environment."""
    return "bf16" if os.environ.get(PRECISION, "").lower() in ("bf16", "bfloat16") else "fp32"


@contextmanager
def random_weights(seed: int) -> Iterator[None]:
    """Networks of real size with seeded random weights instead of files, for tests and benchmarks.

    Cards name the seed in place of the weights' hash, so that no such value can pass for a real one.
    """
    global _seed
    before = _seed
    _seed = seed
    try:
        yield
    finally:
        _seed = before
        for key in [key for key in _networks if key[0] == seed]:
            del _networks[key]


def forget_networks() -> None:
    """Free all networks, e.g. after weights were fetched or replaced, or where memory is short."""
    import gc

    if _networks:
        _networks.clear()
        gc.collect()  # some libraries' networks hold themselves


def weights_hash(name: str) -> str | None:
    """What a card says about a weight file: its SHA-256, or the seed of :func:`random_weights`."""
    return known_sha256(name) if _seed is None else f"random, seed {_seed}"


def randomised() -> int | None:
    """The seed of :func:`random_weights`, None where real weights are used."""
    return _seed


def network(name: str, device: str, build: Callable[[], T], form: str = "") -> T:
    """A network, built once for each device; `build` runs alone, with torch's generator seeded and restored.

    Args:
        name: of the network; also seeds its random weights.
        device: as torch names it; `build` returns something with ``to`` and ``eval``, on the CPU.
        form: of the same network and weights, where there are several.
    """
    import torch

    key = (_seed, name, device, form)
    with _building:
        if key not in _networks:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(zlib.crc32(f"{name} {_seed}".encode()))
                made: Any = build()
            made = made.eval().requires_grad_(False).to(device)
            _networks[key] = made
        found: T = _networks[key]
        return found


@contextmanager
def inference(device: str) -> Iterator[None]:
    """No gradients, and bfloat16 autocast where the environment asks for it."""
    import torch

    with torch.inference_mode():
        if precision() == "bf16":
            with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
                yield
        else:
            yield


def to_tensor(images: Sequence[Image], device: str) -> Tensor:
    """uint8 images (h, w, 3) of one size as float32 (n, 3, h, w) in [0, 1]."""
    import torch

    return torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def load_state(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a weight file of the catalogue (.pth, .pt or .safetensors), checked before they are read.

    Raises:
        RefbenchError: it is missing, wrong or truncated, or cannot be read.
    """
    import torch

    from refbench.errors import RefbenchError

    path = weights.require(name)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        return found
    except Exception as error:
        raise RefbenchError(
            f"Expected the weights '{name}' at {path} to load, but {' '.join(str(error).split())[:150]}; delete the "
            f"file and run `refbench weights fetch {name}`."
        ) from None


class Learned(Metric):
    """A metric of a downloaded network; subclasses name its modules and weight files."""

    batched = True
    smallest = 32
    modules: ClassVar[tuple[str, ...]] = ()
    """Import names of the libraries it needs beyond refbench's own."""
    install: ClassVar[str] = "uv pip install 'refbench[learned]'"
    files: ClassVar[tuple[str, ...]] = ()
    """Names in the catalogue of weights."""

    def missing(self) -> str | None:
        """See :meth:`Metric.missing`."""
        lacking = [name for name in self.modules if find_spec(name) is None]
        if lacking:
            return f"needs {', '.join(lacking)}, which is not installed: run `{self.install}`"
        return weights.missing(*self.files) if _seed is None else None

    def learned_card(self, **facts: Any) -> MetricCard:
        """A card with what all learned metrics share: not scored, the weights and their hashes, the precision."""
        hashes = [weights_hash(name) for name in self.files]
        known = "+".join(h for h in hashes if h is not None) if all(hashes) else None
        backend = f"{facts.pop('backend')}, {library('torch')}"
        if precision() == "bf16":
            backend += ", bfloat16 autocast"
        note = facts.pop("note", "")
        return MetricCard(
            **{
                "weights": facts.pop("weights", ", ".join(self.files)),
                "weights_sha256": known,
                "scored": False,
                "note": f"{NOT_SCORED}; {note}" if note else NOT_SCORED,
                "tolerance": 1e-4 if precision() == "fp32" else TOLERANCE["bf16"],
                "backend": backend,
                **facts,
            }
        )


def by_shape(images: Sequence[Image]) -> list[list[int]]:
    """Places of the images, grouped by size, so that each group is one batch."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, image in enumerate(images):
        groups.setdefault(image.shape, []).append(at)
    return list(groups.values())
