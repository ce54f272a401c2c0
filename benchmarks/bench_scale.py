"""What executors cost and survive: `python benchmarks/bench_scale.py PART ...`; the figures stand in docs/scale.md.

- `overhead`: time a sample of a run that does nothing, beyond what one worker of this machine is busy with it.
- `double`: throughput of 2 workers over 1, of a model that computes on one thread (wants two free cores).
- `sleep`: throughput of 64 workers over 1, of a model that waits.
- `memory`: memory of the driver after 30,000 samples of a run over that after 1,000; KB a sample of the suite's index.
- `cluster`: a Ray cluster of two nodes on this machine: a node is killed, the driver is killed and started again.
- `data`: the actor pool beside Ray Data's map_batches.

Each part prints a line of JSON. Exit code 1 where a limit is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "benchmarks")]
os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:3], os.environ.get("PYTHONPATH", "")])
os.environ.update(RAY_USAGE_STATS_ENABLED="0", OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

LIMITS = {"overhead": 5.0, "double": 1.9, "sleep": 60.0, "memory": 1.05, "index": 2.0}

BUSY = """
until = time.process_time() + SECONDS
a = np.arange(20000, dtype=np.float64) + inputs.seed % 7
while time.process_time() < until:
    a = np.sqrt(a * a + 1.0)
return inputs.draft
"""
"""Computes for so many seconds of one processor."""
MARKED = """
with open(os.path.join(FOLDER, inputs.id), "a") as handle:
    handle.write("x")
time.sleep(SECONDS)
rng = np.random.default_rng(inputs.seed)
out = inputs.draft.copy()
out[inputs.mask] = rng.integers(0, 256, (int(inputs.mask.sum()), 3))
return out
"""
"""Leaves a mark for each time a sample is asked for."""


def told(part: str, **facts: Any) -> bool:
    """Print a line; whether the limit is kept."""
    print(json.dumps({"part": part, **facts}), flush=True)
    return bool(facts.get("kept", True))


class Clock:
    """Remembers when each sample was finished."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.processor: list[float] = []

    def start(self, stage: str, total: int, done: int) -> None:
        self.begun = time.perf_counter()

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        assert not failed
        self.times.append(time.perf_counter())
        self.processor.append(time.process_time())

    def note(self, text: str) -> None:
        print(text, file=sys.stderr)

    def steady(self, first: int) -> float:
        """Samples a second from the end of so many, when all workers are at it, to the last one."""
        return (len(self.times) - first) / (self.times[-1] - self.times[first - 1])

    def slope(self) -> float:
        """Samples a second by a line through all that finished between the first tenth and the last."""
        import numpy as np

        cut = len(self.times) // 10
        middle = self.times[cut:-cut]
        return float(np.polyfit(middle, np.arange(len(middle)), 1)[0])


def generated(folder: Path, model: str | Path, suite: Path, **options: Any) -> tuple[Clock, float]:
    from refbench.runs.api import generate_only

    clock, start = Clock(), time.perf_counter()
    generate_only(model, suite, out=folder, device="cpu", progress=clock, **options)  # type: ignore[arg-type]
    return clock, time.perf_counter() - start


def model_file(folder: Path, body: str, **values: object) -> Path:
    from tiny import adapter_file

    for name, value in values.items():
        body = body.replace(name, repr(value))
    return adapter_file(folder, body, "model")


def overhead(place: Path, executor: str) -> bool:
    """The draft as the answer, in batches of one."""
    from tiny import write_tiny

    suite = write_tiny(place / "tiny", 400)
    model = model_file(place, "return inputs.draft")
    clock, _ = generated(place / "run", model, suite, executor=executor)
    busy, computed = inside(suite, model)
    each = 1000 / clock.steady(1)
    own = 1000 * (clock.processor[-1] - clock.processor[0]) / (len(clock.processor) - 1)
    if executor != "local":
        computed = 0.0  # the driver itself computes none of the work
    return told(
        "overhead", executor=executor, ms_a_sample=round(each, 2), ms_of_work=round(busy, 2),
        ms_overhead=round(each - busy, 2), ms_overhead_processor=round(own - computed, 2),
        kept=each - busy < LIMITS["overhead"],
    )  # fmt: skip


def inside(suite: Path, model: Path) -> tuple[float, float]:
    """Milliseconds, of the wall and of this process, that a worker is busy with a sample: read, ask, hash, encode."""
    from refbench.adapters.contained import open_contained
    from refbench.runs.generate import GenerateSetup
    from refbench.tasks.suite import load_suite

    chosen = load_suite(suite)
    worker = GenerateSetup(chosen, 0, lambda number: open_contained(model))(0)  # type: ignore[arg-type, return-value]
    for sample in chosen.ids[:20]:
        worker.do((sample,))
    start, begun = time.perf_counter(), time.process_time()
    for sample in chosen.ids[20:220]:
        worker.do((sample,))
    wall, own = time.perf_counter() - start, time.process_time() - begun
    worker.close()
    return 1000 * wall / 200, 1000 * own / 200


