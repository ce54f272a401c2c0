"""Where models run: "auto" and names of devices, checked before a model is loaded; torch is imported for GPUs alone."""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from refbench.errors import RefbenchError, UnavailableError

AUTO = "auto"
_NAME = re.compile(r"cpu|mps|(cuda)(?::(\d+))?")
_DRIVERS = {"win32": ("nvcuda.dll",)}


@cache
def driver() -> bool:
    """Whether a graphics driver that torch's "cuda" can use is here (NVIDIA's, or AMD's kernel driver)."""
    import ctypes

    for library in _DRIVERS.get(sys.platform, ("libcuda.so.1",)):
        try:
            ctypes.CDLL(library)
        except OSError:
            continue
        return True
    return Path("/dev/kfd").exists()


@cache
def count() -> int:
    """GPUs that torch sees; 0 without a driver, or where torch was built without them."""
    if not driver():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


@cache
def metal() -> bool:
    """Whether torch can use Apple's graphics processor."""
    import platform

    if platform.system() != "Darwin":
        return False
    import torch

    return bool(torch.backends.mps.is_available())


def resolve(device: str) -> str:
    """The device that is meant: "auto" is a GPU where there is one, else the processor; other names are checked.

    Raises:
        RefbenchError: no name of a device, or a GPU that is not there.
        UnavailableError: "cuda" or "mps" where there is no driver, or torch was built without it.
    """
    if device == AUTO:
        return "cuda" if count() else "mps" if metal() else "cpu"
    found = _NAME.fullmatch(device)
    if found is None:
        raise RefbenchError(
            f"Expected a device auto, cpu, cuda, cuda:1 or mps, but '{device}' came; choose one of these."
        )
    if device == "mps" and not metal():
        raise UnavailableError(
            "Expected Apple's graphics processor for --device mps, but there is none; use --device cpu."
        )
    if found[1] is None:
        return device
    if not driver():
        raise UnavailableError(
            f"Expected a GPU and its driver for --device {device}, but there is none here; use --device cpu, or auto."
        )
    if not count():
        raise UnavailableError(
            f"Expected a torch that can use the GPU for --device {device}, but this one cannot (built for the "
            "processor alone, or for a newer driver); install one that fits the driver, or use --device cpu."
        )
    if found[2] is not None and int(found[2]) >= count():
        raise RefbenchError(
            f"Expected a GPU from cuda:0 to cuda:{count() - 1}, but '{device}' came; choose one of these."
        )
    return device


def spread(device: str, workers: int) -> list[str]:
    """The device of each of several workers: with "cuda" worker i has GPU i modulo their number, else all the same.

    Args:
        device: resolved; "cuda:1" is that one for all.
        workers: at least 1; one alone keeps "cuda", torch's current GPU.
    """
    if device != "cuda" or workers == 1:
        return [device] * workers
    return [f"cuda:{worker % max(count(), 1)}" for worker in range(workers)]


def described(device: str) -> str:
    """A resolved device in words: "cuda (2 x NVIDIA H200)", "cpu"."""
    if not device.startswith("cuda"):
        return device
    import torch

    number = int(device.partition(":")[2] or 0)
    several = f"{count()} x " if device == "cuda" and count() > 1 else ""
    return f"{device} ({several}{torch.cuda.get_device_name(number)})"
