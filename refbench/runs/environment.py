"""What a run ran on: package versions, git commit, hardware. Nothing heavy is imported to find out."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy",
    "pillow",
    "torch",
    "torchvision",
    "torchmetrics",
    "piq",
    "scikit-image",
    "scipy",
    "opencv-python-headless",
    "onnxruntime",
    "rapidocr",
    "dlib-bin",
    "timm",
    "lpips",
    "dreamsim",
    "open_clip_torch",
    "diffusers",
    "transformers",
    "peft",
    "safetensors",
    "pyarrow",
    "pandas",
)
"""Whose version can change an output or a score."""


def versions() -> dict[str, str]:
    """Python, refbench and every installed package of :data:`PACKAGES`."""
    from refbench import __version__

    found = {"python": platform.python_version(), "refbench": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(folder: Path | None = None) -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it) of the checkout that holds refbench; (None, None) outside one."""
    root = folder or Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None, None
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None, None
    return commit, bool(changed)


def hardware(device: str) -> dict[str, Any]:
    """Processor, usable cores, memory in GB, system, and the GPUs where the device is one."""
    found: dict[str, Any] = {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": cores(),
        "memory_gb": _memory_gb(),
    }
    if device.startswith("cuda"):
        found["gpus"] = _gpus()
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None


def _gpus() -> list[str]:
    try:
        text = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