def double(place: Path, executor: str) -> bool:
    """The better one of two runs each, taken in turn, so that a busy machine disturbs both alike."""
    from tiny import write_tiny

    suite, model = write_tiny(place / "tiny", 96), model_file(place, BUSY, SECONDS=0.25)
    best = {1: 0.0, 2: 0.0}
    for turn in range(2):
        for workers in best:
            clock, _ = generated(place / f"{turn}-{workers}", model, suite, workers=workers, executor=executor)
            best[workers] = max(best[workers], clock.slope())
    ratio = best[2] / best[1]
    return told(
        "double", executor=executor, samples_a_second=[round(best[1], 2), round(best[2], 2)], ratio=round(ratio, 3),
        kept=ratio >= LIMITS["double"],
    )  # fmt: skip


def sleep(place: Path, executor: str, workers: int = 64, seconds: float = 8.0) -> bool:
    from tiny import write_tiny

    suite = write_tiny(place / "tiny", 6 * workers)
    model = model_file(place, "time.sleep(SECONDS)\nreturn inputs.draft", SECONDS=seconds)
    extra = {} if executor == "local" else {"executor_options": {"cpus": 0}}
    many, whole = generated(place / "many", model, suite, workers=workers, executor=executor, **extra)
    ratio = many.steady(workers) * seconds
    return told(
        "sleep", executor=executor, workers=workers, seconds=seconds, ratio=round(ratio, 1),
        ratio_with_start=round(6 * workers * seconds / whole, 1), kept=ratio >= LIMITS["sleep"],
    )  # fmt: skip


class Memory(Clock):
    """Remembers this process's memory in MB after some numbers of samples."""

    def __init__(self, *at: int) -> None:
        super().__init__()
        self.at, self.done, self.mb = at, 0, dict[int, float]()

    def start(self, stage: str, total: int, done: int) -> None:
        self.mb[0] = resident()

    def advance(self, samples: int = 1, failed: int = 0) -> None:
        self.done += samples
        if self.done in self.at:
            self.mb[self.done] = resident()


def resident() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def memory(place: Path, samples: int = 30_000) -> bool:
    """One run of an instant model; and what the suite's index takes, which is read before the first sample."""
    from refbench.runs.api import generate_only
    from refbench.tasks.suite import load_suite

    suite = place / "suite"
    made = (
        f"from pathlib import Path; from bench_runs import procedural; procedural(Path({str(suite)!r}), {samples}, 64)"
    )
    subprocess.run([sys.executable, "-c", made], check=True)
    load_suite("mini")  # imports what loading needs
    before = resident()
    held = load_suite(suite)
    index = 1024 * (resident() - before) / len(held)
    del held
    clock = Memory(1_000, 10_000, samples)
    generate_only("identity", suite, out=place / "run", workers=2, batch_size=8, device="cpu", progress=clock)
    few, many = clock.mb[1_000], clock.mb[samples]
    return told(
        "memory", mb_after={n: round(mb) for n, mb in clock.mb.items()},
        kb_a_sample_of_index=round(index, 2), ratio=round(many / few, 3),
        kept=many / few <= LIMITS["memory"] and index < LIMITS["index"],
    )  # fmt: skip


def outputs(folder: Path) -> dict[str, bytes]:
    from refbench.runs.folder import RunFolder

    storage = RunFolder(folder).storage
    return {name: storage.read(name) or b"" for name in storage.names("outputs")}


def marks(folder: Path) -> dict[str, int]:
    found = {path.name: path.stat().st_size for path in folder.iterdir()}
    for path in folder.iterdir():
        path.unlink()
    return found


def driver(model: str, suite: str, out: str, address: str) -> None:
    """A whole start of `generate` on a cluster."""
    from refbench.runs.api import generate_only

    generate_only(model, suite, out=out, executor="ray", workers=4, address=address)


def started(cluster: Any, model: Path, suite: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "driver", str(model), str(suite), str(out), cluster.address]
    return subprocess.Popen(command)


def reached(out: Path, lines: int, process: subprocess.Popen[bytes]) -> None:
    path = out / "records.jsonl"
    while process.poll() is None and (not path.exists() or path.read_bytes().count(b"\n") < lines):
        time.sleep(0.01)


