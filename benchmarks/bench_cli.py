"""Start-up times of the command line: `python benchmarks/bench_cli.py`; exit code 1 where a limit is missed.

With `--against FOLDER`, another checkout, `refine` and `measure` of one picture are timed in turn with that one's, so
that both meet the same machine: seconds by the clock and of the processor, and their ratio.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
REPEATS = 5

ROOT = Path(__file__).resolve().parents[1]


def seconds(
    arguments: list[str], where: str | Path | None = None, *, repeats: int = REPEATS, root: Path = ROOT
) -> tuple[float, float]:
    """(wall, processor) time of one `refbench` command, each the best of some: the others were disturbed."""
    walls, processors = [], []
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from refbench.cli.main import main; sys.exit(main())"
    for _ in range(repeats):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, cwd=where)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processors.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(walls), min(processors)


def one_picture(folder: Path) -> dict[str, tuple[list[str], float]]:
    """`refine` and `measure` of one picture of 176 px, made here: arguments and the seconds they may take."""
    import numpy as np

    from refbench.images import resize, save_png

    rng = np.random.default_rng(0)
    target = resize(rng.integers(0, 256, (22, 22, 3), np.uint8), (176, 176))
    mask = np.zeros((176, 176), bool)
    mask[60:110, 50:120] = True
    draft = np.where(mask[..., None], resize(resize(target, (44, 44)), (176, 176)), target)
    for name, array in {"target": target, "reference": target, "mask": mask, "draft": draft}.items():
        save_png(folder / f"{name}.png", array)
    given = ["--reference", "reference.png", "--mask", "mask.png"]
    return {
        "refine": (["refine", "draft.png", *given, "--out", "out.png"], 7.0),
        "measure": (["measure", "draft.png", "--target", "target.png", "--draft", "draft.png", *given, "--json"], 4.0),
    }


def against(other: Path, folder: Path) -> None:
    """Time the two verbs here and in another checkout, in turn, and print both."""
    for verb, (arguments, _) in one_picture(folder).items():
        found: dict[Path, list[tuple[float, float]]] = {other: [], ROOT: []}
        for _ in range(REPEATS):
            for root, times in found.items():
                times.append(seconds(arguments, folder, repeats=1, root=root))
        (wall, processor), (new_wall, new_processor) = (
            (min(t[0] for t in times), min(t[1] for t in times)) for times in found.values()
        )
        print(
            f"{verb:<8} clock {wall:6.2f} -> {new_wall:5.2f} s (x {new_wall / wall:.2f}), "
            f"processor {processor:6.2f} -> {new_processor:5.2f} s (x {new_processor / processor:.2f})"
        )


def main() -> int:
    from bench_runs import procedural
    from timing import timed

    if "--against" in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            against(Path(sys.argv[sys.argv.index("--against") + 1]).resolve(), Path(folder))
        return 0
    passed = [timed("refbench --help", seconds(["--help"]), 0.4)]
    for what in ("models", "metrics", "tasks"):
        arguments = ["list", what]
        if what == "tasks" and not (Path(__file__).resolve().parents[1] / "tasks" / "core" / "suite.json").exists():
            arguments += ["--suite", str(procedural(Path(tempfile.mkdtemp()) / "s", 16, 96))]
        passed.append(timed(f"refbench {' '.join(arguments[:2])}", seconds(arguments), 1.0))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("REFBENCH_CACHE", f"{folder}/cache")
        suite = procedural(Path(folder) / "suite", 16, 96)
        command = ["eval", "--model", "identity", "--suite", str(suite), "--json"]
        root = Path(__file__).resolve().parents[1]
        subprocess.run(
            [sys.executable, "-m", "refbench", *command],
            check=True, capture_output=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(root)},
        )  # fmt: skip
        passed.append(timed("a finished evaluation, run again", seconds(command, folder), 2.0))
        for verb, (arguments, limit) in one_picture(Path(folder)).items():
            passed.append(timed(f"refbench {verb}, one picture", seconds(arguments, folder), limit))
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
