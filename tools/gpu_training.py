"""Minutes of the shipped network's training on a machine with a GPU that reaches no network.

    python tools/gpu_training.py pack .gpu                    # here: sources, and wheels of what such a machine lacks
    python tools/gpu_training.py run .gpu OUT --minutes 8     # there: scenes on all cores, stage 1, stage 2

The pack holds a part of the training split's pictures, drawn at random, because it travels with the checkout; of its
clips some frames. What comes back in OUT: the weights of both stages in half precision, from which ``--init OUT`` goes
on, their logs, a sheet of four scenes, and what took how long.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from refbench.cache import cache_folder
from refbench.cli.show import Lines
from refbench.devices import AUTO, described, resolve
from refbench.images import load_frames, save_png
from refbench.omnirefiner.retouch.data import SceneSampler, open_shards
from refbench.omnirefiner.retouch.exploring import run_stage2
from refbench.omnirefiner.retouch.refiner import load_into
from refbench.omnirefiner.retouch.scenes import Opened, PlacedScenes
from refbench.omnirefiner.retouch.training import Scenes, UNet, run_stage1, shown
from refbench.omnirefiner.training.prepared import prepare, recipe_hash, recipe_of
from refbench.tasks.drawing import pool_of
from refbench.tasks.sources import EMOJI, FONTS, LOGOS, Asset, Sources
from refbench.tasks.working import cores

WHEELS = (
    "diffusers", "importlib_metadata", "pydantic", "pydantic-core", "annotated-types", "typing-inspection",
    "platformdirs", "resvg-py",
)  # fmt: skip
"""What a machine with PyTorch and the usual packages beside it may lack."""
PYTHON, PLATFORMS = "3.12", ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
FRAMES = 5
"""That differ, of a packed clip: of a training sample two are used."""
SHARES = {"clips": 0.5, "stills": 0.3, "objects": 0.2}
"""Of the megabytes that logos and fonts leave, of which each kind of print needs all."""
SCENES, STAGE1 = 0.25, 0.65
"""Share of the minutes in which scenes are made, and of what is left then that of stage 1."""
LEAST = 64
"""Scenes before which no training starts."""


@dataclass(frozen=True, slots=True)
class PackedScenes(PlacedScenes):
    """Scenes of the pictures that are in a pack."""

    def recipe(self) -> dict[str, Any]:
        """With the names of the pictures."""
        names = sorted(str(path.relative_to(self.sources)) for path in self.sources.rglob("*") if path.is_file())
        return {**PlacedScenes.recipe(self), "packed": hashlib.sha256("\n".join(names).encode()).hexdigest()}

    def open(self) -> Opened:
        """The pool without what is not there."""
        opened = PlacedScenes.open(self)
        there = [asset for asset in opened.pool.surfaces if (self.sources / asset.path).is_file()]
        clips = tuple(asset for asset in there if asset.frames >= 8)
        opened.pool = replace(opened.pool, surfaces=tuple(there), clips=clips)
        return opened


class Made(Scenes):
    """Scenes that have been made before."""

    def open(self) -> Path:
        """Their folder."""
        assert self.prepared is not None
        return self.prepared


def thinned(asset: Asset, root: Path) -> bytes:
    """A clip as an animated WebP of as many frames, of which :data:`FRAMES` differ by more than a corner's pixel."""
    from PIL import Image as PILImage

    places = [round(k * (asset.frames - 1) / (FRAMES - 1)) for k in range(FRAMES)]
    known = [np.array(frame) for frame in load_frames(root / asset.path, places)]
    shown = []
    for number in range(asset.frames):
        frame = known[round(number * (FRAMES - 1) / (asset.frames - 1))]
        frame[0, 0] = 255 * (number % 2)  # the encoder joins frames that are equal
        shown.append(PILImage.fromarray(frame))
    data = io.BytesIO()
    shown[0].save(data, "WEBP", save_all=True, append_images=shown[1:], quality=70, method=2)
    return data.getvalue()


def put(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    """A file of an archive."""
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def pack(folder: Path, sources: Path | None, megabytes: float, seed: int) -> None:
    """Write wheels, and ``sources.tar.xz`` of at most so many megabytes with them."""
    found, chance = Sources(sources or cache_folder() / "sources"), random.Random(seed)
    pool = pool_of(found)
    shutil.rmtree(folder, ignore_errors=True)
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", PYTHON,
         "--implementation", "cp", *platforms, "-d", str(folder / "wheels"),
         *(f"{name}=={version(name)}" for name in WHEELS)],
        check=True,
    )  # fmt: skip
    logos = json.loads((found.root / LOGOS).read_text("utf-8"))
    logos["icons"] = {name: logos["icons"][name] for name in pool.logos}
    kinds: dict[str, list[tuple[str, Callable[[], bytes]]]] = {
        "clips": [(a.path, partial(thinned, a, found.root)) for a in pool.clips],
        "stills": [(a.path, (found.root / a.path).read_bytes) for a in pool.surfaces if a.frames < 8],
        "objects": [(name, (found.root / name).read_bytes) for name in (f"{EMOJI}/{n}.webp" for n in pool.objects)],
    }
    counts, target = {"logos": len(pool.logos), "fonts": len(pool.fonts)}, folder / "sources.tar.xz"
    with target.open("wb") as file, tarfile.open(fileobj=file, mode="w:xz") as archive:
        put(archive, LOGOS, json.dumps(logos, separators=(",", ":")).encode())
        for family in pool.fonts:
            path = found.font(family)
            archive.add(path, f"fonts/{FONTS[family][0].split('/')[0]}/{path.name}")
        held = sum(path.stat().st_size for path in (folder / "wheels").iterdir()) + file.tell()
        left = megabytes * 1e6 - held
        for kind, files in kinds.items():
            room, counts[kind] = left * SHARES[kind], 0
            for name, read in chance.sample(files, len(files)):
                data = read()
                if len(data) > room:
                    break
                put(archive, name, data)
                room, counts[kind] = room - len(data), counts[kind] + 1
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stdout.write(f"{folder}: {size / 1e6:.1f} MB, of the training split {counts}\n")