def cluster(place: Path, samples: int = 120) -> bool:
    """Two nodes of two processors; first a node is killed in the middle, then the driver."""
    from runs.raycluster import cluster_of, node_arguments
    from tiny import write_tiny

    (place / "marks").mkdir()
    suite = write_tiny(place / "tiny", samples)
    model = model_file(place, MARKED, FOLDER=str(place / "marks"), SECONDS=0.25)
    generated(place / "whole", model, suite, workers=2)
    whole = outputs(place / "whole")
    marks(place / "marks")
    nodes, (second,) = cluster_of(2, 2)
    try:
        begin = time.perf_counter()
        process = started(nodes, model, suite, place / "node")
        reached(place / "node", samples // 3, process)
        nodes.remove_node(second, allow_graceful=False)
        code = process.wait(timeout=300)
        took, asked = time.perf_counter() - begin, marks(place / "marks")
        good = code == 0 and outputs(place / "node") == whole and max(asked.values()) <= 2
        kept = told(
            "cluster", killed="a node", same=outputs(place / "node") == whole, most_asked=max(asked.values()),
            asked_again=sum(n > 1 for n in asked.values()), samples=samples, seconds=round(took, 1), kept=good,
        )  # fmt: skip
        nodes.add_node(**node_arguments(2))
        process = started(nodes, model, suite, place / "driver")
        reached(place / "driver", samples // 3, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        code = started(nodes, model, suite, place / "driver").wait(timeout=300)
        asked = marks(place / "marks")
        good = code == 0 and outputs(place / "driver") == whole and max(asked.values()) <= 2
        return kept & told(
            "cluster", killed="the driver", same=outputs(place / "driver") == whole, most_asked=max(asked.values()),
            asked_again=sum(n > 1 for n in asked.values()), samples=samples, kept=good,
        )  # fmt: skip
    finally:
        nodes.shutdown()


class Steps:
    """A setup whose workers wait and fail now and then, for comparing schedulers."""

    device, identity, in_thread = "cpu", "steps", True

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, number: int) -> Steps:
        return self

    def hello(self) -> Any:
        from refbench.runs.executors.contract import Hello

        return Hello()

    def do(self, content: int) -> bytes:
        time.sleep(self.seconds)
        if content == 100:
            raise RuntimeError("this one fails")
        return os.urandom(500_000)

    def close(self) -> None:
        pass


class Mapped:
    """The same as Ray Data's map_batches wants it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        time.sleep(self.seconds * len(batch["id"]))
        if 100 in batch["id"]:
            raise RuntimeError("this one fails")
        return {"id": batch["id"], "png": [os.urandom(500_000) for _ in batch["id"]]}


def data(jobs: int = 400, seconds: float = 0.01) -> bool:
    """Jobs of 10 ms with half a megabyte each, one of which fails; two actors."""
    import ray

    from refbench.runs.executors.contract import Job, Placement
    from refbench.runs.executors.ray import Ray

    ray.init(address="local", include_dashboard=False, num_cpus=4, object_store_memory=512 * 2**20, log_to_driver=False)
    todo = [Job(f"{n:04d}", n) for n in range(jobs)]
    begin = time.perf_counter()
    with Ray(Placement("ray", 2)).pool(Steps(seconds), todo, print) as pool:
        pool.hello()
        times = [time.perf_counter() for outcome in pool.outcomes()]
    told(
        "data", what="actor pool", back=len(times), first_after_s=round(times[0] - begin, 2),
        ms_a_job=round(1000 * (times[-1] - times[0]) / len(times), 2),
    )  # fmt: skip
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().max_errored_blocks = -1
    DataContext.get_current().enable_progress_bars = False
    begin = time.perf_counter()
    mapped = ray.data.from_items([{"id": n} for n in range(jobs)], override_num_blocks=jobs).map_batches(
        Mapped, fn_constructor_args=[seconds], batch_size=1, compute=ActorPoolStrategy(size=2)
    )
    times = [time.perf_counter() for row in mapped.iter_rows()]
    ray.shutdown()
    return told(
        "data", what="map_batches", back=len(times), first_after_s=round(times[0] - begin, 2),
        ms_a_job=round(1000 * (times[-1] - times[0]) / len(times), 2),
    )  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    if arguments[:1] == ["driver"]:
        driver(*arguments[1:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    every = ("overhead", "double", "sleep", "memory", "cluster", "data")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(every)}; all by default")
    parser.add_argument("--executor", default="local", choices=("local", "ray"))
    given = parser.parse_args(arguments)
    kept = True
    for part in given.parts or every:
        with tempfile.TemporaryDirectory(prefix="refbench-scale-") as name:
            place = Path(name)
            if part in ("overhead", "double", "sleep"):
                kept &= {"overhead": overhead, "double": double, "sleep": sleep}[part](place, given.executor)
            else:
                kept &= {"memory": memory, "cluster": cluster}[part](place) if part != "data" else data()
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
