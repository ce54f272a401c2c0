"""Whether a model could run here, and if not why; found without importing torch, diffusers or itself.

A registered class may have a class method ``ready() -> str | None``: None when everything it needs is here, else the
reasons in half a sentence, with what to do. It must be quick (milliseconds, no network) and import nothing heavy; the
helpers of this module find modules, hub downloads and graphics memory that way. Modules of the card's `requires` are
checked before it and need not be repeated. A script (PEP 723) says what it needs in a literal ``NEEDS`` beside its
``CARD``; see :mod:`refbench.adapters.scripts`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refbench.schema import AdapterCard


def readiness(name: str, card: AdapterCard | None = None) -> str | None:
    """Why the registered model `name` cannot run here, or None when it can; `card` saves reading it again.

    Raises:
        RefbenchError: the name is unknown, or its module does not import.
    """
    from refbench.adapters.card import missing_requirements
    from refbench.adapters.load import load_card
    from refbench.adapters.registry import MODELS
    from refbench.adapters.spec import resolve

    card = card or load_card(name)
    missing = missing_requirements(card)
    found = resolve(name)
    if found.kind == "script":
        assert found.path is not None
        return reasons([no_modules(missing), script_needs(found.path, card)])
    return reasons([no_modules(missing), _asked(MODELS.load(name))])


def _asked(adapter: Any) -> str | None:
    ask = getattr(adapter, "ready", None)
    if not callable(ask):
        return None
    answer = ask()
    return str(answer) if answer else None


def reasons(found: Iterable[str | None]) -> str | None:
    """The reasons that hold, joined; None when there is none."""
    return "; ".join(reason for reason in found if reason) or None


def no_modules(missing: Iterable[str]) -> str | None:
    """The reason that modules are missing, from their names."""
    names = ", ".join(missing)
    return f"install {names}" if names else None


def hub_folder(repo: str, file: str, revision: str | None = None) -> Path | None:
    """The snapshot of a hub repository in the local cache that holds `file`; None when it was never downloaded.

    Args:
        repo: "owner/name".
        file: inside the repository, e.g. "model_index.json".
        revision: a commit; by default the newest snapshot that has the file.
    """
    from refbench.weights.places import hub_cache

    snapshots = hub_cache() / f"models--{repo.replace('/', '--')}" / "snapshots"
    if revision is not None and (snapshots / revision / file).is_file():
        return snapshots / revision
    found = [path.parents[len(Path(file).parts) - 1] for path in snapshots.glob(f"*/{file}")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def fetch_command(repo: str, *files: str) -> str:
    """The command that downloads a hub repository (or files of it) into the cache."""
    return " ".join(["hf download", repo, *files])


def no_weights(repo: str, file: str = "model_index.json", *files: str) -> str | None:
    """The reason that a hub repository (or local folder) was not downloaded; None when `file` is there."""
    path = Path(repo).expanduser()
    if (path / file).is_file() or hub_folder(repo, file) is not None:
        return None
    return f"no weights, `{fetch_command(repo, *files)}`"


@functools.cache
def graphics_memory_gb() -> float:
    """Memory of the largest GPU in GB (10^9 bytes), 0 where there is none; asks the NVIDIA driver, or macOS."""
    if sys.platform == "darwin":  # shared with the processor
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if os.uname().machine == "arm64" else 0.0
    import ctypes

    class Memory(ctypes.Structure):
        _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]

    largest = 0
    try:
        driver = ctypes.CDLL("nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1")
        if driver.nvmlInit_v2() != 0:
            return 0.0
        count = ctypes.c_uint()
        driver.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            device, memory = ctypes.c_void_p(), Memory()
            if driver.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) == 0:
                driver.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
                largest = max(largest, memory.total)
        driver.nvmlShutdown()
    except (OSError, AttributeError):
        return 0.0
    return largest / 1e9


def no_gpu(vram_gb: float | None) -> str | None:
    """The reason that there is no GPU with about `vram_gb` GB; None when there is, or when nothing is needed.

    A card's own memory is a little under its name (a 24 GB card reports 23.6 to 25.8), so 4 % are forgiven.
    """
    here = graphics_memory_gb()
    if vram_gb is None or here >= 0.96 * vram_gb:
        return None
    return (
        f"no GPU (needs about {vram_gb:g} GB)" if not here else f"needs about {vram_gb:g} GB on a GPU, {here:.0f} here"
    )


def no_key(*variables: str) -> str | None:
    """The reason that none of these environment variables holds a key; their values are never shown."""
    if any(os.environ.get(name) for name in variables):
        return None
    return f"no key in the environment, set {' or '.join(variables)}"


def script_needs(path: Path, card: AdapterCard) -> str | None:
    """Why a script cannot run here, from its literal ``NEEDS``: no uv, checkout, licence, weights, GPU."""
    from refbench.adapters.process import find_uv
    from refbench.adapters.scripts.licences import accepted
    from refbench.adapters.spec import literal_in, script_dependencies

    needs = literal_in(path, "NEEDS") or {}
    found = ["install uv" if script_dependencies(path) and find_uv() is None else None]
    source = needs.get("checkout")
    if source:
        folder = os.environ.get(source["variable"])
        there = folder is not None and all((Path(folder) / file).is_file() for file in source["files"])
        found.append(None if there else f"no checkout, `git clone {source['repository']}` and set {source['variable']}")
    licence = needs.get("accept")
    if licence and not accepted(card.name, licence):
        found.append(f"licence not accepted, -o accept_licence={licence}")
    found += [no_weights(repo, file) for repo, file in needs.get("weights", {}).items()]
    return reasons([*found, no_gpu(card.vram_gb)])