def make(sources: Path, folder: Path, workers: int, seed: int) -> None:
    """Make scenes for as long as this process is let."""
    prepare(PackedScenes(sources), folder, 1_000_000, seed=seed, workers=workers)


def made_in(seconds: float, sources: Path, folder: Path, workers: int, seed: int) -> Path:
    """The folder of what a process makes in so many seconds, or in what :data:`LEAST` scenes take."""
    drawing = PackedScenes(sources)
    place = folder / f"placed-{recipe_hash(recipe_of(drawing, seed))}"
    start, making = time.monotonic(), subprocess.Popen(
        [sys.executable, __file__, "make", str(sources), str(folder), "--workers", str(workers), "--seed", str(seed)]
    )  # fmt: skip
    try:
        while making.poll() is None:
            there = 32 * len(list(place.glob("shard-*.safetensors")))
            if there >= LEAST and time.monotonic() - start > seconds:
                break
            time.sleep(0.5)
    finally:
        making.terminate()
        making.wait()
    return place


def run(
    folder: Path, out: Path, minutes: float, device: str, init: Path | None, work: Path, workers: int, seed: int
) -> None:  # fmt: skip
    """Scenes, stage 1, stage 2; each stage's results are written as soon as it ends."""
    begun, device, lines = time.monotonic(), resolve(device), Lines()
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(folder / "sources.tar.xz") as archive:
        archive.extractall(work / "sources", filter="data")
    (work / "sources" / "comfyui").mkdir(exist_ok=True)  # a pack may hold none of its clips

    def spent() -> float:
        return (time.monotonic() - begun) / 60

    facts: dict[str, Any] = {"device": described(device), "cores": cores(), "minutes": minutes, "seed": seed}

    def told(**values: Any) -> None:
        facts.update(values)
        (out / "results.json").write_text(json.dumps(facts, indent=1) + "\n")
        lines.note(json.dumps(values))

    lines.note(f"making scenes on {workers} processes")
    place = made_in(60 * SCENES * minutes - 60 * spent(), work / "sources", work / "scenes", workers, seed)
    scenes = Made(prepared=place, seed=seed)
    told(scenes=len(open_shards(place)), minutes_of_scenes=round(spent(), 2))

    def finish(stage: str, name: str) -> None:
        shutil.copy(work / "model" / f"{stage}.safetensors", out)
        log = work / name / "log.jsonl"  # a run of few steps has none
        if log.is_file():
            shutil.copy(log, out / f"{stage}.jsonl")
            told(**{stage: json.loads(log.read_text().splitlines()[-1])})
        told(**{f"minutes_to_{stage}": round(spent(), 2)})

    left = minutes - spent()
    run_stage1(scenes, work, max(STAGE1 * left, 0.05), init=init, device=device, telling=lines)
    finish("stage1", "unet")
    run_stage2(scenes, work, max(minutes - spent(), 0.05), device=device, telling=lines)
    finish("stage2", "stage2")
    network = UNet(device=device)
    for stage in ("stage1", "stage2"):
        load_into(network.net, out / f"{stage}.safetensors")
    save_png(out / "scenes.png", shown(network, SceneSampler(place)))
    told(minutes_in_all=round(spent(), 2))


def main() -> None:
    """Pack, run, or make scenes (which `run` does by itself)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    verbs = parser.add_subparsers(dest="verb", required=True)
    packing, running, making = (verbs.add_parser(name) for name in ("pack", "run", "make"))
    packing.add_argument("folder", type=Path)
    packing.add_argument("--sources", type=Path, help="what `refbench tasks fetch` fetched")
    packing.add_argument("--megabytes", type=float, default=20.0, help="with the wheels")
    running.add_argument("folder", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--minutes", type=float, default=8.0)
    running.add_argument("--device", default=AUTO)
    running.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / "refbench-training",
        help="folder of scenes and state, from which another run goes on",
    )  # fmt: skip
    running.add_argument("--init", type=Path, help="folder with a stage1.safetensors to start from")
    making.add_argument("sources", type=Path)
    making.add_argument("folder", type=Path)
    for one in (running, making):
        one.add_argument("--workers", type=int, default=cores())
    for one in (packing, running, making):
        one.add_argument("--seed", type=int, default=0)
    given = vars(parser.parse_args())
    {"pack": pack, "run": run, "make": make}[given.pop("verb")](**given)


if __name__ == "__main__":
    main()
